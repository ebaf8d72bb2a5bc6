/** Uploads of this tab: a queue that goes on while one looks at other views. */

import { html, useEffect, useState } from "./preact.js";
import { get, post, postForm, uploadInParts } from "./api.js";
import { bytes } from "./ui.js";

const AT_ONCE = 2;
const LARGE = 8 * 2 ** 20;
const uploads = [];
const listeners = new Set();
let lastKey = 0;

function changed() {
  listeners.forEach((listener) => listener());
}

/** Queue files; `onStored` is called with the answer for each that was stored. */
export function upload(files, onStored) {
  for (const file of files) uploads.push({ key: ++lastKey, file, part: 0, state: "waiting", control: new AbortController(), onStored });
  changed();
  next();
}

/** Upload one file and return its asset; a large one goes in parts, which survive a broken connection. */
export async function uploadOne(file, options) {
  if (file.size >= LARGE) {
    const { assetId, wasThere } = await uploadInParts(file, options);
    return { ...(await get(`/api/v1/media/${assetId}`)), duplicate: wasThere };
  }
  const form = new FormData();
  form.append("file", file, file.name);
  return postForm("/api/v1/upload-media", form, options);
}

async function next() {
  if (uploads.filter((each) => each.state === "sending").length >= AT_ONCE) return;
  const item = uploads.find((each) => each.state === "waiting");
  if (!item) return;
  item.state = "sending";
  next();
  try {
    const onProgress = (part) => {
      item.part = part;
      changed();
    };
    item.asset = await uploadOne(item.file, { onProgress, signal: item.control.signal });
    item.state = item.asset.duplicate ? "duplicate" : "stored";
    item.onStored?.(item.asset);
    changed();
    await look(item.asset);
  } catch (error) {
    if (error.status === 429) {
      // Others upload too; what was refused is sent again.
      item.state = "paused";
      setTimeout(() => {
        item.state = "waiting";
        next();
      }, 2000);
    } else {
      item.state = error.name === "AbortError" ? "cancelled" : "failed";
      item.error = error.message;
    }
  }
  changed();
  next();
}

/** Have a picture looked at, so that searches by its looks find it. It is stored even where that fails, and is looked at when it is opened. */
async function look({ asset_id, content_type }) {
  if (!content_type.startsWith("image/")) return;
  try {
    await post("/api/v1/extract-features", { asset_id });
  } catch (error) {
    console.info(`${asset_id} is not searched by its looks yet: ${error.message}`);
  }
}

/** Call `onStored` for every asset that is stored while a view is shown. */
export function useStored(onStored) {
  useEffect(() => {
    let known = uploads.filter((each) => each.asset).length;
    const look = () => {
      const stored = uploads.filter((each) => each.asset).length;
      if (stored !== known) onStored();
      known = stored;
    };
    listeners.add(look);
    return () => listeners.delete(look);
  }, []);
}

const TEXTS = { waiting: "waiting", sending: "sending", paused: "waiting for a place", stored: "stored", duplicate: "was there already", failed: "failed", cancelled: "cancelled" };

/** The list of uploads, at the foot of every view. */
export function Uploads() {
  const [, redraw] = useState(0);
  const [open, setOpen] = useState(true);
  useEffect(() => {
    const listener = () => redraw((before) => before + 1);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
  if (!uploads.length) return null;
  const done = uploads.filter((each) => !["waiting", "sending", "paused"].includes(each.state));
  const clear = () => {
    uploads.splice(0, uploads.length, ...uploads.filter((each) => !done.includes(each)));
    changed();
  };
  const failed = uploads.filter((each) => each.state === "failed").length;
  return html`<aside class="uploads" aria-label="Uploads">
    <header>
      <button class="plain" aria-expanded=${open} onClick=${() => setOpen(!open)}>
        Uploads: ${done.length} of ${uploads.length}${failed ? `, ${failed} failed` : ""}
      </button>
      ${done.length > 0 && html`<button class="plain" onClick=${clear}>Clear</button>`}
    </header>
    ${open &&
    html`<ul>
      ${uploads.slice(-200).map(
        (each) => html`<li key=${each.key} class=${each.state}>
          <span class="name" title=${each.file.name}>
            ${each.asset ? html`<a href=${`#/${each.asset.content_type.startsWith("video/") ? "video" : "asset"}/${each.asset.asset_id}`}>${each.file.name}</a>` : each.file.name}
          </span>
          <span class="quiet">${each.state === "sending" ? `${Math.round(100 * each.part)} % of ${bytes(each.file.size)}` : TEXTS[each.state]}</span>
          ${each.state === "sending" && html`<progress max="1" value=${each.part} aria-label=${`Upload of ${each.file.name}`}></progress>`}
          ${["waiting", "sending"].includes(each.state) && html`<button class="plain" aria-label=${`Cancel ${each.file.name}`} onClick=${() => cancel(each)}>Cancel</button>`}
          ${each.error && html`<small class="bad-text">${each.error}</small>`}
        </li>`,
      )}
    </ul>`}
  </aside>`;
}

function cancel(item) {
  if (item.state === "waiting") item.state = "cancelled";
  item.control.abort();
  changed();
}
