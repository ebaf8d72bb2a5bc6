/** One picture or sound: how it looks, what was measured and drawn over it, and what is like it. */

import { html, useState } from "./preact.js";
import { base64, blob, call, get, mediaUrl, post } from "./api.js";
import { Drawn, PALETTE } from "./boxes.js";
import { thumbnailOf, Tile } from "./library.js";
import { Choice, chosenOf, classesOf, EVERYTHING, Others, percent } from "./objects.js";
import { bytes, clock, Facts, Failure, Meter, Picture, Result, Strength, useAsync, useObjectUrl, when, words } from "./ui.js";

const SIMILAR = 12;
/** How sure the detector has to be at first. */
const LEAST = 0.5;
const FACE = "#4f8cff";
const MAPS = {
  focus: { title: "Focus", hint: "bright where edges are sharp; nothing where they are blurred, or where there are none" },
  saliency: { title: "Saliency", hint: "bright where colours stand out from those along the border, and so draw the eye" },
};

export function Asset({ id, query }) {
  const details = useAsync((signal) => get(`/api/v1/media/${id}`, { signal }), [id]);
  return html`<${Result} of=${details}>${(asset) => html`<${Loaded} asset=${asset} like=${query.has("like")} />`}<//>`;
}

function Loaded({ asset, like }) {
  const [error, setError] = useState(null);
  const kind = asset.content_type.split("/")[0];
  const remove = async () => {
    if (!confirm(`Delete ${asset.filename} and all that was computed of it?`)) return;
    try {
      await call("DELETE", `/api/v1/media/${asset.asset_id}`);
      location.hash = "#/library";
    } catch (failure) {
      setError(failure);
    }
  };
  return html`<section>
    <div class="head">
      <h1 class="filename">${asset.filename}</h1>
      <div class="tools">
        <${Download} asset=${asset} />
        <button class="danger" onClick=${remove}>Delete</button>
      </div>
    </div>
    <${Failure} error=${error} />
    ${kind === "audio" ? html`<${Sound} asset=${asset} />` : html`<${Still} asset=${asset} like=${like} />`}
  </section>`;
}

function factsOf(asset) {
  return {
    Size: asset.width ? `${asset.width} × ${asset.height}` : null,
    Duration: asset.duration != null ? clock(asset.duration) : null,
    Format: asset.format,
    Bytes: bytes(asset.file_size),
    Uploaded: when(asset.upload_timestamp),
    Id: asset.asset_id,
  };
}

export function Download({ asset }) {
  const url = useAsync(() => mediaUrl(asset.asset_id, `/api/v1/media/${asset.asset_id}/content`), [asset.asset_id]);
  return html`<a class="button" href=${url.value} download=${asset.filename}>Download</a>`;
}

function Sound({ asset }) {
  const url = useAsync(() => mediaUrl(asset.asset_id, `/api/v1/media/${asset.asset_id}/content`), [asset.asset_id]);
  return html`<div class="card"><audio controls src=${url.value}></audio><${Facts} of=${factsOf(asset)} /></div>`;
}

