// Sends files, a few at once; goes on by itself when the network or the server is back; waits when the server says so;
// stops when told.

import { sendWhole } from "./api.js";
import { RESUMABLE_FROM_BYTES, end, giveUp, resume } from "./tus.js";

const AT_ONCE = 3;
// With a server that is full, an upload waits its turn for about half an hour.
const TRIES_MAX = 60;
const LONGEST_WAIT_S = 60;
// Without a network it waits for about a day: then what is there of it has expired.
const NETWORK_TRIES_MAX = 3000;
const FIRST_NETWORK_WAIT_MS = 1000;
const LONGEST_NETWORK_WAIT_MS = 30_000;
// What a proxy says while the server behind it starts anew, and what is over when an earlier request of ours is.
const PASSING = [0, 408, 423, 502, 503, 504];

const waiting = [];
const asleep = new Set();
let running = 0;

// An upload has: file, preset, state (waiting, sending, paused, offline, done, failed, stopped), sent, problem, and
// `changed`, called after each change.
export function add(upload) {
  upload.state = "waiting";
  upload.sent = 0;
  upload.problem = null;
  // The same key for every try: whatever got through, it counts once.
  upload.key ??= crypto.randomUUID();
  waiting.push(upload);
  upload.changed();
  next();
}

export function stop(upload) {
  const isOver = ["done", "failed", "stopped"].includes(upload.state);
  if (isOver) return;
  upload.state = "stopped";
  upload.request?.stop();
  giveUp(upload);
  upload.wake?.();
  upload.changed();
}

export function unfinished() {
  return waiting.length + running;
}

// The network is back, or the server: whoever waits for it need not wait any longer.
export function wake() {
  for (const upload of [...asleep]) if (upload.state === "offline") upload.wake();
}
window.addEventListener("online", wake);

function next() {
  while (running < AT_ONCE && waiting.length > 0) {
    const upload = waiting.shift();
    if (upload.state === "stopped") continue;
    running += 1;
    run(upload).finally(() => {
      running -= 1;
      next();
    });
  }
}

function send(upload) {
  const { file, preset, dedup, key } = upload;
  // macOS takes letters apart; put together they are found again.
  const filename = (file.name || "pasted.png").normalize("NFC");
  const onProgress = (sent) => {
    if (upload.state === "stopped") return;
    upload.state = "sending";
    upload.sent = Math.min(sent, file.size);
    upload.changed();
  };
  if (file.size < RESUMABLE_FROM_BYTES) return sendWhole(file, { filename, preset, dedup, key, onProgress });
  return resume(upload, { filename, onProgress, onResumed: (offset) => upload.onResumed(offset) });
}

async function run(upload) {
  let [tries, networkTries, furthest] = [0, 0, 0];
  while (upload.state !== "stopped") {
    try {
      // Whoever waits for the network says so until something gets through.
      if (upload.state !== "offline") upload.state = "sending";
      upload.changed();
      upload.request = send(upload);
      const item = await upload.request.done;
      end(upload);
      if (upload.state === "stopped") upload.onLate(item);
      else {
        upload.state = "done";
        upload.onDone(item);
      }
      return;
    } catch (refused) {
      if (upload.state === "stopped") return;
      if (upload.sent > furthest) {
        furthest = upload.sent;
        [tries, networkTries] = [0, 0];
      }
      const pause = pauseAfter(refused);
      const isTooOften = pause?.state === "paused" ? ++tries >= TRIES_MAX : ++networkTries >= NETWORK_TRIES_MAX;
      if (!pause || isTooOften) {
        end(upload);
        upload.state = "failed";
        upload.problem = refused.problem ?? { detail: String(refused) };
        upload.changed();
        return;
      }
      upload.state = pause.state;
      upload.problem = refused.problem;
      upload.changed();
      await sleep(upload, pause.milliseconds ?? backoff(networkTries));
    }
  }
}

// Whether the same may be answered otherwise later; then as what it is shown, and after which time, if that is known.
function pauseAfter({ problem, retryAfterSeconds: seconds }) {
  const milliseconds = seconds === null || seconds === undefined ? null : Math.min(seconds, LONGEST_WAIT_S) * 1000;
  // A day's pixels are no wait for a page that is open.
  if (problem?.code === "pixel_quota_reached") return null;
  if ([429, 503].includes(problem?.status) && milliseconds !== null) return { state: "paused", milliseconds };
  return problem && problem.code !== "aborted" && PASSING.includes(problem.status) ? { state: "offline", milliseconds } : null;
}

// By chance, so that many pages do not come back at once.
function backoff(tries) {
  const longest = Math.min(FIRST_NETWORK_WAIT_MS * 2 ** (tries - 1), LONGEST_NETWORK_WAIT_MS);
  return longest * (0.5 + Math.random() / 2);
}

function sleep(upload, milliseconds) {
  return new Promise((resolve) => {
    const timer = setTimeout(() => upload.wake(), milliseconds);
    asleep.add(upload);
    upload.wake = () => {
      clearTimeout(timer);
      asleep.delete(upload);
      resolve();
    };
  });
}
