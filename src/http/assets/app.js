// The page: lets people in, then hands everything that happens to the views.

import * as account from "./account.js";
import { whenLoggedOut } from "./api.js";
import * as cluster from "./cluster.js";
import * as desk from "./desk.js";
import { enter, enterAgain } from "./door.js";
import { follow } from "./events.js";
import * as hooks from "./hooks.js";
import * as compare from "./image.js";
import * as library from "./library.js";
import * as look from "./look.js";
import * as quota from "./quota.js";
import * as router from "./router.js";
import * as uploads from "./uploads.js";
import { t } from "./words.js";

const KNOCK_AGAIN_MS = 2000;
const views = [desk, library, compare, cluster, hooks, quota];

function link(state) {
  document.getElementById("link").dataset.state = state;
  document.getElementById("link-text").textContent = t(`link.${state}`);
}

// Whoever cannot be let in for want of a server is let in when it is back.
async function comeIn() {
  try {
    return await enter();
  } catch {
    link("lost");
    await new Promise((resolve) => setTimeout(resolve, KNOCK_AGAIN_MS));
    return comeIn();
  }
}

async function readOffer() {
  const offer = await desk.readOffer();
  if (!offer) return;
  library.offer(offer);
  compare.offer(offer);
}

look.watch();
const me = await comeIn();
account.watch(me);
cluster.open(me);
// What could not be asked is asked again at the next refusal.
whenLoggedOut(() => enterAgain(me).catch(() => {}));
for (const view of views) view.start();
router.start();
follow({
  onOpen: () => {
    link("live");
    uploads.wake();
    readOffer().catch(desk.notice);
    desk.readNewest();
    compare.refresh();
  },
  onLost: () => link("lost"),
  onJob: (job) => views.forEach((view) => view.onJob(job)),
  onProgress: (progress) => views.forEach((view) => view.onProgress(progress)),
});
