// The stage: both pictures in one place, moved and zoomed together, with a border between them that can be dragged, their
// difference, and frames around places. Positions are pixels of the stage, sizes of a picture are its own pixels.

const ZOOM_MAX = 12;
const ZOOM_STEP = 1.25;
const MOVE_PX = 60;
const SPLIT_STEP = 0.02;

const part = (id) => document.getElementById(id);
const stage = part("stage");
const divider = part("divider");
const after = part("stage-after");
const before = part("stage-before");
const marks = part("marks");
const pointers = new Map();

// The number of a frame, as the style has it.
const NUMBER_PX = 22;
const look = { width: 0, height: 0, scale: 1, x: 0, y: 0, split: 0.5, mode: "slider", isFitted: true, places: [], arePlacesShown: true };
let tell = () => {};
let last = null;

// `onLook` is told after every change; `onLeaf` when the keyboard asks for another page.
export function watch({ onLook, onLeaf }) {
  tell = onLook;
  new ResizeObserver(() => (look.isFitted ? fit() : move(0, 0))).observe(stage);
  stage.addEventListener("wheel", onWheel, { passive: false });
  stage.addEventListener("pointerdown", onDown);
  stage.addEventListener("pointermove", onMove);
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, onUp);
  stage.addEventListener("dblclick", (event) => {
    const { x, y } = at(event);
    if (look.isFitted) zoomTo(Math.max(1, look.scale * 2), x, y);
    else fit();
  });
  stage.addEventListener("keydown", (event) => onKey(event, onLeaf));
  divider.addEventListener("keydown", onDividerKey);
  before.addEventListener("dragstart", (event) => event.preventDefault());
  after.addEventListener("dragstart", (event) => event.preventDefault());
}

// Both pictures are drawn with these sides, so that a point of one lies on the same point of the other.
export function size(width, height) {
  const isSame = look.width === width && look.height === height;
  Object.assign(look, { width, height });
  // Where the style sheet leaves the height open, the stage takes the shape of the page.
  stage.style.aspectRatio = `${width} / ${height}`;
  for (const picture of [before, after]) {
    picture.style.width = `${width}px`;
    picture.style.height = `${height}px`;
  }
  if (isSame && !look.isFitted) draw();
  else fit();
}

export function mode(name) {
  look.mode = name;
  draw();
}

// Each has left_px, top_px, width_px, height_px and a name.
export function places(list, areShown) {
  look.places = list;
  look.arePlacesShown = areShown;
  draw();
}

export function fit() {
  const { clientWidth, clientHeight } = stage;
  if (!look.width || !clientWidth) return;
  look.scale = Math.min(clientWidth / look.width, clientHeight / look.height);
  look.isFitted = true;
  look.x = (clientWidth - look.width * look.scale) / 2;
  look.y = (clientHeight - look.height * look.scale) / 2;
  draw();
}

export function full() {
  zoomTo(1 / devicePixelRatio, stage.clientWidth / 2, stage.clientHeight / 2);
}

export function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  zoomTo(look.scale * factor, x, y);
}

export const closer = () => zoom(ZOOM_STEP);
export const further = () => zoom(1 / ZOOM_STEP);

// Brings a place into the middle, with some of what is around it.
export function show(place) {
  const { clientWidth, clientHeight } = stage;
  const room = Math.max(place.width_px, place.height_px, 40) * 3;
  look.scale = clamp(Math.min(clientWidth, clientHeight) / room, fitted(), ZOOM_MAX);
  look.isFitted = false;
  look.x = clientWidth / 2 - (place.left_px + place.width_px / 2) * look.scale;
  look.y = clientHeight / 2 - (place.top_px + place.height_px / 2) * look.scale;
  move(0, 0);
}

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
const fitted = () => Math.min(stage.clientWidth / look.width, stage.clientHeight / look.height);

function zoomTo(scale, x, y) {
  const least = Math.min(fitted(), 1 / devicePixelRatio);
  const wanted = clamp(scale, least, Math.max(ZOOM_MAX, fitted()));
  const ratio = wanted / look.scale;
  look.scale = wanted;
  look.isFitted = Math.abs(wanted - fitted()) < 0.001;
  // What is under the pointer stays there.
  look.x = x - (x - look.x) * ratio;
  look.y = y - (y - look.y) * ratio;
  move(0, 0);
}

