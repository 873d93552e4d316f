// The account: password, where one is logged in, tokens; invitations for administrators.

import { call } from "./api.js";
import { day, moment, t, troubleOf } from "./words.js";

const DAY_MS = 86_400_000;
const dialog = document.getElementById("account");
const part = (id) => document.getElementById(id);
let me = null;

// Shows who has come in, and opens their account on demand. Without accounts there is nothing to show.
export function watch(session) {
  me = session;
  const hasAccount = session.credential !== null;
  part("who").hidden = !hasAccount;
  part("account-open").textContent = session.username;
  part("account-title").textContent = session.username;
  part("account-role").textContent = t(session.role === "admin" ? "account.administrator" : "account.user");
  part("invitations").hidden = session.role !== "admin";
  part("token-admin").textContent = t(session.role === "admin" ? "account.scope_admin_admin" : "account.scope_admin_user");
}

function tell(problem) {
  const place = part("account-trouble");
  place.hidden = !problem;
  if (!problem) return;
  const { what, remedy } = troubleOf(problem);
  place.textContent = `${what} ${remedy}`.trim();
  place.scrollIntoView({ block: "nearest" });
}

function say(sentence) {
  part("account-said").textContent = sentence;
}

// Does one thing; what does not work is shown.
async function act(work) {
  tell(null);
  say("");
  try {
    await work();
  } catch (refused) {
    tell(refused.problem ?? { detail: String(refused) });
  }
}

// A user agent says many things; the two that people know are the browser and the system.
function browserOf(agent) {
  const browser = ["Firefox", "Edg", "OPR", "Chrome", "Safari"].find((name) => agent.includes(`${name}/`));
  const system = ["Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux"].find((name) => agent.includes(name));
  const name = { Edg: "Edge", OPR: "Opera" }[browser] ?? browser;
  return name && system ? t("account.browser_on", { browser: name, system }) : agent || t("account.unknown_program");
}

function row(title, facts, label, onEnd) {
  const item = document.createElement("li");
  const text = document.createElement("div");
  const name = document.createElement("strong");
  name.textContent = title;
  const more = document.createElement("span");
  more.className = "quiet";
  more.textContent = facts;
  text.append(name, more);
  item.append(text);
  if (onEnd) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.setAttribute("aria-label", `${label}: ${title}`);
    button.addEventListener("click", () => act(onEnd));
    item.append(button);
  }
  return item;
}

async function readSessions() {
  const { items } = await call("GET", "/sessions");
  part("sessions").replaceChildren(...items.map((session) => {
    const used = session.current ? t("account.this_browser") : t("account.last_used", { when: moment(session.used_at) });
    const facts = t("account.since", { day: day(session.created_at), used });
    const end = async () => {
      await call("DELETE", `/sessions/${session.id}`);
      say(t("account.ended"));
      await readSessions();
    };
    return row(browserOf(session.name), facts, t("account.end"), session.current ? null : end);
  }));
}

function scopeOf(scope) {
  return scope === "admin" ? part("token-admin").textContent : t(`account.scope_${scope}`);
}

async function readTokens() {
  const { items } = await call("GET", "/tokens");
  part("tokens-none").hidden = items.length > 0;
  part("tokens").replaceChildren(...items.map((token) => {
    const end = token.expires_at ? t("account.token_until", { day: day(token.expires_at) }) : t("account.token_for_ever");
    const revoke = async () => {
      await call("DELETE", `/tokens/${token.id}`);
      say(t("account.revoked", { name: token.name }));
      await readTokens();
    };
    return row(token.name, `${token.scopes.map(scopeOf).join(", ")}; ${end}`, t("account.revoke"), revoke);
  }));
}

async function readInvitations() {
  if (me.role !== "admin") return;
  const { items } = await call("GET", "/invitations");
  part("invitation-list").replaceChildren(...items.map((invitation) => {
    const revoke = async () => {
      await call("DELETE", `/invitations/${invitation.id}`);
      await readInvitations();
    };
    const made = t("account.made", { when: moment(invitation.created_at) });
    return row(made, t("account.token_until", { day: day(invitation.expires_at) }), t("account.take_back"), revoke);
  }));
}

// Shown once: it stays until the dialog is closed.
function reveal(id, secret) {
  const place = part(id);
  place.hidden = false;
  place.querySelector("code").textContent = secret;
  place.querySelector("button").focus();
}

function hideSecrets() {
  for (const place of dialog.querySelectorAll(".secret")) {
    place.hidden = true;
    place.querySelector("code").textContent = "";
  }
}

async function copy(place) {
  const code = place.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    say(t("account.copied"));
  } catch {
    // Not every address may use the clipboard; then it is selected, ready for the keyboard.
    getSelection().selectAllChildren(code);
  }
}

async function changePassword(form) {
  await call("PUT", "/account/password", {
    current_password: form.current.value,
    new_password: form.next.value,
  });
  form.reset();
  say(t("account.password_changed"));
  await readSessions();
}

async function createToken(form) {
  const scopes = [...form.querySelectorAll("[name=scope]:checked")].map((box) => box.value);
  const days = Number(form.days.value);
  const expires_at = days ? new Date(Date.now() + days * DAY_MS).toISOString() : null;
  const token = await call("POST", "/tokens", { name: form.name.value.trim(), scopes, expires_at });
  form.reset();
  await readTokens();
  reveal("token-secret", token.secret);
}

function onSubmit(id, work) {
  const form = part(id);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act(() => work(form));
  });
}

async function logOut() {
  await call("DELETE", "/session").catch((refused) => {
    if (refused.problem?.status !== 401) throw refused;
  });
  location.reload();
}

onSubmit("password-form", changePassword);
onSubmit("token-form", createToken);
onSubmit("invitation-form", async () => {
  const { code } = await call("POST", "/invitations");
  await readInvitations();
  reveal("invitation-code", code);
});
for (const place of dialog.querySelectorAll(".secret")) {
  place.querySelector("button").addEventListener("click", () => copy(place));
}
part("account-open").addEventListener("click", () => {
  tell(null);
  say("");
  dialog.showModal();
  act(() => Promise.all([readSessions(), readTokens(), readInvitations()]));
});
part("account-close").addEventListener("click", () => dialog.close());
// Whoever goes to another view wants to see it.
dialog.addEventListener("click", (event) => {
  if (event.target.closest("a[data-nav]")) dialog.close();
});
part("log-out").addEventListener("click", () => logOut().catch((refused) => {
  dialog.showModal();
  tell(refused.problem ?? { detail: String(refused) });
}));
dialog.addEventListener("close", hideSecrets);
