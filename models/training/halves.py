"""What it does to large pages that the program cleans them at half their resolution where their strokes are wide.

    python halves.py MODEL.onnx --program INKPOOL [--pages 24] [--side 2048]

Pages of English prose in held-out fonts, type of 36 to 70 pixels (8 to 17 points at 300 dpi), damaged as in training, go
through the program and, at their own resolution, through the network alone; what the program puts back for a picture is put
back there, too. Pages on which both then agree were not cleaned at half. RMSE is over all pixels, 0 to 1; character errors are Tesseract's, if it is there; CPU time is that of one thread.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

import evaluate
import peers
import sets
from train import read_settings

SIZES_PX = (36, 70)
# Beside those that evaluate.py reads.
FIRST_SEED = 70_000
# Tiles change a level or a few; a half changes every edge, levels.
APART = 24


class Figures(NamedTuple):
    """Of one page and one way: mean square, wrong characters, CPU seconds."""

    square: float
    wrong: int
    seconds: float


def by_program(program: Path, page: np.ndarray) -> np.ndarray:
    """The page as the program cleans it, uint8 [H, W]."""
    with tempfile.TemporaryDirectory() as folder:
        cv2.imwrite(f"{folder}/page.png", page)
        command = [program, "clean", f"{folder}/page.png", "-o", f"{folder}/out/", "--set", "denoise=gray"]
        subprocess.run(command, check=True, capture_output=True, timeout=600)
        return cv2.imread(f"{folder}/out/page/clean.png", cv2.IMREAD_GRAYSCALE)


def figures(out: np.ndarray, page: sets.Read, seconds: float) -> Figures:
    """Figures of one page."""
    assert page.clean is not None
    square = float((((out.astype(np.float64) - page.clean) / 255) ** 2).mean())
    wrong = evaluate.edits(peers.tesseract(out), page.text) if shutil.which("tesseract") else 0
    return Figures(square, wrong, seconds)


def row(name: str, pairs: list[tuple[Figures, Figures]], letters: int) -> str:
    """Both ways over the same pages, a row in Markdown."""
    ways = list(zip(*pairs, strict=True))
    rmse = [(sum(f.square for f in way) / len(way)) ** 0.5 for way in ways]
    errors = [100 * sum(f.wrong for f in way) / max(1, letters) for way in ways]
    seconds = [statistics.median(f.seconds for f in way) for way in ways]
    ratio = statistics.geometric_mean((a.square / b.square) ** 0.5 for a, b in pairs)
    cells = [f"{rmse[0]:.4f} / {rmse[1]:.4f}", f"{ratio:.2f}", f"{errors[0]:.2f} / {errors[1]:.2f}"]
    return f"| {name} | {len(pairs)} | {' | '.join(cells)} | {seconds[0]:.2f} / {seconds[1]:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("--settings", type=Path, default=Path(__file__).resolve().parent / "train.toml")
    parser.add_argument("--pages", type=int, default=24)
    parser.add_argument("--side", type=int, default=2048)
    args = parser.parse_args()
    first = read_settings(args.settings)["pages"]["held_seed"] + FIRST_SEED
    network = evaluate.shipped(evaluate.session(args.model))
    groups: dict[str, list[tuple[Figures, Figures]]] = {}
    letters: dict[str, int] = {}
    for seed in range(first, first + args.pages):
        page = sets.prose_page(seed, args.side, SIZES_PX)
        outs: list[np.ndarray] = []
        whole = evaluate.cpu_seconds(lambda page=page: outs.append(network(page.noisy)))  # type: ignore[misc]
        children = resource.RUSAGE_CHILDREN
        both = evaluate.cpu_seconds(lambda page=page: outs.append(by_program(args.program, page.noisy)), children)  # type: ignore[misc]
        outs[0] = np.where(outs[1] == page.noisy, page.noisy, outs[0])
        is_half = int(np.abs(outs[1].astype(int) - outs[0]).max()) > APART
        name = "at half their resolution" if is_half else "at their own, or left alone"
        groups.setdefault(name, []).append((figures(outs[1], page, both), figures(outs[0], page, whole)))
        letters[name] = letters.get(name, 0) + len(page.text)
    print("| the program / the network alone | pages | RMSE | mean of ratios | character errors, percent | CPU seconds, the program's with files |")
    print("|---|---|---|---|---|---|")
    for name, pairs in sorted(groups.items()):
        print(row(name, pairs, letters[name]))


if __name__ == "__main__":
    main()
