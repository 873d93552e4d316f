"""The pages to measure on, by name; none of them is trained on."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

import pages
import peers
from pages import Pair
from typefaces import faces, load

VA = "NoisyOffice VA"
SYNTHETIC = "synthetic, fonts and seeds held out"
AUGRAPHY = "the same pages, damaged by Augraphy"
CLEAN = "the same pages, clean already"


class Read(NamedTuple):
    """A damaged page, uint8 [H, W], what is written on it, and the page before its damage if that is known."""

    noisy: np.ndarray
    text: str
    clean: np.ndarray | None = None


@functools.lru_cache(maxsize=2)
def held_pages(first_seed: int, count: int, side: int) -> tuple[Pair, ...]:
    """Synthetic pages of seeds and fonts that no training sees, without real backgrounds; some are clean on both sides."""
    return tuple(pages.page(seed, side, held_out=True) for seed in range(first_seed, first_seed + count))


def is_damaged(pair: Pair) -> bool:
    """Whether the page differs from its truth."""
    return not np.array_equal(pair.noisy, pair.clean)


def augraphed(clean: np.ndarray, seed: int) -> np.ndarray:
    """A page as Augraphy damages it, uint8 [H, W]: whatever it has for ink, paper and copying that moves no ink.

    Augraphy: the Augraphy project, Augraphy: a data augmentation library for document images, ICDAR 2023.
    """
    import augraphy as a

    random.seed(seed)
    np.random.seed(seed)
    cv2.setRNGSeed(seed)
    ink = [a.InkBleed(), a.Letterpress(), a.LowInkRandomLines(), a.LowInkPeriodicLines(), a.LinesDegradation()]
    paper = [a.NoiseTexturize(), a.BrightnessTexturize(), a.ColorPaper(), a.Stains()]
    copy = [
        *(a.DirtyDrum(), a.DirtyRollers(), a.LightingGradient(), a.ShadowCast(), a.SubtleNoise(), a.BadPhotoCopy()),
        *(a.BleedThrough(), a.LowLightNoise(), a.ReflectedLight(), a.NoisyLines(), a.Gamma(), a.Brightness(), a.Jpeg()),
    ]
    damage = [a.OneOf(ink, p=0.7), a.OneOf(paper, p=0.9), a.OneOf(copy, p=1), a.OneOf(copy, p=0.6)]
    out = cv2.cvtColor(clean, cv2.COLOR_GRAY2BGR)
    for step in damage:
        result = step(out)  # nothing if it was not its turn; some answer with masks and boxes beside the page
        result = result[0] if isinstance(result, tuple) else result
        out = out if result is None else result
    gray = cv2.cvtColor(out[..., :3], cv2.COLOR_BGR2GRAY) if out.ndim == 3 else out
    return gray if gray.shape == clean.shape else cv2.resize(gray, clean.shape[::-1])


def by_name(settings: dict, augraphy: bool) -> dict[str, list[Pair]]:
    """All sets with a known truth that are measured by RMSE."""
    pool, office = settings["pages"], Path(settings["office"]["folder"])
    held = held_pages(pool["held_seed"], pool["held_pages"], pool["side_px"])
    sets: dict[str, list[Pair]] = {}
    for pair in pages.office(office, "VA"):
        sets.setdefault(f"{VA}, {pair.kind}", []).append(pair)
        if pair.kind in "cp":
            sets.setdefault(f"{VA}, c and p", []).append(pair)
    sets = dict(sorted(sets.items()))
    sets[SYNTHETIC] = [p for p in held if is_damaged(p)]
    if augraphy:
        sets[AUGRAPHY] = [Pair(augraphed(p.clean, seed), p.clean, "s") for seed, p in enumerate(sets[SYNTHETIC])]
    sets[CLEAN] = [Pair(p.clean, p.clean, "s") for p in held]
    return sets


def prose_page(seed: int, side: int, sizes_px: tuple[int, int] = (20, 38)) -> Read:
    """A damaged page of English prose in one held-out font at a size between two, and its text."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    held = faces(True)
    face, size = held[int(rng.integers(len(held)))], int(rng.integers(*sizes_px))
    font, words = load(face.path, size), peers.prose()
    image = Image.new("L", (side, side), 255)
    pen, at, lines = ImageDraw.Draw(image), int(rng.integers(len(words) - 400)), []
    for y in range(16, side - 2 * size, int(size * 1.5)):
        line: list[str] = []
        while font.getlength(" ".join([*line, words[at]])) < side - 32:
            line.append(words[at])
            at += 1
        if not line:  # a word wider than the page
            at += 1
            continue
        pen.text((16, y), " ".join(line), fill=0, font=font)
        lines.append(" ".join(line))
    clean = np.asarray(image, np.float32) / 255
    noisy = pages.damaged(rng, clean, size, True, [])
    return Read(noisy, " ".join(lines), (clean * 255).round().astype(np.uint8))


def to_read(settings: dict, count: int) -> dict[str, list[Read]]:
    """Pages for Tesseract: VA, whose text is what it reads on the clean page, and synthetic pages of known text."""
    sets: dict[str, list[Read]] = {}
    office = [p for p in pages.office(Path(settings["office"]["folder"]), "VA") if p.kind in "cfp"]
    if office:
        # 7 has no divisor in common with the 4 noises or the 18 pages of each, so that all of them take part.
        picked = [office[i * 7 % len(office)] for i in range(min(count, len(office)))]
        sets[f"{VA}, c, f and p"] = [Read(p.noisy, peers.tesseract(p.clean)) for p in picked]
    first = settings["pages"]["held_seed"] + 50_000
    sets["synthetic pages of known text"] = [prose_page(first + i, 640) for i in range(count)]
    return sets
