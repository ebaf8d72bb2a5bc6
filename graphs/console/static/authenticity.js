/** A verdict on a picture, a film or a voice, and what it rests on. */

import { html, useEffect, useRef, useState } from "./preact.js";
import { blob, postForm } from "./api.js";
import { Missing } from "./asset.js";
import { Busy, clock, Drop, Failure, Meter, words } from "./ui.js";

const ROUTES = { image: "image", video: "video", audio: "audio" };
const PANELS = { error_level: "Error level", noise: "Noise" };
const NAMES = { visual: "Faces", forensic: "Compression and noise", temporal: "Over time", audio: "Voice", provenance: "Provenance" };

export function Authenticity() {
  const [file, setFile] = useState(null);
  const [part, setPart] = useState(0);
  const [answer, setAnswer] = useState(null);
  const [error, setError] = useState(null);
  const control = useRef(null);
  const judge = async ([chosen]) => {
    control.current?.abort();
    control.current = new AbortController();
    const { signal } = control.current;
    setFile(chosen);
    setAnswer(null);
    setError(null);
    setPart(0);
    const form = new FormData();
    form.append("file", chosen, chosen.name);
    try {
      const found = await postForm(`/api/v1/analyze/${kindOf(chosen)}/`, form, { onProgress: setPart, signal });
      setAnswer(found);
    } catch (failure) {
      if (failure.name !== "AbortError") setError(failure);
    }
  };
  useEffect(() => () => control.current?.abort(), []);
  return html`<section>
    <div class="head"><h1>Authenticity</h1></div>
    <div class="drops"><${Drop} accept="image/*,video/*,audio/*" onFiles=${judge}><b>Judge a file</b> <span>drop a picture, a film or a voice message here, or choose one; it is not kept</span><//></div>
    <${Failure} error=${error} />
    ${file && !answer && !error && html`<${Busy}>${part < 1 ? `Sending ${file.name}: ${Math.round(100 * part)} %` : `Judging ${file.name}`}<//>`}
    ${answer && html`<${Verdict} answer=${answer} file=${file} />`}
  </section>`;
}

function kindOf(file) {
  const kind = file.type.split("/")[0];
  if (kind in ROUTES) return kind;
  if (/\.(mp4|mov|mkv|webm|avi|m4v)$/i.test(file.name)) return "video";
  return /\.(wav|mp3|m4a|aac|flac|ogg|opus)$/i.test(file.name) ? "audio" : "image";
}

function Verdict({ answer, file }) {
  const { explanation } = answer;
  return html`<div class="columns">
    <div>
      <section class=${`card verdict ${answer.classification}`} role="status">
        <p class="stamp">${words(answer.classification.toLowerCase())}</p>
        <p>Confidence: <b>${words(answer.confidence.toLowerCase())}</b></p>
        <${Meter} label="Risk" value=${answer.risk_score} high=${100} digits=${0} marks=${{ suspicious: 40, manipulated: 70 }} hint="0 to 100; from 40 suspicious, from 70 manipulated" />
        <p>${explanation.summary}</p>
        <ul>${explanation.factors.map((factor) => html`<li>${factor}</li>`)}</ul>
        <p>${explanation.recommendation}</p>
      </section>
      <${Missing} of=${answer.unavailable} />
    </div>
    <div>
      ${answer.heatmap_url && html`<${HeatMap} answer=${answer} file=${file} />`}
      ${answer.signals && html`<section class="card">
        <h2>Signals</h2>
        ${Object.entries(answer.signals).filter(([, signal]) => signal).map(([name, signal]) => html`<${Signal} name=${name} signal=${signal} />`)}
      </section>`}
      ${answer.frame_analysis && html`<${Frames} frames=${answer.frame_analysis} duration=${answer.video_info.duration_seconds} />`}
      ${answer.segments?.length > 0 && html`<${Segments} segments=${answer.segments} />`}
      ${answer.audio_info && html`<p class="quiet">${answer.audio_info.duration_seconds.toFixed(1)} s of sound, ${(answer.audio_info.speech_seconds ?? 0).toFixed(1)} s of speech.</p>`}
    </div>
  </div>`;
}

function Signal({ name, signal }) {
  const title = NAMES[name] ?? words(name);
  if (signal.unavailable) return html`<p><b>${title}</b>: <span class="quiet">${signal.unavailable}</span></p>`;
  return html`<${Meter} label=${title} value=${signal.score} hint=${`counts for ${(100 * signal.effective_weight).toFixed(0)} % of the risk; higher is more suspicious`} />`;
}

/** The heat map: of a picture laid over it, of a film as it comes. */
function HeatMap({ answer, file }) {
  const [url, setUrl] = useState(null);
  const [original, setOriginal] = useState(null);
  const [strength, setStrength] = useState(0.7);
  const [panel, setPanel] = useState("error_level");
  const [error, setError] = useState(null);
  const hasPanels = answer.media_type === "image" && answer.signals.forensic.features !== null;
  useEffect(() => {
    const made = [];
    let gone = false;
    const keep = (bytes) => {
      const url_ = URL.createObjectURL(bytes);
      made.push(url_);
      return url_;
    };
    setError(null);
    blob(hasPanels ? `${answer.heatmap_url}?panel=${panel}` : answer.heatmap_url).then((bytes) => gone || setUrl(keep(bytes)), (failure) => gone || setError(failure));
    if (hasPanels) setOriginal(keep(file));
    return () => {
      gone = true;
      made.forEach((each) => URL.revokeObjectURL(each));
    };
  }, [answer.heatmap_url, panel]);
  return html`<section class="card">
    <h2>Where</h2>
    <div class="canvas stack">
      ${original && html`<img src=${original} alt=${answer.filename} />`}
      ${url && html`<img class=${original ? "over" : ""} src=${url} alt="Heat map: error level, noise and faces" style=${original ? { opacity: strength } : {}} />`}
    </div>
    <${Failure} error=${error} />
    ${hasPanels && html`<div class="choice" role="group" aria-label="Drawn over the picture">
      ${Object.entries(PANELS).map(([name, text]) => html`<button aria-pressed=${panel === name} onClick=${() => setPanel(name)}>${text}</button>`)}
    </div>`}
    ${original && html`<label class="slider">Heat map <input type="range" min="0" max="1" step="0.05" value=${strength} onInput=${(event) => setStrength(Number(event.target.value))} /></label>`}
  </section>`;
}

function Frames({ frames, duration }) {
  return html`<section class="card">
    <h2>Frames</h2>
    <div class="bars" role="img" aria-label=${`Risk of ${frames.length} frames over ${clock(duration)}`}>
      ${frames.map((frame) => html`<i key=${frame.frame_index} class=${frame.classification ?? "none"} title=${`${clock(frame.timestamp, 2)}: ${frame.risk_score === null ? "not judged" : frame.risk_score.toFixed(0)}`} style=${{ left: `${(100 * frame.timestamp) / Math.max(duration, 0.01)}%`, height: `${Math.max(frame.risk_score ?? 0, 3)}%` }}></i>`)}
    </div>
    <p class="quiet">Risk of each frame that was looked at, 0 to 100, over ${clock(duration)}.</p>
  </section>`;
}

function Segments({ segments }) {
  const end = Math.max(...segments.map((segment) => segment.end));
  return html`<section class="card">
    <h2>Voice over time</h2>
    <div class="bars" role="img" aria-label=${`How synthetic the voice sounds in ${segments.length} parts`}>
      ${segments.map((segment) => html`<i class=${segment.synthetic_probability >= 0.7 ? "MANIPULATED" : segment.synthetic_probability >= 0.4 ? "SUSPICIOUS" : "AUTHENTIC"} title=${`${clock(segment.start)} – ${clock(segment.end)}: ${segment.synthetic_probability.toFixed(2)}`} style=${{ left: `${(100 * segment.start) / end}%`, width: `${(100 * (segment.end - segment.start)) / end}%`, height: `${Math.max(100 * segment.synthetic_probability, 3)}%` }}></i>`)}
    </div>
    <p class="quiet">Probability that a part is synthetic.</p>
  </section>`;
}
