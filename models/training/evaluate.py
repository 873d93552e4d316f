"""Figures of a shipped network beside what others clean pages with, on the same pages, as tables in Markdown.

    python evaluate.py MODEL.onnx [--settings train.toml] [--pilot OTHER.onnx] [--read 24] [--program INKPOOL] [--tiles]

RMSE is over all pixels of a set, 0 to 1. Character error rates (with --read N pages of each kind) come from Tesseract. CPU
time is that of one thread, each network in turn, medians of pairs. --program times the whole preset on a page of A4 at 300
dpi; --tiles measures what tiles change. What is missing on the machine is left out, and said.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

import damage
import ink
import measure
import peers
import sets
from export import RECEPTIVE_MARGIN_PX
from peers import Cleaner
from train import Settings, read_settings
from typefaces import faces

A4_300_DPI = (3508, 2480)


def session(path: Path) -> ort.InferenceSession:
    """A session of one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def shipped(net: ort.InferenceSession) -> Cleaner:
    """The graph as a cleaner of whole pages."""

    def clean(page: np.ndarray) -> np.ndarray:
        out = net.run(None, {"page": measure.padded(page)[None, None]})[0][0, 0]
        return out[: page.shape[0], : page.shape[1]]

    return clean


def tiled(clean: Cleaner, page: np.ndarray, core: int, overlap: int) -> np.ndarray:
    """The page cleaned tile by tile, uint8 [H, W]; each tile reads `overlap` pixels around it, if there are any."""
    out = np.empty_like(page)
    for y in range(0, page.shape[0], core):
        for x in range(0, page.shape[1], core):
            top, left = max(0, y - overlap), max(0, x - overlap)
            tile = clean(page[top : y + core + overlap, left : x + core + overlap])
            out[y : y + core, x : x + core] = tile[y - top : y - top + core, x - left : x - left + core]
    return out


def large_page(height: int, width: int) -> np.ndarray:
    """A damaged page of text, uint8 [H, W], with stains, folds and a shadow larger than tiles."""
    rng = np.random.default_rng(7)
    side = max(height, width)
    clean = ink.clean_page(rng, side, faces(True))[0]
    paper = damage.plain_paper(rng, side) + damage.stains(rng, side) + damage.folds(rng, side) + damage.shade(rng, side)
    paper = np.clip(paper, 0.08, 1.05).astype(np.float32)
    return damage.capture(rng, damage.print_on(rng, paper, clean, 40), 40)[:height, :width]


def cpu_seconds(work: Callable[[], object], who: int = resource.RUSAGE_SELF) -> float:
    """CPU time of one call, of this process or (RUSAGE_CHILDREN) of the programs it waits for."""
    before = resource.getrusage(who)
    work()
    after = resource.getrusage(who)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def paired(cleaners: dict[str, Cleaner], side: int = 1280, times: int = 9) -> dict[str, float]:
    """CPU milliseconds per megapixel of each cleaner, median; they take turns, so that all see the same machine."""
    page = large_page(side, side)
    spent: dict[str, list[float]] = {name: [] for name in cleaners}
    for _ in range(times):
        for name, clean in cleaners.items():
            spent[name].append(cpu_seconds(lambda clean=clean: clean(page)) / side**2 * 1e9)  # type: ignore[misc]
    return {name: statistics.median(values) for name, values in spent.items()}


def whole_preset(program: Path, times: int = 5) -> float:
    """CPU seconds of `inkpool clean --preset document` on a page of A4 at 300 dpi, median: program, worker and files."""
    with tempfile.TemporaryDirectory() as folder:
        cv2.imwrite(f"{folder}/page.png", large_page(*A4_300_DPI))
        command = [program, "clean", f"{folder}/page.png", "-o", f"{folder}/out/", "--overwrite"]
        run = lambda: subprocess.run(command, check=True, capture_output=True)  # noqa: E731
        return statistics.median(cpu_seconds(run, resource.RUSAGE_CHILDREN) for _ in range(times))


