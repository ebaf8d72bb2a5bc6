/** A film over time: its shots, and a row for each person and each class of objects. A click jumps, dragging chooses a part. */

import { html, useMemo, useRef, useState } from "./preact.js";
import { blob, mediaUrl } from "./api.js";
import { classesOf } from "./objects.js";
import { clock, useAsync, words } from "./ui.js";

const ROWS = 8;
const CLASSES = 5;
/** Stretches of one row at the same time that are drawn apart. */
const DEEP = 4;
/** Pixels beside a stretch in which a click still means it. */
const NEAR = 4;

/** Return the rows of people, with what is seen of them beside their faces, and those of classes, longest seen first. */
export function rowsOf(people, objects) {
  const ofPeople = people.map((person) => ({
    key: person.label,
    label: person.label,
    colour: person.colour,
    stretches: [
      ...person.bodies.map((track) => ({ from: track.first_time, to: track.last_time, level: 0, colour: person.colour, isFaint: true, track })),
      ...person.traces.map((trace) => ({ from: trace.first_time, to: trace.last_time, level: 0, colour: person.colour })),
    ],
    levels: 1,
  }));
  const apart = objects.filter((track) => !track.person);
  const ofClasses = classesOf(apart).map(({ label, count }) => {
    const ends = [];
    const stretches = apart.filter((track) => track.label === label).map((track) => {
      const free = ends.findIndex((end) => end <= track.first_time);
      const level = free >= 0 ? free : Math.min(ends.length, DEEP - 1);
      ends[level] = Math.max(ends[level] ?? 0, track.last_time);
      return { from: track.first_time, to: track.last_time, level, colour: track.colour, track };
    });
    return { key: `class ${label}`, label, count, stretches, levels: ends.length };
  });
  return { people: ofPeople, classes: ofClasses };
}

export function Timeline({ file, duration, time, seek, shots, people, objects, together, chosen, choose, span, setSpan }) {
  const track = useRef(null);
  const [hover, setHover] = useState(null);
  const [asked, setAsked] = useState(false);
  const [open, setOpen] = useState({ people: false, classes: false });
  const sprites = useAsync(async (signal) => (asked ? spritesOf(file.file_uuid, signal) : null), [file.file_uuid, asked]);
  const from = useRef(null);
  const rows = useMemo(() => rowsOf(people, objects), [people, objects]);
  const both = together && { key: "together", label: "Together", colour: "#777", levels: 1, stretches: together.stretches.map(({ start_time: from, end_time: to }) => ({ from, to, level: 0, colour: "#777" })) };
  const folded = { together: fold(both ? [both] : [], 1), people: fold(rows.people, ROWS, open.people), classes: fold(rows.classes, CLASSES, open.classes) };
  const at = (event) => {
    const { left, width } = track.current.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - left) / width, 0), 1) * duration;
  };
  /** Return the stretch of an object that is under the pointer. */
  const under = (event, now) => {
    const lane = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-row]");
    const row = [...rows.people, ...rows.classes].find(({ key }) => key === lane?.dataset.row);
    if (!row) return null;
    const { top, height, width } = lane.getBoundingClientRect();
    const level = Math.floor((row.levels * (event.clientY - top)) / height);
    const near = (NEAR * duration) / width;
    return row.stretches.findLast((each) => each.track && each.level === level && each.from - near <= now && now <= each.to + near) ?? null;
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
      const stretch = under(event, now);
      setSpan(null);
      if (stretch) choose(stretch.track, Math.min(Math.max(now, stretch.from), stretch.to));
      else seek(now);
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
  // While a film plays its time alone changes, so these are made once.
  const lanes = useMemo(() => html`
    <div class="lane shots">${shots.map((shot) => html`<i key=${shot.shot_index} style=${{ left: part(shot.start_timestamp), width: part(shot.duration) }} title=${`${words(shot.shot_size)}, ${words(shot.camera_movement)}`}></i>`)}</div>
    ${Object.values(folded).map(({ shown, more }) => html`${shown.map((row) => html`<${Lane} key=${row.key} row=${row} duration=${duration} chosen=${chosen} />`)}${more !== null && html`<div class="lane"></div>`}`)}
  `, [shots, rows, together, open, duration, chosen]);
  return html`<div class="timeline">
    <div class="labels"><span aria-hidden="true">Shots</span>
      ${Object.entries(folded).map(([name, { shown, more }]) => html`
        ${shown.map((row) => html`<span key=${row.key} title=${row.label} aria-hidden="true">${row.colour && html`<i style=${{ background: row.colour }}></i>`}${row.label} ${row.count && html`<span class="quiet">${row.count}</span>`}</span>`)}
        ${more !== null && html`<button class="plain" aria-expanded=${open[name]} onClick=${() => setOpen({ ...open, [name]: !open[name] })}>${open[name] ? "fewer" : `${more} more`}<span class="visually-hidden"> ${name} in the timeline</span></button>`}
      `)}
    </div>
    <div class="track" ref=${track} tabindex="0" role="slider" aria-label="Position in the film" aria-valuemin="0" aria-valuemax=${duration} aria-valuenow=${time.toFixed(2)} aria-valuetext=${clock(time, 1)}
      onPointerDown=${down} onPointerMove=${move} onPointerUp=${up} onPointerLeave=${() => setHover(null)} onKeyDown=${keys}>
      ${lanes}
      ${span && html`<b class="span" style=${{ left: part(span[0]), width: part(span[1] - span[0]) }}></b>`}
      <b class="head-now" style=${{ left: part(time) }}></b>
      ${hover !== null && html`<${Preview} sprites=${sprites.value} at=${hover} place=${hover / duration} />`}
    </div>
  </div>`;
}

/** Return the rows to show, and how many more there are; null where all are shown at any rate. */
function fold(rows, most, isOpen) {
  return { shown: isOpen ? rows : rows.slice(0, most), more: rows.length > most ? rows.length - most : null };
}

/** A row of stretches: one path for each colour, so that thousands of stretches cost little. */
function Lane({ row, duration, chosen }) {
  const paths = new Map();
  for (const { from, to, level, colour, isFaint, track } of row.stretches) {
    const look = track && track === chosen ? "chosen" : isFaint ? "faint" : "";
    const [top, bottom] = [level + 0.16, level + 0.84];
    paths.set(`${look} ${colour}`, `${paths.get(`${look} ${colour}`) ?? ""}M${from} ${top}H${Math.max(to, from + duration / 1e4)}V${bottom}H${from}z`);
  }
  const isOneChosen = row.stretches.some(({ track }) => track && track === chosen);
  return html`<div class="lane" data-row=${row.key}><svg class=${isOneChosen ? "one-chosen" : ""} viewBox=${`0 0 ${duration} ${row.levels}`} preserveAspectRatio="none">
    ${[...paths].map(([key, d]) => html`<path key=${key} class=${key.split(" ")[0]} style=${{ color: key.split(" ")[1] }} d=${d} />`)}
  </svg></div>`;
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
