/** What deviates from reference pictures that show what is usual, and how far. */

import { html, useState } from "./preact.js";
import { post } from "./api.js";
import { latest } from "./groups.js";
import { Tile } from "./library.js";
import { Busy, Failure, Meter, Result, useAsync } from "./ui.js";

const MOST = 100;
const LEAST = 2;

export function Anomalies({ chosen }) {
  const assets = useAsync((signal) => latest(MOST, signal), []);
  return html`<${Result} of=${assets}>${(all) => html`<${Chosen} assets=${all} chosen=${chosen} />`}<//>`;
}

function Chosen({ assets, chosen }) {
  const [references, setReferences] = useState(() => new Set(chosen.filter((id) => assets.some((asset) => asset.asset_id === id))));
  const [threshold, setThreshold] = useState(2);
  const [{ answer, error, busy }, setState] = useState({});
  const rest = assets.filter((asset) => !references.has(asset.asset_id));
  const toggle = (id) => {
    const changed = new Set(references);
    if (!changed.delete(id)) changed.add(id);
    setReferences(changed);
    setState({});
  };
  const compare = async (event) => {
    event.preventDefault();
    setState({ busy: true });
    try {
      const body = { reference_asset_ids: [...references], test_asset_ids: rest.map((asset) => asset.asset_id), anomaly_threshold: threshold };
      setState({ answer: await post("/api/v1/anomaly-detection", body) });
    } catch (failure) {
      setState({ error: failure });
    }
  };
  const ready = references.size >= LEAST && rest.length > 0;
  return html`
    <p>Choose at least two pictures that show what is usual. All others of the latest ${assets.length} are compared with them.</p>
    <form class="card inline" onSubmit=${compare}>
      <span><b>${references.size}</b> references, ${rest.length} to compare</span>
      <label>Deviates from <input type="number" min="0" max="100" step="0.1" value=${threshold} onInput=${(event) => setThreshold(Number(event.target.value))} /> standard deviations on</label>
      <button class="main" disabled=${!ready || busy}>Compare</button>
      ${references.size > 0 && html`<button type="button" onClick=${() => (setReferences(new Set()), setState({}))}>Choose anew</button>`}
    </form>
    <${Failure} error=${error} />
    ${busy && html`<${Busy}>Features of new pictures are computed first<//>`}
    ${answer && html`<${Found} answer=${answer} assets=${assets} />`}
    ${answer && html`<h2>References</h2>`}
    ${!assets.length && html`<p class="empty">The library has no pictures yet.</p>`}
    <ul class="row-grid plain-list">
      ${(answer ? assets.filter((asset) => references.has(asset.asset_id)) : assets).map((asset) => html`<li key=${asset.asset_id} class=${references.has(asset.asset_id) ? "chosen" : ""}>
        <${Tile} asset=${asset} />
        <label class="inline"><input type="checkbox" checked=${references.has(asset.asset_id)} aria-label=${`${asset.filename} is a reference`} onChange=${() => toggle(asset.asset_id)} /> reference</label>
      </li>`)}
    </ul>
  `;
}

/** The compared pictures, what deviates most first. */
function Found({ answer, assets }) {
  const byId = new Map(assets.map((asset) => [asset.asset_id, asset]));
  const sorted = [...answer.anomaly_results].sort((a, b) => b.anomaly_score - a.anomaly_score);
  const least = Math.min(0, ...sorted.map((each) => each.anomaly_score));
  const most = Math.max(answer.anomaly_threshold, ...sorted.map((each) => each.anomaly_score), least + 1);
  const tiles = (found) => html`<ul class="row-grid plain-list">${found.map((each) => html`<li key=${each.asset_id}>
    <${Tile} asset=${byId.get(each.asset_id)} note=${`cosine ${each.centroid_similarity.toFixed(2)}`} />
    <${Meter} label="Deviation" value=${each.anomaly_score} low=${least} high=${most} digits=${1} unit=" σ" marks=${{ threshold: answer.anomaly_threshold }} />
  </li>`)}</ul>`;
  const deviating = sorted.filter((each) => each.is_anomaly);
  return html`<div role="status"><p>${deviating.length} of ${answer.test_assets} deviate by more than ${answer.anomaly_threshold} standard deviations (σ) of the references from their middle; the cosine is that to the middle.</p></div>
    ${deviating.length > 0 && html`<section class="card"><h2>Deviate <span class="quiet">${deviating.length}</span></h2>${tiles(deviating)}</section>`}
    ${deviating.length < sorted.length && html`<section class="card"><h2>Fit <span class="quiet">${sorted.length - deviating.length}</span></h2>${tiles(sorted.filter((each) => !each.is_anomaly))}</section>`}
    ${answer.failed_assets.map((failed) => html`<p class="bad-text">${byId.get(failed.asset_id)?.filename ?? failed.asset_id}: ${failed.error}</p>`)}`;
}
