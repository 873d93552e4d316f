// Webhooks: which addresses are told, what was sent to them, and what they answered. Asked for anew while it is looked at.

import { call } from "./api.js";
import { isShown, view } from "./router.js";
import { duration, moment, t, troubleOf } from "./words.js";

const LOOK_AGAIN_MS = 2000;
const LOG_ITEMS = 20;

const part = (id) => document.getElementById(id);
const known = new Map();
let timer = null;

function say(sentence) {
  part("hooks-said").textContent = sentence;
}

function notice(refused) {
  const place = part("hooks-notice");
  place.hidden = !refused;
  if (!refused) return;
  const { what, remedy } = troubleOf(refused.problem ?? { detail: String(refused) });
  place.textContent = `${what} ${remedy}`.trim();
  place.scrollIntoView({ block: "nearest" });
}

// Does one thing; what does not work is shown.
async function act(work) {
  notice(null);
  say("");
  try {
    await work();
    await look();
  } catch (refused) {
    notice(refused);
  }
}

async function look() {
  clearTimeout(timer);
  try {
    const { items } = await call("GET", "/webhooks");
    draw(items);
    await Promise.all([...known.values()].filter((hook) => hook.isOpen).map(readLog));
  } catch (refused) {
    notice(refused);
  }
  if (isShown("hooks")) timer = setTimeout(look, LOOK_AGAIN_MS);
}

const nameOf = (webhook) => webhook.name || new URL(webhook.url).host;

function draw(webhooks) {
  const there = new Set(webhooks.map((webhook) => webhook.id));
  for (const [id, hook] of known) {
    if (there.has(id)) continue;
    hook.element.remove();
    known.delete(id);
  }
  // The newest is on top, and what is there keeps its place and the focus.
  for (const webhook of [...webhooks].reverse()) {
    if (!known.has(webhook.id)) part("hook-list").prepend(make(webhook));
    show(known.get(webhook.id), webhook);
  }
  part("hooks-none").hidden = webhooks.length > 0;
}

function make({ id }) {
  const element = part("hook").content.firstElementChild.cloneNode(true);
  const hook = { id, element, isOpen: false, items: LOG_ITEMS, lines: new Map(), webhook: null };
  known.set(id, hook);
  const on = (selector, work) => element.querySelector(selector).addEventListener("click", work);
  on(".hook-ping", () => act(async () => {
    await call("POST", `/webhooks/${id}/ping`);
    say(t("hooks.pinged"));
    open(hook, true);
  }));
  on(".hook-log", () => {
    open(hook, !hook.isOpen);
    act(() => {});
  });
  on(".hook-edit", () => edit(hook, element.querySelector(".hook-change").hidden));
  on(".hook-keep", () => edit(hook, false));
  const form = element.querySelector(".hook-change");
  form.querySelector("fieldset").append(...kindBoxes());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act(() => change(hook, form));
  });
  on(".hook-switch", () => act(() => call("PATCH", `/webhooks/${id}`, { enabled: !hook.webhook.enabled })));
  on(".hook-rotate", () => act(async () => {
    const { secret, secret_before_until } = await call("POST", `/webhooks/${id}/secret`);
    reveal(secret, t("hooks.secret_both", { name: nameOf(hook.webhook), when: moment(secret_before_until) }));
  }));
  on(".hook-delete", () => remove(hook));
  on(".hook-more", () => {
    hook.items += LOG_ITEMS;
    act(() => {});
  });
  return element;
}

// The kinds as the form for a new one has them, so that there is one list of them.
function kindBoxes() {
  return [...part("hook-form").querySelectorAll("fieldset label")].map((label) => label.cloneNode(true));
}

