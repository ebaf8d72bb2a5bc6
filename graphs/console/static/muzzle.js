/** Cattle by their muzzles: whether two are one, and which animal of the registry it is. */

import { html, useEffect, useState } from "./preact.js";
import { base64, call, post, postForm } from "./api.js";
import { Busy, Drop, Failure, Meter, words } from "./ui.js";

const REFERENCES = ["Reference 1", "Reference 2", "Reference 3"];

export function Muzzle() {
  const [view, setView] = useState("verify");
  return html`<section>
    <div class="head"><h1>Muzzle</h1>
      <div class="choice" role="group" aria-label="Task">
        ${Object.entries({ verify: "Verify", identify: "Identify", registry: "Enrol" }).map(([name, text]) => html`<button aria-pressed=${view === name} onClick=${() => setView(name)}>${text}</button>`)}
      </div>
    </div>
    ${view === "verify" ? html`<${Verify} />` : view === "identify" ? html`<${Identify} />` : html`<${Enrol} />`}
  </section>`;
}

/** A photo that was chosen, or the place to choose it. */
function Photo({ label, file, onFile }) {
  const [url, setUrl] = useState(null);
  useEffect(() => {
    if (!file) return setUrl(null);
    const made = URL.createObjectURL(file);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [file]);
  return html`<${Drop} compact accept="image/jpeg,image/png" onFiles=${([chosen]) => onFile(chosen)}>
    ${url ? html`<img class="photo" src=${url} alt=${file.name} />` : html`<span class="photo empty-photo" aria-hidden="true"></span>`}
    <b>${label}</b>
  <//>`;
}

function useAnswer() {
  const [state, setState] = useState({});
  const run = async (compute) => {
    setState({ busy: true });
    try {
      setState({ answer: await compute() });
    } catch (error) {
      setState({ error });
    }
  };
  return [state, run];
}

function Verify() {
  const [photos, setPhotos] = useState([null, null, null]);
  const [probe, setProbe] = useState(null);
  const [{ answer, error, busy }, run] = useAnswer();
  const ready = probe && photos.every(Boolean);
  const verify = () =>
    run(() => {
      const form = new FormData();
      photos.forEach((file, place) => form.append(`reference_photo_${place + 1}`, file, file.name));
      form.append("probe_photo", probe, probe.name);
      return postForm("/predict/file", form);
    });
  return html`
    <p>Three photos of one animal, and one of the animal in question.</p>
    <div class="photos">
      ${REFERENCES.map((label, place) => html`<${Photo} label=${label} file=${photos[place]} onFile=${(file) => setPhotos(photos.map((old, at) => (at === place ? file : old)))} />`)}
      <${Photo} label="Probe" file=${probe} onFile=${setProbe} />
    </div>
    <button class="main" disabled=${!ready || busy} onClick=${verify}>Compare</button>
    <${Failure} error=${error} />
    ${busy && html`<${Busy}>Comparing<//>`}
    ${answer && html`<${Decision} decision=${answer.decision} criteria=${answer.summary.criteria} good=${answer.decision.verdict === "MATCH"} />`}
  `;
}

function Decision({ decision, criteria, good, children }) {
  return html`<section class=${`card verdict ${good ? "AUTHENTIC" : "MANIPULATED"}`} role="status">
    <p class="stamp">${words(decision.verdict.toLowerCase())}</p>
    <p>${decision.explanation}</p>
    ${children}
    ${criteria.map((each) => html`<${Meter} label=${`${each.passed ? "✓" : "✗"} ${words(each.metric)}`} value=${each.value} high=${Math.max(1, each.value, each.threshold)} digits=${3} marks=${{ threshold: each.threshold }} hint=${each.description} />`)}
  </section>`;
}

function Identify() {
  const [photo, setPhoto] = useState(null);
  const [{ answer, error, busy }, run] = useAnswer();
  const identify = () => run(async () => post("/identify", { photo: await base64(photo), top_k: 5 }));
  return html`
    <p>One photo, compared with every animal that is enrolled.</p>
    <div class="photos"><${Photo} label="Photo" file=${photo} onFile=${setPhoto} /></div>
    <button class="main" disabled=${!photo || busy} onClick=${identify}>Identify</button>
    <${Failure} error=${error} />
    ${busy && html`<${Busy}>Comparing<//>`}
    ${answer && html`<${Decision} decision=${answer.decision} criteria=${answer.summary.criteria} good=${answer.decision.verdict === "IDENTIFIED"}>
      ${answer.decision.animal_id && html`<p class="stamp">${answer.decision.animal_id}</p>`}
    <//>
    <section class="card"><h2>Nearest of ${answer.searched} animals</h2>
      ${answer.candidates.map((candidate) => html`<${Meter} label=${candidate.animal_id} value=${candidate.cosine_similarity} digits=${3} />`)}
      ${!answer.candidates.length && html`<p class="empty">Nobody is enrolled.</p>`}
      ${answer.outdated > 0 && html`<p class="notice">${answer.outdated} animals were enrolled by other models and are not compared.</p>`}
    </section>`}
  `;
}

function Enrol() {
  const [id, setId] = useState("");
  const [files, setFiles] = useState([]);
  const [{ answer, error, busy }, run] = useAnswer();
  const enrol = (event) => {
    event.preventDefault();
    run(async () => post("/animals", { animal_id: id.trim(), photos: await Promise.all(files.map(base64)) }));
  };
  const forget = () => run(async () => ({ forgotten: await call("DELETE", `/animals/${encodeURIComponent(id.trim())}`) }));
  return html`
    <form class="card" onSubmit=${enrol}>
      <label>Animal <input required maxlength="128" value=${id} placeholder="DE-0123456789" onInput=${(event) => setId(event.target.value)} /></label>
      <${Drop} compact multiple accept="image/jpeg,image/png" onFiles=${(chosen) => setFiles([...files, ...chosen].slice(0, 12))}><b>Photos</b> <span>${files.length ? `${files.length} chosen` : "3 to 12 of this animal"}</span><//>
      <button class="main" disabled=${busy || files.length < 3 || !id.trim()}>Enrol</button>
      <button type="button" class="danger" disabled=${busy || !id.trim()} onClick=${forget}>Forget this animal</button>
    </form>
    <${Failure} error=${error} />
    ${busy && html`<${Busy}>Looking at the photos<//>`}
    ${answer?.animal && html`<section class="card notice good" role="status">
      <p>${answer.animal.animal_id} is enrolled with ${answer.animal.photos} photos, which are alike by ${answer.animal.mutual_similarity.toFixed(2)}.</p>
      ${answer.similar.map((candidate) => html`<${Meter} label=${`Like ${candidate.animal_id}`} value=${candidate.cosine_similarity} digits=${3} />`)}
    </section>`}
    ${answer?.forgotten && html`<p class="notice good" role="status">${answer.forgotten.animal_id} is forgotten.</p>`}
  `;
}