/** `like`: somebody looks for pictures like it, so these come first. */
function Still({ asset, like }) {
  const id = asset.asset_id;
  const [drawn, setDrawn] = useState({ faces: true, objects: true, thirds: false });
  const [filter, setFilter] = useState({ ...EVERYTHING, least: LEAST });
  const [map, setMap] = useState(null);
  const [strength, setStrength] = useState(0.7);
  const quality = useAsync((signal) => post("/api/v1/analyze-quality", { asset_id: id }, { signal }), [id]);
  const metrics = useAsync((signal) => post("/api/v1/analyze-image-metrics", { asset_id: id }, { signal }), [id]);
  const composition = useAsync((signal) => post("/api/v1/analyze-image-composition", { asset_id: id }, { signal }), [id]);
  const similar = useAsync((signal) => post("/api/v1/semantic-search", { query_asset_id: id, top_k: SIMILAR + 1 }, { signal }), [id]);
  const faces = useAsync((signal) => facesOf(id, signal), [id]);
  const objects = useAsync((signal) => post("/api/v1/detect-objects", { asset_id: id, min_confidence: 0 }, { signal }), [id]);
  const classes = classesOf(objects.value?.objects ?? []);
  const shown = chosenOf(objects.value?.objects ?? [], filter);
  const boxes = [
    ...(drawn.faces ? facesIn(faces.value, objects.value?.image_dimensions) : []),
    ...(drawn.objects ? shown.map((each, place) => ({ ...each, key: `object ${place}`, label: `${each.label} ${percent(each.confidence)}`, colour: PALETTE[classes.findIndex(({ label }) => label === each.label) % PALETTE.length] })) : []),
  ];
  const frame = objects.value?.image_dimensions ?? (faces.value && { width: faces.value.width_px, height: faces.value.height_px });
  const alike = html`<section class="wide">
    <h2>More like this</h2>
    <${Result} of=${similar} waiting="Comparing with the library">
      ${(found) => html`<div class="row-grid">
        ${found.search_results.filter((hit) => hit.asset_id !== id).slice(0, SIMILAR).map((hit) => html`<${Hit} key=${hit.asset_id} hit=${hit} />`)}
      </div>
      ${found.search_results.length < 2 && html`<p class="empty">Nothing else has features yet. They are computed when a picture is opened, grouped or searched.</p>`}`}
    <//>
  </section>`;
  return html`<div class="columns">
    ${like && alike}
    <div>
      <div class="canvas">
        <${Picture} src=${`/api/v1/media/${id}/thumbnail?side=1280`} file=${id} alt=${asset.filename} />
        ${map && html`<${Over} key=${map} id=${id} name=${map} strength=${strength} />`}
        ${drawn.thirds && html`<svg class="over" viewBox="0 0 3 3" preserveAspectRatio="none" aria-hidden="true"><path d="M1 0V3M2 0V3M0 1H3M0 2H3" /></svg>`}
        ${frame && html`<${Drawn} width=${frame.width} height=${frame.height} boxes=${boxes} label=${`${boxes.filter((box) => box.isFace).length} faces, ${boxes.filter((box) => !box.isFace).length} objects`} />`}
      </div>
      <div class="choice" role="group" aria-label="Drawn over the picture">
        <button aria-pressed=${drawn.faces} onClick=${() => setDrawn({ ...drawn, faces: !drawn.faces })}>
          Faces <span class="quiet">${faces.busy ? "…" : faces.value?.emotion?.faces_detected ?? "–"}</span>
        </button>
        <button aria-pressed=${drawn.objects} disabled=${!objects.busy && !classes.length} onClick=${() => setDrawn({ ...drawn, objects: !drawn.objects })}>
          Objects <span class="quiet">${objects.busy ? "…" : objects.value ? shown.length : "–"}</span>
        </button>
        <button aria-pressed=${drawn.thirds} onClick=${() => setDrawn({ ...drawn, thirds: !drawn.thirds })}>Thirds</button>
        ${Object.entries(MAPS).map(([name, { title }]) => html`<button aria-pressed=${map === name} onClick=${() => setMap(map === name ? null : name)}>${title}</button>`)}
      </div>
      ${classes.length > 0 && html`<${Choice} classes=${classes} value=${filter} onValue=${setFilter}><${Others} classes=${filter.classes} /><//>`}
      ${objects.error && html`<${Missing} of=${{ objects: objects.error.message }} />`}
      ${map && html`<${Strength} value=${strength} onValue=${setStrength}>Strength<//><p class="quiet">${MAPS[map].title}: ${MAPS[map].hint}.</p>`}
      <div class="card"><${Facts} of=${factsOf(asset)} /></div>
    </div>
    <div>
      <section class="card">
        <h2>Quality</h2>
        <${Result} of=${quality}>
          ${(found) => html`
            <${Meter} label="Overall" value=${found.quality_score} marks=${{ threshold: found.quality_threshold }} hint=${found.based_on ? `from ${found.based_on.join(", ")}; higher is better` : null} />
            <${Meter} label="Technical (NIMA)" value=${found.nima_technical_score} low=${1} high=${10} digits=${1} hint="mean rating 1 to 10; higher is better" />
            <${Meter} label="Distortion (BRISQUE)" value=${found.brisque_score} high=${100} digits=${0} hint="0 to 100; lower is better" />
            <${Meter} label="Sharpness" value=${found.sharpness_score} hint="higher is sharper" />
            <${Missing} of=${found.unavailable} />
          `}
        <//>
        <${Result} of=${metrics}>${(found) => html`<${Meter} label="Light" value=${found.lighting_quality} hint="higher is better lit" />`}<//>
      </section>
      <section class="card">
        <h2>Composition</h2>
        <${Result} of=${composition}>${(found) => html`<${Composition} found=${found} />`}<//>
      </section>
      ${faces.value?.emotion?.faces.length > 0 &&
      html`<section class="card">
        <h2>Faces</h2>
        ${faces.value.emotion.faces.map((face, number) => html`<${Meter} label=${`${number + 1}: ${face.dominant_emotion}`} value=${face.scores[face.dominant_emotion]} digits=${0} high=${100} unit=" %" />`)}
      </section>`}
      <${Missing} of=${faces.value?.unavailable} />
    </div>
    ${!like && alike}
  </div>`;
}

/** A map of the picture, laid over it. */
function Over({ id, name, strength }) {
  const { url, error } = useObjectUrl(`/api/v1/media/${id}/maps/${name}.png`);
  if (error) return html`<div class="over failed"><${Failure} error=${error} /></div>`;
  return url ? html`<img class="over" src=${url} alt=${`Map: ${MAPS[name].hint}`} style=${{ opacity: strength }} />` : null;
}

function Hit({ hit }) {
  return html`<${Tile} asset=${{ ...hit, thumbnail_url: thumbnailOf(hit.asset_id) }} note=${`${hit.similarity_score.toFixed(0)} % alike`} />`;
}

function Composition({ found }) {
  const { composition_analysis: shot, enhanced_analysis: more } = found;
  return html`
    <p class="tags">${[shot.shot_size, shot.shot_angle, shot.framing, ...found.composition_tags].filter((tag, place, all) => tag && tag !== "undetermined" && all.indexOf(tag) === place).map((tag) => html`<span>${words(tag)}</span>`)}</p>
    <${Meter} label="Composition" value=${found.composition_score} />
    <${Meter} label="Rule of thirds" value=${more.rule_of_thirds_score} />
    <${Meter} label="Symmetry" value=${more.symmetry_score.overall_symmetry} />
    <${Meter} label="Balance" value=${more.composition_balance} />
    <${Meter} label="Depth of field" value=${more.depth_of_field} />
    <${Missing} of=${found.unavailable} />
  `;
}

/** What could not be measured, and why. */
export function Missing({ of }) {
  const reasons = Object.entries(of ?? {});
  if (!reasons.length) return null;
  return html`<ul class="notice">${reasons.map(([name, reason]) => html`<li><b>${words(name.split(".").at(-1))}</b>: ${reason}</li>`)}</ul>`;
}

/** Return the boxes of faces in a picture of these `dimensions`, by default those of the copy on which they were found. */
function facesIn(found, dimensions) {
  const scale = (dimensions?.width ?? found?.width_px) / found?.width_px;
  return (found?.emotion?.faces ?? []).map(({ region: { x, y, w, h } }, number) => {
    const [left, top, width, height] = [x, y, w, h].map((each) => each * scale);
    return { key: `face ${number}`, x: left, y: top, width, height, colour: FACE, label: String(number + 1), isFace: true };
  });
}

/** Return what the photo API finds of the faces of a picture, on a copy of 1280 pixels. */
async function facesOf(id, signal) {
  const data = await base64(await blob(`/api/v1/media/${id}/thumbnail?side=1280`, { signal }));
  const parts = { run_blur: false, run_quality: false, run_embedding: false, run_emotion: true };
  return (await post("/v1/analyze", { image: { data }, ...parts }, { signal })).result;
}
