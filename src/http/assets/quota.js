// What one uses and may use: below the tray before anything is sent, and in the account.

import { call } from "./api.js";
import { bytes, number, t } from "./words.js";

const LOOK_AGAIN_MS = 1500;
const MEASURES = ["stored_bytes", "pixels_per_day", "jobs_queued"];
let looking = null;

function shown(measure, value) {
  if (measure === "stored_bytes") return bytes(value);
  if (measure === "jobs_queued") return number(value);
  return number(Math.ceil(value / 1_000_000));
}

// One line with a gauge for each bound. `all`: with what is used where there is no bound, too.
export function draw(place, quota, all = false) {
  const rows = MEASURES.filter((measure) => all || quota[measure].limit !== null).map((measure) => {
    const { used, limit } = quota[measure];
    const item = document.createElement("li");
    const text = document.createElement("span");
    const values = { used: shown(measure, used), limit: limit === null ? "" : shown(measure, limit) };
    text.textContent = t(`quota.${measure}${limit === null ? "_unbounded" : ""}`, values);
    item.append(text);
    if (limit !== null) {
      const gauge = Object.assign(document.createElement("meter"), { min: 0, max: limit, value: Math.min(used, limit) });
      // From here on somebody should think of it.
      Object.assign(gauge, { low: limit * 0.8, high: limit * 0.95, optimum: 0 });
      gauge.setAttribute("aria-label", text.textContent);
      item.append(gauge);
      item.dataset.state = used >= limit ? "full" : "";
    }
    return item;
  });
  place.replaceChildren(...rows);
  place.hidden = rows.length === 0;
}

async function read() {
  looking = null;
  let quota;
  try {
    quota = await call("GET", "/quota");
  } catch {
    return; // The next look will tell.
  }
  draw(document.getElementById("quota"), quota);
  draw(document.getElementById("account-quota"), quota, true);
}

// Soon, and once for much that happens together.
export function look() {
  looking ??= setTimeout(read, LOOK_AGAIN_MS);
}

export function start() {
  read();
  document.addEventListener("images-deleted", look);
}

export function onJob(job) {
  if (job.state !== "running") look();
}

export function onProgress() {}
