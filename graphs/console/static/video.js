/** One film: the player, and under it a timeline with its shots and who and what appears. */

import { html, useCallback, useEffect, useMemo, useRef, useState } from "./preact.js";
import { call, follow, get, mediaUrl, post } from "./api.js";
import { Download, Missing } from "./asset.js";
import { coloured, FilmBoxes } from "./boxes.js";
import { Chosen, chosenOf, classesOf, EVERYTHING, Objects, objectsOf } from "./objects.js";
import { Seen } from "./shots.js";
import { Timeline } from "./timeline.js";
import { nameOf, Together, useTogether, With } from "./together.js";
import { bytes, clock, Failure, Picture, Result, useAsync, when, words } from "./ui.js";

/** What the player can play: `path` below the file, the seconds of the film that this shows, whether boxes are in it. */
const FILM = { name: "film", path: "video", from: 0, to: Infinity, isDrawn: false };
/** For a film that the browser cannot decode. */
const ENCODED = { ...FILM, path: "video.m3u8" };
/** Safari, phones and new browsers play HLS themselves, in which all of a stream that is made on demand can be sought. */
const PLAYS_HLS = document.createElement("video").canPlayType("application/vnd.apple.mpegurl") !== "";
const streamed = (path) => (PLAYS_HLS ? `${path}.m3u8` : path);
const NOBODY = [];

export function Video({ id, query }) {
  const file = useAsync((signal) => get(`/api/v1/file/${id}`, { signal }), [id]);
  return html`<${Result} of=${file}>${(details) => html`<${Film} file=${details} again=${file.again} start=${Number(query.get("t") ?? 0)} classes=${query.get("objects")?.split(",") ?? []} />`}<//>`;
}

