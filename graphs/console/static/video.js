/** One film: the player, and under it a timeline with its shots and everybody who appears. */

import { html, useCallback, useEffect, useMemo, useRef, useState } from "./preact.js";
import { blob, call, follow, get, mediaUrl, post } from "./api.js";
import { Download, Missing } from "./asset.js";
import { bytes, clock, Failure, Picture, Result, useAsync, when, words } from "./ui.js";

const COLOURS = ["#4f8cff", "#ff8a3d", "#38b27a", "#d763c9", "#e2b93b", "#4cc3d9", "#f0616d", "#9a7bff"];
const BOXES_PER_PAGE = 2000;

/** What the player can play: `path` below the file, the seconds of the film that this shows, whether boxes are in it. */
const FILM = { name: "film", path: "video", from: 0, to: Infinity, isDrawn: false };
/** For a film that the browser cannot decode. */
const ENCODED = { ...FILM, path: "video.m3u8" };
/** Safari, phones and new browsers play HLS themselves, in which all of a stream that is made on demand can be sought. */
const PLAYS_HLS = document.createElement("video").canPlayType("application/vnd.apple.mpegurl") !== "";
const streamed = (path) => (PLAYS_HLS ? `${path}.m3u8` : path);

/** Return the colour of the nth person. */
export function colour(number) {
  return COLOURS[number % COLOURS.length];
}

export function Video({ id, query }) {
  const file = useAsync((signal) => get(`/api/v1/file/${id}`, { signal }), [id]);
  return html`<${Result} of=${file}>${(details) => html`<${Film} file=${details} again=${file.again} start=${Number(query.get("t") ?? 0)} />`}<//>`;
}

