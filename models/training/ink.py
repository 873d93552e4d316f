"""What is printed on a synthetic page: the clean truth.

Every function draws on a page and returns nothing, or returns a float32 array [H, W], 0 ink and 1 paper. All chance
comes from the generator given.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

import typefaces
from typefaces import Face

Rng = np.random.Generator


@dataclass(frozen=True)
class Canvas:
    """A page being drawn: the picture, its pen, the fonts, the type size in pixels, and the shade of ink (0..255)."""

    image: Image.Image
    pen: ImageDraw.ImageDraw
    faces: tuple[Face, ...]
    size_px: int
    ink: int

    def font(self, rng: Rng, size_px: int | None = None) -> tuple[typefaces.ImageFont.FreeTypeFont, str]:
        """A random font at a size, and one of its alphabets (Latin half of the time)."""
        face = self.faces[int(rng.integers(len(self.faces)))]
        alphabet = "latin" if rng.random() < 0.5 else face.alphabets[int(rng.integers(len(face.alphabets)))]
        return typefaces.load(face.path, max(7, size_px or self.size_px)), alphabet


def type_size(rng: Rng) -> int:
    """Height of the type in pixels, 8 to 190: mostly body text at 150 to 300 dpi."""
    low, high = ((8, 18), (16, 42), (40, 190))[int(rng.choice(3, p=(0.15, 0.5, 0.35)))]
    return int(np.exp(rng.uniform(np.log(low), np.log(high))))


def paragraphs(rng: Rng, c: Canvas, box: tuple[int, int, int, int] | None = None) -> None:
    """Lines of text that fill a box (x0, y0, x1, y1), or the page; headings, indents, gaps and changes of font."""
    width, height = c.image.size
    margin = int(rng.integers(-c.size_px, 40 + c.size_px))
    x0, y, x1, y1 = box or (margin, int(rng.integers(-c.size_px, 20)), width + c.size_px, height)
    size, lead = c.size_px, rng.uniform(1.05, 1.7)
    (font, alphabet), upper = c.font(rng), rng.random() < 0.08
    while y < y1:
        x = x0 + (size if rng.random() < 0.12 else 0)
        end = x1 if rng.random() > 0.12 else x0 + (x1 - x0) * rng.random()
        while x < end:
            text = typefaces.word(rng, alphabet)
            text = text.upper() if upper else text
            length = font.getlength(text)
            if box and x + length > x1:
                break
            c.pen.text((x, y), text, fill=c.ink, font=font)
            x += int(length + size * rng.uniform(0.22, 0.35)) + 1
        y += max(2, int(size * lead * (1 if rng.random() > 0.06 else rng.uniform(1.5, 4))))
        change = rng.random()
        if change < 0.06:
            font, alphabet = c.font(rng)
        elif change < 0.09:
            font, alphabet = c.font(rng, int(c.size_px * rng.choice([0.6, 1.6, 2.2])))


def columns(rng: Rng, c: Canvas) -> None:
    """Two or three columns, now and then with a rule between."""
    width, height = c.image.size
    count = int(rng.integers(2, 4))
    step = width // count
    for i in range(count):
        paragraphs(rng, c, (i * step + 8, int(rng.integers(0, 30)), (i + 1) * step - 8, height))
        if i and rng.random() < 0.4:
            c.pen.line((i * step, 0, i * step, height), fill=c.ink, width=int(rng.integers(1, 3)))


def table(rng: Rng, c: Canvas) -> None:
    """A ruled table of words and numbers."""
    width, height = c.image.size
    row, column = int(c.size_px * rng.uniform(1.3, 2.2)) + 4, int(c.size_px * rng.uniform(3, 8)) + 20
    (font, alphabet), rule = c.font(rng), int(rng.integers(1, 4))
    x0, y0 = int(rng.integers(-20, 40)), int(rng.integers(-20, 40))
    across, down = rng.random() < 0.8, rng.random() < 0.7
    for y in range(y0, height, row):
        if across:
            c.pen.line((x0, y, width, y), fill=c.ink, width=rule)
        for x in range(x0, width, column):
            if rng.random() < 0.85:
                c.pen.text((x + 5, y + (row - c.size_px) // 2), typefaces.word(rng, alphabet), fill=c.ink, font=font)
    for x in range(x0, width, column):
        if down:
            c.pen.line((x, y0, x, height), fill=c.ink, width=rule)


def form(rng: Rng, c: Canvas) -> None:
    """Labels with lines or boxes to fill in, some of them filled in by another font, and boxes to tick."""
    width, height = c.image.size
    (label, alphabet), (hand, other) = c.font(rng), c.font(rng, int(c.size_px * 1.2))
    y = int(rng.integers(0, 30))
    while y < height:
        text = typefaces.word(rng, alphabet)
        x = int(rng.integers(4, 30))
        c.pen.text((x, y), text, fill=c.ink, font=label)
        x += int(label.getlength(text)) + 10
        end, base = int(x + rng.uniform(0.3, 1) * width), y + int(c.size_px * 1.15)
        kind = rng.random()
        if kind < 0.4:
            c.pen.line((x, base, end, base), fill=c.ink, width=int(rng.integers(1, 3)))
        elif kind < 0.6:
            for dot in range(x, end, max(4, c.size_px // 3)):
                c.pen.ellipse((dot, base - 1, dot + 1, base), fill=c.ink)
        elif kind < 0.85:
            c.pen.rectangle((x, y - 2, end, base + 3), outline=c.ink, width=int(rng.integers(1, 4)))
        else:
            side = c.size_px
            c.pen.rectangle((x, y, x + side, y + side), outline=c.ink, width=max(1, side // 12))
            if rng.random() < 0.5:
                c.pen.line((x, y, x + side, y + side), fill=c.ink, width=2)
                c.pen.line((x + side, y, x, y + side), fill=c.ink, width=2)
        if rng.random() < 0.5:
            c.pen.text((x + 6, y - c.size_px // 10), typefaces.word(rng, other), fill=c.ink, font=hand)
        y += int(c.size_px * rng.uniform(1.6, 3)) + 4


def scribble(rng: Rng, c: Canvas) -> None:
    """A signature: a smooth pen stroke through random points."""
    width, height = c.image.size
    count = int(rng.integers(6, 16))
    span_x, span_y = rng.uniform(80, 300), rng.uniform(20, 120)
    x = rng.uniform(0, width - 60) + np.sort(rng.uniform(0, span_x, count)) + rng.normal(0, span_x / 12, count)
    y = rng.uniform(0, height - 30) + rng.uniform(0, span_y, count)
    knots, fine = np.arange(count), np.linspace(0, count - 1, count * 12)
    smooth = np.hanning(15) / np.hanning(15).sum()
    line = [np.convolve(np.pad(np.interp(fine, knots, v), 7, "edge"), smooth, "valid") for v in (x, y)]
    points = list(zip(*[v.tolist() for v in line], strict=True))
    c.pen.line(points, fill=c.ink, width=int(rng.integers(1, 5)), joint="curve")


def drawing(rng: Rng, c: Canvas) -> None:
    """A line drawing: lines, circles, polygons, hatching and labels."""
    width, height = c.image.size
    for _ in range(int(rng.integers(3, 14))):
        x, y = rng.uniform(-40, width), rng.uniform(-40, height)
        w, h, pen = rng.uniform(10, 250), rng.uniform(10, 250), int(rng.integers(1, 5))
        kind = int(rng.integers(6))
        if kind == 0:
            c.pen.ellipse((x, y, x + w, y + h), outline=c.ink, width=pen)
        elif kind == 1:
            c.pen.rectangle((x, y, x + w, y + h), outline=c.ink, width=pen)
        elif kind == 2:
            c.pen.arc((x, y, x + w, y + h), rng.uniform(0, 180), rng.uniform(180, 360), fill=c.ink, width=pen)
        elif kind == 3:
            points = [(x + rng.uniform(0, w), y + rng.uniform(0, h)) for _ in range(int(rng.integers(2, 7)))]
            c.pen.line(points, fill=c.ink, width=pen)
        elif kind == 4:
            for i in range(0, int(w), int(rng.integers(4, 12))):
                c.pen.line((x + i, y, x + i + h / 3, y + h), fill=c.ink, width=1)
        else:
            scribble(rng, c)
        font, alphabet = c.font(rng, min(c.size_px, 40))
        c.pen.text((x + w / 2, y + h / 2), typefaces.word(rng, alphabet), fill=c.ink, font=font)


def formula(rng: Rng, c: Canvas) -> None:
    """Lines of letters with raised, lowered and stacked parts and fraction bars."""
    width, height = c.image.size
    small = max(7, int(c.size_px * 0.65))
    y = int(rng.integers(0, 40))
    while y < height:
        x, (font, _), (little, _) = int(rng.integers(0, 40)), c.font(rng), c.font(rng, small)
        while x < width:
            text = "abcdefnkxyzABCT0123456789+-=()"[int(rng.integers(30))]
            c.pen.text((x, y), text, fill=c.ink, font=font)
            x += int(font.getlength(text)) + 2
            kind = rng.random()
            if kind < 0.3:
                shift = -small // 3 if kind < 0.18 else int(c.size_px * 0.7)
                c.pen.text((x, y + shift), str(int(rng.integers(99))), fill=c.ink, font=little)
                x += small
            elif kind < 0.4:
                bar, middle = int(c.size_px * rng.uniform(1, 4)), y + int(c.size_px * 0.65)
                c.pen.line((x, middle, x + bar, middle), fill=c.ink, width=max(1, c.size_px // 20))
                c.pen.text((x + bar // 4, middle - c.size_px), "n", fill=c.ink, font=little)
                c.pen.text((x + bar // 4, middle + 2), "2k", fill=c.ink, font=little)
                x += bar + 4
        y += int(c.size_px * rng.uniform(2, 3.2))


def picture(rng: Rng, page: np.ndarray) -> np.ndarray:
    """The page [H, W] with a photograph in a box, of continuous tone or as a halftone of round dots; tones are made up."""
    height, width = page.shape
    h, w = int(rng.uniform(0.2, 0.8) * height), int(rng.uniform(0.2, 0.8) * width)
    top, left = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
    tone = sum(
        cv2.resize(rng.standard_normal((n, n)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC) / n**0.5
        for n in (3, 6, 12, 24)
    )
    for _ in range(int(rng.integers(0, 6))):  # things with an edge
        at = (int(rng.integers(w)), int(rng.integers(h)))
        size = (int(rng.uniform(0.05, 0.4) * w) + 1, int(rng.uniform(0.05, 0.4) * h) + 1)
        cv2.ellipse(tone, at, size, rng.uniform(0, 180), 0, 360, rng.normal(0, 1), -1, cv2.LINE_AA)
    tone = np.clip(0.5 + 0.35 * (tone - tone.mean()) / (tone.std() + 1e-6), 0.03, 0.97)
    if rng.random() < 0.7:
        y, x = np.mgrid[0:h, 0:w].astype(np.float32)
        turn, pitch = rng.uniform(0, np.pi / 2), rng.uniform(3, 9)
        u, v = (x * np.cos(turn) + y * np.sin(turn)) / pitch, (y * np.cos(turn) - x * np.sin(turn)) / pitch
        screen = 0.5 + 0.25 * (np.cos(2 * np.pi * u) + np.cos(2 * np.pi * v))
        tone = np.clip((tone - screen) * pitch / 2 + 0.5, 0, 1)  # an edge about a pixel wide
    page = page.copy()
    page[top : top + h, left : left + w] = tone
    return page


def blank(_rng: Rng, _c: Canvas) -> None:
    """Nothing: an empty page must come out white."""


KINDS = (
    (paragraphs, 0.56),
    (columns, 0.08),
    (table, 0.1),
    (form, 0.08),
    (drawing, 0.08),
    (formula, 0.06),
    (blank, 0.04),
)


def extras(rng: Rng, c: Canvas) -> None:
    """Rules, a white-on-black box, a signature, a stamp: now and then, over whatever the page is."""
    width, height = c.image.size
    if rng.random() < 0.15:
        for _ in range(int(rng.integers(1, 8))):
            at, pen = int(rng.integers(min(width, height))), int(rng.integers(1, max(3, c.size_px // 5)))
            c.pen.line((0, at, width, at) if rng.random() < 0.5 else (at, 0, at, height), fill=c.ink, width=pen)
    if rng.random() < 0.08:
        (font, alphabet), x, y = c.font(rng), int(rng.integers(width - 60)), int(rng.integers(height - 40))
        c.pen.rectangle((x, y, x + int(rng.integers(60, 320)), y + int(c.size_px * rng.uniform(1.1, 2.5))), fill=c.ink)
        c.pen.text((x + 5, y + 2), " ".join(typefaces.words(rng, alphabet, 2)), fill=255, font=font)
    if rng.random() < 0.1:
        scribble(rng, c)
    if rng.random() < 0.05:
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(25, 80)
        for ring in (r, r * 0.8):
            c.pen.ellipse((x - ring, y - ring, x + ring, y + ring), outline=c.ink, width=2)
        font, alphabet = c.font(rng, int(r / 3))
        c.pen.text((x - r * 0.6, y - r * 0.2), typefaces.word(rng, alphabet), fill=c.ink, font=font)


def clean_page(rng: Rng, side: int, faces: tuple[Face, ...]) -> tuple[np.ndarray, int]:
    """A clean page float32 [side, side] and its type size in pixels."""
    image = Image.new("L", (side, side), 255)
    c = Canvas(image, ImageDraw.Draw(image), faces, type_size(rng), int(rng.choice([0, 0, 0, 0, 20, 40])))
    kind = KINDS[int(rng.choice(len(KINDS), p=[p for _, p in KINDS]))][0]
    kind(rng, c)
    if kind is not blank:
        extras(rng, c)
    page = np.asarray(image, np.float32) / 255
    if rng.random() < 0.04:
        page = picture(rng, page)
    style = rng.random()
    if style < 0.25:
        page = cv2.GaussianBlur(page, (0, 0), rng.uniform(0.3, 0.6))
    elif style < 0.32:
        page = (page > 0.5).astype(np.float32)  # truth of pages that were scanned in black and white
    return page, c.size_px
