/** Webhooks: who is told when a job has ended, what came of it, and a new one. */

import { html, useEffect, useState } from "./preact.js";
import { call, get, post } from "./api.js";
import { Failure, Result, useAsync, when, words } from "./ui.js";

const ROUTE = "/api/v1/webhooks";
const EVERY_MS = 5000;
const DOTS = { delivered: "succeeded", failed: "failed", sending: "running", waiting: "queued" };

export function Webhooks() {
  const found = useAsync((signal) => get(ROUTE, { signal }), []);
  const [made, setMade] = useState(null);
  const add = async (url) => {
    setMade(await post(ROUTE, { url }));
    found.again();
  };
  useEffect(() => {
    const timer = setInterval(() => document.hidden || found.again(), EVERY_MS);
    return () => clearInterval(timer);
  }, [found.again]);
  return html`<section class="card">
    <h2>Webhooks</h2>
    <${Result} of=${found}>
      ${({ webhooks }) => html`
        ${!webhooks.length && html`<p class="empty">Nobody is told when a job has ended.</p>`}
        <ul class="webhooks">${webhooks.map((each) => html`<${Webhook} key=${each.webhook_id} webhook=${each} onChange=${found.again} />`)}</ul>
      `}
    <//>
    ${made && html`<div class="notice good" role="status">
      <p>The secret of ${made.webhook.url}, shown only now: <code>${made.secret}</code></p>
      <p><button onClick=${() => setMade(null)}>I have it</button></p>
    </div>`}
    <${Add} onAdd=${add} />
  </section>`;
}

/** Do something, and keep what went wrong. */
function useAction() {
  const [state, setState] = useState({});
  const run = async (action) => {
    setState({ busy: true });
    try {
      await action();
      setState({});
    } catch (error) {
      setState({ error });
    }
  };
  return [state, run];
}

function Add({ onAdd }) {
  const [url, setUrl] = useState("");
  const [{ busy, error }, run] = useAction();
  const send = (event) => {
    event.preventDefault();
    run(async () => {
      await onAdd(url);
      setUrl("");
    });
  };
  return html`<form class="inline" onSubmit=${send}>
      <label>Tell <input type="url" required placeholder="https://hooks.example/jobs" value=${url} onInput=${(event) => setUrl(event.target.value)} /></label>
      <button disabled=${busy}>Add webhook</button>
    </form>
    <${Failure} error=${error} />`;
}

function Webhook({ webhook, onChange }) {
  const path = `${ROUTE}/${webhook.webhook_id}`;
  const [open, setOpen] = useState(false);
  const [tests, setTests] = useState(0);
  const [{ busy, error }, run] = useAction();
  const act = (action) =>
    run(async () => {
      await action();
      setTests((before) => before + 1);
      onChange();
    });
  return html`<li>
    <p class="webhook">
      <span class=${`dot ${!webhook.enabled ? "failed" : webhook.failing_since ? "running" : "succeeded"}`} aria-hidden="true"></span>
      <b>${webhook.url}</b>
      <span class="quiet">${stateOf(webhook)}</span>
    </p>
    <p class="inline-buttons">
      <button disabled=${busy} onClick=${() => act(() => post(`${path}/ping`))}>Test</button>
      <button disabled=${busy} onClick=${() => act(() => call("PATCH", path, { enabled: !webhook.enabled }))}>${webhook.enabled ? "Disable" : "Enable"}</button>
      <button class="danger" disabled=${busy} onClick=${() => act(() => call("DELETE", path))}>Remove</button>
    </p>
    <${Failure} error=${error} />
    <details onToggle=${(event) => setOpen(event.target.open)}>
      <summary>Last deliveries</summary>
      ${open && html`<${Deliveries} key=${tests} path=${path} />`}
    </details>
  </li>`;
}

function stateOf(webhook) {
  if (!webhook.enabled) return `Disabled. ${webhook.disabled_reason}`;
  const waiting = webhook.waiting ? `, ${webhook.waiting} waiting` : "";
  if (webhook.failing_since) return `Fails since ${when(webhook.failing_since)}${waiting}`;
  return (webhook.delivered_at ? `Reached ${when(webhook.delivered_at)}` : "Nothing was sent yet") + waiting;
}

function Deliveries({ path }) {
  const found = useAsync((signal) => get(`${path}/deliveries?limit=10`, { signal }), [path]);
  const [{ error }, run] = useAction();
  const again = (delivery) =>
    run(async () => {
      await post(`${path}/deliveries/${delivery.delivery_id}/redeliver`);
      found.again();
    });
  return html`<${Failure} error=${error} />
    <${Result} of=${found}>
      ${({ deliveries }) => html`
        ${!deliveries.length && html`<p class="empty">None yet.</p>`}
        <ul class="deliveries">${deliveries.map((each) => html`<li key=${each.delivery_id}>
          <span class=${`dot ${DOTS[each.status]}`} aria-hidden="true"></span>
          <span>${each.type}</span>
          <span>${words(each.status)}</span>
          <span class="quiet">${outcomeOf(each)}</span>
          <time class="quiet">${when(each.created_at)}</time>
          ${["failed", "delivered"].includes(each.status) && html`<button onClick=${() => again(each)}>Send again</button>`}
        </li>`)}</ul>
      `}
    <//>`;
}

function outcomeOf({ attempts, next_attempt_at, error }) {
  const last = attempts.at(-1);
  if (!last) return "";
  const tries = attempts.length === 1 ? "" : `${attempts.length} attempts, `;
  const next = next_attempt_at ? `; again ${when(next_attempt_at)}` : "";
  return `${tries}${error ?? (last.error || `answered ${last.status} in ${last.seconds.toFixed(2)} s`)}${next}`;
}
