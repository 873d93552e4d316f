// Talks to the server. Everything that fails becomes a Refused with a problem document in it.

import { t } from "./words.js";

const BASE = "/api/v1";
// Pages of other sites cannot send it, so the server knows that the request is meant.
const OWN_PAGE = { "x-inkpool-csrf": "1" };
// Above what a server takes to store a long file, and below the patience of people.
const SILENCE_MAX_MS = 45_000;
let onLoggedOut = () => {};

// Called whenever the server says that the login no longer holds.
export function whenLoggedOut(what) {
  onLoggedOut = what;
}

function told(problem) {
  if (problem.code === "login_required") onLoggedOut();
  return problem;
}

export class Refused extends Error {
  constructor(problem, retryAfterSeconds = null) {
    super(problem.detail ?? problem.title);
    this.problem = problem;
    this.retryAfterSeconds = retryAfterSeconds;
    // What passes within minutes is waited for; of what does not, people want to know when.
    if (problem.code === "pixel_quota_reached" && retryAfterSeconds) problem.room_at = Date.now() + retryAfterSeconds * 1000;
  }
}

function unreachable() {
  return new Refused({
    status: 0,
    code: "unreachable",
    detail: t("trouble.unreachable"),
    remedy: t("trouble.unreachable_remedy"),
  });
}

function problemOf(text, status) {
  try {
    const problem = JSON.parse(text);
    if (problem && typeof problem === "object" && problem.detail) return problem;
  } catch {
    // Not from this server; the status has to do.
  }
  return { status, code: "unknown", detail: t("trouble.odd_answer", { status: String(status) }) };
}

function seconds(header) {
  const number = Number(header);
  return header !== null && Number.isFinite(number) ? number : null;
}

export async function call(method, path, body) {
  const options = { method, headers: { accept: "application/json", ...OWN_PAGE } };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  let text;
  try {
    response = await fetch(BASE + path, options);
    text = await response.text();
  } catch {
    throw unreachable();
  }
  if (!response.ok) throw new Refused(told(problemOf(text, response.status)), seconds(response.headers.get("retry-after")));
  return text ? JSON.parse(text) : null;
}

// One request whose body may be long; what its answer says. XMLHttpRequest, since fetch does not tell how much was sent.
export function exchange(method, path, { headers = {}, body = null, onProgress = () => {} } = {}) {
  const request = new XMLHttpRequest();
  let silence = 0;
  // A network that went away says nothing: neither does the file go on, nor does an answer come.
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(() => request.dispatchEvent(new Event("silence")), SILENCE_MAX_MS);
  };
  const done = new Promise((resolve, reject) => {
    request.upload.addEventListener("progress", (event) => {
      listen();
      onProgress(event.loaded);
    });
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300) {
        resolve({ text: request.responseText, header: (name) => request.getResponseHeader(name) });
      } else {
        reject(new Refused(told(problemOf(request.responseText, request.status)), seconds(request.getResponseHeader("retry-after"))));
      }
    });
    for (const lost of ["error", "silence"]) request.addEventListener(lost, () => reject(unreachable()));
    request.addEventListener("abort", () => reject(new Refused({ status: 0, code: "aborted", detail: t("trouble.aborted") })));
    request.addEventListener("silence", () => request.abort());
    request.addEventListener("loadend", () => clearTimeout(silence));
  });
  request.open(method, BASE + path);
  for (const [name, value] of Object.entries({ ...OWN_PAGE, ...headers })) request.setRequestHeader(name, value);
  listen();
  request.send(body);
  return { done, stop: () => request.abort() };
}

// Sends one file in one request.
export function sendWhole(file, { filename, preset, dedup, key, onProgress }) {
  const query = new URLSearchParams({ preset, filename });
  if (dedup) query.set("dedup", "true");
  const headers = { "idempotency-key": key, "content-type": "application/octet-stream" };
  const { done, stop } = exchange("POST", `/images?${query}`, { headers, body: file, onProgress });
  return { done: done.then(({ text }) => JSON.parse(text).items[0]), stop };
}