def edits(read: str, text: str) -> int:
    """Least number of characters to insert, remove or change (Levenshtein, 1966)."""
    row = np.arange(len(text) + 1)
    letters = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    for at, letter in enumerate(read):
        changed = row[:-1] + (letters != ord(letter))
        new = np.concatenate([[at + 1], np.minimum(changed, row[1:] + 1)])
        # An insertion costs one for each step to the right: the least of new[j] - j so far, plus j.
        row = np.minimum.accumulate(new - np.arange(len(new))) + np.arange(len(new))
    return int(row[-1])


def error_rates(cleaner: Cleaner, groups: dict[str, list[sets.Read]]) -> dict[str, float]:
    """Character error rate of each group, in percent of its characters."""
    rates = {}
    for name, group in groups.items():
        wrong = sum(edits(peers.tesseract(cleaner(page.noisy)), page.text) for page in group)
        rates[name] = 100 * wrong / max(1, sum(len(page.text) for page in group))
    return rates


def rmse_rows(cleaners: dict[str, Cleaner], settings: Settings) -> dict[str, list[float]]:
    """The RMSE of every cleaner, by set."""
    has_augraphy = importlib.util.find_spec("augraphy") is not None
    rows = {}
    for name, pairs in sets.by_name(settings, has_augraphy).items():
        whole = [pair._replace(kind="x") for pair in pairs]
        rows[name] = [measure.rmse(clean, whole)["x"] for clean in cleaners.values()]
    if not has_augraphy:
        print("not measured: Augraphy is not installed (requirements-compare.txt)\n")
    return rows


def table(title: str, names: list[str], rows: dict[str, list[float]], digits: int, best_of: list[str]) -> str:
    """The rows in Markdown; the last column is the network's figure over the best of the classical ones."""
    lines = [f"| {title} | {' | '.join(names)} | network / best classical |", "|---" * (len(names) + 2) + "|"]
    for name, values in rows.items():
        best = min(value for peer, value in zip(names, values, strict=True) if peer in best_of)
        ratio = f"{values[-1] / best:.2f}" if best > 0 else "–"
        lines.append(f"| {name} | {' | '.join(f'{value:.{digits}f}' for value in values)} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--settings", type=Path, default=Path(__file__).resolve().parent / "train.toml")
    parser.add_argument("--pilot", type=Path, help="another network of the same contract")
    parser.add_argument("--read", type=int, default=0, metavar="N", help="pages of each kind that Tesseract reads")
    parser.add_argument("--program", type=Path, help="the compiled program")
    parser.add_argument("--tiles", action="store_true")
    args = parser.parse_args()
    settings, classical = read_settings(args.settings), peers.classical()
    networks = {"pilot": shipped(session(args.pilot))} if args.pilot else {}
    networks["network"] = shipped(session(args.model))
    cleaners = {"as it is": peers.as_it_is, **classical, **networks}
    rows = rmse_rows(cleaners, settings)
    print(table("RMSE, 0 to 1", list(cleaners), rows, 4, list(classical)))
    if args.read and shutil.which("tesseract"):
        groups = sets.to_read(settings, args.read)
        rates = [error_rates(clean, groups) for clean in cleaners.values()]
        wrong = {name: [rate[name] for rate in rates] for name in groups}
        print("\n" + table("character errors, percent", list(cleaners), wrong, 2, list(classical)))
    for name, milliseconds in paired(networks).items():
        print(f"\nCPU milliseconds per megapixel, one thread, {name}: {milliseconds:.0f}")
    if args.program:
        print(f"\nCPU seconds of the preset `document` on A4 at 300 dpi: {whole_preset(args.program):.2f}")
    if args.tiles:
        page, clean = large_page(3000, 2400), networks["network"]
        difference = np.abs(tiled(clean, page, 1024, RECEPTIVE_MARGIN_PX).astype(int) - clean(page))
        share = (difference > 1).mean()
        print(f"\n2400 x 3000 in tiles against whole: {difference.max()} levels apart at most, above 1: {share:.1e}")


if __name__ == "__main__":
    main()
