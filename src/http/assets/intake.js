// Where files come from: the choosers (files, a folder, the camera), a drop anywhere on the page (folders too), the
// clipboard.

// A folder may be the root of a disk by mistake.
const FILES_MAX = 2000;

export function watch({ onFiles }) {
  for (const id of ["files", "folder", "camera"]) {
    const chooser = document.getElementById(id);
    chooser.addEventListener("change", () => {
      onFiles([...chooser.files].slice(0, FILES_MAX));
      // The same file can be chosen again.
      chooser.value = "";
    });
  }
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length > 0) onFiles(files);
  });
  watchDrops(onFiles);
}

function watchDrops(onFiles) {
  const veil = document.getElementById("veil");
  let depth = 0;
  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const end = () => {
    depth = 0;
    veil.hidden = true;
  };
  window.addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth += 1;
    veil.hidden = false;
  });
  window.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  window.addEventListener("dragleave", () => {
    depth -= 1;
    if (depth <= 0) end();
  });
  window.addEventListener("drop", async (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    end();
    onFiles(await filesOf(event.dataTransfer));
  });
}

async function filesOf(transfer) {
  // Entries must be taken before the first wait: afterwards the browser has emptied the list.
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? null);
  if (!entries.some((entry) => entry?.isDirectory)) return [...transfer.files];
  const found = [];
  for (const entry of entries) if (entry) await gather(entry, found);
  return found;
}

async function gather(entry, found) {
  if (found.length >= FILES_MAX) return;
  if (entry.isFile) {
    found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return;
    for (const child of some) await gather(child, found);
  }
}
