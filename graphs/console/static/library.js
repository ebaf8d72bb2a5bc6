/** The library: what was uploaded, latest first. */

import { html, useCallback, useEffect, useRef, useState } from "./preact.js";
import { get, local } from "./api.js";
import { Contents, Found, placeOf, queryOf, within } from "./contents.js";
import { Words } from "./words.js";
import { upload, uploadOne, useStored } from "./uploads.js";
import { assetHref, bytes, Busy, clock, Drop, Failure, Grid, Picture, useAsync } from "./ui.js";

const PAGE = 200;
const ROUNDS = 500;
const KINDS = { "": "All", image: "Pictures", video: "Films", audio: "Sound" };

export function Library({ query }) {
  const [kind, setKind] = useState("");
  const [name, setName] = useState("");
  const [wanted, setWanted] = useState(() => within(query));
  const [state, setState] = useState({ assets: [], counts: {}, next: undefined, complete: true });
  const [error, setError] = useState(null);
  const [looking, setLooking] = useState(null);
  const reading = useRef(0);
  const rounds = useRef(0);
  const info = useAsync((signal) => get("/api/v1/model-info", { signal }), []);
  const isSearch = wanted.objects.length + wanted.people.length > 0;

  const read = useCallback(
    async (from) => {
      const round = from === undefined ? ++reading.current : reading.current;
      try {
        const page = await get(`/api/v1/assets?${queryOf(wanted, { limit: PAGE, kind, name, after: from })}`);
        if (round !== reading.current) return;
        setError(null);
        setState((before) => ({
          assets: [...(from ? before.assets : []), ...page.assets.map((asset) => ({ ...asset, key: asset.asset_id }))],
          counts: page.counts,
          next: page.next,
          complete: page.complete,
          unavailable: page.unavailable,
        }));
      } catch (failure) {
        if (round === reading.current) setError(failure);
      }
    },
    [kind, name, wanted],
  );
  const search = (other) => {
    rounds.current = 0;
    setState((before) => ({ ...before, next: undefined, assets: [] }));
    setWanted(other);
    history.replaceState(null, "", `#/library?${queryOf(other)}`); // so that one comes back to what was found
  };
  useEffect(() => {
    if (queryOf(within(query)) !== queryOf(wanted)) search(within(query));
  }, [query]);
  // Some pictures are looked at with each request.
  useEffect(() => {
    if (!state.complete && rounds.current++ < ROUNDS) read();
  }, [state]);
  useEffect(() => {
    const timer = setTimeout(() => read(), name ? 200 : 0);
    return () => clearTimeout(timer);
  }, [read]);
  useStored(() => read());

  const asked = useRef(null);
  const more = () => {
    if (state.next && asked.current !== state.next) {
      asked.current = state.next;
      read(state.next);
    }
  };
  const searchBy = async ([file]) => {
    setLooking(file.name);
    try {
      const asset = await uploadOne(file);
      location.hash = `${assetHref({ asset_id: asset.asset_id, kind: asset.content_type.startsWith("video/") ? "video" : "image" })}?like`;
    } catch (failure) {
      setError(failure);
    }
    setLooking(null);
  };
  const total = Object.values(state.counts).reduce((sum, count) => sum + count, 0);

  return html`<section>
    <div class="head">
      <h1>Library</h1>
      <div class="tools">
        <input type="search" aria-label="Search file names" placeholder="File name" value=${name} onInput=${(event) => setName(event.target.value)} />
        <div class="choice" role="group" aria-label="Kind">
          ${Object.entries(KINDS).map(
            ([value, text]) => html`<button aria-pressed=${kind === value} onClick=${() => setKind(value)}>
              ${text} <span class="quiet">${value ? state.counts[value] ?? 0 : total}</span>
            </button>`,
          )}
        </div>
      </div>
    </div>
    <div class="drops">
      <${Drop} multiple onFiles=${(files) => upload(files)}><b>Add files</b> <span>drop pictures, films or sound here, or choose them</span><//>
      <${Drop} compact folders multiple onFiles=${(files) => upload(files)}><b>Add a folder</b><//>
      <${Drop} compact accept="image/*,video/*" onFiles=${searchBy}><b>Find a picture like…</b>${looking && html`<${Busy}>${looking}<//>`}<//>
    </div>
    <${Failure} error=${error} again=${() => read()} />
    <${Contents} wanted=${wanted} onWanted=${search} info=${info.value} found=${isSearch && state.next !== undefined && state.complete && queryOf(wanted)} />
    <${Words} able=${info.value} wanted=${wanted}>
      ${state.next !== undefined && html`<${Found} page=${state} wanted=${wanted} />`}
      ${state.next === undefined && !error && html`<${Busy} />`}
      ${state.next !== undefined && !state.assets.length && html`<p class="empty">${name || kind || isSearch ? "Nothing matches." : "The library is empty. Add a few files."}</p>`}
      <${Grid} items=${state.assets} least=${innerWidth < 500 ? 150 : 200} render=${(asset) => html`<${Tile} asset=${asset} place=${placeOf(asset, wanted)} />`} onEnd=${more} />
    <//>
  </section>`;
}

/** The address of the small picture of an asset. */
export function thumbnailOf(id) {
  return `/api/v1/media/${id}/thumbnail?side=320`;
}

/** One asset in a grid; `place`: what was found in it, and where that is. */
export function Tile({ asset, note, place = {} }) {
  const facts = [place.note, asset.width && `${asset.width} × ${asset.height}`, bytes(asset.file_size)].filter(Boolean).join(" · ");
  return html`<a class="tile" href=${place.href ?? assetHref(asset)}>
    <span class="frame">
      ${asset.thumbnail_url ? html`<${Picture} src=${local(asset.thumbnail_url)} file=${asset.asset_id} alt="" />` : html`<span class="no-picture">sound</span>`}
      ${asset.duration != null && html`<span class="badge">${clock(asset.duration, 0)}</span>`}
    </span>
    <span class="name" title=${asset.filename}>${asset.filename}</span>
    <span class="quiet" title=${place.note}>${note ?? facts}</span>
  </a>`;
}