/** `start`: the second to begin at; `classes`: of the objects that are shown first, all where there are none. */
function Film({ file, again, start, classes }) {
  const id = file.file_uuid;
  const video = useRef(null);
  const [time, setTime] = useState(start);
  const [span, setSpan] = useState(null);
  const [boxes, setBoxes] = useState({ faces: true, objects: true });
  const [filter, setFilter] = useState({ ...EVERYTHING, classes });
  const [one, setOne] = useState(null);
  const [pair, setPair] = useState([]);
  const together = useTogether(file, pair);
  const [error, setError] = useState(null);
  const [view, setView] = useState(FILM);
  const wanted = useRef(start || null);
  const url = useAsync(() => mediaUrl(id, `/api/v1/file/${id}/${view.path}`), [id, view.path]);
  const { indexed_at: indexed, object_models: detector, unavailable } = file.index;
  const isIndexed = indexed != null;
  const people = useAsync(async (signal) => (isIndexed && !unavailable?.people ? await peopleOf(id, signal) : []), [id, indexed, unavailable?.people]);
  const objects = useAsync(async (signal) => (isIndexed && detector != null ? await objectsOf(id, signal) : []), [id, indexed, detector]);
  const shots = useAsync(async (signal) => (isIndexed ? await post("/api/v1/analyze-video-shots", { video_asset_id: id, extract_keyframes: true }, { signal }) : null), [id, indexed]);
  const duration = file.duration || shots.value?.video_duration || 1;
  const seen = useMemo(() => coloured(people.value ?? [], objects.value ?? []), [people.value, objects.value]);
  const shown = useMemo(() => chosenOf(seen.objects, filter), [seen, filter]);
  const chosen = seen.objects.find((track) => track.track_id === one) ?? null;
  // One that is chosen is shown, whatever else is.
  const overlaid = useMemo(() => shown.filter((track) => boxes.objects && track !== chosen).concat(chosen ?? []), [shown, chosen, boxes]);

  const show = (other, seconds = time) => {
    wanted.current = seconds >= other.from && seconds < other.to ? seconds : other.from;
    setError(null);
    setView(other);
  };
  const seek = useCallback((seconds) => {
    setTime(seconds);
    if (seconds < view.from || seconds > view.to) show(FILM, seconds);
    else video.current.currentTime = Math.min(Math.max(seconds, 0), duration) - view.from;
  }, [duration, view]);
  const loaded = () => {
    if (wanted.current !== null) video.current.currentTime = wanted.current - view.from;
    wanted.current = null;
  };
  const failed = () => {
    if (!url.value) return;
    if (view === FILM && PLAYS_HLS) show(ENCODED);
    else setError(new Error(view === FILM ? "This browser cannot play the file as it is. A clip of it plays everywhere: choose a part in the timeline." : "This stream cannot be played. Choose the film again below it."));
  };
  const choose = (track, seconds) => {
    setOne(track.track_id);
    seek(seconds);
  };
  const choice = new URLSearchParams({
    ...(filter.classes.length && { classes: [...filter.classes, ...(boxes.faces ? ["face"] : [])].join() }),
    ...(filter.least && { min_confidence: filter.least }),
  }).toString();
  const drawn = { ...FILM, name: "boxes", path: streamed("video/bbox") + (choice && `?${choice}`), isDrawn: true };
  useEffect(() => {
    if (view.name !== drawn.name || view.path === drawn.path) return;
    const timer = setTimeout(() => show(drawn), 500);
    return () => clearTimeout(timer);
  }, [view, drawn.path]);
  useEffect(() => {
    let handle = 0;
    const tick = () => {
      if (video.current && !video.current.paused) setTime(view.from + video.current.currentTime);
      handle = requestAnimationFrame(tick);
    };
    tick();
    return () => cancelAnimationFrame(handle);
  }, [view]);
  useEffect(() => {
    const step = (event) => {
      if (event.target.matches("input, select, textarea, video")) return;
      const frame = 1 / (file.fps || 25);
      const moves = { ArrowLeft: -1, ArrowRight: 1, ",": -frame, ".": frame };
      if (event.key === " " && event.target.matches("main, body")) {
        event.preventDefault();
        if (video.current.paused) video.current.play();
        else video.current.pause();
      } else if (event.key in moves && !event.target.matches("[role=slider]")) seek(view.from + video.current.currentTime + moves[event.key]);
    };
    addEventListener("keydown", step);
    return () => removeEventListener("keydown", step);
  }, [seek, file.fps, view]);
  const remove = async () => {
    if (!confirm(`Delete ${file.filename} and all that was computed of it?`)) return;
    try {
      await call("DELETE", `/api/v1/media/${id}`);
      location.hash = "#/library";
    } catch (failure) {
      setError(failure);
    }
  };

  return html`<section>
    <div class="head">
      <h1 class="filename">${file.filename}</h1>
      <div class="tools"><${Download} asset=${{ asset_id: id, filename: file.filename }} /><button class="danger" onClick=${remove}>Delete</button></div>
    </div>
    <${Failure} error=${error} />
    <div class="player">
      <div class="canvas" style=${{ aspectRatio: `${file.width ?? 16} / ${file.height ?? 9}` }}>
        <video ref=${video} src=${url.value} controls preload="metadata" onLoadedMetadata=${loaded} onSeeked=${() => setTime(view.from + video.current.currentTime)} onError=${failed}></video>
        ${!view.isDrawn && file.width && html`<${FilmBoxes} file=${file} people=${boxes.faces ? seen.people : NOBODY} objects=${overlaid} chosen=${chosen} time=${time} />`}
      </div>
      <p class="quiet now"><output>${clock(time, 2)}</output> of ${clock(duration, 2)} <span class="hint">Space plays, ← → move a second, , . a frame</span></p>
    </div>
    <${Index} file=${file} again=${again} />
    <${Timeline} file=${file} duration=${duration} time=${time} seek=${seek} shots=${shots.value?.shot_analyses ?? NOBODY} people=${seen.people} objects=${shown} together=${together.value} chosen=${chosen} choose=${choose} span=${span} setSpan=${setSpan} />
    <${Chosen} file=${file} track=${chosen} seek=${seek} close=${() => setOne(null)} play=${() => show(alone(chosen), chosen.first_time)} />
    <${Clip} file=${file} span=${span} setSpan=${setSpan} />
    <${Failure} error=${people.error ?? objects.error ?? shots.error} />
    ${(seen.people.length > 0 || seen.objects.length > 0) && html`<div class="choice" role="group" aria-label="Drawn over the picture">
      ${["faces", "objects"].filter((kind) => seen[kind === "faces" ? "people" : kind].length).map((kind) => html`<button key=${kind} aria-pressed=${boxes[kind] && !view.isDrawn} disabled=${view.isDrawn} onClick=${() => setBoxes({ ...boxes, [kind]: !boxes[kind] })}>Boxes around ${kind}</button>`)}
      <${Played} people=${seen.people} drawn=${drawn} view=${view} show=${show} />
    </div>`}
    ${useMemo(() => html`
      ${seen.people.length + seen.objects.length > 1 && html`<${Together} classes=${classesOf(seen.objects)} pair=${pair} setPair=${setPair} found=${together} seek=${seek} />`}
      ${seen.people.length > 0 && html`<${People} file=${file} people=${seen.people} pair=${pair} setPair=${setPair} seek=${seek} />`}
      ${objects.value && detector != null && html`<${Objects} file=${file} objects=${seen.objects} filter=${filter} setFilter=${setFilter} chosen=${chosen} choose=${choose} pair=${pair} setPair=${setPair} />`}
      ${shots.value && html`<${ShotList} shots=${shots.value} seek=${seek} />`}
    `, [file, seen, objects.value, shots.value, filter, chosen, pair, together.value, together.error, together.busy, seek])}
    <div class="card"><dl class="facts">
      <dt>Size</dt><dd>${file.width} × ${file.height}, ${file.fps?.toFixed(2)} frames/s, ${file.frame_count} frames</dd>
      <dt>Format</dt><dd>${file.format}${file.has_audio ? ", with sound" : ", without sound"}</dd>
      <dt>Bytes</dt><dd>${bytes(file.file_size)}</dd>
      <dt>Uploaded</dt><dd>${when(file.uploaded_at)}</dd>
      ${isIndexed && html`<dt>Indexed</dt><dd>${when(indexed)} by ${[file.index.models, detector].filter(Boolean).join(" and ")}</dd>`}
    </dl></div>
  </section>`;
}

