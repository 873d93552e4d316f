// For administrators: failed jobs of all, and submissions that nobody could work on. Chosen together, begun again together.

import { call } from "./api.js";
import { say } from "./say.js";
import { moment, t, troubleOf } from "./words.js";

const PAGE = 50;
const part = (id) => document.getElementById(id);

function textual(tag, text, style = "") {
  return Object.assign(document.createElement(tag), { textContent: text, className: style });
}

// A list of what went wrong, with boxes: `path` gives its pages, `row` the lines of one, `acts` what can be done with many.
class Failures {
  constructor(name, { path, key, row, acts }) {
    Object.assign(this, { name, path, key, row, acts, cursor: null, picked: new Set(), rows: new Map(), busy: false });
  }

  part(what) {
    return part(`${this.name}-${what}`);
  }

  start() {
    this.part("all").addEventListener("click", () => {
      for (const [id, element] of this.rows) {
        this.picked.add(id);
        element.querySelector("input").checked = true;
      }
      this.showPicked();
    });
    this.part("more").addEventListener("click", () => this.read(this.cursor));
    for (const [what, { asks }] of Object.entries(this.acts)) {
      this.part(what).addEventListener("click", () => {
        const button = this.part(what);
        if (asks && button.dataset.asking !== "true") {
          button.dataset.asking = "true";
          this.showPicked();
        } else this.doAll(what);
      });
    }
  }

  async read(from = null) {
    let page;
    try {
      page = await call("GET", `${this.path}?limit=${PAGE}${from ? `&cursor=${from}` : ""}`);
    } catch (refused) {
      this.tell(refused);
      return;
    }
    if (!from) {
      this.rows.clear();
      this.picked.clear();
      this.part("list").replaceChildren();
    }
    this.cursor = page.next_cursor;
    for (const item of page.items) this.put(item);
    this.showPicked();
  }

  put(item) {
    const id = this.key(item);
    const { title, facts, trouble } = this.row(item);
    const element = document.createElement("li");
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox" });
    const text = document.createElement("span");
    text.append(textual("strong", title), textual("span", facts, "quiet"), textual("span", trouble, "failure-why"));
    label.append(box, text);
    element.append(label);
    box.addEventListener("change", () => {
      if (box.checked) this.picked.add(id);
      else this.picked.delete(id);
      this.showPicked();
    });
    this.rows.set(id, element);
    this.part("list").append(element);
  }

  showPicked() {
    const count = this.picked.size;
    this.part("none").hidden = this.rows.size > 0;
    this.part("bar").hidden = this.rows.size === 0;
    this.part("more").hidden = !this.cursor;
    for (const [what, { asks }] of Object.entries(this.acts)) {
      const button = this.part(what);
      if (count === 0) button.dataset.asking = "false";
      button.hidden = count === 0 && !this.busy;
      button.disabled = this.busy;
      const isSure = Boolean(asks) && button.dataset.asking === "true";
      button.textContent = t(`${this.name}.${what}${isSure ? "_sure" : ""}`, { count });
      button.classList.toggle("danger", isSure);
    }
  }

  // One after the other, so that a long list does not push others aside. What does not work stays, and the last reason is shown.
  async doAll(what) {
    this.busy = true;
    this.tell(null);
    this.showPicked();
    let done = 0;
    let trouble = null;
    for (const id of [...this.picked]) {
      try {
        await this.acts[what].act(id);
      } catch (refused) {
        // Somebody was faster.
        if (refused.problem?.status !== 404) {
          trouble = refused;
          if ([0, 401, 503].includes(refused.problem?.status)) break;
          continue;
        }
      }
      done += 1;
      this.rows.get(id)?.remove();
      this.rows.delete(id);
      this.picked.delete(id);
    }
    this.busy = false;
    this.part(what).dataset.asking = "false";
    if (done > 0) say(t(`${this.name}.${what}_done`, { count: done }));
    this.tell(trouble);
    this.showPicked();
    if (this.rows.size === 0) await this.read();
    this.part("title").focus({ preventScroll: true });
  }

  tell(refused) {
    const place = this.part("notice");
    place.hidden = !refused;
    if (!refused) return;
    const { what, remedy } = troubleOf(refused.problem ?? { detail: String(refused) });
    place.textContent = `${what} ${remedy}`.trim();
  }
}

function named(payload) {
  try {
    return JSON.parse(payload).filename ?? "";
  } catch {
    return "";
  }
}

const lists = [
  new Failures("failed", {
    path: "/failed-jobs",
    key: ({ job }) => job.id,
    row: ({ job, filename, username }) => ({
      title: filename,
      facts: [username, moment(job.finished_at ?? job.created_at)].filter(Boolean).join(" · "),
      trouble: troubleOf(job.error ?? {}).what,
    }),
    acts: { retry: { act: (id) => call("POST", `/failed-jobs/${id}/retry`) } },
  }),
  new Failures("letters", {
    path: "/dead-letters",
    key: ({ id }) => id,
    row: ({ subject, payload, deliveries, problem, created_at }) => ({
      title: named(payload) || subject,
      facts: [subject, moment(created_at), t("letters.tries", { count: deliveries })].join(" · "),
      trouble: troubleOf(problem).what,
    }),
    acts: {
      replay: { act: (id) => call("POST", `/dead-letters/${id}/replay`) },
      remove: { act: (id) => call("DELETE", `/dead-letters/${id}`), asks: true },
    },
  }),
];

export function enter() {
  for (const list of lists) list.read();
}

export function start() {
  for (const list of lists) list.start();
}
