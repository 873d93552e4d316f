// One card for each image: made once, then told what is new.

import { bytes, canShow, factsOf, kindOf, pixels, sentenceOf, stateOf, t, troubleOf } from "./words.js";

const template = document.getElementById("card");
// The file that is the result, and the one small enough for a list.
const RESULTS = ["clean.webp", "full.webp", "clean.png"];
const SMALL = "thumb.webp";
// A page as it came in, where browsers cannot show the original.
const BEFORE = "before.webp";

export function resultOf(image) {
  const found = RESULTS.map((name) => image.files.find((file) => file.name === name)).find(Boolean);
  return found ?? image.files.find((file) => file.name !== "original" && file.name !== BEFORE && canShow(file.content_type));
}

export function originalOf(image) {
  return image.files.find((file) => file.name === "original");
}

// A page of an image as it came in, if it can be shown.
export function beforeOf(image, page = 1) {
  const original = originalOf(image);
  if (page === 1 && original && canShow(original.content_type)) return original;
  return image.files.find((file) => file.name === nameOn(page, BEFORE)) ?? null;
}

// The name of a file on a page.
export function nameOn(page, name) {
  return page === 1 ? name : `p${String(page).padStart(4, "0")}/${name}`;
}

export function make(entry, actions) {
  const element = template.content.firstElementChild.cloneNode(true);
  const part = (selector) => element.querySelector(selector);
  const card = {
    element,
    name: part(".name"),
    facts: part(".facts"),
    state: part(".state"),
    bar: part(".bar"),
    pair: part(".pair"),
    before: part(".before .frame"),
    after: part(".after .frame"),
    doubt: part(".doubt"),
    trouble: part(".trouble"),
    what: part(".what"),
    remedy: part(".remedy"),
    downloads: part(".downloads"),
    files: part(".downloads ul"),
    actions: part(".actions"),
    confirming: false,
  };
  card.before.addEventListener("click", () => actions.view(entry, "before"));
  card.after.addEventListener("click", () => actions.view(entry, "after"));
  entry.card = card;
  update(entry, actions);
  return element;
}

export function update(entry, actions) {
  const { card, image, upload } = entry;
  const name = image?.filename ?? upload.file.name;
  card.name.textContent = name;
  card.name.title = name;
  card.facts.textContent = image ? factsOf(image) : bytes(upload.file.size);
  const state = stateName(entry);
  card.element.dataset.state = state;
  card.state.textContent = stateWords(entry, state);
  showBar(card, entry, state);
  showBefore(card, entry);
  showAfter(card, entry, state);
  showDoubt(card, entry, state);
  showTrouble(card, entry, state);
  showDownloads(card, image, state);
  showActions(entry, actions, state);
  card.element.setAttribute("aria-busy", String(["sending", "running"].includes(state)));
}

function stateName({ upload, job }) {
  if (job) return job.state;
  return upload.state;
}

function stateWords({ upload, job, live }, state) {
  if (job) return stateOf(job, live);
  switch (state) {
    case "waiting":
      return t("upload.waiting");
    case "sending":
      if (upload.sent >= upload.file.size) return t("upload.storing");
      return t("upload.sending", { sent: bytes(upload.sent), all: bytes(upload.file.size) });
    case "paused":
      return t("upload.paused");
    case "offline":
      return t("upload.offline");
    case "failed":
      return t("upload.refused");
    default:
      return t("upload.stopped");
  }
}

function showBar(card, { upload, job, live }, state) {
  const share = job ? (live?.progress ?? job.progress) : upload.file.size ? upload.sent / upload.file.size : 0;
  card.bar.hidden = !["sending", "running", "queued", "released", "paused", "offline"].includes(state);
  const isKnown = ["sending", "running", "offline"].includes(state);
  if (isKnown) card.bar.value = share;
  else card.bar.removeAttribute("value");
  card.bar.setAttribute("aria-label", t(job ? "state.bar" : "upload.bar"));
}

function frame(button, key, fill) {
  // Pictures are not loaded anew for every step of progress.
  if (button.dataset.key === key) return;
  button.dataset.key = key;
  button.replaceChildren(...fill());
}

function picture(source, alt, onFailure) {
  const image = new Image();
  image.loading = "lazy";
  image.decoding = "async";
  image.alt = alt;
  image.src = source;
  image.addEventListener("error", onFailure, { once: true });
  return image;
}

function words(text) {
  const note = document.createElement("span");
  note.className = "note";
  note.textContent = text;
  return note;
}

