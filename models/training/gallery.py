"""Draws the pages of docs/pictures: five kinds of pages of our own making, each before and after `inkpool clean`.

    python gallery.py INKPOOL FOLDER

INKPOOL is the compiled program. Everything is drawn from fixed seeds with the fonts of the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import damage

HEIGHT, WIDTH = 460, 640
SHADES, SHOWN_PX = 24, 440  # kept in a file, and its width: it stays small
SERIF = ("LiberationSerif", "DejaVuSerif")
TEXT = (
    "A page that has lain in a damp room for forty years comes back",
    "with rings of coffee, folds, and the shadow of whatever was",
    "printed on its other side. The letters are still there.",
    "To read them again one has to tell ink from stain: the ink is",
    "thin, dark and sharp; the stain is wide and has soft edges.",
    "Lay the page flat, light it evenly, and keep the picture;",
    "clean a copy of it, and look at both before you throw away",
    "the paper. (c) 1883, 1921; pp. 14-27, fig. 3b, price 6d.",
)


def font(size_px: int, style: str = "Regular") -> ImageFont.FreeTypeFont:
    """A serif font of the machine."""
    for family in SERIF:
        for name in (f"{family}-{style}.ttf", f"{family}.ttf"):
            try:
                return ImageFont.truetype(name, size_px)
            except OSError:
                continue
    raise SystemExit(f"none of {', '.join(SERIF)} is installed")


def printed(lines: tuple[str, ...] = TEXT, top: int = 84, title: str = "On the keeping of old papers") -> Image.Image:
    """A white page with a title and lines of text, RGB."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    pen.text((36, 28), title, fill="black", font=font(30, "Bold"))
    for number, line in enumerate(lines):
        pen.text((36, top + number * 32), line, fill="black", font=font(21))
    return image


def levels(image: Image.Image) -> np.ndarray:
    """float32 [H, W] or [H, W, 3] in 0..1."""
    return np.asarray(image, np.float32) / 255


