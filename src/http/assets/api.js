// Talks to the server. Everything that fails becomes a Refused with a problem document in it.

import { t } from "./words.js";

const BASE = "/api/v1";
// Pages of other sites cannot send it, so the server knows that the request is meant.
const OWN_PAGE = { "x-inkpool-csrf": "1" };
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

// Sends one file. XMLHttpRequest, since fetch does not tell how much has been sent.
export function send(file, { preset, key, onProgress }) {
  const request = new XMLHttpRequest();
  // macOS takes letters apart; put together they are found again.
  const filename = (file.name || "pasted.png").normalize("NFC");
  const query = new URLSearchParams({ preset, filename });
  const done = new Promise((resolve, reject) => {
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded, file.size));
    request.addEventListener("load", () => {
      if (request.status === 202) resolve(JSON.parse(request.responseText).items[0]);
      else reject(new Refused(told(problemOf(request.responseText, request.status)), seconds(request.getResponseHeader("retry-after"))));
    });
    request.addEventListener("error", () => reject(unreachable()));
    request.addEventListener("abort", () => reject(new Refused({ status: 0, code: "aborted", detail: t("trouble.aborted") })));
  });
  request.open("POST", `${BASE}/images?${query}`);
  request.setRequestHeader("idempotency-key", key);
  for (const [name, value] of Object.entries(OWN_PAGE)) request.setRequestHeader(name, value);
  request.setRequestHeader("content-type", "application/octet-stream");
  request.send(file);
  return { done, stop: () => request.abort() };
}
