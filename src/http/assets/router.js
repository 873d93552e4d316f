// Which view is shown: the path says. Every view stays as it was left, so that going back costs nothing.

const VIEWS = [
  { name: "desk", path: /^\/$/ },
  { name: "library", path: /^\/library$/ },
  { name: "cluster", path: /^\/cluster$/ },
  { name: "hooks", path: /^\/webhooks$/ },
  { name: "image", path: /^\/images\/([\w-]+)$/ },
];
const shown = new Map();
let now = null;

// `enter` is called with the part of the path that names something, `leave` when another view is shown.
export function view(name, { enter = () => {}, leave = () => {} } = {}) {
  shown.set(name, { enter, leave });
}

export function go(path) {
  if (path !== location.pathname) history.pushState(null, "", path);
  show(true);
}

export function isShown(name) {
  return now === name;
}

function show(isMove) {
  const found = VIEWS.find(({ path }) => path.test(location.pathname)) ?? VIEWS[0];
  const [, id = ""] = found.path.exec(location.pathname) ?? [];
  shown.get(now)?.leave();
  now = found.name;
  for (const part of document.querySelectorAll("[data-view]")) part.hidden = part.dataset.view !== now;
  for (const link of document.querySelectorAll(".nav [data-for]")) {
    if (link.dataset.for === now) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const place = document.querySelector(`[data-view="${now}"]`);
  title(place.querySelector("h2")?.textContent);
  if (isMove) {
    window.scrollTo(0, 0);
    // Whoever listens hears where they are.
    (place.hasAttribute("tabindex") ? place : document.getElementById("content")).focus({ preventScroll: true });
  }
  shown.get(now)?.enter(id);
}

export function title(text) {
  document.title = text && now !== "desk" ? `${text} · Inkpool` : "Inkpool";
}

export function start() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-nav]");
    const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (!link || !isPlain || event.defaultPrevented) return;
    event.preventDefault();
    go(new URL(link.href).pathname);
  });
  window.addEventListener("popstate", () => show(true));
  show(false);
}
