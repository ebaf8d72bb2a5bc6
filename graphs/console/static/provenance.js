/** Where a file says that it comes from: who signed it, with what, when, what was done, and what nobody signed. */

import { html } from "./preact.js";
import { Facts, when, words } from "./ui.js";

const STATES = {
  trusted: { good: true, text: "Signed by a trusted signer, and unchanged since" },
  valid: { good: true, text: "Signed and unchanged since; the signer is on no trust list" },
  invalid: { bad: true, text: "The signature does not hold" },
  unreadable: { bad: true, text: "There are content credentials, which cannot be read" },
  remote: { text: "The file only names an address of its credentials, which is not asked" },
  unsigned: { text: "Nobody signed it" },
  none: { text: "The file says nothing of where it comes from" },
};
const BASES = { signed_trusted: "as a trusted signer says", signed_unknown: "as an unknown signer says", unsigned: "as the file says, which nobody signed" };

/** An action of C2PA for people: `c2pa.color_adjustments` as "Color adjustments". */
const actionOf = (name) => words(name.replace(/^c2pa\./, ""));
/** A word of a standard for people: `trainedAlgorithmicMedia` as "trained algorithmic media". */
const plain = (name) => name && words(name.replace(/([a-z])([A-Z])/g, "$1 $2")).toLowerCase();
const moment = (text) => (text && !Number.isNaN(Date.parse(text)) ? when(text) : text);

export function Provenance({ of }) {
  if (!of) return null;
  const state = STATES[of.status] ?? { text: words(of.status) };
  const { credentials, declaration, metadata } = of;
  return html`<section class="card">
    <h2>Provenance <span class=${`badge-inline ${state.bad ? "unhealthy" : state.good ? "" : "degraded"}`}>${words(of.status)}</span></h2>
    <p>${state.text}.</p>
    ${declaration && html`<p><b>${words(declaration.kind)}</b> by ${declaration.by}, ${BASES[declaration.basis] ?? words(declaration.basis)}.</p>`}
    ${of.findings?.length > 0 && html`<ul>${of.findings.map((finding) => html`<li class=${finding.severity === "strong" ? "bad-text" : ""}>${finding.text}</li>`)}</ul>`}
    ${credentials && html`<${Credentials} of=${credentials} />`}
    ${metadata && html`<${Metadata} of=${metadata} />`}
  </section>`;
}

function Credentials({ of }) {
  const facts = {
    "Signed by": [of.signer, of.organisation !== of.signer && of.organisation].filter(Boolean).join(", "),
    When: of.signed_at ? `${moment(of.signed_at)}${of.time_trusted ? "" : ", by an unknown time authority"}` : of.signer ? "not known: there is no time stamp" : null,
    Program: of.generator,
    Title: of.title,
    Bytes: of.bytes_match === null ? null : of.bytes_match ? "as they were signed" : "changed since they were signed",
    Address: of.remote_url,
    Unreadable: of.unreadable,
  };
  return html`
    <h3>Content credentials</h3>
    <${Facts} of=${facts} />
    ${of.actions.length > 0 && html`<h3>What was done</h3><ol>${of.actions.map((action) => html`<li>${[actionOf(action.name), plain(action.source_type), action.software && `with ${action.software}`, moment(action.when)].filter(Boolean).join(", ")}</li>`)}</ol>`}
    ${of.ingredients.length > 0 && html`<h3>What went into it</h3><ul>${of.ingredients.map((part) => html`<li>${[part.title, plain(part.relationship), plain(part.declares), part.state ? `credentials ${part.state}` : "no credentials", part.signer && `of ${part.signer}`].filter(Boolean).join(", ")}</li>`)}</ul>`}
    ${of.failures.length > 0 && html`<h3>What does not hold</h3><ul class="bad-text">${of.failures.map((failure) => html`<li>${failure.explanation} <small>${failure.code}</small></li>`)}</ul>`}
  `;
}

function Metadata({ of }) {
  const facts = Object.fromEntries(Object.entries(of).map(([name, value]) => [words(name), value]));
  if (Object.values(facts).every((value) => value === null)) return null;
  return html`<details><summary>Metadata that nobody signed</summary><${Facts} of=${facts} /></details>`;
}
