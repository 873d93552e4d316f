// The stream of events. The browser connects again by itself and says what it has seen; only when the server answers
// with an error does it give up, and then this does it.

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;

import { call } from "./api.js";

export function follow({ onOpen, onJob, onProgress, onLost }) {
  let wait = FIRST_WAIT_MS;
  const open = () => {
    const source = new EventSource("/api/v1/events");
    source.addEventListener("open", () => {
      wait = FIRST_WAIT_MS;
      onOpen();
    });
    source.addEventListener("job", (event) => onJob(JSON.parse(event.data)));
    source.addEventListener("progress", (event) => onProgress(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      onLost();
      if (source.readyState !== EventSource.CLOSED) return;
      // A stream does not say why it was refused; if it is for want of a login, this does.
      call("GET", "/session").catch(() => {});
      setTimeout(open, wait);
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    });
  };
  open();
}
