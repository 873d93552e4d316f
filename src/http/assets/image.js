// One image: before and after on the stage, and beside it the verdict, the files, what was done, and what can be done.

import { call } from "./api.js";
import { beforeOf, button, nameOn, originalOf, resultOf } from "./cards.js";
import { go, isShown, title, view } from "./router.js";
import { say } from "./say.js";
import * as stage from "./stage.js";
import {
  bytes, canShow, duration, factsOf, harmOf, kindOf, moment, percent, pixels, presetTitle, sentenceOf, stateOf, t, troubleOf,
} from "./words.js";

// Of an image that was processed again and again the latest are shown.
const JOBS_MAX = 20;
const MODES = ["slider", "before", "after", "difference"];

const part = (id) => document.getElementById(id);
const modes = [...document.querySelectorAll("#image [data-mode]")].filter((element) => element.matches("button"));
const shown = { id: null, image: null, jobs: new Map(), live: null, page: 1, mode: "slider", wanted: "slider", places: true, notices: new Map() };
let presets = [];

// Goes to an image, best to this side of it.
export function open(id, side) {
  shown.wanted = side === "before" ? "before" : "slider";
  go(`/images/${id}`);
}

async function enter(id) {
  const isOther = shown.id !== id;
  if (isOther) {
    Object.assign(shown, { id, image: null, jobs: new Map(), live: null, page: 1, notices: new Map() });
    part("image-body").hidden = true;
    part("image-title").textContent = "";
    part("image-facts").textContent = "";
    part("image-state").textContent = "";
  }
  await read();
  if (shown.id !== id || !shown.image) return;
  if (isOther) {
    shown.mode = shown.wanted;
    shown.wanted = "slider";
    draw();
    stage.fit();
  }
}

async function read() {
  const { id } = shown;
  try {
    const image = await call("GET", `/images/${id}`);
    const ids = image.job_ids.slice(-JOBS_MAX);
    const jobs = await Promise.all(ids.map((job) => call("GET", `/jobs/${job}`).catch(() => null)));
    if (shown.id !== id) return;
    shown.image = image;
    shown.jobs = new Map(jobs.filter(Boolean).map((job) => [job.id, job]));
    notice(null);
    draw();
  } catch (refused) {
    if (shown.id !== id) return;
    shown.image = null;
    part("image-body").hidden = true;
    notice(refused.problem?.status === 404 || refused.problem?.status === 400 ? { problem: { detail: t("image.gone") } } : refused);
  }
}

// The job whose files are shown: the last that succeeded.
function madeBy() {
  const done = [...shown.jobs.values()].filter((job) => job.state === "succeeded");
  return done.toSorted((one, other) => one.finished_at.localeCompare(other.finished_at)).at(-1);
}

function draw() {
  const { image } = shown;
  if (!image) return;
  part("image-body").hidden = false;
  part("image-title").textContent = image.filename;
  title(image.filename);
  part("image-facts").textContent = `${factsOf(image)} · ${moment(image.created_at)}`;
  drawState();
  drawPages();
  drawStage();
  drawVerdict();
  drawFiles();
  drawHistory();
  drawEnd();
}

function drawState() {
  const job = [...shown.jobs.values()].at(-1);
  part("image").dataset.state = job?.state ?? "";
  part("image-state").textContent = job ? stateOf(job, shown.live) : "";
}

// Pages.

function resultPages() {
  const result = resultOf(shown.image);
  if (!result) return 1;
  return shown.image.files.filter((file) => file.name === result.name || file.name.endsWith(`/${result.name}`)).length;
}

function drawPages() {
  const count = resultPages();
  shown.page = Math.min(shown.page, count);
  part("leafing").hidden = count < 2;
  const select = part("page-number");
  if (select.length !== count) {
    select.replaceChildren(...Array.from({ length: count }, (_, index) => new Option(String(index + 1))));
  }
  select.value = String(shown.page);
  part("page-count").textContent = t("image.page_of", { count });
  part("page-previous").disabled = shown.page <= 1;
  part("page-next").disabled = shown.page >= count;
}

function leaf(page) {
  if (page < 1 || page > resultPages()) return;
  shown.page = page;
  drawPages();
  drawStage();
}

function fileOf(side) {
  const { image, page } = shown;
  if (side === "before") return beforeOf(image, page);
  const result = resultOf(image);
  if (!result || page === 1) return result ?? null;
  return image.files.find((file) => file.name === nameOn(page, result.name)) ?? null;
}

// The stage.

function drawStage() {
  const [before, after] = [fileOf("before"), fileOf("after")];
  const has = { slider: before && after, difference: before && after, before, after };
  // What cannot be shown gives way to what can.
  const mode = has[shown.mode] ? shown.mode : MODES.find((name) => has[name]);
  load(part("stage-before"), before, t("image.alt_before", { name: shown.image.filename }));
  load(part("stage-after"), after, t("image.alt_after", { name: shown.image.filename }));
  for (const element of modes) {
    element.disabled = !has[element.dataset.mode];
    element.setAttribute("aria-pressed", String(element.dataset.mode === mode));
  }
  part("layer-before").hidden = !before || mode === "after";
  part("layer-after").hidden = !after || mode === "before";
  part("tag-before").hidden = !["slider", "before"].includes(mode);
  part("tag-after").hidden = !["slider", "after"].includes(mode);
  explain(before, after);
  const sides = after?.width_px ? after : shown.image;
  stage.mode(mode ?? "after");
  if (sides.width_px) stage.size(sides.width_px, sides.height_px);
  drawPlaces();
}