def square(layer: Callable[[np.random.Generator, int], np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A layer of damage of the page's size."""
    return layer(rng, WIDTH)[:HEIGHT]


def ink_on(paper: np.ndarray, page: np.ndarray, blur: float) -> np.ndarray:
    """The page printed on a paper of brightness 0..1, seen through a lens."""
    return paper * (0.1 + 0.9 * cv2.GaussianBlur(page, (0, 0), blur))


def stained(rng: np.random.Generator) -> np.ndarray:
    """Stains, folds, wrinkles and what shines through, gray."""
    page = levels(printed().convert("L"))
    paper = 0.88 + sum(square(layer, rng) for layer in (damage.stains, damage.folds, damage.wrinkles))
    paper -= 0.1 * (1 - cv2.GaussianBlur(page[:, ::-1], (0, 0), 2))
    return ink_on(np.clip(paper, 0.2, 1).astype(np.float32), page, 0.6) + 0.008 * rng.standard_normal(page.shape)


def phone(rng: np.random.Generator) -> np.ndarray:
    """A photograph by lamp light with the shadow of a hand, in colour."""
    page = levels(printed())
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    light = 0.95 - 0.35 * np.hypot(x / WIDTH - 0.3, y / HEIGHT - 0.2)
    edge = x - 380 - 0.5 * y + 24 * np.sin(y / 35)
    light *= 1 - 0.42 / (1 + np.exp(-edge / 9))
    tint = np.array([1.0, 0.95, 0.86], np.float32)
    shot = ink_on(light[..., None] * tint, page, 0.9) + 0.015 * rng.standard_normal((HEIGHT, WIDTH, 1))
    coded = cv2.imencode(".jpg", (np.clip(shot, 0, 1) * 255).astype(np.uint8)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255


def fax(rng: np.random.Generator) -> np.ndarray:
    """One bit a pixel, with specks, streaks and ragged edges, gray."""
    page = cv2.GaussianBlur(levels(printed().convert("L")), (0, 0), 0.9)
    bits = (page + 0.11 * rng.standard_normal(page.shape) > 0.55).astype(np.float32)
    bits[rng.random(page.shape) < 0.004] = 0
    for row in rng.integers(0, HEIGHT, 5):
        bits[row, int(rng.integers(0, 300)) : int(rng.integers(340, WIDTH))] = 0
    return bits


def form(rng: np.random.Generator) -> np.ndarray:
    """A tinted form with rules, a signature in blue, a highlighter and a red stamp, stained by coffee."""
    image = printed(("Name", "Date of birth", "Reason", "I have read the notes overleaf.", "", "Signature"), 92, "Request for a reader's ticket")
    pen = ImageDraw.Draw(image)
    for number, filled in enumerate(("Anna Berg", "3 May 1901", "Parish registers")):
        y = 92 + number * 32
        pen.line((200, y + 26, 480, y + 26), fill="black", width=1)
        pen.text((210, y), filled, fill=(28, 48, 140), font=font(22, "Italic"))
    along = np.linspace(0, 1, 120)
    stroke = [(200 + 190 * t, 262 + 16 * np.sin(19 * t) * (1 - 0.6 * t) + 8 * np.sin(5 * t)) for t in along]
    pen.line(stroke, fill=(28, 48, 140), width=3, joint="curve")
    pen.line((190, 282, 430, 282), fill="black", width=1)
    marker = Image.new("RGB", image.size, "white")
    ImageDraw.Draw(marker).rectangle((32, 188, 318, 214), fill=(255, 240, 70))
    stamp = Image.new("RGB", (190, 190), "white")
    pen = ImageDraw.Draw(stamp)
    for r in (90, 80, 52):
        pen.ellipse((95 - r, 95 - r, 95 + r, 95 + r), outline=(196, 30, 40), width=4)
    pen.text((58, 78), "PAID", fill=(196, 30, 40), font=font(30, "Bold"))
    stamp = stamp.rotate(14, fillcolor="white")
    page = levels(image) * levels(marker)
    page[262:452, 430:620] *= levels(stamp)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    ring = np.exp(-(((np.hypot(x - 150, y - 380) - 70) / 6) ** 2))[..., None] * np.array([0.22, 0.34, 0.5])
    tint = np.array([0.97, 0.94, 0.83], np.float32)
    return ink_on(tint * (1 - ring), page, 0.6) + 0.012 * rng.standard_normal((HEIGHT, WIDTH, 1))


def illustrated(rng: np.random.Generator) -> np.ndarray:
    """Text beside a photograph of hills and a pond, on stained paper, gray."""
    page = levels(printed(("A walk round the", "upper pond in June,", "seen from the north", "bank: the hills lie", "in haze, and the", "water is quite still."), 92).convert("L"))
    y, x = np.mgrid[0:260, 0:320].astype(np.float32)
    photo = 0.86 - 0.0012 * y
    for number in range(4):
        crest = 70 + 40 * number + 26 * np.sin(x / (60 - 9 * number) + 2 * number) + 6 * damage.clouds(rng, 320, (48, 16, 6))[:260]
        shade = 0.66 - 0.14 * number + 0.05 * damage.clouds(rng, 320, (24, 8, 4))[:260]
        photo = np.where(y > crest, shade, photo)
    photo = np.where(y > 215, 0.5 + 0.3 * photo[::-1] + 0.05 * np.sin(y * 1.2 + x / 40), photo)
    page[110:370, 290:610] = np.clip(photo + 0.015 * rng.standard_normal(photo.shape), 0.04, 0.95)
    paper = 0.9 + 0.5 * square(damage.stains, rng) + 0.6 * square(damage.folds, rng)
    return ink_on(np.clip(paper, 0.4, 1).astype(np.float32), page, 0.5) + 0.008 * rng.standard_normal(page.shape)


PAGES = {"stained": (stained, 4), "phone": (phone, 1), "fax": (fax, 2), "form": (form, 3), "photograph": (illustrated, 5)}


def write(path: Path, page: Image.Image) -> None:
    """A small PNG of a page, with few shades."""
    small = page.resize((SHOWN_PX, HEIGHT * SHOWN_PX // WIDTH), Image.Resampling.LANCZOS)
    method = Image.Quantize.MEDIANCUT if small.mode == "L" else Image.Quantize.MAXCOVERAGE
    small.quantize(SHADES, method=method, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inkpool", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name, (draw, seed) in PAGES.items():
            before, after = Path(scratch, f"{name}.png"), Path(scratch, f"{name}.clean.png")
            Image.fromarray((np.clip(draw(np.random.default_rng(seed)), 0, 1) * 255).round().astype(np.uint8)).save(before)
            command = [args.inkpool, "clean", before, "-o", after, "--json"]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            gate = json.loads(done.stdout)["gate"]
            print(name, gate["verdict"], gate["harms"], f"{gate['ink_recall']:.4f}")
            for kind, path in (("before", before), ("after", after)):
                write(args.folder / f"{name}-{kind}.png", Image.open(path))


if __name__ == "__main__":
    main()
