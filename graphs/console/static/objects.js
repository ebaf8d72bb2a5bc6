/** Objects of a film: which there are, what is shown of them, and one that is chosen. */

import { html, useState } from "./preact.js";
import { get } from "./api.js";
import { With } from "./together.js";
import { clock, Facts, Picture } from "./ui.js";

const CLASSES = 10;
const CARDS = 24;

/** Return all objects of a film. */
export async function objectsOf(id, signal) {
  const objects = [];
  for (let after = -1; after !== null; ) {
    const page = await get(`/api/v1/file/${id}/objects?after=${after}&limit=1000`, { signal });
    objects.push(...page.objects);
    after = page.next;
  }
  return objects;
}

/** What is shown of the objects: all classes where none is named. */
export const EVERYTHING = { classes: [], least: 0 };

/** Return those of a choice. */
export function chosenOf(objects, { classes, least }) {
  return objects.filter((track) => track.confidence >= least && (!classes.length || classes.includes(track.label)));
}

/** Return the classes of objects with how many there are, those that are seen longest first. */
export function classesOf(objects) {
  const classes = new Map();
  for (const { label, screen_time } of objects) {
    const known = classes.get(label) ?? { label, count: 0, seconds: 0 };
    classes.set(label, { label, count: known.count + 1, seconds: known.seconds + (screen_time ?? 0) });
  }
  return [...classes.values()].sort((a, b) => b.seconds - a.seconds || b.count - a.count);
}

/** What is shown: classes, of which none chosen means all, and how sure the detector has to be. */
export function Choice({ classes, value, onValue, children }) {
  const [all, setAll] = useState(false);
  const shown = all ? classes : classes.filter(({ label }, place) => place < CLASSES || value.classes.includes(label));
  const toggle = (label) => onValue({ ...value, classes: value.classes.includes(label) ? value.classes.filter((each) => each !== label) : [...value.classes, label] });
  return html`<div class="choice" role="group" aria-label="Classes of objects">
    ${[...shown, ...value.classes.filter((label) => !classes.some((each) => each.label === label)).map((label) => ({ label, count: 0 }))].map(({ label, count }) => html`<button type="button" key=${label} aria-pressed=${value.classes.includes(label)} onClick=${() => toggle(label)}>${label} <span class="quiet">${count}</span></button>`)}
    ${classes.length > CLASSES && html`<button type="button" class="plain" aria-expanded=${all} onClick=${() => setAll(!all)}>${all ? "Fewer classes" : `${classes.length - shown.length} more classes`}</button>`}
    ${value.least !== undefined && html`<label class="inline">at least <input type="range" min="0" max="0.95" step="0.05" value=${value.least} aria-label="Least confidence" aria-valuetext=${percent(value.least)} onInput=${(event) => onValue({ ...value, least: Number(event.target.value) })} /> <output>${percent(value.least)}</output> sure</label>`}
    ${children}
  </div>`;
}

/** The way to what else of the library has these classes in it. */
export function Others({ classes }) {
  return classes.length > 0 && html`<a href=${`#/library?objects=${encodeURIComponent(classes.join())}`}>Others in the library</a>`;
}

/** Return a share for people. */
export function percent(share) {
  return `${Math.round(100 * share)} %`;
}

/** The objects of a film as pictures, those seen longest first. */
export function Objects({ file, objects, filter, setFilter, chosen, choose, pair, setPair }) {
  const [most, setMost] = useState(CARDS);
  const apart = objects.filter((track) => !track.person);
  const shown = chosenOf(apart, filter).sort((a, b) => b.screen_time - a.screen_time);
  const classes = classesOf(apart);
  const faces = objects.length - apart.length;
  return html`<section>
    <h2>Objects <span class="quiet">${classes.length ? `${apart.length} in ${classes.length} ${classes.length === 1 ? "class" : "classes"}, longest seen first` : "none were found"}</span></h2>
    ${faces > 0 && html`<p class="quiet">${faces} ${faces === 1 ? "person" : "persons"} whose face is known, too: among the people.</p>`}
    ${classes.length > 0 && html`<${Choice} classes=${classes} value=${filter} onValue=${setFilter}><${Others} classes=${filter.classes} /><//>`}
    ${classes.length > 0 && !shown.length && html`<p class="empty">Nothing is left of this choice.</p>`}
    <ul class="people objects">
      ${shown.slice(0, most).map((track) => html`<li key=${track.track_id} class=${track === chosen ? "chosen" : ""}>
        <button class="plain" aria-pressed=${track === chosen} onClick=${() => choose(track, track.first_time)} title="Jump to it"><${Picture} src=${track.thumbnail_url} file=${file.file_uuid} alt=${`${track.label} ${track.track_id}: to where it appears`} /></button>
        <span><i style=${{ background: track.colour }}></i> ${track.label} <span class="quiet">${track.track_id}</span></span>
        <small class="quiet">${clock(track.screen_time, 1)}, ${percent(track.confidence)} sure</small>
        <${With} what=${`object:${track.track_id}`} label=${`${track.label} ${track.track_id}`} pair=${pair} setPair=${setPair} />
      </li>`)}
    </ul>
    ${shown.length > most && html`<button onClick=${() => setMost(most + CARDS)}>Show ${Math.min(CARDS, shown.length - most)} more of ${shown.length}</button>`}
  </section>`;
}

/** The object that was chosen, and what there is to know of it. */
export function Chosen({ file, track, seek, play, close }) {
  if (!track) return html`<div aria-live="polite"></div>`;
  const facts = {
    Seen: `${clock(track.first_time, 2)} – ${clock(track.last_time, 2)}`,
    "Screen time": `${track.screen_time.toFixed(2)} s`,
    Confidence: `${percent(track.confidence)} on average`,
    Sightings: `${track.sightings} in ${track.last_frame - track.first_frame + 1} frames`,
  };
  return html`<div aria-live="polite"><section class="card one-object" aria-label="The chosen object">
    <${Picture} src=${track.thumbnail_url} file=${file.file_uuid} alt="" />
    <div>
      <h2><i style=${{ background: track.colour }}></i> ${track.person ? `${track.person.label}, ${track.label}` : track.label} <span class="quiet">object ${track.track_id}</span></h2>
      <${Facts} of=${facts} />
      <div class="inline-buttons">
        <button onClick=${() => seek(track.first_time)}>To its beginning</button>
        <button onClick=${play}>Play it alone</button>
        <button onClick=${close}>Close</button>
      </div>
    </div>
  </section></div>`;
}