function load(picture, file, alt) {
  picture.alt = alt;
  // Processing again changes what stands under a name.
  const source = file ? `${file.url}?v=${file.sha256.slice(0, 12)}` : "";
  if (picture.dataset.source === source) return;
  picture.dataset.source = source;
  if (source) picture.src = source;
  else picture.removeAttribute("src");
}

function explain(before, after) {
  const original = originalOf(shown.image);
  let why = "";
  if (!after) why = t(before ? "image.only_before" : "image.no_result");
  else if (!before && !canShow(original.content_type)) why = t("image.download_to_see", { kind: kindOf(original.content_type) });
  else if (!before) why = t("image.first_page_only");
  part("stage-none").textContent = why;
  part("stage-none").hidden = !why;
  part("stage-none").classList.toggle("is-alone", !before && !after);
}

function regions() {
  const list = madeBy()?.gate?.regions ?? [];
  return list.map((region, index) => ({ ...region, number: index + 1, name: harmOf(region.harm) }));
}

function drawPlaces() {
  const here = regions().filter((region) => region.page === shown.page);
  part("stage-places").hidden = regions().length === 0;
  part("stage-places").setAttribute("aria-pressed", String(shown.places));
  stage.places(here, shown.places);
}

function onLook({ scale, isFitted, split }) {
  part("zoom-value").textContent = percent(scale);
  part("zoom-fit").setAttribute("aria-pressed", String(isFitted));
  part("divider").setAttribute("aria-valuetext", t("image.divider_value", { percent: percent(split) }));
}

// Without a page to leaf to, it is before and after that change places.
function onLeaf(step) {
  if (step !== 0) leaf(shown.page + step);
  else choose(shown.mode === "after" ? "before" : "after");
}

function choose(mode) {
  shown.mode = mode;
  drawStage();
}

// Beside the stage.

function drawVerdict() {
  const gate = madeBy()?.gate;
  part("verdict").dataset.verdict = gate?.verdict ?? "none";
  part("verdict-text").textContent = gate ? sentenceOf(gate) || t("image.verdict_clean") : t("image.verdict_none");
  const figures = gate?.strokes ? [t("image.strokes", { count: gate.strokes })] : [];
  if (gate?.strokes_lost) figures.push(t("image.strokes_lost", { count: gate.strokes_lost }));
  if (gate?.more_regions) figures.push(t("image.more_places"));
  part("verdict-figures").textContent = figures.join(" · ");
  part("places").replaceChildren(...regions().map((region) => {
    const item = document.createElement("li");
    const key = shown.image.pages_count > 1 ? "image.place_on_page" : "image.place";
    const text = t(key, { number: region.number, page: region.page, harm: region.name });
    item.append(button(text, () => {
      shown.places = true;
      leaf(region.page);
      drawPlaces();
      stage.show(region);
      part("stage").focus({ preventScroll: true });
      part("stage").scrollIntoView({ block: "nearest" });
    }, "plain"));
    return item;
  }));
}

function line(...texts) {
  const element = document.createElement("span");
  element.className = "quiet";
  element.textContent = texts.filter(Boolean).join(" · ");
  return element;
}

function drawFiles() {
  const { image } = shown;
  part("image-files").replaceChildren(...image.files.map((file) => {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = `${file.url}?download=1`;
    link.textContent = file.name;
    item.append(link, line(bytes(file.size_bytes), file.width_px ? pixels(file.width_px, file.height_px) : ""));
    return item;
  }));
  part("image-zip").href = `/api/v1/images/archive?files=all&ids=${image.id}`;
}

function drawHistory() {
  const jobs = [...shown.jobs.values()].toSorted((one, other) => other.id.localeCompare(one.id));
  part("history").replaceChildren(...jobs.map(entryOf));
}

function entryOf(job) {
  const item = document.createElement("li");
  item.dataset.state = job.state;
  const head = document.createElement("p");
  const name = document.createElement("strong");
  name.textContent = presetTitle(job.preset, presets.find((preset) => preset.name === job.preset)?.title);
  const state = document.createElement("span");
  state.className = "state";
  state.textContent = stateOf(job, shown.live);
  head.append(name, " ", state);
  const took = job.state !== "succeeded" && job.duration_ms !== null ? duration(job.duration_ms) : "";
  const tries = job.attempt > 0 ? t("image.attempt", { attempt: job.attempt, max: job.attempts_max }) : "";
  const where = job.node ? t("image.where", { node: job.node, slot: job.slot }) : "";
  item.append(head, line(moment(job.finished_at ?? job.started_at ?? job.created_at), took, tries, where));
  const error = shown.notices.get(job.id) ?? job.error;
  if (error && job.state !== "succeeded") item.append(troubleBox(error));
  const actions = actionsOf(job);
  if (actions.length > 0) {
    const row = document.createElement("p");
    row.append(...actions);
    item.append(row);
  }
  return item;
}

