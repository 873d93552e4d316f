// Language and theme: what was chosen is kept in a cookie, so that the server renders the page that way from the start.

import { t } from "./words.js";
import { unfinished } from "./uploads.js";

const YEAR_S = 31_536_000;
const THEMES = ["auto", "light", "dark"];
const root = document.documentElement;
const theme = document.getElementById("look-theme");
const language = document.getElementById("look-language");

function remember(name, value) {
  document.cookie = `inkpool_${name}=${value}; path=/; max-age=${YEAR_S}; samesite=lax`;
}

function nameTheme() {
  const text = t(`look.theme.${root.dataset.theme}`);
  theme.setAttribute("aria-label", text);
  theme.title = text;
}

export function watch() {
  nameTheme();
  language.title = language.getAttribute("aria-label");
  theme.addEventListener("click", () => {
    root.dataset.theme = THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length];
    remember("theme", root.dataset.theme);
    nameTheme();
  });
  language.addEventListener("click", () => {
    remember("language", language.lang);
    location.reload();
  });
  // Bytes that are still in this page would be lost with it.
  window.addEventListener("beforeunload", (event) => {
    if (unfinished() > 0) event.preventDefault();
  });
}
