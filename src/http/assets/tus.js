// Uploads that go on where they were interrupted (the protocol tus 1.0.0). Where the bytes of a file go is kept by the
// browser, so that the same file, given again to a page that was closed meanwhile, goes on as well.

import { Refused, call, exchange } from "./api.js";

// Smaller files are sent in one request; to begin anew costs them little.
export const RESUMABLE_FROM_BYTES = 1 << 20;
// A proxy that gathers a request before it passes it on loses no more than this when the line breaks.
const CHUNK_BYTES = 4 << 20;
// Times in a row that the server has another idea of where it goes on.
const DISAGREEMENTS_MAX = 5;
const MEMORY = "inkpool.uploads";
// A browser gives a site about 5 MB; an entry has 200 bytes.
const MEMORIES_MAX = 500;
const VERSION = { "tus-resumable": "1.0.0" };

// Files that are being sent by this page: a second card for the same file is an upload of its own.
const underWay = new Set();

function memories() {
  try {
    const kept = Object.entries(JSON.parse(localStorage.getItem(MEMORY)) ?? {});
    return new Map(kept.filter(([, place]) => typeof place.path === "string" && place.until > Date.now()));
  } catch {
    // Storage that is forbidden or damaged: then an upload goes on only while the page is open.
    return new Map();
  }
}

function keep(all) {
  const newest = [...all].sort(([, one], [, other]) => other.until - one.until).slice(0, MEMORIES_MAX);
  try {
    localStorage.setItem(MEMORY, JSON.stringify(Object.fromEntries(newest)));
  } catch {
    // See above.
  }
}

function remember(fingerprint, place) {
  keep(memories().set(fingerprint, place));
}

function forget(fingerprint) {
  const all = memories();
  if (all.delete(fingerprint)) keep(all);
}

function fingerprintOf({ file, preset }) {
  return [file.name, file.size, file.lastModified, file.type, preset].join("|");
}

function base64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

// Sends what is missing of a file. Called again after a failure, it asks the server how much is there.
export function resume(upload, { filename, onProgress, onResumed }) {
  upload.tus ??= begin(upload);
  const { tus } = upload;
  let request = null;
  let isStopped = false;
  const ask = (method, path, options) => {
    if (isStopped) throw new Refused({ status: 0, code: "aborted" });
    request = exchange(method, path, { ...options, headers: { ...VERSION, ...options?.headers } });
    return request.done;
  };
  const done = send(upload, tus, { ask, filename, onProgress, onResumed });
  return {
    done,
    stop: () => {
      isStopped = true;
      request?.stop();
    },
  };
}

function begin(upload) {
  const fingerprint = fingerprintOf(upload);
  const isOnlyOne = !underWay.has(fingerprint);
  underWay.add(fingerprint);
  return { fingerprint: isOnlyOne ? fingerprint : null, path: isOnlyOne ? (memories().get(fingerprint)?.path ?? null) : null };
}

// The upload is over, one way or the other.
export function end(upload) {
  const { tus } = upload;
  upload.tus = null;
  if (!tus?.fingerprint) return;
  underWay.delete(tus.fingerprint);
  forget(tus.fingerprint);
}

// The upload is not wanted any more.
export function giveUp(upload) {
  const path = upload.tus?.path;
  end(upload);
  if (path) exchange("DELETE", path, { headers: VERSION }).done.catch(() => {});
}

async function send(upload, tus, { ask, filename, onProgress, onResumed }) {
  const { file } = upload;
  let offset = await whereToGoOn(upload, tus, ask, filename);
  if (offset > 0) onResumed(offset);
  onProgress(offset);
  let disagreements = 0;
  while (offset < file.size) {
    const from = offset;
    try {
      const answer = await ask("PATCH", tus.path, {
        headers: { "upload-offset": String(from), "content-type": "application/offset+octet-stream" },
        body: file.slice(from, from + CHUNK_BYTES),
        onProgress: (sent) => onProgress(from + sent),
      });
      offset = Number(answer.header("upload-offset"));
      disagreements = 0;
    } catch (refused) {
      disagreements += 1;
      if (refused.problem?.code !== "offset_differs" || disagreements > DISAGREEMENTS_MAX) throw refused;
      offset = await whereToGoOn(upload, tus, ask, filename);
    }
    onProgress(offset);
  }
  const { item } = await call("GET", tus.path);
  if (!item?.image) throw new Refused(item?.error ?? { status: 404, code: "not_found" });
  return item;
}

async function whereToGoOn(upload, tus, ask, filename) {
  if (tus.path) {
    try {
      const answer = await ask("HEAD", tus.path);
      const isAnImage = answer.header("upload-offset") !== answer.header("upload-length") || answer.header("inkpool-image");
      if (isAnImage) return Number(answer.header("upload-offset"));
    } catch (refused) {
      if (![404, 410].includes(refused.problem?.status)) throw refused;
    }
    // It has expired, somebody else has logged in, or the image was deleted since.
    tus.path = null;
    if (tus.fingerprint) forget(tus.fingerprint);
    upload.key = crypto.randomUUID();
  }
  const said = [`filename ${base64(filename)}`, `preset ${base64(upload.preset)}`];
  if (upload.dedup) said.push(`dedup ${base64("true")}`);
  const metadata = said.join(",");
  const headers = { "upload-length": String(upload.file.size), "upload-metadata": metadata, "idempotency-key": upload.key };
  const answer = await ask("POST", "/tus", { headers });
  tus.path = new URL(answer.header("location"), location.href).pathname.replace("/api/v1", "");
  if (tus.fingerprint) {
    remember(tus.fingerprint, { path: tus.path, until: Date.parse(answer.header("upload-expires")) || Date.now() + 3_600_000 });
  }
  return Number(answer.header("upload-offset"));
}
