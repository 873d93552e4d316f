// Sends files, a few at once; waits when the server says so; stops when told.

import { send } from "./api.js";

const AT_ONCE = 3;
// With a server that is full, an upload waits its turn for about half an hour.
const TRIES_MAX = 60;
const LONGEST_WAIT_S = 60;

const waiting = [];
let running = 0;

// An upload has: file, preset, state (waiting, sending, paused, done, failed, stopped), sent, problem, and `changed`,
// called after each change.
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
  clearTimeout(upload.timer);
  upload.wake?.();
  upload.changed();
}

export function unfinished() {
  return waiting.length + running;
}

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

async function run(upload) {
  for (let attempt = 1; upload.state !== "stopped"; attempt += 1) {
    try {
      upload.state = "sending";
      upload.changed();
      upload.request = send(upload.file, {
        preset: upload.preset,
        key: upload.key,
        onProgress: (sent) => {
          upload.sent = sent;
          upload.changed();
        },
      });
      const item = await upload.request.done;
      if (upload.state === "stopped") upload.onLate(item);
      else {
        upload.state = "done";
        upload.onDone(item);
      }
      return;
    } catch (refused) {
      if (upload.state === "stopped") return;
      const seconds = refused.retryAfterSeconds;
      const mayPass = refused.problem?.status === 503 && seconds !== null;
      if (!mayPass || attempt >= TRIES_MAX) {
        upload.state = "failed";
        upload.problem = refused.problem ?? { detail: String(refused) };
        upload.changed();
        return;
      }
      upload.state = "paused";
      upload.problem = refused.problem;
      upload.changed();
      await pause(upload, Math.min(seconds, LONGEST_WAIT_S) * 1000);
    }
  }
}

function pause(upload, milliseconds) {
  return new Promise((resolve) => {
    upload.wake = resolve;
    upload.timer = setTimeout(resolve, milliseconds);
  });
}
