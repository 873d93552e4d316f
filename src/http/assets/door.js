// The way in: login and registration, where the server has accounts.

import { call } from "./api.js";
import { t, troubleOf } from "./words.js";

const door = document.getElementById("door");
const form = document.getElementById("door-form");
const swap = document.getElementById("door-swap");
const trouble = document.getElementById("door-trouble");
let entrance = null;
let registering = false;
let entered = null;
let isAsking = false;

// Resolves with who has come in; at once where there is no login, or one that still holds.
export async function enter() {
  entrance = await call("GET", "/auth");
  const me = entrance.logged_in ? await call("GET", "/session") : await knock();
  open();
  return me;
}

// The session has ended: whoever logs in goes on where they were, and somebody else starts anew.
export async function enterAgain(me) {
  if (isAsking) return;
  isAsking = true;
  const now = await call("GET", "/auth").then((answer) => {
    entrance = answer;
    return knock();
  }).finally(() => {
    isAsking = false;
  });
  if (now.id === me.id) open();
  else location.reload();
}

function open() {
  door.hidden = true;
  for (const part of document.querySelectorAll("[data-inside]")) part.hidden = false;
}

function knock() {
  for (const part of document.querySelectorAll("[data-inside]")) part.hidden = true;
  door.hidden = false;
  show(false);
  form.username.focus();
  return new Promise((resolve) => {
    entered = (me) => {
      entered = null;
      resolve(me);
    };
  });
}

function show(isRegistering) {
  registering = isRegistering;
  const mayRegister = entrance.registration !== "off";
  document.getElementById("door-title").textContent = t(registering ? "door.register" : "door.log_in");
  document.getElementById("door-send").textContent = t(registering ? "door.register_send" : "door.log_in");
  document.getElementById("door-question").hidden = !mayRegister;
  document.getElementById("door-question-text").textContent = t(registering ? "door.have_one" : "door.have_none");
  swap.textContent = t(registering ? "door.log_in" : "door.register");
  form.password.autocomplete = registering ? "new-password" : "current-password";
  document.getElementById("door-hint").hidden = !registering;
  document.getElementById("door-hint").textContent = t("door.password_hint", { count: entrance.password_chars_min });
  const byInvitation = registering && entrance.registration === "invitation";
  document.getElementById("door-invitation").hidden = !byInvitation;
  form.invitation.required = byInvitation;
  trouble.hidden = true;
}

function tell(problem) {
  const { what, remedy } = troubleOf(problem);
  trouble.textContent = `${what} ${remedy}`.trim();
  trouble.hidden = false;
}

async function send() {
  const username = form.username.value.trim();
  const password = form.password.value;
  if (registering) {
    const invitation = form.invitation.value.trim();
    await call("POST", "/accounts", { username, password, ...(invitation ? { invitation } : {}) });
  }
  const me = await call("POST", "/session", { username, password });
  const { logged_in: isKept } = await call("GET", "/auth");
  if (!isKept) {
    tell({
      detail: t("door.not_kept"),
      remedy: t("door.not_kept_remedy"),
    });
    return;
  }
  form.reset();
  entered?.(me);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = document.getElementById("door-send");
  button.disabled = true;
  trouble.hidden = true;
  try {
    await send();
  } catch (refused) {
    tell(refused.problem ?? { detail: String(refused) });
    form.password.focus();
    form.password.select();
  }
  button.disabled = false;
});

swap.addEventListener("click", () => {
  show(!registering);
  form.username.focus();
});
