/** The REST API as the console uses it: requests with the key of this tab, readable errors, links that media can load. */

const KEY = "visiongraph.key";
const LINK_S = 3600;

/** An answer that is no success; `message` is what the service said, for people. */
export class ApiError extends Error {
  constructor(status, message, code = "", requestId = "") {
    super(message);
    this.status = status;
    this.code = code;
    this.requestId = requestId;
  }
}

const listeners = new Set();
let refusal = "";

/** Call `listener` whenever a key becomes needed or is given; return a function that ends this. */
export function onKey(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const key = {
  get value() {
    return sessionStorage.getItem(KEY) ?? "";
  },
  set value(value) {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
    refusal = "";
    links.clear();
    listeners.forEach((listener) => listener());
  },
  /** What the service said when it refused the key, or that there is none. */
  get refusal() {
    return refusal;
  },
};

function headersOf(more) {
  return key.value ? { ...more, "X-API-Key": key.value } : more;
}

async function failureOf(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    body = null; // a proxy in between answers with a page
  }
  return failure(response.status, body, response.headers.get("x-request-id") ?? "");
}

function failure(status, body, requestId) {
  const detail = typeof body?.error === "object" && body.error !== null ? body.error : body ?? {};
  const texts = [detail.message, detail.error, detail.detail].filter((text) => typeof text === "string" && text);
  const invalid = Array.isArray(detail.detail) ? detail.detail.map((each) => each.msg).join("; ") : "";
  const message = texts[0] || invalid || `The service answered with status ${status}.`;
  if (status === 401 && !refusal) {
    refusal = message;
    listeners.forEach((listener) => listener());
  }
  return new ApiError(status, message, detail.code ?? "", requestId);
}

async function send(path, { method = "GET", json, form, signal } = {}) {
  const headers = headersOf(json === undefined ? {} : { "content-type": "application/json" });
  const body = json === undefined ? form : JSON.stringify(json);
  let response;
  try {
    response = await fetch(path, { method, headers, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The service cannot be reached. Is it still running?");
  }
  if (!response.ok) throw await failureOf(response);
  return response;
}

/** Return the JSON of a GET. */
export async function get(path, options) {
  return (await send(path, options)).json();
}

/** Return the JSON of a POST of JSON. */
export async function post(path, json = {}, options = {}) {
  return (await send(path, { method: "POST", json, ...options })).json();
}

/** Return the JSON of a request with another method. */
export async function call(method, path, json) {
  return (await send(path, { method, json })).json();
}

/** Return the bytes of a GET. */
export async function blob(path, options) {
  return (await send(path, options)).blob();
}

/** Return the bytes of a file as base64, as JSON bodies have them. */
export function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1]);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

/** Send a body and return the finished XMLHttpRequest; `onProgress` is called with the bytes that left so far. */
function transfer(method, path, body, headers, { onProgress, signal } = {}) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const request = new XMLHttpRequest(); // fetch tells nothing of the progress of a body
    request.open(method, path);
    for (const [name, value] of Object.entries(headersOf(headers))) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.onprogress = (event) => onProgress?.(event.loaded);
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) resolve(request);
      else reject(failure(request.status, request.response, request.getResponseHeader("x-request-id") ?? ""));
    };
    request.onerror = () => reject(new ApiError(0, "The connection broke before the service had answered."));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });
}

/** Send a form with files by POST and return the answer; `onProgress` is called with the part that left, 0-1. */
export async function postForm(path, form, { onProgress, signal } = {}) {
  const size = [...form.values()].reduce((sum, value) => sum + (value.size ?? 0), 0) || 1;
  const told = { signal, onProgress: (sent) => onProgress?.(Math.min(sent / size, 1)) };
  return (await transfer("POST", path, form, {}, told)).response;
}

const TUS = { "tus-resumable": "1.0.0" };
const PART = 8 * 2 ** 20;
const HASHED = 2 ** 28;
const TRIES = 6;

