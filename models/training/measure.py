"""Errors of a cleaner on pages. A cleaner maps uint8 [H, W] to uint8 [H, W]."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pages
import sets
from model import MULTIPLE, Denoiser
from peers import Cleaner


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


def rmse(cleaner: Cleaner, pairs: Iterable[pages.Pair]) -> dict[str, float]:
    """Root mean square error over all pixels, by kind of page, on the scale 0..1."""
    squares: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for pair in pairs:
        error = (cleaner(pair.noisy).astype(np.float64) - pair.clean) / 255
        squares[pair.kind] += float((error**2).sum())
        counts[pair.kind] += error.size
    return {kind: (squares[kind] / counts[kind]) ** 0.5 for kind in sorted(squares)}


def quick(net: Denoiser, settings: dict[str, Any]) -> dict[str, float]:
    """Figures for the log of the training: VA with coffee and footprints together, the held-out pages, and those clean."""
    s, cleaner = settings["pages"], network(net)
    valid = [p._replace(kind="va_cp") for p in pages.office(Path(settings["office"]["folder"]), "VA") if p.kind in "cp"]
    held = sets.held_pages(s["held_seed"], s["held_pages"], s["side_px"])
    damaged = [p._replace(kind="held") for p in held if sets.is_damaged(p)]
    clean = [pages.Pair(p.clean, p.clean, "clean") for p in held]
    return rmse(cleaner, [*valid, *damaged, *clean])
