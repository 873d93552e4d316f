"""Measures the do-no-harm gate: what it catches of outputs that were damaged, and what it flags of good ones.

    NOISYOFFICE=path python gate.py MODEL.onnx GATE [--good 200] [--damaged 200] [--seed 3000000] [--pages FOLDER]

GATE is the compiled example `gate` (cargo build --release --example gate). Pages are those of NoisyOffice TR and VA, if they are
there, and synthetic ones of fonts and seeds that no training sees; the network cleans them. An output is good when the truth says
so: see `is_good`, which knows the truth and shares no code with the gate. Damaged are good outputs of which strokes were erased,
to which blotches were added, or which were blanked, in equal parts. FOLDER keeps the synthetic pages for another run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnxruntime as ort

import pages

SIDE = 640
INK, FADED, PAPER = 96, 160, 112  # truth is ink below; ink has faded above; paper is soiled below
HOLE_PX = 40  # a part of a stroke that is gone as a whole


VERDICTS = ("clean", "review", "kept_original")
DAMAGES = ("erased", "blotched", "blanked", "merged")


class Case(NamedTuple):
    """A page, what was made of it, what was done to that, and the truth: uint8 [H, W] thrice, and a name."""

    page: np.ndarray
    output: np.ndarray
    kind: str
    truth: np.ndarray


def session(path: Path) -> ort.InferenceSession:
    """A session of one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def cleaned(net: ort.InferenceSession, page: np.ndarray) -> np.ndarray:
    """The page as the network leaves it."""
    padded = np.pad(page, [(0, -n % 32) for n in page.shape], "reflect")
    return net.run(None, {"page": padded[None, None]})[0][0, 0][: page.shape[0], : page.shape[1]]


