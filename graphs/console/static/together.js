/** When two are in sight together in a film: people, objects, and classes of them. */

import { html, useEffect } from "./preact.js";
import { get } from "./api.js";
import { clock, Failure, useAsync } from "./ui.js";

const STRETCHES = 12;

/** Return how the service calls somebody, who may belong to nobody known. */
export function nameOf(person) {
  return person.identity_uuid ? `identity:${person.identity_uuid}` : `trace:${person.traces[0].trace_id}`;
}

/** Return where the pair is together, nothing for fewer than two. */
export function useTogether(file, pair) {
  const [a, b] = pair.map(({ what }) => encodeURIComponent(what));
  return useAsync(async (signal) => (b ? await get(`/api/v1/file/${file.file_uuid}/co-occurrence?a=${a}&b=${b}&limit=1000`, { signal }) : null), [file.file_uuid, a, b]);
}

/** The box by which one of two is chosen. */
export function With({ what, label, pair, setPair }) {
  const isChosen = pair.some((each) => each.what === what);
  const toggle = () => setPair(isChosen ? pair.filter((each) => each.what !== what) : [...pair, { what, label }].slice(-2));
  return html`<label class="inline"><input type="checkbox" checked=${isChosen} onChange=${toggle} /> together with</label>`;
}

/** The two that are chosen, a class for one of them, and where they are together. */
export function Together({ classes, pair, setPair, found, seek }) {
  const { value, error, busy } = found;
  useEffect(() => {
    if (value) seek(value.first_cooccurrence.timestamp_secs);
  }, [value]);
  const [one, other] = pair.map(({ label }) => label);
  const never = error?.code === "NO_COOCCURRENCE";
  const add = (event) => {
    const label = event.target.value;
    if (label) setPair([...pair, { what: `class:${label}`, label: `any ${label}` }].slice(-2));
    event.target.value = "";
  };
  return html`<section>
    <h2>Together <span class="quiet">${one ? `${one} and ${other ?? "…"}` : "choose two below to see when they first share a frame"}</span></h2>
    <div class="choice">
      ${pair.length > 0 && html`<button onClick=${() => setPair([])}>Neither</button>`}
      ${classes.length > 0 && html`<label class="inline">${one ? "or" : ""} any <select aria-label="Any object of a class" onChange=${add}><option value="">class</option>${classes.map(({ label }) => html`<option key=${label}>${label}</option>`)}</select></label>`}
    </div>
    <div role="status">
      ${never && html`<p class="notice">${one} and ${other} are never in sight together.</p>`}
      ${value && !busy && html`<p class="notice good">First together at ${clock(value.first_cooccurrence.timestamp_secs, 2)} (frame ${value.first_cooccurrence.frame_number}); ${value.total_cooccurrence_frames} frames in all, ${value.total_cooccurrence_secs.toFixed(1)} s${[value.a, value.b].filter((side) => side.frames_without_face).map((side) => `; ${side.frames_without_face} of them without the face of ${side === value.a ? one : other}`)}.</p>`}
    </div>
    ${value && !busy && value.stretch_count > 1 && html`<div class="choice" role="group" aria-label="Stretches together">
      ${value.stretches.slice(0, STRETCHES).map((each) => html`<button key=${each.start_frame} onClick=${() => seek(each.start_time)}>${clock(each.start_time, 1)} – ${clock(each.end_time, 1)}</button>`)}
      ${value.stretch_count > STRETCHES && html`<span class="quiet">and ${value.stretch_count - STRETCHES} more, all in the timeline</span>`}
    </div>`}
    ${!never && html`<${Failure} error=${error} />`}
  </section>`;
}
