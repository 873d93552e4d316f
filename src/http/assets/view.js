// The large view: one place for both pictures, so that changing between them shows what changed.

import { originalOf, resultOf } from "./cards.js";
import { canShow, harmOf, kindOf } from "./words.js";

const view = document.getElementById("view");
const stage = document.getElementById("view-stage");
const picture = document.getElementById("view-image");
const none = document.getElementById("view-none");
const pages = document.getElementById("view-page");
const size = document.getElementById("view-size");
const sides = [...view.querySelectorAll("[data-side]")];
const marks = document.getElementById("view-marks");
const places = document.getElementById("view-places");
const shown = { image: null, side: "after", page: 1, regions: [] };

// `gate` is what the comparison with the original says, if there was one.
export function open(image, side, gate) {
  shown.image = image;
  shown.regions = gate?.regions ?? [];
  places.hidden = shown.regions.length === 0;
  shown.side = side === "after" && !resultOf(image) ? "before" : side;
  shown.page = 1;
  document.getElementById("view-title").textContent = image.filename;
  pages.replaceChildren(...Array.from({ length: pagesOf(image) }, (_, index) => new Option(String(index + 1))));
  pages.parentElement.hidden = pages.length < 2;
  view.showModal();
  stage.focus();
  show();
}

function pagesOf(image) {
  const result = resultOf(image);
  return result ? image.files.filter((file) => file.name === result.name || file.name.endsWith(`/${result.name}`)).length : 1;
}

function fileOf(side) {
  if (side === "before") return originalOf(shown.image);
  const result = resultOf(shown.image);
  if (!result || shown.page === 1) return result;
  const name = `p${String(shown.page).padStart(4, "0")}/${result.name}`;
  return shown.image.files.find((file) => file.name === name);
}

function show() {
  const file = fileOf(shown.side);
  const isHidden = !file || !canShow(file.content_type) || (shown.side === "before" && shown.page > 1);
  picture.hidden = isHidden;
  none.hidden = !isHidden;
  if (isHidden) {
    none.textContent = !file
      ? "There is no result yet."
      : canShow(file.content_type)
        ? "The original shows its first page only; download it to see the others."
        : `Browsers cannot show ${kindOf(file.content_type)}; download the original to see it.`;
    picture.removeAttribute("src");
  } else {
    picture.src = file.url;
    picture.alt = `${shown.image.filename}, ${shown.side}`;
  }
  for (const button of sides) button.setAttribute("aria-pressed", String(button.dataset.side === shown.side));
  mark();
}

// Frames the places to look at. The picture may not be there yet, and then this is called again.
function mark() {
  const regions = shown.regions.filter((region) => region.page === shown.page);
  const isOn = places.getAttribute("aria-pressed") === "true" && !picture.hidden && picture.complete && picture.naturalWidth > 0;
  marks.replaceChildren(...(isOn ? regions : []).map(frameOf));
}

function frameOf(region) {
  const across = picture.offsetWidth / picture.naturalWidth;
  const down = picture.offsetHeight / picture.naturalHeight;
  const frame = document.createElement("div");
  frame.className = "place";
  frame.title = harmOf(region);
  frame.style.left = `${picture.offsetLeft + region.left_px * across}px`;
  frame.style.top = `${picture.offsetTop + region.top_px * down}px`;
  frame.style.width = `${region.width_px * across}px`;
  frame.style.height = `${region.height_px * down}px`;
  return frame;
}

function turn() {
  shown.side = shown.side === "before" ? "after" : "before";
  show();
}

for (const button of sides) {
  button.addEventListener("click", () => {
    shown.side = button.dataset.side;
    show();
  });
}
pages.addEventListener("change", () => {
  shown.page = Number(pages.value);
  show();
});
size.addEventListener("click", () => {
  const isFull = stage.classList.toggle("full");
  size.setAttribute("aria-pressed", String(isFull));
  mark();
});
places.addEventListener("click", () => {
  places.setAttribute("aria-pressed", String(places.getAttribute("aria-pressed") !== "true"));
  mark();
});
picture.addEventListener("load", mark);
window.addEventListener("resize", mark);
document.getElementById("view-close").addEventListener("click", () => view.close());
stage.addEventListener("click", turn);
stage.addEventListener("keydown", (event) => {
  if (event.key === " " || event.key === "Enter") {
    event.preventDefault();
    turn();
  }
});
view.addEventListener("close", () => picture.removeAttribute("src"));
