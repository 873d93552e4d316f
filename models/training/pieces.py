"""Fits the weights by which the gate tells strokes that are gone from stains that are rightly gone (src/pipeline/gate/pieces.rs).

    NOISYOFFICE=path python pieces.py MODEL.onnx GATE [--seed 8000000 8010000 9000000] [--cases 200] [--pages FOLDER]

GATE is the compiled example `gate`. Cases are those of gate.py, good and damaged. A piece of ink that is gone was a stroke if the
truth has ink there that is gone, too. The fit is a logistic regression by Newton's method; a page with many pieces weighs
as much as the root of their number. Prints the weights, above 0 for what was no stroke, and what they decide wrongly of pages
that the fit did not see.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

import gate

FOLDS = 5
RIDGE = 1e-3
# A piece is no stroke from odds of 2 to 9 on: pages lose their strokes by the dozen, and stains one by one.
BAR = -1.5
RULE_FLAT = 12  # as in pieces.rs: what is flatter is a part of a rule without being asked
STROKE_MIN, STAIN_MAX = 0.3, 0.05  # share of a piece's area that is ink of the truth; what lies between is not used


class Pieces(NamedTuple):
    """Features float [N, 9], whether each was no stroke, bool [N], and the number of its page, int [N]."""

    features: np.ndarray
    stain: np.ndarray
    page: np.ndarray


def of_case(case: gate.Case, answer: dict) -> list[tuple[list[float], bool]]:
    """Features of the pieces that are gone from a page, and whether each was no stroke."""
    there = cv2.dilate((case.output < gate.FADED).astype(np.uint8), np.ones((3, 3)))
    gone = (case.truth < gate.INK) & (there == 0)
    found = []
    for piece in answer["pieces"]:
        width, height = piece["right_px"] - piece["left_px"], piece["bottom_px"] - piece["top_px"]
        ink = gone[piece["top_px"] : piece["bottom_px"], piece["left_px"] : piece["right_px"]].sum() / piece["area_px"]
        if width < RULE_FLAT * height and not STAIN_MAX < ink < STROKE_MIN:
            found.append((piece["features"], bool(ink <= STAIN_MAX)))
    return found


def collect(args: argparse.Namespace) -> Pieces:
    """The pieces of all cases of all seeds."""
    features, stain, page = [], [], []
    for seed in args.seed:
        good, bad, _ = gate.collect(argparse.Namespace(**{**vars(args), "seed": seed}))
        # Of a page that was blanked all strokes are gone, which outweighs everything else.
        cases = [case for case in good + bad if case.kind != "blanked"]
        for case, answer in zip(cases, gate.judged(args.gate, cases, "--pieces"), strict=True):
            for known, is_stain in of_case(case, answer):
                features.append(known)
                stain.append(is_stain)
                page.append(hash(case.truth.tobytes()))  # good and damaged of one page belong together
    _, number = np.unique(page, return_inverse=True)
    return Pieces(np.array(features), np.array(stain), number)


def fit(pieces: Pieces) -> np.ndarray:
    """Weights [9] of the logistic regression, by Newton's method."""
    x, y = pieces.features, pieces.stain.astype(float)
    count = np.bincount(pieces.page)[pieces.page]
    share, weights = count**-0.5, np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        slope = x.T @ (share * (y - p)) - RIDGE * weights
        bend = (x * (share * p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(len(weights))
        weights = weights + np.linalg.solve(bend, slope)
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("gate", type=Path)
    parser.add_argument("--seed", type=int, nargs="+", default=[8_000_000, 8_010_000, 9_000_000])
    parser.add_argument("--cases", type=int, default=200, help="good ones and damaged ones of each seed")
    parser.add_argument("--pages", type=Path)
    args = parser.parse_args()
    args.good = args.damaged = args.cases
    cv2.setNumThreads(1)
    pieces = collect(args)
    wrong = np.zeros((2, 2), int)
    for fold in range(FOLDS):
        held = pieces.page % FOLDS == fold
        weights = fit(Pieces(*(part[~held] for part in pieces)))
        said = pieces.features[held] @ weights > BAR
        np.add.at(wrong, (pieces.stain[held].astype(int), said.astype(int)), 1)
    print(f"{len(pieces.stain)} pieces of {pieces.page.max() + 1} pages; pages that the fit did not see:")
    print(f"of {wrong[0].sum()} strokes {wrong[0, 1]} were taken for stains; of {wrong[1].sum()} stains {wrong[1, 0]} for strokes")
    weights = fit(pieces)
    weights[-1] -= BAR
    print("weights:", ", ".join(f"{weight:.2f}" for weight in weights))


if __name__ == "__main__":
    main()