// Begins with what is true now; the looks in between leave alone what somebody is writing.
function edit(hook, isOpen) {
  const { element, webhook } = hook;
  const form = element.querySelector(".hook-change");
  const button = element.querySelector(".hook-edit");
  form.hidden = !isOpen;
  button.setAttribute("aria-expanded", String(isOpen));
  if (!isOpen) {
    button.focus();
    return;
  }
  form.url.value = webhook.url;
  form.elements.name.value = webhook.name;
  for (const box of form.querySelectorAll("[name=event]")) box.checked = webhook.events.includes(box.value);
  form.url.focus();
}

async function change(hook, form) {
  const wanted = { url: form.url.value.trim(), name: form.elements.name.value.trim(), events: checkedOf(form) };
  const changed = await call("PATCH", `/webhooks/${hook.id}`, wanted);
  edit(hook, false);
  say(t("hooks.changed", { name: nameOf(changed) }));
}

const checkedOf = (form) => [...form.querySelectorAll("[name=event]:checked")].map((box) => box.value);

// Asked for twice: the log goes with it.
function remove(hook) {
  const button = hook.element.querySelector(".hook-delete");
  if (!button.classList.contains("danger")) {
    button.classList.add("danger");
    button.textContent = t("act.delete_for_good");
    button.addEventListener("blur", () => {
      button.classList.remove("danger");
      button.textContent = t("act.delete");
    }, { once: true });
    return;
  }
  act(async () => {
    await call("DELETE", `/webhooks/${hook.id}`);
    hideSecret();
    say(t("hooks.deleted", { name: nameOf(hook.webhook) }));
    part("hooks").focus({ preventScroll: true });
  });
}

function show(hook, webhook) {
  const { element } = hook;
  hook.webhook = webhook;
  const set = (selector, text) => {
    const place = element.querySelector(selector);
    // What is the same is left alone, so that nothing that is read or marked is lost.
    if (place.textContent !== text) place.textContent = text;
    return place;
  };
  const isFailing = webhook.failures > 0;
  element.dataset.state = webhook.enabled ? (isFailing ? "failing" : "on") : "off";
  if (webhook.off_reason) element.dataset.reason = webhook.off_reason;
  else delete element.dataset.reason;
  set(".hook-name", nameOf(webhook));
  set(".hook-state", t(`hooks.${element.dataset.state}`));
  set(".hook-url", webhook.url);
  set(".hook-events", webhook.events.map((kind) => t(`hooks.kind_${kind}`)).join(", "));
  set(".hook-switch", t(webhook.enabled ? "hooks.switch_off" : "hooks.switch_on"));
  const word = wordOf(webhook);
  set(".hook-word", word).hidden = !word;
  element.querySelector(".hook-ping").disabled = !webhook.enabled;
  element.querySelector(".hook-change").setAttribute("aria-label", `${t("hooks.edit")}: ${nameOf(webhook)}`);
  for (const button of element.querySelectorAll(".hook-acts button")) {
    button.setAttribute("aria-label", `${button.textContent}: ${nameOf(webhook)}`);
  }
}

function wordOf(webhook) {
  if (webhook.off_reason) return t(`hooks.off_${webhook.off_reason}`, { when: moment(webhook.off_at) });
  if (!webhook.enabled || webhook.failures === 0) return "";
  return t("hooks.failing_since", { count: webhook.failures, when: moment(webhook.failing_since) });
}

function open(hook, isOpen) {
  hook.isOpen = isOpen;
  hook.element.querySelector(".hook-log").setAttribute("aria-expanded", String(isOpen));
  hook.element.querySelector(".hook-deliveries").hidden = !isOpen;
}