// A page smaller than the stage stays in its middle, a larger one never leaves a gap.
function move(x, y) {
  const along = (at, length, room) => (length <= room ? (room - length) / 2 : clamp(at, room - length, 0));
  look.x = along(look.x + x, look.width * look.scale, stage.clientWidth);
  look.y = along(look.y + y, look.height * look.scale, stage.clientHeight);
  draw();
}

function splitAt(share) {
  look.split = clamp(share, 0, 1);
  draw();
}

function draw() {
  const { scale, x, y, split } = look;
  const room = stage.clientWidth;
  for (const picture of [before, after]) picture.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  stage.classList.toggle("is-close", scale >= 3);
  stage.classList.toggle("is-fitted", look.isFitted);
  stage.dataset.mode = look.mode;
  const isSlider = look.mode === "slider";
  part("layer-before").style.clipPath = isSlider ? `inset(0 ${room * (1 - split)}px 0 0)` : "none";
  divider.hidden = !isSlider;
  divider.style.left = `${split * 100}%`;
  divider.setAttribute("aria-valuenow", String(Math.round(split * 100)));
  frame();
  tell({ scale: scale * devicePixelRatio, isFitted: look.isFitted, split });
}

function frame() {
  const list = look.arePlacesShown ? look.places : [];
  while (marks.children.length > list.length) marks.lastElementChild.remove();
  while (marks.children.length < list.length) marks.append(document.createElement("div"));
  list.forEach((place, index) => {
    const mark = marks.children[index];
    // Its number stands above it, or within where there is no room above.
    const top = look.y + place.top_px * look.scale;
    mark.className = top < NUMBER_PX ? "place is-at-top" : "place";
    mark.dataset.number = place.number;
    mark.title = place.name;
    mark.style.left = `${look.x + place.left_px * look.scale}px`;
    mark.style.top = `${top}px`;
    mark.style.width = `${place.width_px * look.scale}px`;
    mark.style.height = `${place.height_px * look.scale}px`;
  });
}

function at(event) {
  const box = stage.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}

function onWheel(event) {
  event.preventDefault();
  const { x, y } = at(event);
  const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * 30 : event.deltaY;
  zoom(Math.exp(-clamp(pixels, -240, 240) / 400), x, y);
}

function onDown(event) {
  if (event.button > 0) return;
  pointers.set(event.pointerId, at(event));
  stage.setPointerCapture(event.pointerId);
  const isOnDivider = divider.contains(event.target);
  // Where there is nothing to move, dragging moves the border.
  last = { drags: isOnDivider || (look.isFitted && look.mode === "slider") ? "split" : "page" };
  if (isOnDivider) divider.focus({ preventScroll: true });
}

function onMove(event) {
  const from = pointers.get(event.pointerId);
  if (!from) return;
  const to = at(event);
  const others = [...pointers].filter(([id]) => id !== event.pointerId);
  pointers.set(event.pointerId, to);
  if (others.length > 0) {
    const [, other] = others[0];
    const spread = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
    move((to.x - from.x) / 2, (to.y - from.y) / 2);
    zoom(spread(to) / spread(from), (to.x + other.x) / 2, (to.y + other.y) / 2);
  } else if (last?.drags === "split") {
    splitAt(to.x / stage.clientWidth);
  } else {
    move(to.x - from.x, to.y - from.y);
  }
}

function onUp(event) {
  pointers.delete(event.pointerId);
}

function onKey(event, onLeaf) {
  if (event.target !== stage || event.ctrlKey || event.metaKey || event.altKey) return;
  const moves = { ArrowLeft: [MOVE_PX, 0], ArrowRight: [-MOVE_PX, 0], ArrowUp: [0, MOVE_PX], ArrowDown: [0, -MOVE_PX] };
  const acts = {
    "+": closer, "=": closer, "-": further, "0": fit, "1": full,
    PageUp: () => onLeaf(-1), PageDown: () => onLeaf(1), " ": () => onLeaf(0),
  };
  if (moves[event.key]) move(...moves[event.key]);
  else if (acts[event.key]) acts[event.key]();
  else return;
  event.preventDefault();
}

function onDividerKey(event) {
  const to = {
    ArrowLeft: look.split - SPLIT_STEP, ArrowRight: look.split + SPLIT_STEP,
    ArrowDown: look.split - SPLIT_STEP, ArrowUp: look.split + SPLIT_STEP,
    PageDown: look.split - 0.1, PageUp: look.split + 0.1, Home: 0, End: 1,
  }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  splitAt(to);
}
