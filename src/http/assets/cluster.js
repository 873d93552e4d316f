// For administrators: nodes with their slots, queues, what was done in the last hour. Asked for anew while it is looked at.

import { call } from "./api.js";
import * as failures from "./failures.js";
import * as people from "./people.js";
import { isShown, view } from "./router.js";
import { t, troubleOf } from "./words.js";

const LOOK_AGAIN_MS = 2000;
const CHART = { width: 240, height: 60, gap: 3 };
const ISOLATION = ["seccomp", "no_new_privileges", "own_network", "own_root", "no_capabilities"];

const part = (id) => document.getElementById(id);
const template = part("node");
const known = new Map();
let timer = null;

async function look() {
  clearTimeout(timer);
  try {
    draw(await call("GET", "/cluster"));
    notice(null);
  } catch (refused) {
    notice(refused);
  }
  if (isShown("cluster")) timer = setTimeout(look, LOOK_AGAIN_MS);
}

function draw({ nodes, queues, throughput }) {
  part("queues").replaceChildren(...queues.map((queue) => {
    const row = document.createElement("tr");
    const lane = document.createElement("th");
    lane.scope = "row";
    lane.textContent = t(`cluster.lane_${queue.lane}`);
    row.append(lane, ...[queue.queued, queue.released, queue.running].map((count) => {
      const cell = document.createElement("td");
      cell.textContent = count;
      return cell;
    }));
    return row;
  }));
  chart(throughput);
  const there = new Set(nodes.map((node) => node.id));
  for (const [id, element] of known) {
    if (there.has(id)) continue;
    element.remove();
    known.delete(id);
  }
  for (const node of nodes) {
    if (!known.has(node.id)) part("nodes").append(make(node));
    show(known.get(node.id), node);
  }
}

function chart(counts) {
  const most = Math.max(1, ...counts);
  const width = CHART.width / counts.length;
  part("throughput").replaceChildren(...counts.map((count, index) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    // Where nothing was done a line shows that there is a bar.
    const height = Math.max(1, (count / most) * CHART.height);
    bar.setAttribute("x", index * width);
    bar.setAttribute("y", CHART.height - height);
    bar.setAttribute("width", width - CHART.gap);
    bar.setAttribute("height", height);
    return bar;
  }));
  part("throughput-text").textContent = t("cluster.throughput_text", { count: counts.reduce((sum, count) => sum + count, 0) });
}

function make(node) {
  const element = template.content.firstElementChild.cloneNode(true);
  known.set(node.id, element);
  const form = element.querySelector("form");
  element.querySelector(".node-slots-label").textContent = t("cluster.slots_wanted");
  element.querySelector(".node-set").textContent = t("cluster.set");
  form.slots.setAttribute("aria-label", t("cluster.slots_of", { node: node.id }));
  form.slots.value = node.slots_count;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    change(node.id, { slots_count: Number(form.slots.value) });
  });
  element.querySelector(".node-drain").addEventListener("click", () => {
    change(node.id, { draining: element.dataset.draining !== "true" });
  });
  return element;
}

function show(element, node) {
  const set = (selector, text) => {
    element.querySelector(selector).textContent = text;
  };
  element.dataset.draining = String(node.draining);
  set(".node-name", node.id);
  const facts = t("cluster.facts", { version: node.version, runtime: node.runtime.runtime });
  set(".node-facts", node.draining ? `${facts} · ${t("cluster.draining")}` : facts);
  set(".node-drain", t(node.draining ? "cluster.resume" : "cluster.drain"));
  set(".node-isolation", isolationOf(node.runtime.isolation));
  element.querySelector(".node-reasons").replaceChildren(...node.reasons.map((reason) => {
    return Object.assign(document.createElement("li"), { textContent: reason });
  }));
  element.querySelector(".slots").replaceChildren(...node.slots.map(slotOf));
}

function slotOf(slot) {
  const item = document.createElement("li");
  item.dataset.state = slot.state;
  const name = document.createElement("strong");
  name.textContent = t("cluster.slot", { slot: String(slot.slot), state: t(`cluster.slot_${slot.state}`) });
  const more = document.createElement("span");
  more.className = "quiet";
  more.textContent = slot.note ?? t("cluster.slot_jobs", { count: slot.jobs_done });
  item.append(name, more);
  return item;
}

function isolationOf(isolation) {
  if (!isolation) return t("cluster.isolation_unknown");
  const landlock = isolation.landlock_abi > 0 ? [t("cluster.landlock", { abi: String(isolation.landlock_abi) })] : [];
  const list = [...landlock, ...ISOLATION.filter((name) => isolation[name]).map((name) => t(`cluster.${name}`))];
  return t("cluster.isolation", { list: list.join(", ") });
}

async function change(id, wanted) {
  try {
    await call("PATCH", `/cluster/nodes/${id}`, wanted);
    await look();
  } catch (refused) {
    notice(refused);
  }
}

function notice(refused) {
  const place = part("cluster-notice");
  place.hidden = !refused;
  if (!refused) return;
  const { what, remedy } = troubleOf(refused.problem ?? { detail: String(refused) });
  place.textContent = `${what} ${remedy}`.trim();
}

export function onJob() {}
export function onProgress() {}

// Only administrators may look.
export function open(session) {
  part("nav-cluster").hidden = session.role !== "admin";
  people.open(session);
}

export function start() {
  people.start();
  failures.start();
  const enter = () => {
    look();
    people.enter();
    failures.enter();
  };
  view("cluster", { enter, leave: () => clearTimeout(timer) });
}
