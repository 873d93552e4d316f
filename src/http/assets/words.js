// How things are said to people, in their language. The words stand in words/; numbers, sizes and dates come from Intl.

export const language = document.documentElement.lang;
const { default: words } = await import(`./words/${language}.js`);
const plurals = new Intl.PluralRules(language);
const plain = new Intl.NumberFormat(language);

// The words for a key. `count` picks the plural; what stands in braces is filled in.
export function t(key, values = {}) {
  const found = words[key];
  const text = typeof found === "object" ? found[plurals.select(values.count)] : found;
  if (text === undefined) return key;
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? plain.format(value) : value;
  });
}

// The same where there may be none: nothing then.
function told(key) {
  return key in words ? t(key) : "";
}

function unit(name, digits = 0) {
  // Short, a number of bytes is "0 byte" in English.
  const options = { style: "unit", unit: name, unitDisplay: name === "byte" ? "long" : "short" };
  return new Intl.NumberFormat(language, { ...options, minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const SIZES = ["byte", "kilobyte", "megabyte", "gigabyte"];

export function bytes(size) {
  let step = 0;
  while (size >= 1000 && step < SIZES.length - 1) {
    size /= 1000;
    step += 1;
  }
  return unit(SIZES[step], step > 0 && size < 10 ? 1 : 0).format(size);
}

export function duration(milliseconds) {
  if (milliseconds < 950) return unit("millisecond").format(Math.max(10, Math.round(milliseconds / 10) * 10));
  if (milliseconds < 90_000) return unit("second", 1).format(milliseconds / 1000);
  return unit("minute").format(milliseconds / 60_000);
}

const dayFormat = new Intl.DateTimeFormat(language, { dateStyle: "medium" });
const momentFormat = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
const percentFormat = new Intl.NumberFormat(language, { style: "percent" });

export const number = (value) => plain.format(value);
export const percent = (share) => percentFormat.format(share);
export const day = (time) => dayFormat.format(new Date(time));
export const moment = (time) => momentFormat.format(new Date(time));

export function pixels(width, height) {
  return `${width} × ${height} px`;
}

export function presetTitle(name, title) {
  return told(`preset.${name}`) || title || name;
}

// What a job is doing, in one line.
export function stateOf(job, live) {
  switch (job.state) {
    case "queued":
      return t(job.attempt > 0 ? "state.again" : "state.queued");
    case "running":
      if (job.cancel_requested) return t("state.stopping");
      return told(`step.${live?.stage ?? job.stage}`) || t("state.at_work");
    case "succeeded":
      return job.duration_ms === null ? t("state.done") : t("state.done_in", { duration: duration(job.duration_ms) });
    default:
      return t(`state.${job.state}`);
  }
}

export function harmOf(harm) {
  return told(`harm.${harm}`) || harm;
}

// What the comparison with the original says, in one sentence; nothing if all is well.
export function sentenceOf(gate) {
  if (!gate || gate.verdict === "clean") return "";
  const why = gate.harms.map(harmOf).join(t("harm.and"));
  if (gate.verdict === "review") return t("gate.review", { why, pages: pagesOf(gate.pages_review) });
  return t("gate.kept", { why, pages: pagesOf(gate.pages_kept_original) });
}

function pagesOf(pages) {
  if (pages.length === 0 || (pages.length === 1 && pages[0] === 1)) return "";
  const list = pages.slice(0, 5).join(", ") + (pages.length > 5 ? ", …" : "");
  return t("gate.pages", { count: pages.length, list });
}

// What went wrong, and what can be done: from a problem document or the error of a job. The server speaks English; in
// another language its code has words of its own.
export function troubleOf(error) {
  const own = told(`server.${error.code}`);
  const figures = error.limit && error.measured
    ? ` ${t("trouble.figures", { limit: figure(error.limit), measured: figure(error.measured) })}`
    : "";
  // Where it happened says something about a worker that was lost, and nothing about a file that is damaged.
  const step = error.retryable ? told(`step.${error.stage}`) : "";
  const where = step ? ` ${t("trouble.step", { step: step.toLocaleLowerCase(language) })}` : "";
  const what = own || error.detail || error.title || t("trouble.unknown");
  const room = error.room_at ? ` ${t("trouble.room_at", { when: moment(error.room_at) })}` : "";
  return { what: `${what}${where}${figures}${room}`, remedy: own ? "" : (error.remedy ?? "") };
}

// "67108864 bytes" and "900000000 px" are exact, and hard to read.
function figure(text) {
  const match = /^(\d+) (bytes|px|jobs)$/.exec(text);
  if (!match) return text;
  const value = Number(match[1]);
  if (match[2] === "bytes") return bytes(value);
  if (match[2] === "jobs") return t("unit.jobs", { count: value });
  return value >= 1_000_000
    ? t("unit.megapixels", { count: Math.round(value / 1_000_000) })
    : t("unit.pixels", { count: value });
}

const KINDS = {
  "image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WebP", "image/tiff": "TIFF", "image/bmp": "BMP",
  "image/gif": "GIF", "image/x-portable-anymap": "PNM", "application/pdf": "PDF",
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
  if (image.width_px && image.height_px) facts.push(pixels(image.width_px, image.height_px));
  if (image.pages_count > 1) facts.push(t("card.pages", { count: image.pages_count }));
  return facts.join(" · ");
}
