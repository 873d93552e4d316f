"""Errors of a cleaner on pages, and the classical cleaners to beat. A cleaner maps uint8 [H, W] to uint8 [H, W]."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import pages
from model import MULTIPLE, Denoiser

Cleaner = Callable[[np.ndarray], np.ndarray]


def padded(page: np.ndarray, multiple: int = MULTIPLE) -> np.ndarray:
    """The page mirrored at its right and lower edge up to the next multiple."""
    return np.pad(page, [(0, -n % multiple) for n in page.shape], "reflect")


def network(net: Denoiser) -> Cleaner:
    """A network as a cleaner, in float32."""
    device = next(net.parameters()).device

    def clean(page: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(padded(page)).to(device)[None, None].float() / 255
        with torch.no_grad():
            out = (net(x) * 255).round().to(torch.uint8)[0, 0].cpu().numpy()
        return out[: page.shape[0], : page.shape[1]]

    return clean


def _stretched(page: np.ndarray, paper: np.ndarray) -> np.ndarray:
    """The page over its paper, with paper at white and ink (below 0.2 of the paper) at black."""
    quotient = page.astype(np.float32) / (paper.astype(np.float32) + 1e-3)
    return (np.clip((quotient - 0.2) / 0.7, 0, 1) * 255).round().astype(np.uint8)


def median_divide(page: np.ndarray, window: int = 21) -> np.ndarray:
    """The page over a median of itself, the window being wider than strokes."""
    return _stretched(page, cv2.medianBlur(page, window))


def closing_divide(page: np.ndarray, window: int = 7) -> np.ndarray:
    """The page over a morphological closing of itself, blurred."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (window, window))
    return _stretched(page, cv2.GaussianBlur(cv2.morphologyEx(page, cv2.MORPH_CLOSE, kernel), (0, 0), 2))


def rmse(cleaner: Cleaner, pairs: Iterable[pages.Pair]) -> dict[str, float]:
    """Root mean square error over all pixels, by kind of page, on the scale 0..1."""
    squares: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for pair in pairs:
        error = (cleaner(pair.noisy).astype(np.float64) - pair.clean) / 255
        squares[pair.kind] += float((error**2).sum())
        counts[pair.kind] += error.size
    return {kind: (squares[kind] / counts[kind]) ** 0.5 for kind in sorted(squares)}


@functools.lru_cache(maxsize=2)
def held_pages(first_seed: int, count: int, side: int) -> tuple[pages.Pair, ...]:
    """Synthetic pages of seeds and fonts that no training sees, without real backgrounds."""
    return tuple(pages.page(seed, side, held_out=True) for seed in range(first_seed, first_seed + count))


def quick(net: Denoiser, settings: dict[str, Any]) -> dict[str, float]:
    """Figures for the log of the training: VA with coffee and footprints together, and the held-out pages."""
    s, cleaner = settings["pages"], network(net)
    valid = [p._replace(kind="va_cp") for p in pages.office(Path(settings["office"]["folder"]), "VA") if p.kind in "cp"]
    held = held_pages(s["held_seed"], s["held_pages"], s["side_px"])
    return {**rmse(cleaner, valid), **{"held": v for v in rmse(cleaner, held).values()}}