/**
 * Upload a large file in parts by the tus protocol and return the id of its asset.
 *
 * What the service has by its hash is not sent. After a broken connection it goes on with the first byte that is
 * missing; it gives up after some tries without any progress.
 */
export async function uploadInParts(file, { onProgress, signal } = {}) {
  const hash = await sha256(file);
  const metadata = { filename: file.name, ...(hash && { sha256: hash }) };
  const pairs = Object.entries(metadata).map(([name, value]) => `${name} ${base64Of(value)}`).join(",");
  const made = await transfer("POST", "/api/v1/uploads", null, { ...TUS, "upload-length": file.size, "upload-metadata": pairs }, { signal });
  const path = local(made.getResponseHeader("location"));
  let last = made;
  let failed = 0;
  for (let offset = Number(made.getResponseHeader("upload-offset") ?? 0); offset < file.size; ) {
    const headers = { ...TUS, "upload-offset": offset, "content-type": "application/offset+octet-stream" };
    const from = offset;
    try {
      last = await transfer("PATCH", path, file.slice(offset, offset + PART), headers, { signal, onProgress: (sent) => onProgress?.((from + sent) / file.size) });
      offset = Number(last.getResponseHeader("upload-offset"));
    } catch (error) {
      if (error.name === "AbortError" || ![0, 409, 429, 502, 503, 504].includes(error.status)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** failed));
      last = await transfer("HEAD", path, null, TUS, { signal }).catch((lost) => {
        if (failed + 1 >= TRIES) throw lost;
        return null;
      });
      if (last) offset = Number(last.getResponseHeader("upload-offset"));
    }
    failed = offset > from ? 0 : failed + 1;
    if (failed >= TRIES) throw new ApiError(0, "The connection breaks again and again. What has arrived is kept for a day: add the file again later.");
  }
  onProgress?.(1);
  return { assetId: last.getResponseHeader("upload-asset-id"), wasThere: last === made };
}

/** Return the SHA-256 of a file in hexadecimal digits; none of a very large one, or where the browser computes none. */
async function sha256(file) {
  if (!globalThis.crypto?.subtle || file.size > HASHED) return "";
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function base64Of(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

const links = new Map();

/** Return the URL of a route below a file that media elements can load, which send no key: a signed one where keys are set. */
export async function mediaUrl(fileId, path) {
  if (!key.value) return path;
  const known = links.get(fileId);
  const link = known && known.until > Date.now() ? known : newLink(fileId);
  links.set(fileId, link);
  const query = await link.query;
  return `${path}${path.includes("?") ? "&" : "?"}${query}`;
}

function newLink(fileId) {
  const until = Date.now() + (LINK_S - 300) * 1000;
  const query = post(`/api/v1/file/${fileId}/link`, { expires_in_s: LINK_S }).then(({ url }) => url.split("?")[1] ?? "");
  query.catch(() => links.delete(fileId));
  return { until, query };
}

/** Return the place of a URL on this service, so that it is loaded from where the console came from. */
export function local(url) {
  if (!url) return url;
  const { pathname, search } = new URL(url, location.href);
  return pathname + search;
}

/** Call `onChange` with the state of a job until it has ended, and return its last state. */
export async function follow(jobId, onChange, signal) {
  for (;;) {
    let job = null;
    // EventSource sends no key, so the events are read from an ordinary answer.
    const reader = (await send(`/api/v1/jobs/${jobId}/events`, { signal })).body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ; ) {
      const { value, done } = await reader.read().catch(() => ({ done: true }));
      signal?.throwIfAborted();
      if (done) break;
      const events = (text + value).split("\n\n");
      text = events.pop();
      for (const event of events) {
        const data = event.split("\n").find((line) => line.startsWith("data: "));
        if (data) onChange((job = JSON.parse(data.slice(6))));
      }
    }
    if (job && ["succeeded", "failed", "cancelled"].includes(job.status)) return job;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
