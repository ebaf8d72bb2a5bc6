/** Boxes with labels over a picture or a film, in the colours in which the service draws them. */

import { html, useEffect, useMemo, useRef, useState } from "./preact.js";
import { get } from "./api.js";
import { useSize } from "./ui.js";

/** Those of the service, in its order: Okabe and Ito's, distinct also for people who do not see red and green. */
export const PALETTE = ["#56b4e9", "#e69f00", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#ffffff"];
const BOXES_PER_PAGE = 2000;
const LONGEST = 28;
const AROUND_S = 0.05;
/** Of a picture by labels, as one wants to see it too. */
const MOST_COVERED = 0.2;
/** Pixels of the screen. */
const [SMALLEST, LARGEST] = [11, 20];

/**
 * Return people and objects with the colours that the service draws them in, each object with the `person` whose face is
 * inside it: in order of appearance, where colours are spent one that nothing has which is on the screen then.
 */
export function coloured(people, objects) {
  const owners = people.map((person) => ({ ...person, bodies: [] }));
  const ofTrace = new Map(owners.flatMap((person) => person.traces.map((trace) => [trace.trace_id, person])));
  const tracks = objects.map((track) => ({ ...track, person: ofTrace.get(track.trace_id) ?? null }));
  const seen = [
    ...owners.flatMap((owner) => owner.traces.map((trace) => ({ owner, place: [trace.first_frame, 0, trace.trace_id], last: trace.last_frame }))),
    ...tracks.map((track) => ({ owner: track.person ?? track, place: [track.first_frame, 1, track.track_id], last: track.last_frame })),
  ].sort(({ place: a }, { place: b }) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
  const colours = new Map();
  let onScreen = [];
  for (const { owner, place, last } of seen) {
    onScreen = onScreen.filter((other) => other.last >= place[0]);
    if (!colours.has(owner)) {
      const count = colours.size;
      const free = PALETTE.map((_, step) => (count + step) % PALETTE.length).find((each) => !onScreen.some((other) => other.colour === each));
      colours.set(owner, free ?? count % PALETTE.length);
    }
    onScreen.push({ last, colour: colours.get(owner) });
  }
  for (const owner of [...owners, ...tracks]) owner.colour = PALETTE[colours.get(owner.person ?? owner)];
  for (const track of tracks) track.person?.bodies.push(track);
  return { people: owners, objects: tracks };
}

/**
 * Boxes over a picture, in its pixels: `{ key, x, y, width, height, colour, label, isFace, isChosen }`, the most
 * important first. A label stays on its side of the box while there is room.
 */
export function Drawn({ width, height, boxes, label }) {
  const [ref, shownWidth, shownHeight] = useSize();
  const sides = useRef(new Map());
  const scale = Math.min(shownWidth / width, shownHeight / height);
  const size = Math.min(Math.max((height * scale) / (boxes.length > 8 ? 40 : 28), SMALLEST), LARGEST) / (scale || 1);
  const isOneChosen = boxes.some((box) => box.isChosen);
  return html`<svg ref=${ref} class="over boxes" viewBox=${`0 0 ${width} ${height}`} role=${label ? "img" : null} aria-label=${label} aria-hidden=${label ? null : "true"}>
    ${boxes.map((box) => html`<rect key=${box.key} class=${`${box.isFace ? "face" : ""} ${box.isChosen ? "chosen" : isOneChosen ? "faint" : ""}`} x=${box.x} y=${box.y} width=${box.width} height=${box.height} style=${{ stroke: box.colour }} />`)}
    ${scale > 0 && placed(boxes, size, { width, height }, sides.current).map(({ x, y, width: wide, height: high, text, box }) => html`<g key=${box.key}>
      <path class="plate" d=${`M${x} ${y}h${wide}v${high}h${-wide}z`} />
      <path d=${`M${x} ${y}h${size / 4}v${high}h${-size / 4}z`} style=${{ fill: box.colour }} />
      <text x=${x + 0.55 * size} y=${y + 1.05 * size} font-size=${size}>${text}</text>
    </g>`)}
  </svg>`;
}

/** Return where labels are: beside their boxes, inside the picture, over no other label and no face; one without room is left out. */
function placed(boxes, size, picture, sides) {
  const taken = boxes.filter((box) => box.isFace);
  const height = 1.4 * size;
  let room = MOST_COVERED * picture.width * picture.height;
  return boxes.filter((box) => box.label).flatMap((box) => {
    const text = box.label.length > LONGEST ? `${box.label.slice(0, LONGEST - 1)}…` : box.label;
    const width = size * (widthOf(text) + 1);
    const [right, bottom] = [box.x + box.width, box.y + box.height];
    const [start, end] = [box.x, right - width].map((x) => Math.min(Math.max(x, 0), picture.width - width));
    const places = [[start, box.y - height], [end, box.y - height], [start, bottom], [end, bottom], [right, box.y], [box.x - width, box.y], [start, box.y], [start, bottom - height], [start, box.y - 2 * height], [start, bottom + height]];
    const isFree = ([x, y]) => x >= 0 && y >= 0 && x + width <= picture.width && y + height <= picture.height
      && taken.every((other) => x >= other.x + other.width || other.x >= x + width || y >= other.y + other.height || other.y >= y + height);
    const last = sides.get(box.key);
    const side = last !== undefined && isFree(places[last]) ? last : places.findIndex(isFree);
    if (side < 0 || (room -= width * height) < 0) return [];
    sides.set(box.key, side);
    const [x, y] = places[side];
    taken.push({ x, y, width, height });
    return [{ x, y, width, height, text, box }];
  });
}

const pen = document.createElement("canvas").getContext("2d");
const widths = new Map();

/** Return how wide a text is, as a multiple of its size. */
function widthOf(text) {
  if (!widths.has(text)) {
    pen.font = "600 100px system-ui, sans-serif";
    widths.set(text, pen.measureText(text).width / 100);
  }
  return widths.get(text);
}

/** What is in the frame that is shown; the boxes of a track are fetched when it is on screen first. */
export function FilmBoxes({ file, people, objects, chosen, time }) {
  const known = useRef(new Map());
  const [, redraw] = useState(0);
  const tracks = useMemo(() => [
    ...people.flatMap((person) => person.traces.map((trace) => ({ ...trace, key: `trace/${trace.trace_id}`, person, colour: person.colour, label: person.label, isFace: true }))),
    ...objects.map((track) => ({ ...track, key: `object/${track.track_id}`, label: track.person?.label ?? track.label })),
  ], [people, objects]);
  const now = tracks.filter((track) => track.first_time - AROUND_S <= time && time <= track.last_time + AROUND_S);
  useEffect(() => {
    for (const { key } of now) {
      if (known.current.has(key)) continue;
      known.current.set(key, null);
      boxesOf(file.file_uuid, key).then(
        (boxes) => {
          known.current.set(key, boxes);
          redraw((before) => before + 1);
        },
        () => known.current.delete(key),
      );
    }
  }, [now.map(({ key }) => key).join()]);
  const boxes = now.flatMap((track) => {
    const part = (time - track.first_time) / (track.last_time - track.first_time || 1);
    const box = known.current.get(track.key)?.get(Math.round(track.first_frame + part * (track.last_frame - track.first_frame)));
    return box ? [{ ...track, ...box, isChosen: track.track_id !== undefined && track.track_id === chosen?.track_id }] : [];
  });
  // A face and the body that it belongs to are one person, with one label.
  const embodied = new Set(boxes.filter((box) => !box.isFace).map((box) => box.person).filter(Boolean));
  const one = boxes.map((box) => (box.isFace && embodied.has(box.person) ? { ...box, label: "" } : box));
  return html`<${Drawn} width=${file.width} height=${file.height} boxes=${one.sort((a, b) => b.isChosen - a.isChosen)} />`;
}

/** Return the boxes of a trace or an object by frame; `route` is its place below the file. */
async function boxesOf(fileId, route) {
  const boxes = new Map();
  for (let from = 0; from !== null; ) {
    const page = await get(`/api/v1/file/${fileId}/${route}?start_frame=${from}&limit=${BOXES_PER_PAGE}`);
    for (const { frame_number, bbox } of page.boxes) boxes.set(frame_number, bbox);
    from = page.next_frame;
  }
  return boxes;
}
