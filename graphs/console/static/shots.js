/** The library of shots, searched in words. */

import { html, useEffect, useState } from "./preact.js";
import { get, post } from "./api.js";
import { Missing } from "./asset.js";
import { Choice } from "./objects.js";
import { clock, Failure, Picture, Result, useAsync, words } from "./ui.js";

const MOST_SEEN = 8;

export function Shots() {
  const [page, setPage] = useState(1);
  const [wanted, setWanted] = useState({ classes: [] });
  const objects = wanted.classes.join();
  const library = useAsync((signal) => get(`/api/v1/shot-library?page=${page}&page_size=24${objects && `&objects=${encodeURIComponent(objects)}`}`, { signal }), [page, objects]);
  const counts = useAsync((signal) => get("/api/v1/assets/objects", { signal }), []);
  const classes = (counts.value?.classes ?? []).filter((each) => each.films).map((each) => ({ label: each.label, count: each.films }));
  const [text, setText] = useState("");
  const [answer, setAnswer] = useState(null);
  const [error, setError] = useState(null);
  const search = async (event) => {
    event?.preventDefault();
    setError(null);
    try {
      setAnswer(text.trim() ? await post("/api/v1/suggest-shots", { scene_description: text.trim(), limit: 24, ...(objects && { desired_tags: wanted.classes, strict: true }) }) : null);
    } catch (failure) {
      setError(failure);
    }
  };
  useEffect(() => {
    if (answer) search();
  }, [objects]);
  const choose = (value) => {
    setPage(1);
    setWanted(value);
  };
  return html`<section>
    <div class="head"><h1>Shots</h1></div>
    <form class="card inline" role="search" onSubmit=${search}>
      <label class="grow">What should the shot show? <input type="search" value=${text} placeholder="two people talk at a table, close, calm" onInput=${(event) => setText(event.target.value)} /></label>
      <button class="main">Search</button>
    </form>
    ${classes.length > 0 && html`<${Choice} classes=${classes} value=${wanted} onValue=${choose}><span class="quiet">seen in so many films</span><//>`}
    <${Failure} error=${error} />
    ${answer
      ? html`<p>${answer.total_found} ${answer.total_found === 1 ? "shot" : "shots"}, best first. Compared by ${answer.matched_by.map(words).join(", ").toLowerCase() || "nothing"}.</p>
          ${answer.not_matched_by.filter((each) => each.startsWith("objects: ")).map((each) => html`<p key=${each} class="quiet">${words(each)}</p>`)}
          <${Missing} of=${answer.unavailable} />
          <ol class="shots-list">${answer.recommendations.map((shot) => html`<${Shot} key=${shot.shot_id} shot=${shot} />`)}</ol>`
      : html`<${Result} of=${library}>${(found) => html`
          ${!found.shots.length && html`<p class="empty">${objects ? `No stored shot shows ${wanted.classes.join(" and ")}.` : "No shots are stored yet. Open a film whose shots were found, and store them from there."}</p>`}
          <ol class="shots-list">${found.shots.map((shot) => html`<${Shot} key=${shot.shot_id} shot=${shot} />`)}</ol>
          ${found.pagination.total_pages > 1 && html`<nav class="pages" aria-label="Pages">
            <button disabled=${page === 1} onClick=${() => setPage(page - 1)}>Before</button>
            <span>${page} of ${found.pagination.total_pages}</span>
            <button disabled=${page >= found.pagination.total_pages} onClick=${() => setPage(page + 1)}>Next</button>
          </nav>`}
        `}<//>`}
  </section>`;
}

/** The classes that are seen in a shot, longest first. */
export function Seen({ objects }) {
  return (objects ?? []).slice(0, MOST_SEEN).map(({ label, at_once, screen_time }) => html`<span key=${label} class="seen" title=${`${label}: ${screen_time?.toFixed(1)} s in sight, ${at_once} at once`}>${at_once > 1 ? `${at_once} × ${label}` : label}</span>`);
}

function Shot({ shot }) {
  return html`<li>
    <a href=${`#/video/${shot.video_asset_id}?t=${shot.start_timestamp.toFixed(2)}`}>
      <${Picture} src=${shot.thumbnail_url} alt=${shot.scene_description ?? "Key frame"} />
      <b>${clock(shot.start_timestamp, 1)}</b> <span class="quiet">${shot.duration.toFixed(1)} s</span>
      ${shot.relevance_score !== undefined && html`<span class="badge-inline">${(100 * shot.relevance_score).toFixed(0)} %</span>`}
    </a>
    ${shot.scene_description && html`<p>${shot.scene_description}</p>`}
    <span class="tags">${[shot.shot_size, shot.camera_movement, ...(shot.tags ?? [])].filter((tag, place, all) => tag && all.indexOf(tag) === place).slice(0, 8).map((tag) => html`<span>${words(tag)}</span>`)}<${Seen} objects=${shot.objects} /></span>
    ${shot.reasons?.length > 0 && html`<details><summary>Why</summary><ul>${shot.reasons.map((reason) => html`<li>${reason.explanation}</li>`)}</ul></details>`}
  </li>`;
}
