// For administrators: who there is, what they may do and use, and who no longer comes in.

import { call } from "./api.js";
import * as quota from "./quota.js";
import { say } from "./say.js";
import { day, t, troubleOf } from "./words.js";

const PAGE = 50;
// A unit that people think in, for each bound.
const BOUNDS = [["stored", "stored_bytes_max", 1_000_000_000], ["pixels", "pixels_per_day_max", 1_000_000], ["jobs", "jobs_queued_max", 1]];

const part = (id) => document.getElementById(id);
const template = part("person");
let me = null;
let cursor = null;

function tell(refused) {
  const place = part("people-notice");
  place.hidden = !refused;
  if (!refused) return;
  const { what, remedy } = troubleOf(refused.problem ?? { detail: String(refused) });
  place.textContent = `${what} ${remedy}`.trim();
  place.scrollIntoView({ block: "nearest" });
}

async function act(work) {
  tell(null);
  try {
    await work();
  } catch (refused) {
    tell(refused);
  }
}

async function read(from = null) {
  const page = await call("GET", `/accounts?limit=${PAGE}${from ? `&cursor=${from}` : ""}`);
  cursor = page.next_cursor;
  const rows = page.items.map(make);
  if (from) part("people").append(...rows);
  else part("people").replaceChildren(...rows);
  part("people-more").hidden = !cursor;
}

function make(person) {
  const element = template.content.firstElementChild.cloneNode(true);
  const find = (selector) => element.querySelector(selector);
  const set = (selector, key) => {
    find(selector).textContent = t(key);
  };
  set(".person-role-label", "people.role");
  set(".person-bounds-label", "people.bounds");
  set(".person-hint", "people.hint");
  set(".person-set", "people.set");
  set(".person-password-label", "people.password");
  set(".person-new-label", "account.password_new");
  set(".person-reset", "people.reset");
  for (const [name] of BOUNDS) set(`.person-${name}-label`, `people.${name}`);
  const role = find("select");
  role.replaceChildren(...["user", "admin"].map((name) => {
    return Object.assign(document.createElement("option"), { value: name, textContent: t(`people.role_${name}`) });
  }));
  role.addEventListener("change", () => change(element, person, { role: role.value }));
  const bounds = find(".person-bounds");
  bounds.addEventListener("submit", (event) => {
    event.preventDefault();
    act(() => setBounds(element, person, bounds));
  });
  const password = find(".person-password");
  password.addEventListener("submit", (event) => {
    event.preventDefault();
    act(async () => {
      await call("PUT", `/accounts/${person.id}/password`, { new_password: password.password.value });
      password.reset();
      password.closest("details").open = false;
      say(t("people.password_set", { name: person.username }));
    });
  });
  find(".person-admit").addEventListener("click", () => admit(element));
  show(element, person);
  return element;
}

function show(element, person) {
  const find = (selector) => element.querySelector(selector);
  element.person = person;
  element.dataset.disabled = String(person.disabled);
  find(".person-name").textContent = person.username;
  const facts = [t("people.since", { day: day(person.created_at) })];
  if (person.id === me.id) facts.push(t("people.you"));
  if (person.disabled) facts.push(t("people.disabled"));
  find(".person-facts").textContent = facts.join(" · ");
  find("select").value = person.role;
  find("select").setAttribute("aria-label", `${t("people.role")}: ${person.username}`);
  quota.draw(find(".quota"), person.quota, true);
  for (const [name, key, unit] of BOUNDS) {
    const own = person.own_quota[key];
    find(`[name=${name}]`).value = own === null ? "" : own / unit;
    find(`[name=${name}]`).placeholder = t("people.usual");
  }
  sure(element, false);
  // One's own is changed in the account, with the password before.
  find(".person-password").closest("details").hidden = person.id === me.id;
}

// The first press asks, the second does it.
function sure(element, asking) {
  const { disabled, username } = element.person;
  const button = element.querySelector(".person-admit");
  element.dataset.asking = String(asking);
  button.textContent = t(disabled ? "people.enable" : asking ? "people.disable_sure" : "people.disable");
  button.setAttribute("aria-label", `${button.textContent}: ${username}`);
  button.classList.toggle("danger", asking);
}

function admit(element) {
  const { person } = element;
  if (!person.disabled && element.dataset.asking !== "true") {
    sure(element, true);
    return;
  }
  change(element, person, { disabled: !person.disabled });
}

async function change(element, person, wanted) {
  await act(async () => {
    const changed = await call("PATCH", `/accounts/${person.id}`, wanted);
    say(t("people.changed", { name: person.username }));
    // Whoever takes the role from themselves has nothing more to do here.
    if (person.id === me.id && changed.role !== "admin") location.assign("/");
    show(element, changed);
  });
  show(element, element.person);
}

async function setBounds(element, person, form) {
  const own = {};
  for (const [name, key, unit] of BOUNDS) {
    const text = form[name].value.trim();
    own[key] = text === "" ? null : Math.round(Number(text) * unit);
  }
  show(element, await call("PUT", `/accounts/${person.id}/quota`, own));
  say(t("people.changed", { name: person.username }));
}

// Without accounts there is nobody to look after.
export function open(session) {
  me = session;
  part("people-section").hidden = session.credential === null;
}

export function enter() {
  if (me?.role === "admin" && me.credential !== null) act(() => read());
}

export function start() {
  part("people-more").addEventListener("click", () => act(() => read(cursor)));
}
