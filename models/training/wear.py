"""What presses, copiers and lamps do to a page: faded ink, missing lines, glare, dirt, streaks, dusk.

Pages and papers are float32 [H, W], 0 is black and 1 is white. One kind at most befalls a page. The held-out pages are
drawn without them, so that versions are measured on the same pages; Augraphy's pages stand for such damage there.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from damage import Field, Rng, clouds, gauss, grid

SHARE = 0.25  # part of the pages
BARE = 0.5  # part of those that have no other damage to their paper
SCALES = ((128, 64), (32, 16, 8), (8, 4, 2))  # of the clouds in which ink fades, in pixels


def faded(rng: Rng, page: Field, paper: Field) -> Field:
    """Ink that took unevenly or wore off: in places as little as 8 % of it is left."""
    where = clouds(rng, page.shape[0], SCALES[int(rng.integers(3))])
    loss = np.clip(rng.uniform(0.1, 0.75) + rng.uniform(0.05, 0.35) * where, 0, 0.92)
    return page + (paper - page) * loss


def missing_lines(rng: Rng, page: Field, paper: Field) -> Field:
    """Rows or columns that a worn drum or head prints too light or not at all, at even or at chance distances."""
    side = page.shape[0]
    loss, thick = np.zeros(side, np.float32), int(rng.integers(1, 4))
    count = int(rng.integers(4, max(5, side // (4 * thick))))
    starts = rng.uniform(0, side, count) if rng.random() < 0.5 else np.arange(0, side, max(3 * thick, side // count))
    for start in starts:
        loss[int(start) : int(start) + thick] = rng.uniform(0.3, 1)
    across = np.broadcast_to(loss[:, None] if rng.random() < 0.7 else loss[None], page.shape)
    return page + (paper - page) * across * rng.uniform(0.6, 1)


def glare(rng: Rng, page: Field, _paper: Field) -> Field:
    """Lamps mirrored by the paper: one to four bright spots that wash out ink and paper alike."""
    y, x = grid(page.shape[0])
    for _ in range(int(rng.integers(1, 5))):
        turn, radius = rng.uniform(0, np.pi), rng.uniform(30, 300)
        down, right = y - rng.uniform(0, page.shape[0]), x - rng.uniform(0, page.shape[0])
        along, beside = down * np.cos(turn) + right * np.sin(turn), right * np.cos(turn) - down * np.sin(turn)
        away = np.hypot(along, beside * rng.uniform(1, 4)) / radius
        page = page + (1 - page) * rng.uniform(0.2, 0.85) * np.exp(-(away ** rng.uniform(1.5, 6)))
    return page


def dirt(rng: Rng, page: Field, _paper: Field) -> Field:
    """Dense dark grain of a bad photocopy, in clouds or along one edge."""
    side = page.shape[0]
    if rng.random() < 0.6:
        density = np.clip(clouds(rng, side, (128, 64, 32)) - rng.uniform(-0.5, 1.5), 0, 1)
    else:
        density = np.rot90(np.exp(-grid(side)[0] / rng.uniform(8, 80)), int(rng.integers(4)))
    dots = (rng.random(page.shape) < rng.uniform(0.05, 0.6) * density).astype(np.float32)
    if rng.random() < 0.6:
        dots = np.minimum(gauss(dots, rng.uniform(0.5, 1.3)) * rng.uniform(1, 2), 1)
    return page * (1 - dots * rng.uniform(0.3, 1))


def streaks(rng: Rng, page: Field, _paper: Field) -> Field:
    """Dark streaks of a dirty drum and bands of its rollers, along rows or columns."""
    side = page.shape[0]
    profile = np.zeros(side, np.float32)
    for _ in range(int(rng.integers(1, 12))):
        start, thick = int(rng.integers(side)), int(np.exp(rng.uniform(0, 4)))
        profile[start : start + thick] += rng.uniform(0.05, 0.45)
    dark = np.tile(cv2.GaussianBlur(profile[:, None], (1, 0), rng.uniform(0.3, 6)), (1, side))
    grain = rng.standard_normal(page.shape).astype(np.float32) * rng.uniform(0, 0.5)
    dark = dark * np.clip(1 + 0.5 * clouds(rng, side, (64, 16)) + grain, 0, 2)
    return page * (1 - np.clip(dark if rng.random() < 0.5 else dark.T, 0, 0.6))


def dusk(rng: Rng, page: Field, _paper: Field) -> Field:
    """Too little light, and the noise of a sensor that makes up for it; sometimes of only a part of the page."""
    part = np.float32(1)
    if rng.random() < 0.5:
        part = gauss(clouds(rng, page.shape[0], (128, 64)) > rng.uniform(-1, 1), rng.uniform(1, 30))
    dark = page * rng.uniform(0.2, 0.6) + rng.uniform(0.02, 0.1) * rng.standard_normal(page.shape).astype(np.float32)
    return page + part * (dark - page)


Kind = Callable[[Rng, Field, Field], Field]
KINDS: tuple[tuple[Kind, float], ...] = (
    *((faded, 0.35), (missing_lines, 0.15), (glare, 0.15)),
    *((dirt, 0.12), (streaks, 0.12), (dusk, 0.11)),
)


def chosen(rng: Rng) -> Kind | None:
    """The wear of a page, if it has any."""
    if rng.random() >= SHARE:
        return None
    return KINDS[int(rng.choice(len(KINDS), p=[chance for _, chance in KINDS]))][0]


def worn(rng: Rng, kind: Kind, page: Field, paper: Field) -> Field:
    """The page [H, W], printed on `paper` of the same shape, after that wear."""
    return np.clip(kind(rng, page, paper), 0, 1.05).astype(np.float32)