function troubleBox(error) {
  const box = document.createElement("div");
  box.className = "trouble";
  const { what, remedy } = troubleOf(error);
  const first = document.createElement("p");
  first.className = "what";
  first.textContent = what;
  box.append(first);
  if (remedy) box.append(Object.assign(document.createElement("p"), { textContent: remedy }));
  const facts = [error.code, error.stage, error.signal, error.peak_bytes ? bytes(error.peak_bytes) : ""].filter(Boolean);
  box.append(line(...facts));
  return box;
}

function actionsOf(job) {
  const ask = (what) => async () => {
    try {
      shown.notices.delete(job.id);
      const before = shown.jobs.get(job.id);
      const answer = await call("POST", `/jobs/${job.id}/${what}`);
      // An event that came meanwhile is newer than the answer.
      if (shown.jobs.get(job.id) === before) onJob(answer);
    } catch (refused) {
      shown.notices.set(job.id, refused.problem ?? { detail: String(refused) });
      drawHistory();
    }
  };
  if (["queued", "released", "running"].includes(job.state)) {
    const cancel = button(t("act.cancel"), ask("cancel"));
    cancel.disabled = job.cancel_requested;
    return [cancel];
  }
  return ["failed", "cancelled"].includes(job.state) ? [button(t("act.retry"), ask("retry"))] : [];
}

function drawEnd(isAsked = false) {
  const place = part("image-end");
  const remove = async () => {
    const { id, image } = shown;
    try {
      await call("DELETE", `/images/${id}`);
    } catch (refused) {
      if (refused.problem?.status !== 404) return notice(refused);
    }
    document.dispatchEvent(new CustomEvent("images-deleted", { detail: [id] }));
    say(t("say.deleted", { name: image.filename }));
    shown.id = null;
    go("/library");
  };
  const buttons = isAsked
    ? [button(t("act.keep"), () => drawEnd()), button(t("act.delete_for_good"), remove, "danger")]
    : [button(t("image.delete"), () => drawEnd(true))];
  place.replaceChildren(...buttons);
  if (isAsked) buttons[1].focus();
}

async function again(event) {
  event.preventDefault();
  const { preset, denoise } = Object.fromEntries(new FormData(event.target));
  try {
    const job = await call("POST", `/images/${shown.id}/jobs`, { preset, set: denoise ? { denoise } : {} });
    notice(null);
    onJob(job);
    part("history").scrollIntoView({ block: "nearest" });
  } catch (refused) {
    notice(refused);
  }
}

function notice(refused) {
  const place = part("image-notice");
  place.hidden = !refused;
  if (!refused) return;
  const { what, remedy } = troubleOf(refused.problem ?? { detail: String(refused) });
  place.textContent = `${what} ${remedy}`.trim();
}

export function onJob(job) {
  if (job.image_id !== shown.id || !shown.image) return;
  const isNews = shown.jobs.get(job.id)?.state !== job.state;
  shown.jobs.set(job.id, job);
  if (job.state !== "running") shown.live = null;
  if (isNews && job.state === "succeeded") read();
  drawState();
  drawHistory();
}

export function onProgress({ job, stage: step, progress }) {
  if (!shown.jobs.has(job) || !isShown("image")) return;
  shown.live = { stage: step, progress };
  drawState();
}

// After the stream of events was interrupted.
export function refresh() {
  if (isShown("image") && shown.id) read();
}

export function offer(given) {
  presets = given.presets;
  const options = presets.map((preset) => new Option(presetTitle(preset.name, preset.title), preset.name));
  part("again").preset.replaceChildren(...options);
  if (shown.image) drawHistory();
}

export function start() {
  view("image", { enter });
  stage.watch({ onLook, onLeaf });
  for (const element of modes) element.addEventListener("click", () => choose(element.dataset.mode));
  part("stage-places").addEventListener("click", () => {
    shown.places = !shown.places;
    drawPlaces();
  });
  part("page-previous").addEventListener("click", () => leaf(shown.page - 1));
  part("page-next").addEventListener("click", () => leaf(shown.page + 1));
  part("page-number").addEventListener("change", (event) => leaf(Number(event.target.value)));
  part("zoom-in").addEventListener("click", stage.closer);
  part("zoom-out").addEventListener("click", stage.further);
  part("zoom-fit").addEventListener("click", stage.fit);
  part("zoom-full").addEventListener("click", stage.full);
  part("again").addEventListener("submit", again);
  // A picture whose size the list does not know.
  for (const id of ["stage-before", "stage-after"]) {
    part(id).addEventListener("load", ({ target }) => {
      if (shown.image && !shown.image.width_px && !fileOf("after")?.width_px) stage.size(target.naturalWidth, target.naturalHeight);
    });
    part(id).addEventListener("error", ({ target }) => {
      if (!target.dataset.source) return;
      part("stage-none").textContent = t("image.failed_to_load");
      part("stage-none").hidden = false;
    });
  }
}
