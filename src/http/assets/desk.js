// The desk: where images go in, and what happens to the newest of them.

import { call } from "./api.js";
import * as cards from "./cards.js";
import * as compare from "./image.js";
import * as intake from "./intake.js";
import { go, isShown } from "./router.js";
import { say } from "./say.js";
import * as uploads from "./uploads.js";
import { bytes, canShow, presetTitle, t, troubleOf } from "./words.js";

const LIST_LIMIT = 24;
// The answer to an upload of this page may come after the event about it.
const STRANGER_WAIT_MS = 1500;

const list = document.getElementById("cards");
const byImage = new Map();
const entries = new Set();
// The last that was told of images that have no card yet.
const strangers = new Map();
// Everything that is told gets a number, so that an old list never covers a newer event.
let clock = 0;
let limits = null;
let presets = [];

const actions = {
  view: (entry, side) => entry.image && compare.open(entry.image.id, side),
  cancel: (entry) => (entry.job ? act(entry, () => call("POST", `/jobs/${entry.job.id}/cancel`)) : uploads.stop(entry.upload)),
  retry: (entry) => (entry.job ? act(entry, () => call("POST", `/jobs/${entry.job.id}/retry`)) : begin(entry.upload)),
  remove: (entry) => act(entry, async () => {
    try {
      await call("DELETE", `/images/${entry.image.id}`);
    } catch (refused) {
      // Somebody was faster.
      if (refused.problem?.status !== 404) throw refused;
    }
    drop(entry);
    say(t("say.deleted", { name: entry.image.filename }));
    document.getElementById("images").focus({ preventScroll: true });
  }),
  dismiss: drop,
};

// Does one thing at a time with an entry, and shows on its card what did not work.
async function act(entry, work) {
  entry.busy = "yes";
  entry.notice = null;
  refreshCard(entry);
  try {
    const before = entry.job;
    const job = await work();
    // An event that came meanwhile is newer than the answer.
    if (job && entry.job === before) tellJob(entry, job);
  } catch (refused) {
    entry.notice = refused.problem ?? { detail: String(refused) };
  }
  entry.busy = "";
  entry.card.confirming = false;
  refreshCard(entry);
}

function refreshCard(entry) {
  if (entries.has(entry)) cards.update(entry, actions);
}

function put(entry) {
  entries.add(entry);
  if (entry.image) byImage.set(entry.image.id, entry);
  list.prepend(cards.make(entry, actions));
  summarise();
}

function drop(entry) {
  entries.delete(entry);
  if (entry.image && byImage.get(entry.image.id) === entry) byImage.delete(entry.image.id);
  entry.card.element.remove();
  forgetPreview(entry);
  summarise();
}

function forgetPreview(entry) {
  if (entry.preview) URL.revokeObjectURL(entry.preview);
  entry.preview = null;
}

function summarise() {
  document.getElementById("empty").hidden = entries.size > 0;
  const states = [...entries].map((entry) => entry.job?.state ?? entry.upload.state);
  const share = (...names) => states.filter((state) => names.includes(state)).length;
  const active = share("queued", "released", "running", "waiting", "sending", "paused", "offline");
  const parts = [];
  if (active) parts.push(t("desk.under_way", { number: active }));
  if (share("succeeded")) parts.push(t("desk.done", { number: share("succeeded") }));
  if (share("failed")) parts.push(t("desk.failed", { number: share("failed") }));
  document.getElementById("summary").textContent = parts.join(" · ");
}

function entryOf(file, preset, dedup) {
  const entry = { image: null, job: null, live: null, stamp: 0 };
  entry.preview = canShow(file.type) ? URL.createObjectURL(file) : null;
  entry.upload = {
    file, preset, dedup, state: "waiting", sent: 0, problem: null,
    changed: () => {
      refreshCard(entry);
      summarise();
      if (entry.upload.state === "failed") say(t("say.failed", { name: file.name, what: troubleOf(entry.upload.problem).what }));
    },
    onDone: (item) => adopt(entry, item),
    onResumed: (sent) => say(t("say.resumed", { name: file.name, sent: bytes(sent) })),
    // What was there before stays.
    onLate: (item) => item.deduplicated || call("DELETE", `/images/${item.image.id}`).catch(() => {}),
  };
  return entry;
}

function addFiles(files) {
  const wanted = new FormData(document.getElementById("tray"));
  const added = files.map((file) => entryOf(file, wanted.get("preset") ?? "", wanted.has("dedup")));
  // The first file ends up on top, and goes first.
  for (const entry of added.toReversed()) put(entry);
  for (const entry of added) begin(entry.upload);
  if (files.length === 0) return;
  say(t("tray.added", { count: files.length }));
  if (!isShown("desk")) go("/");
}

function begin(upload) {
  if (limits && upload.file.size > limits.body_bytes_max) {
    upload.state = "failed";
    upload.problem = {
      status: 413,
      detail: t("tray.too_large"),
      limit: `${limits.body_bytes_max} bytes`,
      measured: `${upload.file.size} bytes`,
      remedy: t("tray.too_large_remedy"),
    };
    upload.changed();
    return;
  }
  uploads.add(upload);
}

// An upload became an image. If events about it were faster, what they told is kept, and a card made for it goes.
function adopt(entry, { image, job, deduplicated }) {
  if (deduplicated) say(t("say.known", { name: image.filename }));
  const stranger = byImage.get(image.id);
  entry.image = stranger?.image ?? image;
  entry.job = strangers.get(image.id) ?? stranger?.job ?? job;
  entry.live = stranger?.live ?? null;
  strangers.delete(image.id);
  if (stranger) drop(stranger);
  byImage.set(image.id, entry);
  refreshCard(entry);
  summarise();
  if (entry.job.state === "succeeded") reload(entry);
}

