/** Jobs as they run, and how the service is. */

import { html, useEffect, useState } from "./preact.js";
import { call, get, post } from "./api.js";
import { Failure, Result, useAsync, when, words } from "./ui.js";

const EVERY_MS = 1500;

/** Read something again and again while the page is in sight. */
function usePolled(path) {
  const polled = useAsync((signal) => get(path, { signal }), [path]);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || polled.again(), EVERY_MS);
    return () => clearInterval(timer);
  }, [polled.again]);
  return polled;
}

export function System() {
  const health = usePolled("/health");
  return html`<section>
    <div class="head"><h1>Jobs & system</h1></div>
    <${Jobs} />
    <${Result} of=${health}>${(found) => html`<${Health} health=${found} />`}<//>
    <${Models} />
  </section>`;
}

function Jobs() {
  const jobs = usePolled("/api/v1/jobs?limit=50");
  const [error, setError] = useState(null);
  const act = async (action) => {
    setError(null);
    try {
      await action();
      jobs.again();
    } catch (failure) {
      setError(failure);
    }
  };
  return html`<section class="card">
    <h2>Jobs</h2>
    <${Failure} error=${error} />
    <${Result} of=${jobs}>
      ${(found) => html`
        ${!found.jobs.length && html`<p class="empty">No jobs yet.</p>`}
        <ul class="jobs">${found.jobs.map((job) => html`<li key=${job.job_id}>
          <span class=${`dot ${job.status}`} aria-hidden="true"></span>
          <span>${words(job.kind)} of <a href=${`#/video/${job.subject}`}>${job.subject.slice(0, 8)}</a></span>
          <span>${words(job.status)}${job.status === "running" ? ` · ${Math.round(100 * job.progress)} %` : ""}</span>
          <span class="quiet">${job.error ?? job.message}</span>
          <time class="quiet">${when(job.created_at)}</time>
          ${["queued", "running"].includes(job.status) && html`<button onClick=${() => act(() => call("DELETE", `/api/v1/jobs/${job.job_id}`))}>Cancel</button>`}
          ${["failed", "cancelled"].includes(job.status) && job.kind === "index" && html`<button onClick=${() => act(() => post(`/api/v1/file/${job.subject}/index`))}>Again</button>`}
          ${job.status === "running" && html`<progress max="1" value=${job.progress} aria-label="Progress"></progress>`}
        </li>`)}</ul>
      `}
    <//>
  </section>`;
}

function Health({ health }) {
  const stores = { Documents: health.database, Objects: health.storage, Cache: health.cache };
  const rooms = Map.groupBy ? Map.groupBy(health.models, (stage) => stage.name.split("/")[0]) : grouped(health.models);
  return html`
    <section class="card">
      <h2>Service <span class=${`badge-inline ${health.status}`}>${words(health.status)}</span></h2>
      <dl class="facts">
        <dt>Version</dt><dd>${health.version}</dd>
        <dt>Up</dt><dd>${duration(health.uptime_seconds)}</dd>
        <dt>GPU</dt><dd>${health.gpu.available ? health.gpu.device_name : "none"}</dd>
        ${Object.entries(stores).map(([name, store]) => html`<dt>${name}</dt><dd><span class=${`dot ${store.connected && !store.error ? "succeeded" : "failed"}`}></span> ${store.type} ${store.error ?? ""}</dd>`)}
      </dl>
    </section>
    <section class="card">
      <h2>Stages <span class="quiet">${health.models.filter((stage) => stage.loaded).length} of ${health.models.length} loaded</span></h2>
      <div class="rooms">${[...rooms].map(([room, stages]) => html`<div key=${room}><h3>${room}</h3><ul>${stages.map((stage) => html`<li title=${stage.error}><span class=${`dot ${stateOf(stage)}`} aria-hidden="true"></span> ${stage.name.split("/")[1]} <small class="quiet">${textOf(stage)}</small></li>`)}</ul></div>`)}</div>
    </section>`;
}

function grouped(stages) {
  const rooms = new Map();
  for (const stage of stages) {
    const room = stage.name.split("/")[0];
    rooms.set(room, [...(rooms.get(room) ?? []), stage]);
  }
  return rooms;
}

function stateOf(stage) {
  if (stage.error && stage.configured) return "failed";
  if (stage.loading) return "running";
  return stage.loaded ? "succeeded" : "queued";
}

function textOf(stage) {
  if (!stage.configured) return "not configured";
  if (stage.error) return stage.error;
  if (stage.loaded) return stage.load_time_ms === null ? "loaded" : `loaded in ${(stage.load_time_ms / 1000).toFixed(1)} s`;
  return stage.loading ? "loading" : stage.on_demand ? "starts when it is needed" : "not loaded";
}

function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function Models() {
  const info = useAsync((signal) => get("/api/v1/model-info", { signal }), []);
  return html`<section class="card">
    <h2>Models</h2>
    <${Result} of=${info}>
      ${(found) => html`<div class="scroll"><table>
        <thead><tr><th>Stage</th><th>Model</th><th>Version</th><th>Licence</th><th>Device</th></tr></thead>
        <tbody>${Object.entries(found.stages).filter(([, stage]) => stage.model || stage.model_version).map(([name, stage]) => html`<tr key=${name}>
          <td>${name}</td><td>${stage.model ?? ""}</td><td>${stage.model_version ?? ""}</td><td>${stage.licence ?? ""}</td><td>${[stage.device, stage.engine].filter(Boolean).join(", ")}</td>
        </tr>`)}</tbody>
      </table></div>`}
    <//>
  </section>`;
}
