"""Figures of a shipped network beside the classical cleaners, on the same pages, as a table in Markdown.

    python evaluate.py MODEL.onnx [--settings train.toml] [--tiles]

NoisyOffice VA by kind of noise (c coffee, f folds, p footprints, w wrinkles; the pages of w have the background of the
training split), held-out synthetic pages, pages that are clean already, and, with --tiles, the greatest difference
between a page of 2400 x 3000 cleaned in tiles and whole.
"""

from __future__ import annotations

import argparse
import resource
from pathlib import Path

import numpy as np
import onnxruntime as ort

import damage
import ink
import measure
import pages
from train import Settings, read_settings
from typefaces import faces


def session(path: Path) -> ort.InferenceSession:
    """A session of one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def shipped(net: ort.InferenceSession) -> measure.Cleaner:
    """The graph as a cleaner of whole pages."""

    def clean(page: np.ndarray) -> np.ndarray:
        out = net.run(None, {"page": measure.padded(page)[None, None]})[0][0, 0]
        return out[: page.shape[0], : page.shape[1]]

    return clean


def tiled(clean: measure.Cleaner, page: np.ndarray, core: int = 1024, overlap: int = 64) -> np.ndarray:
    """The page cleaned tile by tile, uint8 [H, W]; each tile reads `overlap` pixels around it, if there are any."""
    out = np.empty_like(page)
    for y in range(0, page.shape[0], core):
        for x in range(0, page.shape[1], core):
            top, left = max(0, y - overlap), max(0, x - overlap)
            tile = clean(page[top : y + core + overlap, left : x + core + overlap])
            out[y : y + core, x : x + core] = tile[y - top : y - top + core, x - left : x - left + core]
    return out


def large_page(height: int = 3000, width: int = 2400) -> np.ndarray:
    """A damaged page of text, uint8 [H, W], with stains, folds and a shadow larger than tiles."""
    rng = np.random.default_rng(7)
    side = max(height, width)
    clean = ink.clean_page(rng, side, faces(True))[0]
    paper = damage.plain_paper(rng, side) + damage.stains(rng, side) + damage.folds(rng, side) + damage.shade(rng, side)
    paper = np.clip(paper, 0.08, 1.05).astype(np.float32)
    return damage.capture(rng, damage.print_on(rng, paper, clean, 40), 40)[:height, :width]


def seconds_per_megapixel(clean: measure.Cleaner, side: int = 1152, times: int = 3) -> float:
    """CPU seconds (least of some) of one tile, per million pixels."""
    page = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    spent = []
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_SELF)
        clean(page)
        after = resource.getrusage(resource.RUSAGE_SELF)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent) / side**2 * 1e6


def rows(clean: measure.Cleaner, settings: Settings) -> list[tuple[str, list[float]]]:
    """Name of each measure, and the RMSE of: the page as it is, median-divide, closing-divide, the network."""
    pool, office = settings["pages"], Path(settings["office"]["folder"])
    held = measure.held_pages(pool["held_seed"], pool["held_pages"], pool["side_px"])
    sets: dict[str, list[pages.Pair]] = {}
    for pair in pages.office(office, "VA"):
        sets.setdefault(f"NoisyOffice VA, {pair.kind}", []).append(pair._replace(kind="x"))
        if pair.kind in "cp":
            sets.setdefault("NoisyOffice VA, c and p", []).append(pair._replace(kind="x"))
    sets["synthetic, fonts and seeds held out"] = [p for p in held if not np.array_equal(p.noisy, p.clean)]
    sets["the same pages, clean already"] = [pages.Pair(p.clean, p.clean, "s") for p in held]
    cleaners = (lambda page: page, measure.median_divide, measure.closing_divide, clean)
    return [(n, [next(iter(measure.rmse(c, s).values())) for c in cleaners]) for n, s in sorted(sets.items()) if s]


def table(lines: list[tuple[str, list[float]]]) -> str:
    """The rows in Markdown."""
    head = "| RMSE, 0 to 1 | as it is | median-divide k21 | closing-divide k7 | network |\n|---|---|---|---|---|\n"
    return head + "\n".join(f"| {name} | " + " | ".join(f"{v:.4f}" for v in values) + " |" for name, values in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--settings", type=Path, default=Path(__file__).resolve().parent / "train.toml")
    parser.add_argument("--tiles", action="store_true")
    args = parser.parse_args()
    clean = shipped(session(args.model))
    print(table(rows(clean, read_settings(args.settings))))
    print(f"\nCPU milliseconds per megapixel, one thread: {1000 * seconds_per_megapixel(clean):.0f}")
    if args.tiles:
        page = large_page()
        difference = np.abs(tiled(clean, page).astype(int) - clean(page))
        share = (difference > 1).mean()
        print(f"2400 x 3000 in tiles against whole: {difference.max()} levels apart at most, above 1: {share:.1e}")


if __name__ == "__main__":
    main()
