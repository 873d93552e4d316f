"""Synthetic pages from a seed, and the NoisyOffice pages.

    python pages.py sheet OUT.png [--seed 0] [--count 24] [--held]     a contact sheet to look at
    python pages.py shards DIR --settings train.toml                   the pool that train.py reads, on all cores;
                                                             it makes what it misses itself

A page is made of nothing but its seed, the fonts of the machine and the real backgrounds given.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import os
import tomllib
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

import damage
import ink
from typefaces import faces

CLEAN_EVERY = 25  # one page in 25 is clean on both sides: the network must leave such pages alone
OFFICE_TEXT = 0.15  # part of the pages that print the text of NoisyOffice on other paper


class Office(NamedTuple):
    """What the synthetic pages take from split TR: backgrounds, float32 in 0..1, and clean pages, uint8; [H, W] each."""

    papers: list[np.ndarray]
    texts: list[np.ndarray]


class Pair(NamedTuple):
    """A damaged page, its truth (uint8 [H, W] each) and its kind: c, f, p, w of NoisyOffice, s synthetic."""

    noisy: np.ndarray
    clean: np.ndarray
    kind: str


def office(folder: Path, split: str) -> list[Pair]:
    """The pages of one split (TR or VA) of NoisyOffice; none if the folder is not there."""
    pairs = []
    for path in sorted(glob.glob(f"{folder}/noisy/*_{split}.png")):
        name = os.path.basename(path)
        clean = folder / "clean" / f"{name[:7]}_Clean_{split}.png"
        pairs.append(Pair(cv2.imread(path, 0), cv2.imread(str(clean), 0), name[13]))
    return pairs


def real_papers(folder: Path) -> list[np.ndarray]:
    """Backgrounds of split TR, float32 [H, W] in 0..1: pages of a noise share one, a high percentile has no ink."""
    stacks: dict[tuple[str, tuple[int, ...]], list[np.ndarray]] = {}
    for pair in office(folder, "TR"):
        stacks.setdefault((pair.kind, pair.noisy.shape), []).append(pair.noisy)
    return [np.percentile(np.stack(v), 85, axis=0).astype(np.float32) / 255 for v in stacks.values() if len(v) >= 4]


def office_parts(folder: Path) -> Office:
    """Backgrounds and texts of split TR; both empty if the folder is not there."""
    texts = {pair.clean.tobytes(): pair.clean for pair in office(folder, "TR")}
    return Office(real_papers(folder), list(texts.values()))


def office_text(rng: np.random.Generator, side: int, texts: list[np.ndarray]) -> np.ndarray:
    """A clean page of NoisyOffice as float32 [side, side], shifted; what is missing below and beside it is mirrored."""
    text = texts[int(rng.integers(len(texts)))]
    y, x = (int(rng.integers(0, n)) for n in text.shape)
    big = np.pad(text, [(0, side), (0, side)], "symmetric")
    return big[y : y + side, x : x + side].astype(np.float32) / 255


def damaged(rng: np.random.Generator, clean: np.ndarray, size_px: int, held_out: bool, papers: list[np.ndarray]) -> np.ndarray:
    """What becomes of a clean page, float32 [side, side], with type of some size: uint8 of the same shape."""
    side = clean.shape[0]
    behind = ink.clean_page(rng, side, faces(held_out))[0] if rng.random() < 0.3 else None
    paper = damage.background(rng, side, papers, behind)
    return damage.capture(rng, damage.print_on(rng, paper, clean, size_px), size_px)


def page(seed: int, side: int, held_out: bool = False, parts: Office | None = None) -> Pair:
    """The page of a seed, uint8 [side, side] twice; `parts` mixes in what is real."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    papers, texts = parts or Office([], [])
    clean, size_px = ink.clean_page(rng, side, faces(held_out))
    if texts and rng.random() < OFFICE_TEXT:
        clean, size_px = office_text(rng, side, texts), 24
    truth = (clean * 255).round().astype(np.uint8)
    if seed % CLEAN_EVERY == 0:
        return Pair(truth, truth, "s")
    return Pair(damaged(rng, clean, size_px, held_out, papers), truth, "s")


def sheet(seeds: range, side: int, held_out: bool, parts: Office, across: int = 6) -> np.ndarray:
    """Damaged pages with their truth below each, uint8; to be looked at before any training."""
    cells = [np.vstack(page(seed, side, held_out, parts)[:2]) for seed in seeds]
    cells += [np.full_like(cells[0], 128)] * (-len(cells) % across)
    return np.vstack([np.hstack(cells[i : i + across]) for i in range(0, len(cells), across)])


def shard_path(folder: Path, index: int) -> Path:
    """Where shard `index` of the pool lies: an array uint8 [pages, 2, side, side], damaged and clean."""
    return folder / f"shard-{index:04}.npy"


def fingerprint() -> str:
    """Digest of the fonts drawn with: the same seeds make other pages where the fonts differ."""
    names = "\n".join(os.path.basename(f.path) for f in faces(False))
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def _shard(job: tuple[Path, int, int, int, int, Office]) -> Path:
    folder, index, first_seed, count, side, parts = job
    path = shard_path(folder, index)
    if not path.exists():
        seeds = range(first_seed + index * count, first_seed + (index + 1) * count)
        array = np.stack([np.stack(page(seed, side, False, parts)[:2]) for seed in seeds])
        draft = path.with_suffix(".tmp.npy")
        np.save(draft, array)
        draft.rename(path)  # a reader never sees half a shard
    return path


def make_shards(folder: Path, settings: dict, wanted: int | None = None, processes: int = 1) -> None:
    """Makes what is missing of the first `wanted` shards, or of all; `settings` is train.toml."""
    pool = settings["pages"]
    folder.mkdir(parents=True, exist_ok=True)
    stamp, mark = folder / "fonts.sha256", fingerprint()
    if stamp.exists() and stamp.read_text() != mark:
        raise SystemExit(f"{folder} was made with other fonts than this machine has now: remove it, or restore them")
    stamp.write_text(mark)
    parts = office_parts(Path(settings["office"]["folder"]))
    first, count, side = pool["seed"], pool["shard_pages"], pool["side_px"]
    jobs = [(folder, i, first, count, side, parts) for i in range(wanted or pool["shards"])]
    if processes == 1:
        for job in jobs:
            _shard(job)
        return
    with get_context("fork").Pool(processes) as workers:
        for path in workers.imap(_shard, jobs):
            print(path, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    look = commands.add_parser("sheet")
    look.add_argument("out")
    look.add_argument("--seed", type=int, default=0)
    look.add_argument("--count", type=int, default=24)
    look.add_argument("--side", type=int, default=448)
    look.add_argument("--held", action="store_true")
    look.add_argument("--office", type=Path, default=Path("noisyoffice"))
    make = commands.add_parser("shards")
    make.add_argument("folder", type=Path)
    make.add_argument("--settings", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "sheet":
        seeds = range(args.seed, args.seed + args.count)
        cv2.imwrite(args.out, sheet(seeds, args.side, args.held, office_parts(args.office)))
    else:
        settings = tomllib.loads(args.settings.read_text())
        root = os.environ.get("NOISYOFFICE")
        if root:
            settings["office"]["folder"] = root
        make_shards(args.folder, settings, processes=os.cpu_count() or 1)


if __name__ == "__main__":
    main()