function showBefore(card, { image, upload, preview }) {
  const original = image && originalOf(image);
  const type = original?.content_type ?? upload?.file.type;
  const source = preview ?? (original && beforeOf(image)?.url) ?? null;
  const instead = () => [words(type ? t("card.cannot_show", { kind: kindOf(type) }) : t("card.no_preview"))];
  const fill = () => (source ? [picture(source, t("card.before"), () => card.before.replaceChildren(...instead()))] : instead());
  frame(card.before, source ?? `none ${type}`, fill);
  card.before.disabled = !source;
  card.before.setAttribute("aria-label", t(source ? "card.open_before" : "card.none_before"));
}

function showAfter(card, { image }, state) {
  const result = image && resultOf(image);
  const small = image?.files.find((file) => file.name === SMALL) ?? result;
  const keys = { failed: "card.no_result", cancelled: "state.cancelled", stopped: "upload.stopped" };
  const pending = state === "succeeded" ? "…" : t(keys[state] ?? "card.coming");
  const key = small ? small.url + small.sha256 : pending;
  const fill = () => (small ? [picture(small.url, t("card.after"), () => card.after.replaceChildren(words(t("card.no_preview"))))] : [words(pending)]);
  frame(card.after, key, fill);
  card.after.disabled = !result;
  card.after.setAttribute("aria-label", result ? t("card.open_after") : pending);
}

function showDoubt(card, { job }, state) {
  const sentence = state === "succeeded" ? sentenceOf(job?.gate) : "";
  card.doubt.hidden = !sentence;
  card.doubt.textContent = sentence;
}

function showTrouble(card, { upload, job, notice }, state) {
  const error = notice ?? (state === "failed" ? (job?.error ?? upload?.problem) : state === "queued" ? job?.error : null);
  card.trouble.hidden = !error;
  if (!error) return;
  const trouble = troubleOf(error);
  card.what.textContent = trouble.what;
  card.remedy.textContent = trouble.remedy;
  card.remedy.hidden = !trouble.remedy;
}

function showDownloads(card, image, state) {
  const isOver = ["succeeded", "failed", "cancelled"].includes(state);
  const files = image && (isOver || image.files.length > 1) ? image.files : [];
  card.downloads.hidden = files.length === 0;
  const key = files.map((file) => file.url + file.sha256).join();
  if (card.downloads.dataset.key === key) return;
  card.downloads.dataset.key = key;
  card.downloads.querySelector("summary").textContent = t("card.download", { count: files.length });
  card.files.replaceChildren(...files.map(download));
}

export function download(file) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.href = `${file.url}?download=1`;
  link.textContent = file.name;
  const size = document.createElement("span");
  size.className = "quiet";
  const sides = file.width_px ? `, ${pixels(file.width_px, file.height_px)}` : "";
  size.textContent = `${bytes(file.size_bytes)}${sides}`;
  item.append(link, " ", size);
  return item;
}

export function button(label, onClick, className = "") {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = label;
  element.className = className;
  element.addEventListener("click", onClick);
  return element;
}

function showActions(entry, actions, state) {
  const { card } = entry;
  const busy = entry.busy ?? "";
  const key = `${state} ${card.confirming} ${busy} ${entry.job?.cancel_requested ?? ""}`;
  if (card.actions.dataset.key === key) return;
  card.actions.dataset.key = key;
  const hadFocus = card.actions.contains(document.activeElement);
  const buttons = card.confirming ? confirmation(entry, actions) : usual(entry, actions, state);
  for (const element of buttons) element.setAttribute("aria-label", `${element.textContent}: ${card.name.textContent}`);
  for (const element of buttons) element.disabled = element.disabled || Boolean(busy);
  card.actions.replaceChildren(...buttons);
  if (hadFocus) card.actions.querySelector("button:not(:disabled)")?.focus();
}

function usual(entry, actions, state) {
  const buttons = [];
  if (["waiting", "sending", "paused", "offline", "queued", "released", "running"].includes(state)) {
    const cancel = button(t("act.cancel"), () => actions.cancel(entry));
    cancel.disabled = Boolean(entry.job?.cancel_requested);
    buttons.push(cancel);
  }
  // A file that was not taken will not be taken the next time.
  const isFinal = !entry.job && entry.upload.problem?.status >= 400 && entry.upload.problem.status < 500;
  if (["failed", "cancelled"].includes(state) && !isFinal) buttons.push(button(t("act.retry"), () => actions.retry(entry)));
  if (entry.image) {
    const ask = () => {
      entry.card.confirming = true;
      showActions(entry, actions, state);
    };
    buttons.push(button(t("act.delete"), ask));
  } else if (["failed", "stopped"].includes(state)) {
    buttons.push(button(t("act.dismiss"), () => actions.dismiss(entry)));
  }
  return buttons;
}

function confirmation(entry, actions) {
  const keep = button(t("act.keep"), () => {
    entry.card.confirming = false;
    showActions(entry, actions, stateName(entry));
  });
  const remove = button(t("act.delete_for_good"), () => actions.remove(entry), "danger");
  return [keep, remove];
}