def components(ink: np.ndarray, least_px: int) -> tuple[np.ndarray, list[int]]:
    """Labels of connected ink, and those of components with at least so many pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    return labels, [i for i in range(1, len(stats)) if stats[i, cv2.CC_STAT_AREA] >= least_px]


def is_good(truth: np.ndarray, output: np.ndarray) -> bool:
    """Whether an output holds what the truth holds: its strokes, nearly all of their pixels, and nothing where it is blank."""
    ink, blank = (truth < INK).astype(np.uint8), (truth > 224).astype(np.uint8)
    labels, strokes = components(ink, 12)
    # A pixel of tolerance: the edge of a stroke is a matter of taste.
    there = cv2.dilate((output < FADED).astype(np.uint8), np.ones((3, 3)))
    area = np.bincount(labels.ravel(), minlength=labels.max() + 1)
    kept = np.bincount(labels.ravel(), there.ravel(), minlength=labels.max() + 1)
    lost = sum(kept[i] < 0.5 * area[i] for i in strokes)
    gone = (ink > 0) & (there == 0)
    _, _, holes, _ = cv2.connectedComponentsWithStats(gone.astype(np.uint8), connectivity=8)
    largest = max((hole[cv2.CC_STAT_AREA] for hole in holes[1:]), default=0)
    soiled = (output < PAPER) & (cv2.erode(blank, np.ones((9, 9))) > 0)
    whole = lost <= 0.005 * len(strokes) and gone.sum() <= 0.01 * ink.sum() and largest <= HOLE_PX
    return whole and soiled.mean() < 1e-4


def sources(folder: Path | None, seed: int, kept: Path | None) -> Iterator[pages.Pair]:
    """NoisyOffice first, then synthetic pages without end."""
    if folder:
        yield from pages.office(folder, "TR") + pages.office(folder, "VA")
    while True:
        yield synthetic(seed, kept)
        seed += 1


def synthetic(seed: int, kept: Path | None) -> pages.Pair:
    """The page of a seed, from the folder if it is there."""
    path = kept and kept / f"{seed}.png"
    if path and path.exists():
        both = cv2.imread(str(path), 0)
        return pages.Pair(both[:SIDE], both[SIDE:], "s")
    pair = pages.page(seed, SIDE, held_out=True)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.vstack([pair.noisy, pair.clean]))
    return pair


def erased(rng: np.random.Generator, output: np.ndarray, truth: np.ndarray) -> np.ndarray | None:
    """Strokes gone: a word or a line in one place, or a share of all components; None where there is too little ink."""
    out, ink = output.copy(), truth < INK
    labels, strokes = components(ink, 12)
    if len(strokes) < 12 or ink.sum() < 600:
        return None
    if rng.random() < 0.5:
        ys, xs = np.nonzero(ink)
        for _ in range(100):
            at = int(rng.integers(len(ys)))
            h, w = int(rng.integers(12, 60)), int(rng.integers(24, 240))
            y, x = max(0, ys[at] - h // 2), max(0, xs[at] - w // 2)
            if ink[y : y + h, x : x + w].sum() >= 100:
                out[y : y + h, x : x + w] = 255
                return out
        return None
    share = rng.uniform(0.03, 0.4)
    gone = rng.permutation(strokes)[: max(4, int(share * len(strokes)))]
    out[cv2.dilate(np.isin(labels, gone).astype(np.uint8), np.ones((5, 5))) > 0] = 255
    return out


def blotched(rng: np.random.Generator, output: np.ndarray) -> np.ndarray:
    """One to five dark blots with ragged edges, 5 to 40 pixels in radius."""
    out = output.copy()
    for _ in range(int(rng.integers(1, 6))):
        r, (h, w) = rng.uniform(5, 40), out.shape
        turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        radii = r * rng.uniform(0.6, 1.1, 24)
        y, x = rng.uniform(0, h), rng.uniform(0, w)
        points = np.stack([x + radii * np.cos(turns), y + radii * np.sin(turns)], 1).round().astype(np.int32)
        cv2.fillPoly(out, [points], int(rng.integers(0, 110)))
    return out


def blanked(rng: np.random.Generator, output: np.ndarray) -> np.ndarray:
    """All of the page, a half or a third of it, white or black."""
    out, level = output.copy(), 255 if rng.random() < 0.8 else 0
    part = (1, 2, 3)[int(rng.integers(3))]
    axis, first = int(rng.integers(2)), int(rng.integers(part))
    n = out.shape[axis]
    where = slice(first * n // part, (first + 1) * n // part)
    out[(where, slice(None)) if axis == 0 else (slice(None), where)] = level
    return out


def merged(rng: np.random.Generator, output: np.ndarray, truth: np.ndarray) -> np.ndarray | None:
    """Strokes swollen by 3 to 5 pixels until they run together; None where at least 60 % of them stay apart."""
    side = int(rng.integers(3, 6))
    out = cv2.erode(output, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    strokes = len(components(truth < INK, 8)[1])
    return out if strokes >= 12 and len(components(out < INK, 8)[1]) <= 0.6 * strokes else None


def damaged(rng: np.random.Generator, kind: str, output: np.ndarray, truth: np.ndarray) -> np.ndarray | None:
    """An output of which something was taken or to which something was added; None where that cannot be."""
    if kind == "blotched":
        out = blotched(rng, output)
        new = (out.astype(int) < output - 80) & (truth > 224)
        return out if new.sum() >= 60 else None
    if kind == "blanked":
        out = blanked(rng, output)
        harm = ((out > FADED) != (truth > FADED)) & (output.astype(int) != out)
        return out if harm.sum() >= 300 else None
    if kind == "merged":
        return merged(rng, output, truth)
    return erased(rng, output, truth)


def judged(program: Path, cases: list[Case], *options: str) -> list[dict]:
    """What the gate says of each."""
    told = b"".join(
        np.array([c.page.shape[1], c.page.shape[0]], "<u4").tobytes() + c.page.tobytes() + c.output.tobytes() for c in cases
    )
    done = subprocess.run([program, *options], input=told, capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def collect(
    args: argparse.Namespace, office: Path | None, only_office: bool = False
) -> tuple[list[Case], list[Case], Counter[str]]:
    """Good and damaged cases, and how many outputs of each source were not good. At most half of each are of NoisyOffice,
    or all of them."""
    net, rng = session(args.model), np.random.default_rng(args.seed)
    most = 1 if only_office else 2
    good: list[Case] = []
    bad: list[Case] = []
    counts: Counter[str] = Counter()
    for pair in sources(office, args.seed, args.pages):
        is_over = only_office and pair.kind == "s"
        if is_over or (len(good) >= args.good and len(bad) >= args.damaged):
            break
        if np.array_equal(pair.noisy, pair.clean):
            continue
        source = "synthetic" if pair.kind == "s" else "NoisyOffice"
        output = cleaned(net, pair.noisy)
        counts[f"{source} pages"] += 1
        if not is_good(pair.clean, output):
            counts[f"{source} outputs that were not good"] += 1
            continue
        if len(good) < (args.good if source == "synthetic" else args.good // most):
            good.append(Case(pair.noisy, output, source, pair.clean))
        if len(bad) < (args.damaged if source == "synthetic" else args.damaged // most):
            kind = DAMAGES[len(bad) % len(DAMAGES)]
            out = damaged(rng, kind, output, pair.clean)
            bad += [Case(pair.noisy, out, kind, pair.clean)] if out is not None else []
    return good, bad, counts


def table(name: str, cases: list[Case], answers: list[dict]) -> list[str]:
    """A row for each kind of case."""
    rows = []
    for kind in sorted({case.kind for case in cases}):
        verdicts = Counter(answer["verdict"] for case, answer in zip(cases, answers, strict=True) if case.kind == kind)
        rows.append(f"| {name}, {kind} | {verdicts.total()} | " + " | ".join(str(verdicts[v]) for v in VERDICTS) + " |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("gate", type=Path)
    parser.add_argument("--good", type=int, default=200)
    parser.add_argument("--damaged", type=int, default=200)
    parser.add_argument("--seed", type=int, default=3_000_000)
    parser.add_argument("--pages", type=Path)
    parser.add_argument("--wrong", type=Path, help="a folder for pictures of what was judged wrongly")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    office = os.environ.get("NOISYOFFICE")
    good, bad, counts = collect(args, Path(office) if office else None)
    answers = judged(args.gate, good), judged(args.gate, bad)
    print("| outputs | pages | " + " | ".join(VERDICTS) + " |\n|---|---|---|---|---|")
    print("\n".join(table("good", good, answers[0]) + table("damaged", bad, answers[1])))
    flagged = [case for case, answer in zip(good, answers[0], strict=True) if answer["verdict"] != "clean"]
    missed = [case for case, answer in zip(bad, answers[1], strict=True) if answer["verdict"] == "clean"]
    print(f"\nflagged of the good: {len(flagged) / len(good):.1%}; caught of the damaged: {1 - len(missed) / len(bad):.1%}")
    print(", ".join(f"{name}: {count}" for name, count in sorted(counts.items())))
    nanoseconds = np.median([answer["ns_per_px"] for answer in answers[0]])
    print(f"{nanoseconds:.1f} ns a pixel, of which {np.median([a['paper_ns_per_px'] for a in answers[0]]):.1f} for the paper")
    for name, cases in (("flagged", flagged), ("missed", missed)):
        for number, case in enumerate(cases if args.wrong else []):
            args.wrong.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(args.wrong / f"{name}-{number}-{case.kind}.png"), np.hstack([case.page, case.output]))


if __name__ == "__main__":
    main()
