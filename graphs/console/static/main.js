/** The frame of the console: its navigation, the view that the address names, and the key. */

import { html, render, useEffect, useErrorBoundary, useRef, useState } from "./preact.js";
import { key, onKey } from "./api.js";
import { Asset } from "./asset.js";
import { Authenticity } from "./authenticity.js";
import { Groups } from "./groups.js";
import { Library } from "./library.js";
import { Muzzle } from "./muzzle.js";
import { People, Person } from "./people.js";
import { Shots } from "./shots.js";
import { System } from "./system.js";
import { Uploads } from "./uploads.js";
import { Video } from "./video.js";

const VIEWS = {
  library: { title: "Library", view: Library },
  groups: { title: "Groups", view: Groups },
  people: { title: "People", view: People },
  shots: { title: "Shots", view: Shots },
  authenticity: { title: "Authenticity", view: Authenticity },
  muzzle: { title: "Muzzle", view: Muzzle },
  system: { title: "Jobs & system", view: System },
};
const PAGES = {
  asset: { title: "Asset", view: Asset, of: "library" },
  video: { title: "Video", view: Video, of: "library" },
  person: { title: "Person", view: Person, of: "people" },
};

/** Return the view, the id and the query of the address, as in `#/video/1f…?t=3`. */
function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, id] = path.split("/");
  return { name: name in VIEWS || name in PAGES ? name : "library", id: id && decodeURIComponent(id), query: new URLSearchParams(query) };
}

function Console() {
  const [at, setAt] = useState(place);
  const [keyed, setKeyed] = useState(0);
  const main = useRef(null);
  useEffect(() => {
    const move = () => {
      setAt(place());
      main.current?.focus({ preventScroll: true });
      scrollTo(0, 0);
    };
    addEventListener("hashchange", move);
    return () => removeEventListener("hashchange", move);
  }, []);
  useEffect(() => onKey(() => setKeyed((before) => before + 1)), []);
  const page = VIEWS[at.name] ?? PAGES[at.name];
  useEffect(() => document.querySelector("nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" }), [at.name]);
  useEffect(() => {
    document.title = `${page.title} · visiongraph`;
  }, [page]);
  return html`
    <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), main.current.focus())}>To the content</a>
    <header class="bar">
      <a class="brand" href="#/library"><img src="/console/icon.svg" alt="" width="24" height="24" /> visiongraph</a>
      <nav aria-label="Views">
        ${Object.entries(VIEWS).map(
          ([name, { title }]) => html`<a href=${`#/${name}`} aria-current=${name === at.name || name === page.of ? "page" : null}>${title}</a>`,
        )}
      </nav>
      ${key.value && html`<button class="plain" onClick=${() => (key.value = "")}>Forget key</button>`}
    </header>
    <main id="main" tabindex="-1" ref=${main}>
      ${key.refusal ? html`<${KeyForm} />` : html`<${Shown} key=${`${at.name}/${at.id ?? ""}/${keyed}`} page=${page} at=${at} />`}
    </main>
    <${Uploads} />
  `;
}

function Shown({ page, at }) {
  const [error] = useErrorBoundary((failure) => console.error(failure));
  if (error) return html`<div class="notice bad" role="alert"><p>This page failed: ${error.message}</p></div>`;
  return html`<${page.view} id=${at.id} query=${at.query} />`;
}

function KeyForm() {
  const [text, setText] = useState("");
  const submit = (event) => {
    event.preventDefault();
    key.value = text.trim();
  };
  return html`<form class="card narrow" onSubmit=${submit}>
    <h1>A key is needed</h1>
    <p>${key.refusal}</p>
    <p class="quiet">It is kept in this tab alone, and forgotten when the tab closes.</p>
    <label>Key <input type="password" autocomplete="off" required autofocus value=${text} onInput=${(event) => setText(event.target.value)} /></label>
    <button class="main">Open</button>
  </form>`;
}

render(html`<${Console} />`, document.body);
