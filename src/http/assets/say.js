// What happens, read out by screen readers; what happens together is said together.

import { t } from "./words.js";

const TOGETHER_MS = 400;
const SENTENCES_MAX = 3;
const sentences = [];
let saying = null;

export function say(sentence) {
  sentences.push(sentence);
  clearTimeout(saying);
  saying = setTimeout(() => {
    const told = sentences.splice(0);
    const isMuch = told.length > SENTENCES_MAX;
    const text = isMuch ? [...told.slice(-2), t("desk.more_changes", { count: told.length - 2 })] : told;
    document.getElementById("live").textContent = text.join(" ");
  }, TOGETHER_MS);
}
