// The library: everything there is, newest first; found by name and state, chosen, downloaded, deleted.

import { call } from "./api.js";
import { originalOf, resultOf } from "./cards.js";
import { isShown, view } from "./router.js";
import { say } from "./say.js";
import { canShow, factsOf, kindOf, stateOf, t, troubleOf } from "./words.js";

const PAGE_ITEMS = 60;
// Typing goes on for a moment.
const TYPING_MS = 250;
// Without a thumbnail an original does, if it is small.
const SMALL_BYTES_MAX = 1_000_000;

const part = (id) => document.getElementById(id);
const finder = part("finder");
const tiles = part("tiles");
const template = part("tile");
const known = new Map();
const picked = new Set();
let cursor = null;
// The number of the question that is being asked; answers to earlier ones are late.
let asked = 0;
let isStale = true;
let isReading = false;
let picksMax = Infinity;
let lastPick = null;

function question(from) {
  const query = new URLSearchParams({ limit: PAGE_ITEMS });
  const { q, state } = Object.fromEntries(new FormData(finder));
  if (q.trim()) query.set("q", q.trim().normalize("NFC"));
  if (state === "review") query.set("verdict", "review,kept_original");
  else if (state) query.set("state", state);
  if (from) query.set("cursor", from);
  return query;
}

// The list goes on before its end is reached.
const end = new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && readOn(), { rootMargin: "600px" });

const isFiltered = () => finder.q.value.trim() !== "" || finder.state.value !== "";

async function read(from = null) {
  const turn = ++asked;
  isReading = true;
  try {
    const page = await call("GET", `/images?${question(from)}`);
    if (turn !== asked) return;
    notice(null);
    if (from) page.items.forEach((image) => known.has(image.id) || put(image));
    else replace(page.items);
    cursor = page.next_cursor;
    isStale = false;
  } catch (refused) {
    if (turn === asked) notice(refused);
  } finally {
    if (turn === asked) isReading = false;
  }
  summarise();
}

function readOn() {
  if (cursor && !isReading) read(cursor);
}

// What stays keeps its element, so that nobody loses the focus or the place.
function replace(images) {
  const wanted = new Set(images.map((image) => image.id));
  for (const [id, { element }] of known) {
    if (wanted.has(id)) continue;
    element.remove();
    known.delete(id);
    picked.delete(id);
  }
  // Both are in the order of their ids.
  let next = tiles.firstElementChild;
  for (const image of images) {
    const tile = known.get(image.id);
    if (tile) {
      tile.image = image;
      draw(tile);
      next = tile.element.nextElementSibling;
    } else {
      put(image, next);
    }
  }
}

// Before another tile, or at the end.
function put(image, before = null) {
  const element = template.content.firstElementChild.cloneNode(true);
  const tile = { image, element, key: "" };
  element.dataset.id = image.id;
  known.set(image.id, tile);
  const box = element.querySelector("input");
  box.addEventListener("click", (event) => pick(image.id, box.checked, event.shiftKey));
  draw(tile);
  tiles.insertBefore(element, before);
}

function draw(tile) {
  const { image, element } = tile;
  const link = element.querySelector(".tile-open");
  const state = badgeOf(image);
  element.dataset.state = state;
  link.href = `/images/${image.id}`;
  element.querySelector(".tile-name").textContent = image.filename;
  element.querySelector(".tile-name").title = image.filename;
  element.querySelector(".tile-facts").textContent = state === "succeeded" ? factsOf(image) : badgeText(image, state);
  element.querySelector("input").setAttribute("aria-label", t("library.pick", { name: image.filename }));
  element.querySelector("input").checked = picked.has(image.id);
  const source = pictureOf(image);
  if (tile.key === (source ?? "none")) return;
  tile.key = source ?? "none";
  element.querySelector(".tile-paper").replaceChildren(source ? picture(source) : note(kindOf(image.content_type)));
}

function badgeOf(image) {
  return image.state === "succeeded" && image.verdict && image.verdict !== "clean" ? "review" : image.state;
}

function badgeText(image, state) {
  if (state === "review") return t("state.review");
  return image.state ? stateOf({ state: image.state, attempt: 0, duration_ms: null }) : "";
}

function pictureOf(image) {
  const thumb = image.files.find((file) => file.name === "thumb.webp");
  if (thumb) return `${thumb.url}?v=${thumb.sha256.slice(0, 12)}`;
  const other = resultOf(image) ?? originalOf(image);
  return other && canShow(other.content_type) && other.size_bytes <= SMALL_BYTES_MAX ? other.url : null;
}

function picture(source) {
  const image = new Image();
  image.loading = "lazy";
  image.decoding = "async";
  image.alt = "";
  image.src = source;
  image.addEventListener("error", () => image.replaceWith(note(t("library.no_picture"))), { once: true });
  return image;
}

function note(text) {
  const element = document.createElement("span");
  element.className = "note";
  element.textContent = text;
  return element;
}

// With shift everything between the last choice and this one goes the same way.
function pick(id, isPicked, isRange) {
  const order = [...tiles.children].map((element) => element.dataset.id);
  const [from, to] = [order.indexOf(lastPick), order.indexOf(id)];
  const some = isRange && from >= 0 ? order.slice(Math.min(from, to), Math.max(from, to) + 1) : [id];
  for (const key of some) {
    if (isPicked) picked.add(key);
    else picked.delete(key);
    known.get(key).element.querySelector("input").checked = isPicked;
  }
  lastPick = id;
  showPicked();
}

