/** Cattle by their muzzles: whether two are one, which animal of the registry it is, and the registry. */

import { html, useEffect, useState } from "./preact.js";
import { base64, call, get, post, postForm } from "./api.js";
import { Busy, Drop, Failure, Meter, when, words } from "./ui.js";

const REFERENCES = ["Reference 1", "Reference 2", "Reference 3"];
const PAGE = 50;

export function Muzzle() {
  const [view, setView] = useState("verify");
  const [unknown, setUnknown] = useState([]);
  const enrol = (photo) => {
    setUnknown([photo]);
    setView("registry");
  };
  return html`<section>
    <div class="head"><h1>Muzzle</h1>
      <div class="choice" role="group" aria-label="Task">
        ${Object.entries({ verify: "Verify", identify: "Identify", registry: "Registry" }).map(([name, text]) => html`<button aria-pressed=${view === name} onClick=${() => setView(name)}>${text}</button>`)}
      </div>
    </div>
    ${view === "verify" ? html`<${Verify} />` : view === "identify" ? html`<${Identify} onUnknown=${enrol} />` : html`<${Registry} photos=${unknown} />`}
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
      return postForm("/predict/file?include=matches", form);
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
    ${answer && html`<${Decision} answer=${answer} good=${answer.decision.verdict === "MATCH"} />`}
  `;
}

/** Any verdict with its criteria, whichever there are, the pictures that the answer has, and what is wrong with photos. */
function Decision({ answer, good, children }) {
  const { decision, summary } = answer;
  const found = [...inside(answer)];
  const pictures = found.filter(([name, value]) => name.endsWith("_png") && typeof value === "string");
  const advice = [...new Set(found.filter(([name, value]) => name === "reasons" && Array.isArray(value)).flatMap(([, reasons]) => reasons))];
  return html`<section class=${`card verdict ${good ? "AUTHENTIC" : "MANIPULATED"}`} role="status">
    <p class="stamp">${words(decision.verdict.toLowerCase())}</p>
    <p>${decision.explanation}</p>
    ${children}
    ${summary.criteria.map((each) => html`<${Meter} label=${`${each.passed ? "✓" : "✗"} ${words(each.metric)}`} value=${each.value} high=${Math.max(1, each.value, each.threshold)} digits=${Number.isInteger(each.threshold) && each.threshold > 1 ? 0 : 3} marks=${{ threshold: each.threshold }} hint=${each.description} />`)}
    ${advice.length > 0 && html`<h2>Better photos</h2><ul>${advice.map((text) => html`<li>${text}</li>`)}</ul>`}
    ${pictures.map(([name, data]) => html`<figure><img class="matches" src=${`data:image/png;base64,${data}`} alt=${words(name.replace(/_png$/, ""))} /><figcaption class="quiet">${words(name.replace(/_png$/, ""))}: what of the photos agrees</figcaption></figure>`)}
  </section>`;
}

/** Yield every field of an answer with its name, those of its parts too. */
function* inside(value) {
  for (const [name, each] of Object.entries(value)) {
    yield [name, each];
    if (each && typeof each === "object") yield* inside(each);
  }
}

