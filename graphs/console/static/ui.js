/** What several views are made of. */

import { html, useCallback, useEffect, useLayoutEffect, useRef, useState } from "./preact.js";
import { blob, key, mediaUrl } from "./api.js";

/** Run an asynchronous function when `inputs` change; return `{ value, error, busy, again }`. */
export function useAsync(compute, inputs) {
  const [state, setState] = useState({ busy: true });
  const [round, setRound] = useState(0);
  useEffect(() => {
    const control = new AbortController();
    setState((before) => ({ ...before, busy: true }));
    compute(control.signal).then(
      (value) => control.signal.aborted || setState({ value, busy: false }),
      (error) => control.signal.aborted || setState({ error, busy: false }),
    );
    return () => control.abort();
  }, [...inputs, round]);
  return { ...state, again: useCallback(() => setRound((before) => before + 1), []) };
}

/** Show what went wrong, with a way on. */
export function Failure({ error, again }) {
  if (!error) return null;
  return html`<div class="notice bad" role="alert">
    <p>${error.message}</p>
    ${error.requestId && html`<p class="quiet">Request ${error.requestId}</p>`}
    ${again && html`<button onClick=${again}>Try again</button>`}
  </div>`;
}

export function Busy({ children = "Loading" }) {
  return html`<p class="busy" role="status"><span class="spinner" aria-hidden="true"></span> ${children}</p>`;
}

/** Show the result of `useAsync` once it is there. */
export function Result({ of, children, waiting }) {
  if (of.error) return html`<${Failure} error=${of.error} again=${of.again} />`;
  if (of.value === undefined) return html`<${Busy}>${waiting}<//>`;
  return children(of.value);
}

/** A number on its range. `marks` are thresholds by name. */
export function Meter({ label, value, low = 0, high = 1, digits = 2, unit = "", hint, marks = {} }) {
  const known = typeof value === "number";
  const place = known ? (Math.min(Math.max(value, low), high) - low) / (high - low) : 0;
  const text = known ? value.toFixed(digits).replace(/^-(?=[0.]+$)/, "").replace("-", "−") : "not available";
  return html`<div class="meter" title=${hint}>
    <span class="meter-label">${label}</span>
    <span class="meter-value">${known ? `${text}${unit}` : text}</span>
    <span class="meter-bar" role="img" aria-label=${`${label}: ${text} of ${low} to ${high}`}>
      ${known && html`<span style=${{ width: `${place * 100}%` }}></span>`}
      ${Object.entries(marks).map(
        ([name, at]) => html`<i style=${{ left: `${(100 * (at - low)) / (high - low)}%` }} title=${`${name}: ${at}`}></i>`,
      )}
    </span>
    ${hint && html`<small class="quiet">${hint}</small>`}
  </div>`;
}

/** A picture of a file. Routes outside of a file are fetched, as an element sends no key. */
export function Picture({ src, file, alt, ...rest }) {
  const [url, setUrl] = useState(null);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    let made = null;
    let gone = false;
    setFailed(false);
    setUrl(null);
    const found = !src ? Promise.resolve(null) : !key.value || src.includes("signature=") ? Promise.resolve(src) : file ? mediaUrl(file, src) : blob(src).then((bytes) => (made = URL.createObjectURL(bytes)));
    found.then(
      (value) => (gone ? made && URL.revokeObjectURL(made) : setUrl(value)),
      () => gone || setFailed(true),
    );
    return () => {
      gone = true;
      if (made) URL.revokeObjectURL(made);
    };
  }, [src, file]);
  if (failed) return html`<span class="no-picture" role=${alt ? "img" : null} aria-label=${alt || null}>no picture</span>`;
  if (!url) return html`<span class="no-picture" aria-hidden="true"></span>`;
  return html`<img src=${url} alt=${alt} loading="lazy" decoding="async" onError=${() => setFailed(true)} ...${rest} />`;
}

/** Fetch bytes with the key of this tab, for an element that is to show them; return `{ url, error }`. */
export function useObjectUrl(path) {
  const [state, setState] = useState({});
  useEffect(() => {
    const control = new AbortController();
    let url = null;
    setState({});
    blob(path, { signal: control.signal }).then(
      (bytes) => control.signal.aborted || setState({ url: (url = URL.createObjectURL(bytes)) }),
      (error) => control.signal.aborted || setState({ error }),
    );
    return () => {
      control.abort();
      if (url) URL.revokeObjectURL(url);
    };
  }, [path]);
  return state;
}

/** How strongly a map covers what is below it, 0 to 1. */
export function Strength({ value, onValue, children }) {
  return html`<label class="slider">${children} <input type="range" min="0" max="1" step="0.05" value=${value} onInput=${(event) => onValue(Number(event.target.value))} /></label>`;
}

