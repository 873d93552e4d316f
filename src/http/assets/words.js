// How things are said to people.

export function bytes(count) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) {
    count /= 1000;
    unit += 1;
  }
  const digits = unit > 0 && count < 10 ? 1 : 0;
  return `${count.toFixed(digits)} ${units[unit]}`;
}

export function count(number, one, many) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

export function duration(milliseconds) {
  if (milliseconds < 950) return `${Math.max(10, Math.round(milliseconds / 10) * 10)} ms`;
  if (milliseconds < 90_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return `${Math.round(milliseconds / 60_000)} min`;
}

const STEPS = {
  decode: "Reading the image",
  colour: "Reading its colours",
  orient: "Turning it upright",
  denoise: "Cleaning the page",
  gate: "Comparing it with the original",
  resize: "Making the sizes",
  encode: "Writing the files",
  manifest: "Writing the files",
};

// What a job is doing, in one line.
export function stateOf(job, live) {
  switch (job.state) {
    case "queued":
      return job.attempt > 0 ? "Will be tried again" : "Waiting in line";
    case "released":
      return "Next in line";
    case "running":
      if (job.cancel_requested) return "Stopping";
      return STEPS[live?.stage ?? job.stage] ?? "At work";
    case "succeeded":
      return job.duration_ms === null ? "Done" : `Done in ${duration(job.duration_ms)}`;
    case "failed":
      return "Did not work";
    case "cancelled":
      return "Cancelled";
    default:
      return job.state;
  }
}

const HARMS = {
  strokes_lost: "some writing may be missing",
  strokes_merged: "some letters may have run together",
  ink_gained: "there is ink where the page was blank",
  clean_changed: "the page was clean already and came out changed",
};

// What the comparison with the original says, in one sentence; nothing if all is well.
export function sentenceOf(gate) {
  if (!gate || gate.verdict === "clean") return "";
  const why = gate.harms.map((harm) => HARMS[harm] ?? harm).join(", and ");
  const which = pagesOf(gate.pages_kept_original);
  return gate.verdict === "review"
    ? `Please look at the result${pagesOf(gate.pages_review)}: ${why}.`
    : `Cleaning would have done harm${which}, so the page is left as it was: ${why}.`;
}

function pagesOf(pages) {
  if (pages.length === 0 || (pages.length === 1 && pages[0] === 1)) return "";
  const first = pages.slice(0, 5).join(", ");
  return ` (${pages.length === 1 ? "page" : "pages"} ${first}${pages.length > 5 ? ", …" : ""})`;
}

export function harmOf(region) {
  return HARMS[region.harm] ?? region.harm;
}

// What went wrong, and what can be done: from a problem document or the error of a job.
export function troubleOf(error) {
  const figures = error.limit && error.measured ? ` Allowed: ${figure(error.limit)}; this one: ${figure(error.measured)}.` : "";
  // Where it happened says something about a worker that was lost, and nothing about a file that is damaged.
  const step = error.retryable ? STEPS[error.stage] : undefined;
  const where = step ? ` It happened at this step: ${step.toLowerCase()}.` : "";
  return { what: `${error.detail ?? error.title ?? "Something went wrong."}${where}${figures}`, remedy: error.remedy ?? "" };
}

// "67108864 bytes" and "900000000 px" are exact, and hard to read.
function figure(text) {
  const match = /^(\d+) (bytes|px)$/.exec(text);
  if (!match) return text;
  const number = Number(match[1]);
  if (match[2] === "bytes") return bytes(number);
  return number >= 1_000_000 ? `${Math.round(number / 1_000_000)} megapixels` : `${number.toLocaleString("en")} pixels`;
}

const KINDS = {
  "image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WebP", "image/tiff": "TIFF", "image/bmp": "BMP",
  "image/gif": "GIF", "image/x-portable-anymap": "PNM",
};

export function kindOf(contentType) {
  return KINDS[contentType] ?? contentType;
}

// What every browser can show in an <img>.
export function canShow(contentType) {
  return ["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"].includes(contentType);
}

export function factsOf(image) {
  const facts = [kindOf(image.content_type), bytes(image.size_bytes)];
  if (image.width_px && image.height_px) facts.push(`${image.width_px} × ${image.height_px} px`);
  if (image.pages_count > 1) facts.push(count(image.pages_count, "page", "pages"));
  return facts.join(" · ");
}
