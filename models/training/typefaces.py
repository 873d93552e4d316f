"""Fonts of this machine that really hold the letters drawn with them, and words to draw."""

from __future__ import annotations

import functools
import glob
import logging
import os
import zlib
from dataclasses import dataclass

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

FOLDERS = ("/usr/share/fonts", "/usr/share/texmf/fonts", "/usr/local/share/fonts")
HELD_OUT_PERCENT = 15
# Symbol fonts map letters to pictures; these parts of file names tell them.
NOT_TEXT = ("symbol", "dingbat", "d050000l", "math", "icon", "emoji", "keyboard", "initial", "ornament", "awesome")
# fontTools warns of flaws of old fonts that do not matter for drawing.
logging.getLogger("fontTools").setLevel(logging.ERROR)
ALPHABETS = {
    "latin": ("aeiouy", "bcdfghjklmnpqrstvwxz"),
    "cyrillic": ("аеиоуыэюя", "бвгджзйклмнпрстфхцчшщь"),
    "greek": ("αεηιουω", "βγδζθκλμνξπρστφχψ"),
}
EXTRA = "0123456789.,;:()-!?"


@dataclass(frozen=True)
class Face:
    """A font file and the alphabets that it holds in full."""

    path: str
    alphabets: tuple[str, ...]


def _letters(alphabet: str) -> str:
    lower = "".join(ALPHABETS[alphabet])
    return lower + lower.upper()


def _distinct(path: str, letters: str) -> bool:
    """Whether the letters are drawn, and drawn differently: a box for a missing glyph looks the same for all."""
    font = ImageFont.truetype(path, 24)
    seen: set[bytes] = set()
    for letter in letters:
        image = Image.new("L", (48, 48))
        ImageDraw.Draw(image).text((8, 8), letter, fill=255, font=font)
        if image.getbbox() is None:
            return False
        seen.add(image.tobytes())
    return len(seen) >= 0.9 * len(letters)


def _alphabets(path: str) -> tuple[str, ...]:
    """The alphabets a font holds; none if it is broken or lacks Latin letters, digits or punctuation."""
    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            held = set(font.getBestCmap() or ())
        if not set(map(ord, EXTRA)) <= held:
            return ()
        return tuple(a for a in ALPHABETS if set(map(ord, _letters(a))) <= held and _distinct(path, _letters(a)[::3]))
    except Exception:  # a font that any of the two libraries cannot read is of no use, whatever the reason
        return ()


@functools.cache
def faces(held_out: bool) -> tuple[Face, ...]:
    """All usable fonts, sorted by file name; `held_out` picks the 15 % (by a hash of the name) never trained on."""
    paths: dict[str, str] = {}
    for folder in FOLDERS:
        for path in glob.glob(f"{folder}/**/*.[to]tf", recursive=True):
            paths.setdefault(os.path.basename(path), path)
    found: list[Face] = []
    spare: list[Face] = []
    for name in sorted(paths):
        if any(part in name.lower() for part in NOT_TEXT):
            continue
        held = zlib.crc32(name.encode()) % 100 < HELD_OUT_PERCENT
        if held != held_out and len(spare) >= 4:
            continue
        alphabets = _alphabets(paths[name])
        if "latin" in alphabets:
            (found if held == held_out else spare).append(Face(paths[name], alphabets))
    # A machine with a handful of fonts may have none held out: the smoke test still needs something to draw with.
    usable = found or spare
    if not usable:
        raise RuntimeError(f"no usable font under {', '.join(FOLDERS)}; see fonts.txt")
    return tuple(usable)


@functools.lru_cache(maxsize=512)
def load(path: str, size_px: int) -> ImageFont.FreeTypeFont:
    """A font at a size; cached, as a page draws many words with few fonts."""
    return ImageFont.truetype(path, size_px)


def word(rng: np.random.Generator, alphabet: str) -> str:
    """A made-up word, number or abbreviation of an alphabet, with punctuation now and then."""
    if rng.random() < 0.08:
        text = str(int(10 ** rng.uniform(0, 5)))
    else:
        letters, turn = ALPHABETS[alphabet], int(rng.integers(2))
        pools = [letters[(turn + i + (rng.random() < 0.15)) % 2] for i in range(int(rng.integers(1, 11)))]
        text = "".join(pool[int(len(pool) * rng.random())] for pool in pools)
        kind = rng.random()
        text = text.upper() if kind < 0.04 else text.capitalize() if kind < 0.18 else text
    end = rng.random()
    return text + ("," if end < 0.08 else "." if end < 0.16 else ";" if end < 0.17 else ":" if end < 0.19 else "")


def words(rng: np.random.Generator, alphabet: str, count: int) -> list[str]:
    """`count` made-up words."""
    return [word(rng, alphabet) for _ in range(count)]