function showPicked() {
  const count = picked.size;
  part("picked").hidden = count === 0;
  for (const [id, { element }] of known) element.classList.toggle("is-picked", picked.has(id));
  sure(false);
  if (count === 0) return;
  part("picked-count").textContent = t("library.picked", { count });
  const isMany = count > picksMax;
  part("picked-note").hidden = !isMany;
  part("picked-note").textContent = isMany ? t("library.zip_too_many", { limit: picksMax }) : "";
  const again = retriable().length;
  part("retry-picked").hidden = again === 0;
  part("retry-picked").textContent = t("library.retry", { count: again });
  const ids = [...picked].join(",");
  for (const [id, files] of [["zip-results", "results"], ["zip-all", "all"]]) {
    const link = part(id);
    link.hidden = isMany;
    link.href = `/api/v1/images/archive?files=${files}&ids=${ids}`;
  }
}

// Deleting is asked about once.
function sure(isAsked) {
  part("delete-sure").hidden = !isAsked;
  part("delete-picked").hidden = isAsked;
  part("delete-sure").textContent = t("library.delete_sure", { count: picked.size });
  if (isAsked) part("delete-sure").focus();
}

// Of the chosen ones those whose last job failed or was cancelled.
function retriable() {
  return [...picked].map((id) => known.get(id)?.image).filter((image) => ["failed", "cancelled"].includes(image?.state));
}

async function retryPicked() {
  part("retry-picked").disabled = true;
  let count = 0;
  let trouble = null;
  for (const image of retriable()) {
    try {
      const job = await call("POST", `/jobs/${image.job_ids.at(-1)}/retry`);
      count += 1;
      onJob(job);
    } catch (refused) {
      trouble = refused;
    }
  }
  part("retry-picked").disabled = false;
  say(t("library.retried", { count }));
  notice(trouble);
  showPicked();
}

async function deletePicked() {
  const ids = [...picked];
  part("delete-sure").disabled = true;
  const gone = [];
  let trouble = null;
  // One after the other: a hundred requests at once would take the server from others.
  for (const id of ids) {
    try {
      await call("DELETE", `/images/${id}`);
      gone.push(id);
    } catch (refused) {
      if (refused.problem?.status === 404) gone.push(id);
      else trouble = refused;
    }
  }
  part("delete-sure").disabled = false;
  document.dispatchEvent(new CustomEvent("images-deleted", { detail: gone }));
  say(t("library.deleted", { count: gone.length }));
  notice(trouble);
  part("library").focus({ preventScroll: true });
}

function forget(ids) {
  for (const id of ids) {
    known.get(id)?.element.remove();
    known.delete(id);
    picked.delete(id);
  }
  showPicked();
  summarise();
  if (known.size === 0) readOn();
}

function summarise() {
  const count = known.size;
  part("library-shown").textContent = count ? t(cursor ? "library.shown_more" : "library.shown", { count }) : "";
  part("library-more").hidden = !cursor;
  // Told anew: a short page may leave the end in sight.
  end.unobserve(part("library-more"));
  end.observe(part("library-more"));
  part("library-empty").hidden = count > 0;
  part("library-empty").textContent = t(isFiltered() ? "library.none" : "library.empty");
  part("pick-all").disabled = count === 0;
  showPicked();
}

function notice(refused) {
  const place = part("library-notice");
  place.hidden = !refused;
  if (!refused) return;
  const trouble = troubleOf(refused.problem ?? { detail: String(refused) });
  place.textContent = `${trouble.what} ${trouble.remedy}`;
}

async function refresh(id) {
  const image = await call("GET", `/images/${id}`).catch(() => null);
  if (!image) return;
  const tile = known.get(id);
  if (tile) {
    tile.image = image;
    draw(tile);
  } else if (!isFiltered()) {
    put(image, tiles.firstElementChild);
    summarise();
  }
}

export function onJob(job) {
  const tile = known.get(job.image_id);
  if (!isShown("library")) {
    isStale = true;
  } else if (!tile || ["succeeded", "failed", "cancelled"].includes(job.state)) {
    refresh(job.image_id);
  } else if (job.id >= (tile.image.job_ids.at(-1) ?? "")) {
    tile.image.state = job.state;
    draw(tile);
  }
}

export function onProgress() {}

export function offer({ limits }) {
  picksMax = limits.archive_images_max;
}

export function start() {
  view("library", { enter: () => isStale && read() });
  let typing = null;
  finder.addEventListener("submit", (event) => event.preventDefault());
  finder.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => read(), TYPING_MS);
  });
  part("pick-all").addEventListener("click", () => {
    for (const [id, { element }] of known) {
      picked.add(id);
      element.querySelector("input").checked = true;
    }
    showPicked();
  });
  part("pick-none").addEventListener("click", () => {
    picked.clear();
    for (const { element } of known.values()) element.querySelector("input").checked = false;
    showPicked();
    part("pick-all").focus();
  });
  part("retry-picked").addEventListener("click", retryPicked);
  part("delete-picked").addEventListener("click", () => sure(true));
  part("delete-sure").addEventListener("click", deletePicked);
  part("library-more").addEventListener("click", readOn);
  document.addEventListener("images-deleted", ({ detail }) => forget(detail));
}
