/** Pictures that belong together, those that belong to none, and what deviates from references. */

import { html, useState } from "./preact.js";
import { Anomalies } from "./anomalies.js";
import { get, post } from "./api.js";
import { Tile } from "./library.js";
import { Busy, Failure, Meter } from "./ui.js";

const METHODS = {
  hdbscan: "however many there are",
  kmeans: "a fixed number, or what fits best",
};
const VIEWS = { clusters: "Clusters", anomalies: "Anomalies" };

export function Groups() {
  const [view, setView] = useState("clusters");
  const [references, setReferences] = useState([]);
  const compare = (ids) => {
    setReferences(ids);
    setView("anomalies");
    scrollTo(0, 0);
  };
  return html`<section>
    <div class="head"><h1>Groups</h1>
      <div class="choice" role="group" aria-label="Look for">
        ${Object.entries(VIEWS).map(([name, text]) => html`<button aria-pressed=${view === name} onClick=${() => setView(name)}>${text}</button>`)}
      </div>
    </div>
    ${view === "clusters" ? html`<${Clusters} onReferences=${compare} />` : html`<${Anomalies} chosen=${references} />`}
  </section>`;
}

function Clusters({ onReferences }) {
  const [count, setCount] = useState(100);
  const [method, setMethod] = useState("hdbscan");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const [answer, setAnswer] = useState(null);

  const group = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const assets = await latest(count);
      const ids = assets.map((asset) => asset.asset_id);
      const clusters = await post("/api/v1/feature-clustering", { asset_ids: ids, cluster_method: method });
      setAnswer({ byId: new Map(assets.map((asset) => [asset.asset_id, asset])), ...clusters });
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
  };
  const tiles = (ids) => html`<div class="row-grid">${ids.map((id) => answer.byId.get(id)).filter(Boolean).map((asset) => html`<${Tile} key=${asset.asset_id} asset=${asset} />`)}</div>`;

  return html`
    <form class="card inline" onSubmit=${group}>
      <label>Of the latest <input type="number" min="3" max="100" value=${count} onInput=${(event) => setCount(Number(event.target.value))} /> pictures and films</label>
      <label>find
        <select value=${method} onChange=${(event) => setMethod(event.target.value)}>
          ${Object.entries(METHODS).map(([name, text]) => html`<option value=${name}>groups: ${text}</option>`)}
        </select>
      </label>
      <button class="main" disabled=${busy}>Group</button>
    </form>
    <${Failure} error=${error} />
    ${busy && html`<${Busy}>Features of new pictures are computed first<//>`}
    ${answer &&
    !busy &&
    html`
      <p>${answer.n_clusters} ${answer.n_clusters === 1 ? "group" : "groups"} among ${answer.assets_clustered} assets.</p>
      ${answer.silhouette_score != null && html`<${Meter} label="How far apart the groups are" value=${answer.silhouette_score} low=${-1} high=${1} hint="silhouette: 1 is well apart, 0 touches" />`}
      ${answer.clusters.map((cluster) => html`<section class="card">
        <h2>Group ${cluster.cluster_id + 1} <span class="quiet">${cluster.size}</span>
          ${cluster.size > 1 && html`<button onClick=${() => onReferences(cluster.assets)}>What deviates from it?</button>`}
        </h2>
        ${tiles(cluster.assets)}
      </section>`)}
      ${answer.noise.length > 0 && html`<section class="card"><h2>Unlike all others <span class="quiet">${answer.noise.length}</span></h2>${tiles(answer.noise)}</section>`}
      ${answer.failed_assets.map((failed) => html`<p class="bad-text">${failed.asset_id}: ${failed.error}</p>`)}
    `}
  `;
}

/** Return the latest assets that have a picture. */
export async function latest(count, signal) {
  const assets = [];
  for (let after = ""; assets.length < count; ) {
    const page = await get(`/api/v1/assets?limit=200${after && `&after=${encodeURIComponent(after)}`}`, { signal });
    assets.push(...page.assets.filter((asset) => asset.kind !== "audio"));
    if (!page.next) break;
    after = page.next;
  }
  return assets.slice(0, count);
}