function tellJob(entry, job) {
  // An image can have several jobs; their ids sort by time, and the last one counts.
  if (entry.job && job.id < entry.job.id) return;
  const before = entry.job;
  entry.job = job;
  entry.stamp = ++clock;
  if (job.state !== "running" || before?.attempt !== job.attempt) entry.live = null;
  if (before?.state !== job.state) announce(entry, job);
  refreshCard(entry);
  summarise();
}

function announce(entry, job) {
  const name = entry.image.filename;
  if (job.state === "succeeded") {
    say(t("say.done", { name }));
    reload(entry);
  } else if (job.state === "failed") {
    say(t("say.failed", { name, what: troubleOf(job.error ?? {}).what }));
  } else if (job.state === "cancelled") {
    say(t("say.cancelled", { name }));
  }
}

async function reload(entry) {
  try {
    entry.image = await call("GET", `/images/${entry.image.id}`);
  } catch {
    return; // The next list will tell.
  }
  refreshCard(entry);
}

export function onJob(job) {
  const entry = byImage.get(job.image_id);
  if (entry) {
    tellJob(entry, job);
    return;
  }
  const isKnown = strangers.has(job.image_id);
  strangers.set(job.image_id, job);
  if (!isKnown) meet(job.image_id);
}

// An image without a card: one that is being sent from here, or one that somebody else has sent.
async function meet(id) {
  if (uploads.unfinished() > 0) await new Promise((resolve) => setTimeout(resolve, STRANGER_WAIT_MS));
  const image = byImage.has(id) ? null : await call("GET", `/images/${id}`).catch(() => null);
  const job = strangers.get(id);
  strangers.delete(id);
  if (!job) return;
  if (byImage.has(id)) tellJob(byImage.get(id), job);
  else if (image) put({ image, job, live: null, upload: null, stamp: ++clock, preview: null });
}

export function onProgress({ job, stage, progress }) {
  for (const entry of entries) {
    if (entry.job?.id !== job || entry.job.state !== "running") continue;
    entry.live = { stage, progress };
    refreshCard(entry);
  }
}

async function readList() {
  const [images, jobs] = await Promise.all([
    call("GET", `/images?limit=${LIST_LIMIT}`),
    call("GET", "/jobs?limit=200"),
  ]);
  const known = new Map(jobs.items.map((job) => [job.id, job]));
  const last = (image) => image.job_ids.at(-1);
  const missing = images.items.filter((image) => last(image) && !known.has(last(image)));
  const found = await Promise.all(missing.map((image) => call("GET", `/jobs/${last(image)}`).catch(() => null)));
  for (const job of found) if (job) known.set(job.id, job);
  return { ...images, items: images.items.map((image) => ({ image, job: known.get(last(image)) })).filter(({ job }) => job) };
}

// The newest images as the server has them: at start, and whenever the stream of events was interrupted.
export async function readNewest() {
  const begun = clock;
  let newest;
  try {
    newest = await readList();
  } catch (refused) {
    notice(refused);
    return;
  }
  notice(null);
  for (const { image, job } of newest.items.toReversed()) {
    const entry = byImage.get(image.id);
    if (!entry) put({ image, job, live: null, upload: null, stamp: 0, preview: null });
    else if (entry.stamp <= begun) {
      entry.image = image;
      tellJob(entry, job);
    }
  }
  const oldest = newest.items.at(-1)?.image.id ?? "";
  const there = new Set(newest.items.map(({ image }) => image.id));
  for (const entry of [...byImage.values()]) {
    const isGone = !there.has(entry.image.id) && entry.stamp <= begun && (entry.image.id > oldest || !newest.next_cursor);
    if (isGone) drop(entry);
  }
  document.getElementById("more").hidden = !newest.next_cursor;
  summarise();
}

export function notice(refused) {
  const place = document.getElementById("notice");
  place.hidden = !refused;
  if (!refused) return;
  const trouble = troubleOf(refused.problem ?? { detail: String(refused) });
  place.textContent = `${trouble.what} ${trouble.remedy}`;
}

function presetChoice(preset, index) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), {
    type: "radio", name: "preset", value: preset.name, checked: index === 0,
  });
  const text = document.createElement("span");
  const title = document.createElement("strong");
  title.textContent = presetTitle(preset.name, preset.title);
  const makes = document.createElement("small");
  makes.textContent = t("tray.makes", { names: preset.outputs.filter((name) => name !== "original").join(", ") });
  text.append(title, makes);
  label.append(input, text);
  return label;
}

// What can be made and within which bounds; read once.
export async function readOffer() {
  if (limits) return;
  const [offer, bounds] = await Promise.all([call("GET", "/presets"), call("GET", "/limits")]);
  presets = offer.items;
  document.getElementById("presets").replaceChildren(...presets.map(presetChoice));
  limits = bounds;
  document.getElementById("limits").textContent = t("tray.limits", {
    bytes: bytes(bounds.body_bytes_max),
    megapixels: Math.round(bounds.page_pixels_max / 1_000_000),
    count: bounds.pages_max,
  });
  return { presets, limits };
}

export function start() {
  intake.watch({ onFiles: addFiles });
  // By another view.
  document.addEventListener("images-deleted", ({ detail }) => {
    for (const id of detail) if (byImage.has(id)) drop(byImage.get(id));
  });
  document.getElementById("tray").addEventListener("submit", (event) => event.preventDefault());
}
