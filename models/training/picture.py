"""Draws the picture of a page before and after: a page of our own making, damaged, and cleaned by the shipped network.

    python picture.py MODEL.onnx BEFORE.png AFTER.png [--seed 0]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import damage
from evaluate import session, shipped

HEIGHT, WIDTH = 420, 640
LEVELS = 48  # shades of gray kept in the file: the eye sees no difference, and the file is half as large
SERIF = ("LiberationSerif", "DejaVuSerif")
LINES = (
    ("On the keeping of old papers", "Bold", 30),
    ("A page that has lain in a damp room for forty years comes", "Regular", 21),
    ("back with rings of coffee, folds, and the shadow of whatever", "Regular", 21),
    ("was printed on its other side. The letters are still there.", "Regular", 21),
    ("", "Regular", 10),
    ("To read them again one has to tell ink from stain: the ink is", "Italic", 21),
    ("thin, dark and sharp; the stain is wide and has soft edges.", "Italic", 21),
    ("", "Regular", 10),
    ("1.  Lay the page flat, and light it evenly.", "Regular", 19),
    ("2.  Photograph it at 200 dots per inch or more.", "Regular", 19),
    ("3.  Keep the picture; clean a copy of it.", "Regular", 19),
    ("", "Regular", 10),
    ("(c) 1883, 1921; pp. 14-27, fig. 3b, price 6d.", "Regular", 15),
)


def font(style: str, size_px: int) -> ImageFont.FreeTypeFont:
    """A serif font of the machine in a style."""
    for family in SERIF:
        for name in (f"{family}-{style}.ttf", f"{family}.ttf"):
            try:
                return ImageFont.truetype(name, size_px)
            except OSError:
                continue
    raise SystemExit(f"none of {', '.join(SERIF)} is installed")


def truth() -> np.ndarray:
    """The clean page, float32 [H, W] in 0..1."""
    image = Image.new("L", (WIDTH, HEIGHT), 255)
    pen, y = ImageDraw.Draw(image), 24
    for text, style, size in LINES:
        pen.text((34, y), text, fill=0, font=font(style, size))
        y += int(size * 1.45)
    return np.asarray(image, np.float32) / 255


def damaged(seed: int) -> np.ndarray:
    """The page with stains, folds, wrinkles, a shadow and the other side shining through, uint8 [H, W]."""
    rng, clean = np.random.default_rng(seed), truth()
    square = np.ones((WIDTH, WIDTH), np.float32)
    square[:HEIGHT] = clean
    paper = np.full_like(square, 0.86) + 0.02 * damage.clouds(rng, WIDTH, (64, 32, 16))
    for layer in (damage.stains, damage.folds, damage.wrinkles):
        paper = paper + layer(rng, WIDTH)
    paper = paper + 0.6 * damage.shade(rng, WIDTH)
    paper = paper - 0.1 * (1 - damage.gauss(square[:, ::-1], 2))
    paper = np.clip(paper, 0.15, 1).astype(np.float32)
    page = 0.12 * paper + 0.88 * paper * damage.gauss(square, 0.6)
    page += 0.008 * rng.standard_normal(page.shape)
    return (np.clip(page, 0, 1) * 255).round().astype(np.uint8)[:HEIGHT]


def write(path: Path, page: np.ndarray) -> None:
    """Writes a page with few shades as PNG."""
    image = Image.fromarray(page).quantize(LEVELS, dither=Image.Dither.NONE)
    image.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    page = damaged(args.seed)
    write(args.before, page)
    write(args.after, shipped(session(args.model))(page))


if __name__ == "__main__":
    main()