/** Names and values of an answer; what is null is left out. */
export function Facts({ of }) {
  const known = Object.entries(of).filter(([, value]) => value !== null && value !== undefined && value !== "");
  if (!known.length) return null;
  return html`<dl class="facts">${known.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;
}

/** A place to drop files on, or to choose them at. */
export function Drop({ onFiles, accept, multiple = false, folders = false, children, compact = false }) {
  const [over, setOver] = useState(false);
  const input = useRef(null);
  const take = async (event) => {
    event.preventDefault();
    setOver(false);
    const files = await droppedFiles(event.dataTransfer);
    if (files.length) onFiles(multiple ? files : files.slice(0, 1));
  };
  return html`<label
    class=${`drop ${over ? "over" : ""} ${compact ? "compact" : ""}`}
    onDragOver=${(event) => (event.preventDefault(), setOver(true))}
    onDragLeave=${() => setOver(false)}
    onDrop=${take}
  >
    <input
      ref=${input}
      class="visually-hidden"
      type="file"
      accept=${accept}
      multiple=${multiple}
      webkitdirectory=${folders}
      onChange=${(event) => {
        if (event.target.files.length) onFiles([...event.target.files]);
        event.target.value = "";
      }}
    />
    ${children}
  </label>`;
}

/** Return the files of a drop, those in folders too. */
async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const files = [];
  for (const queue = [...entries]; queue.length; ) {
    const entry = queue.shift();
    if (entry.isFile) files.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    else {
      const reader = entry.createReader();
      for (let batch; (batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))).length; ) queue.push(...batch);
    }
  }
  return files;
}

/** Keep the width and the height of an element, in pixels. */
export function useSize() {
  const ref = useRef(null);
  const [size, setSize] = useState([0, 0]);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(([{ contentRect }]) => setSize([contentRect.width, contentRect.height]));
    observer.observe(ref.current);
    setSize([ref.current.clientWidth, ref.current.clientHeight]);
    return () => observer.disconnect();
  }, []);
  return [ref, ...size];
}

const ROWS_AROUND = 3;

/** A grid of many items, of which only those in sight are in the page. `onEnd` is called when its end comes near. */
export function Grid({ items, least, ratio = 0.75, foot = 44, gap = 12, render, onEnd }) {
  const [ref, width] = useSize();
  const [window_, setWindow] = useState({ top: 0, height: 800 });
  const columns = Math.max(1, Math.floor((width + gap) / (least + gap)));
  const cell = (width - gap * (columns - 1)) / columns;
  const rowHeight = Math.round(cell * ratio + foot + gap);
  const rows = Math.ceil(items.length / columns);
  useEffect(() => {
    const look = () => setWindow({ top: -ref.current.getBoundingClientRect().top, height: innerHeight });
    look();
    addEventListener("scroll", look, { passive: true });
    addEventListener("resize", look);
    return () => {
      removeEventListener("scroll", look);
      removeEventListener("resize", look);
    };
  }, [items.length]);
  const first = Math.max(0, Math.floor(window_.top / rowHeight) - ROWS_AROUND);
  const last = Math.min(rows, Math.ceil((window_.top + window_.height) / rowHeight) + ROWS_AROUND);
  useEffect(() => {
    if (width && last >= rows - ROWS_AROUND) onEnd?.();
  }, [last, rows, width]);
  const shown = width ? items.slice(first * columns, last * columns) : [];
  return html`<ul class="grid" ref=${ref} style=${{ height: `${rows * rowHeight}px` }}>
    ${shown.map((item, place) => {
      const number = first * columns + place;
      const style = {
        width: `${cell}px`,
        height: `${rowHeight - gap}px`,
        transform: `translate(${(number % columns) * (cell + gap)}px, ${Math.floor(number / columns) * rowHeight}px)`,
      };
      return html`<li key=${item.key ?? number} style=${style} aria-setsize=${items.length} aria-posinset=${number + 1}>${render(item, number)}</li>`;
    })}
  </ul>`;
}

/** Seconds as 1:02:03.4. */
export function clock(seconds, digits = 1) {
  const [whole, rest] = [Math.floor(Number(seconds.toFixed(digits))), digits ? seconds.toFixed(digits).slice(-digits - 1) : ""];
  const minutes = Math.floor(whole / 60) % 60;
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(whole % 60)}${rest}`;
}

/** Bytes for people. */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  for (; count >= 999.5 && place < units.length - 1; place++) count /= 1000;
  return `${place ? count.toPrecision(3) : count} ${units[place]}`;
}

export function when(text) {
  return new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** Where a library asset is shown. */
export function assetHref({ asset_id, kind }) {
  return `#/${kind === "video" ? "video" : "asset"}/${asset_id}`;
}

/** What a key of an answer means, for people: `laplacian_variance` as "Laplacian variance". */
export function words(name) {
  const text = name.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}
