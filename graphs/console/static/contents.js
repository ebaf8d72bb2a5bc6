/** The library by what is in it: classes of objects, and people by their names. */

import { html, useEffect, useState } from "./preact.js";
import { get } from "./api.js";
import { Missing } from "./asset.js";
import { Choice } from "./objects.js";
import { clock, useAsync } from "./ui.js";

const DETECTOR = "objects/detector";

/** Return what is looked for, as the query of an address has it. */
export function within(query) {
  const [objects, people] = ["objects", "people"].map((name) => listed(query.get(name) ?? ""));
  return { objects, people };
}

function listed(text) {
  return [...new Set(text.split(",").map((each) => each.trim()).filter(Boolean))];
}

/** Return the query of it, with `more`; empty where nothing is looked for. */
export function queryOf(wanted, more = {}) {
  return new URLSearchParams(Object.entries({ objects: wanted.objects.join(), people: wanted.people.join(), ...more }).filter(([, value]) => value)).toString();
}

/** Return all assets that have it, by their ids. */
export async function assetsWith(wanted, signal) {
  const found = new Map();
  for (let after = ""; after !== null; ) {
    const page = await get(`/api/v1/assets?${queryOf(wanted, { limit: 500, after })}`, { signal });
    for (const asset of page.assets) found.set(asset.asset_id, asset);
    after = page.next;
  }
  return found;
}

/** Return where in an asset it was found, for people, and the address of that place. */
export function placeOf(asset, wanted) {
  const { matched, tags } = asset;
  if (!matched) return { note: (tags ?? []).slice(0, 3).map(({ label }) => label).join(", ") };
  const sides = [...matched.objects, ...matched.people];
  if (!matched.together) return { note: sides.map(({ wanted: name, number }) => (number > 1 ? `${number} × ${name}` : name)).join(", ") };
  const start = matched.together[0]?.start ?? Math.min(...sides.flatMap(({ stretches }) => stretches.map((each) => each.start)));
  const times = matched.together_number === 1 ? "once" : `${matched.together_number} times`;
  return {
    note: matched.together_number ? `at ${clock(start, 1)}, ${times}, ${matched.together_time.toFixed(1)} s in all` : `at ${clock(start, 1)}, never at once`,
    href: `#/video/${asset.asset_id}?${queryOf({ objects: wanted.objects, people: [] }, { t: start.toFixed(2) })}`,
  };
}

/** What is looked for: as text, and as the classes that the library has. `info`: what the models say of themselves; `found`: what was found last, as pictures are looked at for it. */
export function Contents({ wanted, onWanted, info, found }) {
  const counts = useAsync((signal) => get("/api/v1/assets/objects", { signal }), [found]);
  const known = useAsync((signal) => get("/api/v1/identities?limit=1000", { signal }), []);
  const names = [...new Set((known.value?.identities ?? []).map(({ name }) => name).filter(Boolean))];
  const [text, setText] = useState({});
  useEffect(() => setText({ objects: wanted.objects.join(", "), people: wanted.people.join(", ") }), [wanted]);
  const { classes = [], pictures, films } = counts.value ?? {};
  const isServing = info?.capabilities.object_detection;
  const reason = info?.unavailable.object_detection;
  const search = (event) => {
    event.preventDefault();
    onWanted({ objects: listed(text.objects.toLowerCase()), people: listed(text.people) });
  };
  const field = (name, label, example) => html`<label class="grow">${label} <input type="search" list=${`known-${name}`} maxlength="2000" value=${text[name]} placeholder=${example} onInput=${(event) => setText({ ...text, [name]: event.target.value })} /></label>`;
  const hasObjects = isServing || classes.length > 0 || wanted.objects.length > 0;
  const hasPeople = names.length > 0 || wanted.people.length > 0;
  return html`
    ${(hasObjects || hasPeople) && html`<form class="inline" role="search" aria-label="By what is in it" onSubmit=${search}>
      ${hasObjects && field("objects", "What is in it?", "dog, car")}
      ${hasPeople && field("people", "Who is in it?", names[0])}
      <button class="main">Find</button>
      <datalist id="known-objects">${(info?.stages[DETECTOR]?.classes ?? classes.map(({ label }) => label)).map((each) => html`<option key=${each}>${each}</option>`)}</datalist>
      <datalist id="known-people">${names.map((each) => html`<option key=${each}>${each}</option>`)}</datalist>
    </form>`}
    ${classes.length > 0 && html`<${Choice} classes=${classes.map((each) => ({ label: each.label, count: each.pictures + each.films }))} value=${{ classes: wanted.objects }} onValue=${(value) => onWanted({ ...wanted, objects: value.classes })}>
      <span class="quiet">looked for in ${pictures.looked_at} of ${pictures.total} pictures and ${films.looked_at} of ${films.total} films</span>
    <//>`}
    ${reason && html`<p class="quiet">Objects are not looked for: ${reason.split(/\. |\n/)[0].replace(/\.$/, "")}.</p>`}
  `;
}

/** What a search says beside what it found. */
export function Found({ page, wanted }) {
  const what = [...wanted.objects, ...wanted.people].join(", ");
  if (!what) return null;
  return html`
    <p role="status">${page.next ? `The first ${page.assets.length}` : page.assets.length} with ${what}${page.complete ? "." : ". Pictures that nobody looked at yet are looked at …"}</p>
    <${Missing} of=${page.unavailable} />
  `;
}