function Identify({ onUnknown }) {
  const [photo, setPhoto] = useState(null);
  const [count, setCount] = useState(5);
  const [{ answer, error, busy }, run] = useAnswer();
  const identify = (event) => {
    event.preventDefault();
    run(async () => post("/identify", { photo: await base64(photo), top_k: count }));
  };
  const known = answer?.decision.verdict === "IDENTIFIED";
  const none = answer?.none_of_these ?? answer?.decision.verdict === "UNKNOWN";
  return html`
    <p>One photo, compared with every animal that is enrolled.</p>
    <form onSubmit=${identify}>
      <div class="photos"><${Photo} label="Photo" file=${photo} onFile=${setPhoto} /></div>
      <p><label>Show the nearest <input type="number" min="1" max="50" required value=${count} onInput=${(event) => setCount(Number(event.target.value))} /> animals</label></p>
      <button class="main" disabled=${!photo || busy}>Identify</button>
    </form>
    <${Failure} error=${error} />
    ${busy && html`<${Busy}>Comparing<//>`}
    ${answer && html`<${Decision} answer=${answer} good=${known}>
      ${answer.decision.animal_id && html`<p class="stamp">${answer.decision.animal_id}</p>`}
    <//>
    <section class="card"><h2>Nearest of ${answer.searched} animals</h2>
      <ol class="plain-list">
        ${answer.candidates.map((candidate, place) => html`<li key=${candidate.animal_id}><${Meter} label=${`${known && candidate.animal_id === answer.decision.animal_id ? "✓ " : ""}${place + 1}. ${candidate.animal_id}`} value=${candidate.cosine_similarity} digits=${3} hint=${hintOf(candidate)} /></li>`)}
        <li class=${none ? "notice" : "quiet"}>${none ? "✓ " : ""}None of these</li>
      </ol>
      ${!answer.candidates.length && html`<p class="empty">Nobody is enrolled.</p>`}
      ${answer.outdated > 0 && html`<p class="notice">${answer.outdated} animals were enrolled by other models and are not compared.</p>`}
      <button onClick=${() => onUnknown(photo)}>It is none of these: enrol it</button>
    </section>`}
  `;
}

/** The numbers of a candidate beside its cosine, whichever there are. */
function hintOf(candidate) {
  const numbers = Object.entries(candidate).filter(([name, value]) => typeof value === "number" && name !== "cosine_similarity");
  return `cosine similarity; ${numbers.map(([name, value]) => `${words(name).toLowerCase()} ${Number(value.toFixed(3))}`).join(", ")}`;
}

function Registry({ photos }) {
  const [pages, setPages] = useState(null);
  const [error, setError] = useState(null);
  const read = async (from) => {
    try {
      const page = await get(`/animals?limit=${PAGE}${from ? `&after=${encodeURIComponent(from)}` : ""}`);
      setPages((before) => ({ ...page, animals: [...(from ? before.animals : []), ...page.animals] }));
    } catch (failure) {
      setError(failure);
    }
  };
  useEffect(() => void read(), []);
  const remove = async ({ animal_id: id }) => {
    if (!confirm(`Remove ${id} from the registry?`)) return;
    setError(null);
    try {
      await call("DELETE", `/animals/${encodeURIComponent(id)}`);
      setPages((before) => ({ ...before, enrolled: before.enrolled - 1, animals: before.animals.filter((each) => each.animal_id !== id) }));
    } catch (failure) {
      setError(failure);
    }
  };
  return html`
    <${Enrol} first=${photos} onEnrolled=${() => read()} />
    <${Failure} error=${error} />
    ${!pages && !error && html`<${Busy} />`}
    ${pages && html`<section class="card">
      <h2>Animals <span class="quiet">${pages.enrolled}</span></h2>
      ${!pages.animals.length && html`<p class="empty">Nobody is enrolled yet.</p>`}
      <ul class="animals">${pages.animals.map((animal) => html`<li key=${animal.animal_id}>
        <b>${animal.animal_id}</b>
        <span>${animal.photos} photos, alike by ${animal.mutual_similarity.toFixed(2)}</span>
        <time class="quiet" dateTime=${animal.created_at}>${when(animal.created_at)}</time>
        <button class="danger" aria-label=${`Remove ${animal.animal_id}`} onClick=${() => remove(animal)}>Remove</button>
      </li>`)}</ul>
      ${pages.next && html`<nav class="pages" aria-label="Pages"><button onClick=${() => read(pages.next)}>More</button></nav>`}
    </section>`}
  `;
}

function Enrol({ first, onEnrolled }) {
  const [id, setId] = useState("");
  const [files, setFiles] = useState(first);
  const [{ answer, error, busy }, run] = useAnswer();
  const [allowed, setAllowed] = useState({});
  const enrol = (event, more = {}) => {
    event.preventDefault();
    const flags = { ...allowed, ...more };
    setAllowed(flags);
    run(async () => {
      const enrolled = await post("/animals", { animal_id: id.trim(), photos: await Promise.all(files.map(base64)), ...flags });
      setAllowed({});
      setFiles([]);
      setId("");
      onEnrolled();
      return enrolled;
    });
  };
  // What the service refuses unless one insists, it refuses with the field by which one does.
  const flag = error?.message.match(/"?(allow_\w+)"?: true/)?.[1];
  return html`
    <form class="card inline" onSubmit=${enrol}>
      <label>Animal <input required maxlength="128" value=${id} placeholder="DE-0123456789" onInput=${(event) => setId(event.target.value)} /></label>
      <${Drop} compact multiple accept="image/jpeg,image/png" onFiles=${(chosen) => setFiles([...files, ...chosen].slice(0, 12))}><b>Photos</b> <span>${files.length ? `${files.length} chosen` : "3 to 12 of this animal"}</span><//>
      ${files.length > 0 && html`<button type="button" onClick=${() => setFiles([])}>Choose anew</button>`}
      <button class="main" disabled=${busy || files.length < 3 || !id.trim()}>Enrol</button>
    </form>
    <${Failure} error=${error} />
    ${flag && html`<p><button onClick=${(event) => enrol(event, { [flag]: true })}>Enrol it all the same</button></p>`}
    ${busy && html`<${Busy}>Looking at the photos<//>`}
    ${answer && html`<section class="card notice good" role="status">
      <p>${answer.animal.animal_id} is enrolled with ${answer.animal.photos} photos, which are alike by ${answer.animal.mutual_similarity.toFixed(2)}.</p>
      ${answer.similar.map((candidate) => html`<${Meter} label=${`Like ${candidate.animal_id}`} value=${candidate.cosine_similarity} digits=${3} />`)}
    </section>`}
  `;
}
