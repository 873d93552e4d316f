"""Fits the perceptron by which the gate tells strokes that are gone from stains that are rightly gone.

    NOISYOFFICE=path python pieces.py MODEL.onnx GATE [--seed 8000000 9100000 9200000 9300000] [--cases 200] [--pages FOLDER] \
        > ../../src/pipeline/gate/weights.rs

GATE is the compiled example `gate`. Cases are those of gate.py, good and damaged, of synthetic pages and of NoisyOffice. A piece of
ink that is gone was a stroke if the truth has ink there that is gone, too. A page with many pieces weighs as much as the root of
their number. Writes the weights, above 0 for what was no stroke, and to standard error what they decide wrongly of pages
that the fit did not see.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

import gate

FOLDS = 5
UNITS = 12
STEPS = 400  # with more, pages that the fit did not see get no better
RULE_FLAT = 12  # as in pieces.rs: what is flatter is a part of a rule without being asked
STROKE_MIN, STAIN_MAX = 0.3, 0.05  # share of a piece's area that is ink of the truth; what lies between is not used
# A piece is no stroke from odds of 1 to 13 on: pages lose their strokes by the dozen, and stains one by one.
BAR = -2.6


class Pieces(NamedTuple):
    """Features float32 [N, 10], 1 for what was no stroke, float32 [N], and the number of its page, int [N]."""

    features: Tensor
    stain: Tensor
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


def cases_of(args: argparse.Namespace) -> list[gate.Case]:
    """Synthetic cases of all seeds, and those of NoisyOffice, if it is there."""
    cases: list[gate.Case] = []
    # Of a page that was blanked all strokes are gone, which outweighs everything else.
    for seed in args.seed:
        good, bad, _ = gate.collect(argparse.Namespace(**{**vars(args), "seed": seed}), None)
        cases += [case for case in good + bad if case.kind != "blanked"]
    if office := os.environ.get("NOISYOFFICE"):
        first = argparse.Namespace(**{**vars(args), "seed": args.seed[0]})
        good, bad, _ = gate.collect(first, Path(office), only_office=True)
        cases += [case for case in good + bad if case.kind != "blanked"]
    return cases


def pieces_of(program: Path, cases: list[gate.Case]) -> Pieces:
    """The pieces that are gone in all cases."""
    features, stain, page = [], [], []
    for case, answer in zip(cases, gate.judged(program, cases, "--pieces"), strict=True):
        for known, is_stain in of_case(case, answer):
            features.append(known)
            stain.append(float(is_stain))
            page.append(zlib.crc32(case.truth.tobytes()))  # good and damaged of one page belong together
    _, number = np.unique(page, return_inverse=True)
    return Pieces(torch.tensor(features), torch.tensor(stain), number)


def fit(pieces: Pieces) -> nn.Sequential:
    """The perceptron, for features as they are: scaling is in its first layer."""
    torch.manual_seed(0)
    middle, spread = pieces.features.mean(0), pieces.features.std(0)
    x = (pieces.features - middle) / spread
    share = torch.tensor(np.bincount(pieces.page)[pieces.page] ** -0.5, dtype=torch.float32)
    hidden, output = nn.Linear(x.shape[1], UNITS), nn.Linear(UNITS, 1)
    net = nn.Sequential(hidden, nn.Tanh(), output)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02, weight_decay=1e-4)
    for _ in range(STEPS):
        error = nn.functional.binary_cross_entropy_with_logits(net(x)[:, 0], pieces.stain, reduction="none")
        optimizer.zero_grad()
        ((share * error).sum() / share.sum()).backward()
        optimizer.step()
    with torch.no_grad():
        hidden.weight /= spread
        hidden.bias -= hidden.weight @ middle
    return net


def tell_of_folds(pieces: Pieces) -> None:
    """What is decided wrongly of pages that a fit did not see."""
    wrong = np.zeros((2, 2), int)
    for fold in range(FOLDS):
        held = pieces.page % FOLDS == fold
        net = fit(Pieces(pieces.features[~held], pieces.stain[~held], pieces.page[~held]))
        with torch.no_grad():
            said = net(pieces.features[held])[:, 0] > BAR
        np.add.at(wrong, (pieces.stain[held].int().numpy(), said.int().numpy()), 1)
    print(f"{len(pieces.stain)} pieces of {pieces.page.max() + 1} pages; pages that the fit did not see:", file=sys.stderr)
    strokes, stains = wrong.sum(1)
    print(f"of {strokes} strokes {wrong[0, 1]} were taken for stains,", file=sys.stderr)
    print(f"of {stains} stains {wrong[1, 0]} for strokes", file=sys.stderr)


def source(net: nn.Sequential) -> str:
    """weights.rs."""
    hidden, output = net[0], net[2]
    numbers = lambda row: ", ".join(f"{number:.3f}" for number in row.tolist())  # noqa: E731
    rows = "\n".join(f"    ([{numbers(w)}], {b:.3f})," for w, b in zip(hidden.weight, hidden.bias.tolist(), strict=True))
    return (
        "//! Written by `models/training/pieces.py`.\n\nuse super::pieces::FEATURES;\n\n"
        "/// Weights and bias of each hidden unit, in the order of the features.\n"
        f"pub const HIDDEN: [([f32; FEATURES], f32); {UNITS}] = [\n{rows}\n];\n"
        "/// Weights of the units, and the bias.\n"
        f"pub const OUTPUT: ([f32; {UNITS}], f32) = ([{numbers(output.weight[0])}], {output.bias.item() - BAR:.3f});\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("gate", type=Path)
    parser.add_argument("--seed", type=int, nargs="+", default=[8_000_000, 9_100_000, 9_200_000, 9_300_000])
    parser.add_argument("--cases", type=int, default=200, help="good ones and damaged ones of each seed")
    parser.add_argument("--pages", type=Path)
    args = parser.parse_args()
    args.good = args.damaged = args.cases
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    pieces = pieces_of(args.gate, cases_of(args))
    tell_of_folds(pieces)
    print(source(fit(pieces)), end="")


if __name__ == "__main__":
    main()
