/** Jobs as they run, and how the service is. */

import { html, useEffect, useState } from "./preact.js";
import { call, get, post } from "./api.js";
import { Failure, Result, useAsync, when, words } from "./ui.js";
import { Webhooks } from "./webhooks.js";

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
  return html`<section>
    <div class="head"><h1>Jobs & system</h1></div>
    <${Jobs} />
    <${Webhooks} />
    <${Service} />
  </section>`;
}

/** The whole state where the key may see it, else what everybody may. */
function Service() {
  const status = usePolled("/status");
  if (status.error?.status === 403) return html`<${Health} />`;
  return html`<${Result} of=${status}>${(found) => html`<${Status} status=${found} />`}<//>`;
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

function Status({ status }) {
  const models = status.stages.flatMap((stage) => stage.models.map((model) => ({ stage: stage.name, ...model })));
  return html`
    <section class="card">
      <h2>Service</h2>
      <dl class="facts">
        <dt>Version</dt><dd>${status.version}</dd>
        <dt>Up</dt><dd>${duration(status.uptime_seconds)}</dd>
        ${status.stores.map((store) => html`<dt>${words(store.name)}</dt><dd><span class=${`dot ${store.connected && !store.error ? "succeeded" : "failed"}`}></span> ${store.type}, ${store.latency_ms.toFixed(1)} ms ${store.error ?? ""}</dd>`)}
        ${Object.entries(status.unknown).map(([name, reason]) => html`<dt>${words(name)}</dt><dd class="bad-text">${reason}</dd>`)}
      </dl>
    </section>
    <${Rooms} stages=${status.stages} />
    <section class="card">
      <h2>Replicas</h2>
      <${Table} head=${["Deployment", "Stages", "Replicas", "CPUs", "GPUs", "Waiting", "Refused"]} rows=${placesOf(status.stages)} />
    </section>
    <section class="card">
      <h2>Models</h2>
      <${Table} head=${["Stage", "Model", "Version", "Licence", "Runs on"]} rows=${models.map((model) => [model.stage, model.model, model.version, model.licence, [model.device, model.engine].filter(Boolean).join(", ")])} />
    </section>
    <section class="card">
      <h2>Recent errors</h2>
      ${!status.recent_errors.length && html`<p class="empty">None since this gateway started.</p>`}
      <ul class="errors">${status.recent_errors.map((fault) => html`<li><time class="quiet">${when(fault.at)}</time> <b>${fault.source}</b> ${fault.message}</li>`)}</ul>
    </section>`;
}

/** Return a row for each deployment that stages run in. */
function placesOf(stages) {
  const places = new Map();
  for (const stage of stages) places.set(stage.place, [...(places.get(stage.place) ?? []), stage]);
  const sum = (all, name) => all.reduce((total, stage) => total + stage[name], 0);
  return [...places].map(([place, all]) => {
    const { replicas } = all[0];
    const numbers = replicas ? [`${replicas.running} of ${replicas.wanted}`, replicas.cpus, replicas.gpus] : ["", "", ""];
    return [place === "here" ? "gateway" : place, all.map((stage) => stage.name).join(", "), ...numbers, sum(all, "queue"), sum(all, "refused")];
  });
}

function Table({ head, rows }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${head[0]}><table>
    <thead><tr>${head.map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr>${row.map((cell) => html`<td>${cell ?? ""}</td>`)}</tr>`)}</tbody>
  </table></div>`;
}

function Rooms({ stages }) {
  return html`<section class="card">
    <h2>Stages <span class="quiet">${stages.filter((stage) => stage.loaded).length} of ${stages.length} loaded</span></h2>
    <div class="rooms">${[...grouped(stages)].map(([room, its]) => html`<div key=${room}><h3>${room}</h3><ul>${its.map((stage) => html`<li title=${stage.error}><span class=${`dot ${stateOf(stage)}`} aria-hidden="true"></span> ${stage.name.split("/")[1]} <small class="quiet">${textOf(stage)}</small></li>`)}</ul></div>`)}</div>
  </section>`;
}

function Health() {
  const health = usePolled("/health");
  return html`<${Result} of=${health}>
    ${(found) => html`
      <section class="card">
        <h2>Service <span class=${`badge-inline ${found.status}`}>${words(found.status)}</span></h2>
        <dl class="facts">
          <dt>Version</dt><dd>${found.version}</dd>
          <dt>Up</dt><dd>${duration(found.uptime_seconds)}</dd>
          <dt>GPU</dt><dd>${found.gpu.available ? found.gpu.device_name : "none"}</dd>
        </dl>
      </section>
      <${Rooms} stages=${found.models} />
    `}
  <//>`;
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
  if (stage.error) return stage.error.split(/[;\n]/)[0];
  if (stage.loaded) return stage.load_time_ms ? `loaded in ${(stage.load_time_ms / 1000).toFixed(1)} s` : "loaded";
  return stage.loading ? "loading" : stage.on_demand ? "starts when it is needed" : "not loaded";
}

function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
