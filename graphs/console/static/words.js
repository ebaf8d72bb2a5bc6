/** The library searched in words, where a model for texts and pictures serves; else why it is not. */

import { html, useEffect, useRef, useState } from "./preact.js";
import { post } from "./api.js";
import { assetsWith, placeOf, queryOf } from "./contents.js";
import { thumbnailOf, Tile } from "./library.js";
import { Busy, Failure } from "./ui.js";

const MOST = 60;
/** That one request can ask for, of which those are left that have in them what is wanted. */
const ALL = 1000;

/** The field, and in place of `children` what was found. `wanted`: what has to be in it, too. */
export function Words({ able, wanted, children }) {
  const [text, setText] = useState("");
  const [{ answer, error, busy }, setState] = useState({});
  const control = useRef(null);
  useEffect(() => () => control.current?.abort(), []);

  const clear = () => {
    control.current?.abort();
    setText("");
    setState({});
  };
  const search = async (event) => {
    event?.preventDefault();
    control.current?.abort();
    if (!text.trim()) return clear();
    const { signal } = (control.current = new AbortController());
    setState({ busy: true });
    try {
      const among = queryOf(wanted) ? await assetsWith(wanted, signal) : null;
      // Pictures that the model never saw are looked at some with each request.
      for (let seen = -1, found = null; !found || (!found.complete && found.dataset_size > seen); ) {
        seen = found?.dataset_size ?? -1;
        found = await post("/api/v1/text-search", { text, top_k: among ? ALL : MOST }, { signal });
        const hits = among ? found.search_results.filter((hit) => among.has(hit.asset_id)).slice(0, MOST) : found.search_results;
        setState({ answer: { ...found, among, search_results: hits, results_found: hits.length }, busy: !found.complete });
      }
      setState((before) => ({ ...before, busy: false }));
    } catch (failure) {
      if (!signal.aborted) setState((before) => ({ ...before, error: failure, busy: false }));
    }
  };

  useEffect(() => {
    if (answer || error) search();
  }, [wanted]);

  const reason = able?.unavailable?.text_search;
  if (reason) return html`<p class="quiet">No search in words: ${reason.split(". ")[0]}.</p>${children}`;
  if (!able?.capabilities?.text_search) return children;
  return html`
    <form class="inline" role="search" aria-label="In words" onSubmit=${search}>
      <label class="grow">What should the picture show? <input type="search" value=${text} maxlength="1000" placeholder="a dog on a beach" onInput=${(event) => setText(event.target.value)} /></label>
      <button class="main">Search</button>
      ${(answer || error) && html`<button type="button" onClick=${clear}>Back to the library</button>`}
    </form>
    <${Failure} error=${error} />
    ${busy && html`<${Busy}>${answer ? `${answer.dataset_size} looked at so far` : "Searching"}<//>`}
    ${answer
      ? html`<p role="status">${answer.results_found} of ${answer.dataset_size} pictures and films${answer.among ? `, with ${[...wanted.objects, ...wanted.people].join(", ")}` : ""}, best first. The order counts; the numbers are cosines of text and picture.</p>
          <div class="row-grid">${answer.search_results.map((hit) => html`<${Tile} key=${hit.asset_id} asset=${{ ...hit, thumbnail_url: thumbnailOf(hit.asset_id) }} place=${answer.among ? placeOf(answer.among.get(hit.asset_id), wanted) : {}} note=${hit.cosine_similarity.toFixed(3)} />`)}</div>`
      : children}
  `;
}
