/** Everybody who was found or named, and where each of them appears. */

import { html, useRef, useState } from "./preact.js";
import { call, get, post } from "./api.js";
import { uploadOne } from "./uploads.js";
import { Busy, clock, Drop, Failure, Picture, Result, useAsync } from "./ui.js";

async function everybody(signal) {
  const people = [];
  for (let after = ""; after !== null; ) {
    const page = await get(`/api/v1/identities?limit=1000&after=${encodeURIComponent(after)}`, { signal });
    people.push(...page.identities);
    after = page.next;
  }
  return people.sort((a, b) => (a.name === null) - (b.name === null) || (a.name ?? "").localeCompare(b.name ?? ""));
}

const label = (person) => person.name ?? `Unnamed ${person.identity_uuid.slice(0, 4)}`;

export function People() {
  const people = useAsync(everybody, []);
  const [name, setName] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const add = async (files) => {
    setBusy(true);
    setError(null);
    try {
      const assets = await Promise.all(files.map((file) => uploadOne(file)));
      const { identity } = await post("/api/v1/identities", { name: name.trim() || files[0].name, asset_ids: assets.map((asset) => asset.asset_id) });
      location.hash = `#/person/${identity.identity_uuid}`;
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
  };
  return html`<section>
    <div class="head"><h1>People</h1></div>
    <div class="card inline">
      <label>Name <input value=${name} maxlength="200" onInput=${(event) => setName(event.target.value)} /></label>
      <${Drop} compact multiple accept="image/*" onFiles=${add}><b>Add somebody by photos</b><//>
      ${busy && html`<${Busy}>Looking for the face<//>`}
    </div>
    <${Failure} error=${error} />
    <${Result} of=${people}>
      ${(all) => html`
        ${!all.length && html`<p class="empty">Nobody is known yet. Open a film of the library and let its people be found, or add somebody by photos.</p>`}
        <ul class="people">${all.map((person) => html`<li key=${person.identity_uuid}><a href=${`#/person/${person.identity_uuid}`}><${Face} person=${person} /><span>${label(person)}</span></a></li>`)}</ul>
      `}
    <//>
  </section>`;
}

function Face({ person }) {
  if (person.thumbnail_url) return html`<${Picture} src=${person.thumbnail_url} alt="" />`;
  const photo = person.reference_asset_ids[0];
  return photo ? html`<${Picture} src=${`/api/v1/media/${photo}/thumbnail?side=320`} file=${photo} alt="" />` : html`<span class="no-picture">no face</span>`;
}

export function Person({ id }) {
  const person = useAsync(async (signal) => (await get(`/api/v1/identities/${id}`, { signal })).identity, [id]);
  return html`<${Result} of=${person}>${(found) => html`<${Known} person=${found} again=${person.again} />`}<//>`;
}

function Known({ person, again }) {
  const id = person.identity_uuid;
  const appearances = useAsync((signal) => appearancesOf(id, signal), [id]);
  const others = useAsync(async (signal) => (await everybody(signal)).filter((other) => other.identity_uuid !== id), [id]);
  const [name, setName] = useState(person.name ?? "");
  const [other, setOther] = useState("");
  const [chosen, setChosen] = useState([]);
  const [error, setError] = useState(null);
  const saved = useRef(null);
  const act = async (action) => {
    setError(null);
    try {
      await action();
    } catch (failure) {
      setError(failure);
    }
  };
  const rename = (event) => {
    event.preventDefault();
    act(async () => {
      await call("PATCH", `/api/v1/identities/${id}`, { name: name.trim() || null });
      saved.current.textContent = "Saved.";
      again();
    });
  };
  const merge = (event) => {
    event.preventDefault();
    act(async () => {
      await post(`/api/v1/identities/${id}/merge/${other}`);
      setOther("");
      again();
      others.again();
      appearances.again();
    });
  };
  const split = () =>
    act(async () => {
      const { identity } = await post(`/api/v1/identities/${id}/split`, { traces: chosen.map(({ file_uuid, trace_id }) => ({ file_uuid, trace_id })) });
      location.hash = `#/person/${identity.identity_uuid}`;
    });
  const remove = () =>
    act(async () => {
      if (!confirm(`Forget ${label(person)}? The appearances stay, without a name.`)) return;
      await call("DELETE", `/api/v1/identities/${id}`);
      location.hash = "#/people";
    });
  const toggle = (appearance) => setChosen(chosen.includes(appearance) ? chosen.filter((each) => each !== appearance) : [...chosen, appearance]);

  return html`<section>
    <div class="head"><h1>${label(person)}</h1><div class="tools"><button class="danger" onClick=${remove}>Forget</button></div></div>
    <${Failure} error=${error} />
    <div class="who">
      <div class="portrait"><${Face} person=${person} /></div>
      <div class="card">
        <form class="inline" onSubmit=${rename}>
          <label>Name <input value=${name} maxlength="200" onInput=${(event) => setName(event.target.value)} /></label>
          <button class="main">Save</button> <span class="quiet" role="status" ref=${saved}></span>
        </form>
        <form class="inline" onSubmit=${merge}>
          <label>Same person as
            <select value=${other} required onChange=${(event) => setOther(event.target.value)}>
              <option value="">choose</option>
              ${others.value?.map((each) => html`<option value=${each.identity_uuid}>${label(each)}</option>`)}
            </select>
          </label>
          <button disabled=${!other}>Merge</button>
        </form>
      </div>
    </div>
    <h2>Appearances ${chosen.length > 0 && html`<button onClick=${split}>${chosen.length} of them are somebody else</button>`}</h2>
    <${Result} of=${appearances}>
      ${(all) => html`
        ${!all.length && html`<p class="empty">No film is known to show this person.</p>`}
        <ul class="people">${all.map((each) => html`<li key=${`${each.file_uuid}/${each.trace_id}`} class=${chosen.includes(each) ? "chosen" : ""}>
          <a href=${`#/video/${each.file_uuid}?t=${each.first_time.toFixed(2)}`}><${Picture} src=${each.thumbnail_url} file=${each.file_uuid} alt=${`${each.filename} at ${clock(each.first_time)}`} /><span class="name">${each.filename}</span></a>
          <small class="quiet">${clock(each.first_time)} – ${clock(each.last_time)}</small>
          ${all.length > 1 && html`<label class="inline"><input type="checkbox" checked=${chosen.includes(each)} onChange=${() => toggle(each)} /> not ${label(person)}</label>`}
        </li>`)}</ul>
      `}
    <//>
    ${person.reference_asset_ids.length > 0 && html`<h2>Reference photos</h2><div class="row-grid">${person.reference_asset_ids.map((asset) => html`<a class="tile" href=${`#/asset/${asset}`}><span class="frame"><${Picture} src=${`/api/v1/media/${asset}/thumbnail?side=320`} file=${asset} alt="Reference photo" /></span></a>`)}</div>`}
  </section>`;
}

async function appearancesOf(id, signal) {
  const all = [];
  for (let after = ""; after !== null; ) {
    const page = await get(`/api/v1/identities/${id}/appearances?limit=500${after && `&after=${encodeURIComponent(after)}`}`, { signal });
    all.push(...page.appearances);
    after = page.next;
  }
  return all;
}