/** Return one object alone, as the player can play it. */
function alone(track) {
  return { name: `object ${track.track_id}`, title: `${track.label} ${track.track_id}`, path: streamed(`object/${track.track_id}/video`), from: track.first_time, to: track.last_time, isDrawn: true };
}

/** What to play: the film, the same with boxes drawn in, or one appearance of somebody or something. */
function Played({ people, drawn, view, show }) {
  const appearances = people.flatMap((person) => person.traces.map((trace) => ({
    name: `trace ${trace.trace_id}`,
    title: `${person.label}, ${clock(trace.first_time, 1)} – ${clock(trace.last_time, 1)}`,
    path: streamed(`trace/${trace.trace_id}/video`),
    from: trace.first_time,
    to: trace.last_time,
    isDrawn: true,
  })));
  const choose = (event) => show([FILM, drawn, ...appearances, view].find((each) => each.name === event.target.value));
  return html`<label class="inline">Play <select value=${view.name} onChange=${choose}>
    <option value="film">the film</option>
    <option value="boxes">with boxes and names drawn in</option>
    <optgroup label="One appearance">${[...appearances, ...(view.name.startsWith("object") ? [view] : [])].map((each) => html`<option key=${each.name} value=${each.name}>${each.title}</option>`)}</optgroup>
  </select></label>`;
}

/** Return everybody in a film with their traces, first seen first. */
export async function peopleOf(id, signal) {
  const { identities } = await get(`/api/v1/file/${id}/identities`, { signal });
  const traces = [];
  for (let after = -1; after !== null; ) {
    const page = await get(`/api/v1/file/${id}/traces?after=${after}&limit=500`, { signal });
    traces.push(...page.traces);
    after = page.next;
  }
  const known = identities.map((person) => ({ ...person, traces: traces.filter((trace) => trace.identity_uuid === person.identity_uuid) }));
  const others = traces.filter((trace) => !known.some((person) => person.traces.includes(trace)));
  const strangers = others.map((trace) => ({ identity_uuid: null, name: "not assigned", thumbnail_url: trace.thumbnail_url, first_frame: trace.first_frame, first_time: trace.first_time, face_count: trace.face_count, traces: [trace] }));
  return [...known, ...strangers].map((person, number) => ({ ...person, label: person.name ?? `Person ${number + 1}` }));
}

/** The state of the index, and the way to have one. */
function Index({ file, again }) {
  const [job, setJob] = useState(file.index.job);
  const [error, setError] = useState(null);
  const running = job && ["queued", "running"].includes(job.status);
  const { objects: reason, ...others } = file.index.unavailable ?? {};
  // The last state ends the following, so it is what asks for the index, and not the end of that.
  const show = (state) => {
    setJob(state);
    if (state.finished_at) again();
  };
  useEffect(() => {
    if (!running) return;
    const control = new AbortController();
    follow(job.job_id, show, control.signal).catch((failure) => control.signal.aborted || setError(failure));
    return () => control.abort();
  }, [job?.job_id, running]);
  const begin = async () => {
    setError(null);
    try {
      const accepted = await post(`/api/v1/file/${file.file_uuid}/index`);
      show(await get(`/api/v1/jobs/${accepted.job_id}`));
    } catch (failure) {
      setError(failure);
    }
  };
  return html`<div class="index">
    ${running && html`<div class="card inline" role="status">
      <span>${job.message || words(job.status)}</span>
      <progress max="1" value=${job.progress} aria-label="Index"></progress>
      <span>${Math.round(100 * job.progress)} %</span>
      <button onClick=${async () => setJob(await call("DELETE", `/api/v1/jobs/${job.job_id}`))}>Cancel</button>
    </div>`}
    ${!running && file.index.indexed_at == null && html`<div class="card inline">
      <span>${job?.status === "failed" ? `The index failed: ${job.error}` : "Its people, objects and shots are not known yet."}</span>
      <button class="main" onClick=${begin}>Find people, objects and shots</button>
    </div>`}
    ${!running && file.index.indexed_at != null && file.index.object_models == null && html`<div class="card inline">
      <span>${reason ? `No objects: ${reason}` : "Its objects were not looked for yet."}</span>
      <button onClick=${begin}>${reason ? "Look again" : "Find objects"}</button>
    </div>`}
    <${Missing} of=${others} />
    <${Failure} error=${error} />
  </div>`;
}