function Film({ file, again, start }) {
  const id = file.file_uuid;
  const video = useRef(null);
  const [time, setTime] = useState(start);
  const [span, setSpan] = useState(null);
  const [boxes, setBoxes] = useState(true);
  const [error, setError] = useState(null);
  const [view, setView] = useState(FILM);
  const wanted = useRef(start || null);
  const url = useAsync(() => mediaUrl(id, `/api/v1/file/${id}/${view.path}`), [id, view.path]);
  const isIndexed = file.index.indexed_at != null;
  const people = useAsync(async (signal) => (isIndexed ? await peopleOf(id, signal) : []), [id, file.index.indexed_at]);
  const shots = useAsync(async (signal) => (isIndexed ? await post("/api/v1/analyze-video-shots", { video_asset_id: id, extract_keyframes: true }, { signal }) : null), [id, file.index.indexed_at]);
  const duration = file.duration || shots.value?.video_duration || 1;

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
        ${boxes && !view.isDrawn && people.value && html`<${Boxes} file=${file} people=${people.value} time=${time} />`}
      </div>
      <p class="quiet now"><output>${clock(time, 2)}</output> of ${clock(duration, 2)} <span class="hint">Space plays, ← → move a second, , . a frame</span></p>
    </div>
    <${Index} file=${file} again=${again} />
    <${Timeline} file=${file} duration=${duration} time=${time} seek=${seek} shots=${shots.value?.shot_analyses ?? []} people=${people.value ?? []} span=${span} setSpan=${setSpan} />
    <${Clip} file=${file} span=${span} setSpan=${setSpan} />
    <${Failure} error=${people.error ?? shots.error} />
    ${people.value?.length > 0 && html`
      <div class="choice" role="group" aria-label="Drawn over the picture">
        <button aria-pressed=${boxes && !view.isDrawn} disabled=${view.isDrawn} onClick=${() => setBoxes(!boxes)}>Boxes around faces</button>
        <${Played} people=${people.value} view=${view} show=${show} />
      </div>
      <${Together} file=${file} people=${people.value} seek=${seek} />
    `}
    ${shots.value && html`<${ShotList} shots=${shots.value} seek=${seek} />`}
    <div class="card"><dl class="facts">
      <dt>Size</dt><dd>${file.width} × ${file.height}, ${file.fps?.toFixed(2)} frames/s, ${file.frame_count} frames</dd>
      <dt>Format</dt><dd>${file.format}${file.has_audio ? ", with sound" : ", without sound"}</dd>
      <dt>Bytes</dt><dd>${bytes(file.file_size)}</dd>
      <dt>Uploaded</dt><dd>${when(file.uploaded_at)}</dd>
      ${file.index.models && html`<dt>Indexed</dt><dd>${when(file.index.indexed_at)} by ${file.index.models}</dd>`}
    </dl></div>
  </section>`;
}

/** What to play: the film, the same with boxes drawn in, or one appearance of somebody. */
function Played({ people, view, show }) {
  const drawn = { name: "boxes", path: streamed("video/bbox"), from: 0, to: Infinity, isDrawn: true };
  const appearances = people.flatMap((person) => person.traces.map((trace) => ({
    name: `trace ${trace.trace_id}`,
    title: `${person.label}, ${clock(trace.first_time, 1)} – ${clock(trace.last_time, 1)}`,
    path: streamed(`trace/${trace.trace_id}/video`),
    from: trace.first_time,
    to: trace.last_time,
    isDrawn: true,
  })));
  const choose = (event) => show([FILM, drawn, ...appearances].find((each) => each.name === event.target.value));
  return html`<label class="inline">Play <select value=${view.name} onChange=${choose}>
    <option value="film">the film</option>
    <option value="boxes">with boxes and names drawn in</option>
    <optgroup label="One appearance">${appearances.map((each) => html`<option key=${each.name} value=${each.name}>${each.title}</option>`)}</optgroup>
  </select></label>`;
}

/** Return everybody in a film with their traces, first seen first. */
async function peopleOf(id, signal) {
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
  return [...known, ...strangers].map((person, number) => ({ ...person, colour: colour(number), label: person.name ?? `Person ${number + 1}` }));
}

/** The state of the index, and the way to have one. */
function Index({ file, again }) {
  const [job, setJob] = useState(file.index.job);
  const [error, setError] = useState(null);
  const running = job && ["queued", "running"].includes(job.status);
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
      <span>${job?.status === "failed" ? `The index failed: ${job.error}` : "Its people and shots are not known yet."}</span>
      <button class="main" onClick=${begin}>Find people and shots</button>
    </div>`}
    <${Missing} of=${file.index.unavailable} />
    <${Failure} error=${error} />
  </div>`;
}

/** Shots and people over time. A click jumps, dragging chooses a part. */
function Timeline({ file, duration, time, seek, shots, people, span, setSpan }) {
  const track = useRef(null);
  const [hover, setHover] = useState(null);
  const [asked, setAsked] = useState(false);
  const sprites = useAsync(async (signal) => (asked ? spritesOf(file.file_uuid, signal) : null), [file.file_uuid, asked]);
  const from = useRef(null);
  const at = (event) => {
    const { left, width } = track.current.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - left) / width, 0), 1) * duration;
  };
  const down = (event) => {
    if (event.button) return;
    from.current = at(event);
    track.current.setPointerCapture(event.pointerId);
  };
  const move = (event) => {
    const now = at(event);
    setAsked(true);
    setHover(now);
    if (from.current !== null && Math.abs(now - from.current) > duration / 200) setSpan([Math.min(from.current, now), Math.max(from.current, now)]);
  };
  const up = (event) => {
    if (from.current === null) return;
    const now = at(event);
    if (Math.abs(now - from.current) <= duration / 200) {
      setSpan(null);
      seek(now);
    }
    from.current = null;
  };
  const keys = (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };
    if (event.key in moves) {
      event.preventDefault();
      seek(Math.min(Math.max(time + moves[event.key], 0), duration));
    }
  };
  const part = (seconds) => `${(100 * seconds) / duration}%`;
  return html`<div class="timeline">
    <div class="labels" aria-hidden="true"><span>Shots</span>${people.map((person) => html`<span key=${person.label} title=${person.label}><i style=${{ background: person.colour }}></i>${person.label}</span>`)}</div>
    <div class="track" ref=${track} tabindex="0" role="slider" aria-label="Position in the film" aria-valuemin="0" aria-valuemax=${duration} aria-valuenow=${time.toFixed(2)} aria-valuetext=${clock(time, 1)}
      onPointerDown=${down} onPointerMove=${move} onPointerUp=${up} onPointerLeave=${() => setHover(null)} onKeyDown=${keys}>
      <div class="lane shots">${shots.map((shot) => html`<i key=${shot.shot_index} style=${{ left: part(shot.start_timestamp), width: part(shot.duration) }} title=${`${words(shot.shot_size)}, ${words(shot.camera_movement)}`}></i>`)}</div>
      ${people.map((person) => html`<div class="lane" key=${person.label}>${person.traces.map((trace) => html`<i key=${trace.trace_id} style=${{ left: part(trace.first_time), width: `max(2px, ${part(trace.last_time - trace.first_time)})`, background: person.colour }}></i>`)}</div>`)}
      ${span && html`<b class="span" style=${{ left: part(span[0]), width: part(span[1] - span[0]) }}></b>`}
      <b class="head-now" style=${{ left: part(time) }}></b>
      ${hover !== null && html`<${Preview} sprites=${sprites.value} at=${hover} place=${hover / duration} />`}
    </div>
  </div>`;
}

/** Return the small pictures of a film: `{ url, cues }`, each cue with its time and its place on the sheet. */
async function spritesOf(id, signal) {
  const path = `/api/v1/file/${id}/thumbnails`;
  const text = await (await blob(`${path}.vtt`, { signal })).text();
  const cues = text.split("\n\n").slice(1).map((block) => {
    const [times, place] = block.trim().split("\n");
    const [hours, minutes, seconds] = times.split(" --> ")[0].split(":").map(Number);
    const [x, y, width, height] = place.split("#xywh=")[1].split(",").map(Number);
    return { time: 3600 * hours + 60 * minutes + seconds, x, y, width, height };
  });
  return { url: await mediaUrl(id, `${path}.jpg`), cues };
}

/** The picture under the pointer. */
function Preview({ sprites, at, place }) {
  const cue = sprites?.cues.findLast((each) => each.time <= at);
  const shown = cue && { width: `${cue.width}px`, height: `${cue.height}px`, backgroundImage: `url("${sprites.url}")`, backgroundPosition: `-${cue.x}px -${cue.y}px` };
  return html`<span class="preview" style=${{ left: `${100 * place}%` }}>
    ${cue && html`<i style=${shown}></i>`}
    <small>${clock(at, 1)}</small>
  </span>`;
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

/** Everybody in the film, and where two of them share a frame first. */
function Together({ file, people, seek }) {
  const [chosen, setChosen] = useState([]);
  const [answer, setAnswer] = useState(null);
  const [error, setError] = useState(null);
  const choose = async (uuid) => {
    const now = chosen.includes(uuid) ? chosen.filter((each) => each !== uuid) : [...chosen, uuid].slice(-2);
    setChosen(now);
    setAnswer(null);
    setError(null);
    if (now.length < 2) return;
    try {
      const found = await get(`/api/v1/file/${file.file_uuid}/identities/${now[0]}/co-occur-with/${now[1]}`);
      setAnswer(found.first_cooccurrence);
      seek(found.first_cooccurrence.timestamp_secs);
    } catch (failure) {
      setError(failure);
    }
  };
  const seconds = (person) => person.traces.reduce((sum, trace) => sum + trace.last_time - trace.first_time, 0);
  return html`<section>
    <h2>People <span class="quiet">choose two to see when they first share a frame</span></h2>
    ${answer && html`<p class="notice good" role="status">First together at ${clock(answer.timestamp_secs, 2)} (frame ${answer.frame_number}); ${answer.total_cooccurrence_frames} frames in all.</p>`}
    <${Failure} error=${error} />
    <ul class="people">
      ${people.map((person) => html`<li key=${person.label} class=${chosen.includes(person.identity_uuid) ? "chosen" : ""}>
        <button class="plain" onClick=${() => seek(person.first_time)} title="Jump to the first appearance"><${Picture} src=${person.thumbnail_url} file=${file.file_uuid} alt=${`${person.label}: to the first appearance`} /></button>
        <span><i style=${{ background: person.colour }}></i> ${person.identity_uuid ? html`<a href=${`#/person/${person.identity_uuid}`}>${person.label}</a>` : person.label}</span>
        <small class="quiet">${clock(seconds(person), 1)} in ${person.traces.length} ${person.traces.length === 1 ? "appearance" : "appearances"}</small>
        ${person.identity_uuid && html`<label class="inline"><input type="checkbox" checked=${chosen.includes(person.identity_uuid)} onChange=${() => choose(person.identity_uuid)} /> together with</label>`}
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
        <span class="tags">${[shot.shot_size, shot.camera_movement, shot.shot_angle].filter(Boolean).map((tag) => html`<span>${words(tag)}</span>`)}</span>
      </li>`)}
    </ol>
  </section>`;
}

/** Return what the shot library keeps of an analysed shot. */
function kept({ duration, thumbnail_url, ...shot }) {
  return shot;
}

/** Boxes around the faces of the frame that is shown; the boxes of a trace are fetched when it is on screen first. */
function Boxes({ file, people, time }) {
  const known = useRef(new Map());
  const [, redraw] = useState(0);
  const shown = useMemo(() => people.flatMap((person) => person.traces.map((trace) => ({ person, trace }))), [people]);
  const now = shown.filter(({ trace }) => trace.first_time - 0.05 <= time && time <= trace.last_time + 0.05);
  useEffect(() => {
    for (const { trace } of now) {
      if (known.current.has(trace.trace_id)) continue;
      known.current.set(trace.trace_id, null);
      boxesOf(file.file_uuid, trace.trace_id).then(
        (boxes) => {
          known.current.set(trace.trace_id, boxes);
          redraw((before) => before + 1);
        },
        () => known.current.delete(trace.trace_id),
      );
    }
  }, [now.map(({ trace }) => trace.trace_id).join()]);
  const size = file.height / 28;
  const boxes = now.flatMap(({ person, trace }) => {
    const part = (time - trace.first_time) / (trace.last_time - trace.first_time || 1);
    const box = known.current.get(trace.trace_id)?.get(Math.round(trace.first_frame + part * (trace.last_frame - trace.first_frame)));
    return box ? [{ ...box, person, key: trace.trace_id }] : [];
  });
  return html`<svg class="over boxes" viewBox=${`0 0 ${file.width} ${file.height}`} preserveAspectRatio="none" aria-hidden="true">
    ${labelled(boxes, size).map((box) => html`<g key=${box.key}>
      <rect x=${box.x} y=${box.y} width=${box.width} height=${box.height} style=${{ stroke: box.person.colour }} vector-effect="non-scaling-stroke" />
      <text x=${box.x} y=${box.baseline} font-size=${size} style=${{ fill: box.person.colour }}>${box.person.label}</text>
    </g>`)}
  </svg>`;
}

async function boxesOf(fileId, traceId) {
  const boxes = new Map();
  for (let from = 0; from !== null; ) {
    const page = await get(`/api/v1/file/${fileId}/trace/${traceId}?start_frame=${from}&limit=${BOXES_PER_PAGE}`);
    for (const { frame_number, bbox } of page.boxes) boxes.set(frame_number, bbox);
    from = page.next_frame;
  }
  return boxes;
}

/** The boxes, each with the baseline of its label: above it, or below where another label is in the way. */
function labelled(boxes, size) {
  const taken = [];
  return boxes.map((box) => {
    const width = 0.6 * size * box.person.label.length;
    const places = [Math.max(box.y - 6, size), box.y + box.height + size];
    const free = (y) => taken.every((other) => box.x > other.x + other.width || other.x > box.x + width || Math.abs(y - other.y) > size);
    const baseline = places.find(free) ?? places[0];
    taken.push({ x: box.x, y: baseline, width });
    return { ...box, baseline };
  });
}