async function readLog(hook) {
  const list = [];
  let cursor = null;
  do {
    const query = new URLSearchParams({ limit: String(LOG_ITEMS), ...(cursor ? { cursor } : {}) });
    const page = await call("GET", `/webhooks/${hook.id}/deliveries?${query}`);
    list.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor && list.length < hook.items);
  hook.element.querySelector(".hook-more").hidden = !cursor;
  hook.element.querySelector(".hook-empty").hidden = list.length > 0;
  const there = new Set(list.map((delivery) => delivery.id));
  for (const [id, line] of hook.lines) {
    if (there.has(id)) continue;
    line.element.remove();
    hook.lines.delete(id);
  }
  const place = hook.element.querySelector(".hook-deliveries ol");
  list.forEach((delivery, index) => {
    if (!hook.lines.has(delivery.id)) {
      const line = makeLine(hook, delivery);
      hook.lines.set(delivery.id, line);
      place.insertBefore(line.element, place.children[index] ?? null);
    }
    showLine(hook, hook.lines.get(delivery.id), delivery);
  });
}

function makeLine(hook, { id }) {
  const element = part("delivery").content.firstElementChild.cloneNode(true);
  element.querySelector(".delivery-again").addEventListener("click", () => act(async () => {
    await call("POST", `/webhooks/${hook.id}/deliveries/${id}/redeliver`);
    say(t("hooks.again_said"));
  }));
  return { element, told: "" };
}

function showLine(hook, line, delivery) {
  const told = JSON.stringify([delivery, hook.webhook.enabled]);
  if (told === line.told) return;
  line.told = told;
  const set = (selector, text) => {
    line.element.querySelector(selector).textContent = text;
  };
  line.element.querySelector("details").dataset.state = delivery.state;
  set(".delivery-state", t(`hooks.state_${delivery.state}`));
  set(".delivery-kind", t(`hooks.kind_${delivery.kind}`));
  const waits = delivery.state === "pending" && delivery.tries.length > 0 && hook.webhook.enabled;
  const when = moment(delivery.created_at);
  set(".delivery-when", waits ? `${when} · ${t("hooks.due", { when: moment(delivery.due_at) })}` : when);
  set(".delivery-id", delivery.id);
  line.element.querySelector(".tries").replaceChildren(...delivery.tries.map(tryOf));
  line.element.querySelector(".delivery-again").disabled = !hook.webhook.enabled;
}

function tryOf(tried) {
  const item = document.createElement("li");
  const values = { when: moment(tried.at), duration: duration(tried.duration_ms), what: whatCameOf(tried) };
  item.append(t("hooks.try", values));
  if (tried.answer) item.append(Object.assign(document.createElement("pre"), { textContent: tried.answer }));
  return item;
}

function whatCameOf(tried) {
  const status = String(tried.status);
  if (tried.code === null || tried.code === "status" || tried.code === "gone") return t("hooks.answered", { status });
  return t(`hooks.trouble_${tried.code}`, { status });
}

// Shown once: it stays until another one is, or the view is left.
function reveal(secret, sentence) {
  const place = part("hooks-secret");
  place.hidden = false;
  part("hooks-secret-for").textContent = sentence;
  place.querySelector("code").textContent = secret;
  place.scrollIntoView({ block: "nearest" });
  place.querySelector("button").focus();
}

function hideSecret() {
  part("hooks-secret").hidden = true;
  part("hooks-secret").querySelector("code").textContent = "";
}

async function copy() {
  const code = part("hooks-secret").querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    say(t("account.copied"));
  } catch {
    // Not every address may use the clipboard; then it is selected, ready for the keyboard.
    getSelection().selectAllChildren(code);
  }
}

async function add(form) {
  const wanted = { url: form.url.value.trim(), name: form.elements.name.value.trim(), events: checkedOf(form) };
  const made = await call("POST", "/webhooks", wanted);
  form.reset();
  await look();
  reveal(made.secret, t("hooks.secret_for", { name: nameOf(made) }));
}

export function onJob() {}
export function onProgress() {}

export function start() {
  part("hook-form").addEventListener("submit", (event) => {
    event.preventDefault();
    act(() => add(event.target));
  });
  part("hooks-secret").querySelector("button").addEventListener("click", copy);
  view("hooks", {
    enter: look,
    leave: () => {
      clearTimeout(timer);
      hideSecret();
      say("");
    },
  });
}