/** A part of the film as a file of its own. */
function Clip({ file, span, setSpan }) {
  const [first, last] = span ?? [];
  const path = span && `/api/v1/file/${file.file_uuid}/clip?start_time=${first.toFixed(3)}&end_time=${last.toFixed(3)}`;
  const url = useAsync(async () => (path ? mediaUrl(file.file_uuid, path) : null), [path]);
  if (!span) return html`<p class="quiet">Drag over the timeline to cut out a part.</p>`;
  const set = (place, value) => setSpan(place ? [first, Math.max(Number(value), first)] : [Math.min(Number(value), last), last]);
  const name = `${file.filename.replace(/\.[^.]+$/, "")} ${clock(first).replaceAll(":", ".")}–${clock(last).replaceAll(":", ".")}.ts`;
  return html`<div class="card inline">
    <label>from <input type="number" step="0.04" min="0" value=${first.toFixed(2)} onChange=${(event) => set(0, event.target.value)} /></label>
    <label>to <input type="number" step="0.04" min="0" value=${last.toFixed(2)} onChange=${(event) => set(1, event.target.value)} /></label>
    <span>${clock(last - first, 2)}</span>
    <a class="button main" href=${url.value} download=${name}>Save this part</a>
    <button onClick=${() => setSpan(null)}>Clear</button>
  </div>`;
}

/** Everybody in the film. */
function People({ file, people, pair, setPair, seek }) {
  const seconds = (stretches) => clock(stretches.reduce((sum, each) => sum + each.last_time - each.first_time, 0), 1);
  return html`<section>
    <h2>People</h2>
    <ul class="people">
      ${people.map((person) => html`<li key=${nameOf(person)} class=${pair.some(({ what }) => what === nameOf(person)) ? "chosen" : ""}>
        <button class="plain" onClick=${() => seek(person.first_time)} title="Jump to the first appearance"><${Picture} src=${person.thumbnail_url} file=${file.file_uuid} alt=${`${person.label}: to the first appearance`} /></button>
        <span><i style=${{ background: person.colour }}></i> ${person.identity_uuid ? html`<a href=${`#/person/${person.identity_uuid}`}>${person.label}</a>` : person.label}</span>
        <small class="quiet">${seconds(person.traces)} in ${person.traces.length} ${person.traces.length === 1 ? "appearance" : "appearances"}${person.bodies.length > 0 && `, body ${seconds(person.bodies)}`}</small>
        <${With} what=${nameOf(person)} label=${person.label} pair=${pair} setPair=${setPair} />
      </li>`)}
    </ul>
  </section>`;
}

function ShotList({ shots, seek }) {
  const [stored, setStored] = useState(null);
  const [error, setError] = useState(null);
  const store = async () => {
    setError(null);
    try {
      setStored(await post("/api/v1/store-shot-data", { video_asset_id: shots.video_asset_id, shots: shots.shot_analyses.map(kept) }));
    } catch (failure) {
      setError(failure);
    }
  };
  return html`<section>
    <h2>Shots <span class="quiet">${shots.shots_detected}</span> <button onClick=${store}>Store in the shot library</button></h2>
    ${stored && html`<p class="notice good" role="status">${stored.shots_stored} shots are stored. <a href="#/shots">Search them</a></p>`}
    <${Failure} error=${error} />
    <ol class="shots-list">
      ${shots.shot_analyses.map((shot) => html`<li key=${shot.shot_index}>
        <button class="plain" onClick=${() => seek(shot.start_timestamp)}>
          <${Picture} src=${`/api/v1/file/${shots.video_asset_id}/thumbnail?frame=${shot.keyframe_frame}`} file=${shots.video_asset_id} alt=${`Shot ${shot.shot_index + 1}`} />
          <b>${clock(shot.start_timestamp, 1)}</b> <span class="quiet">${shot.duration.toFixed(1)} s</span>
        </button>
        <span class="tags">${[shot.shot_size, shot.camera_movement, shot.shot_angle].filter(Boolean).map((tag) => html`<span>${words(tag)}</span>`)}<${Seen} objects=${shot.objects} /></span>
      </li>`)}
    </ol>
  </section>`;
}

/** Return what the shot library keeps of an analysed shot. */
function kept({ duration, thumbnail_url, ...shot }) {
  return shot;
}
