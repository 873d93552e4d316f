"""What happens to a page: paper, stains, folds, wrinkles, prints, shade, bleed-through, camera, fax, JPEG.

Layers are float32 [H, W], added to a paper of brightness 0..1; all chance comes from the generator given.
"""

from __future__ import annotations

import cv2
import numpy as np

Rng = np.random.Generator
Field = np.ndarray


def gauss(field: Field, sigma: float) -> Field:
    """Gaussian blur of standard deviation `sigma` pixels."""
    return cv2.GaussianBlur(np.ascontiguousarray(field, np.float32), (0, 0), sigma)


def clouds(rng: Rng, side: int, cells: tuple[int, ...], fade: float = 0.5) -> Field:
    """Noise of several scales (cell sizes in pixels, coarse first), of standard deviation 1."""
    total, weight = np.zeros((side, side), np.float32), 1.0
    for cell in cells:
        n = max(2, side // cell + 2)
        coarse = rng.standard_normal((n, n)).astype(np.float32)
        total += weight * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        weight *= fade
    return total / (total.std() + 1e-6)


def grid(side: int) -> tuple[Field, Field]:
    """Row and column of each pixel, float32 [H, W] each."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    return y, x


def plain_paper(rng: Rng, side: int) -> Field:
    """Paper with clouds, grain and fibres."""
    paper = np.full((side, side), rng.uniform(0.7, 0.99), np.float32)
    paper += rng.uniform(0, 0.03) * clouds(rng, side, (64, 32, 16, 8))
    paper += rng.uniform(0, 0.02) * rng.standard_normal((side, side)).astype(np.float32)
    if rng.random() < 0.5:
        paper += rng.uniform(0, 0.06) * gauss(rng.standard_normal((side, side)), rng.uniform(0.6, 2))
    return paper


def real_paper(rng: Rng, side: int, papers: list[Field]) -> Field:
    """A piece of a real background: turned, mirrored, scaled, with its contrast and level changed."""
    paper = papers[int(rng.integers(len(papers)))]
    paper = paper.T if rng.random() < 0.5 else paper
    scale = rng.uniform(0.8, 1.4) * max(side / paper.shape[0], side / paper.shape[1], 1)
    paper = cv2.resize(np.ascontiguousarray(paper), None, fx=scale, fy=scale)
    y, x = (int(rng.integers(0, max(1, n - side + 1))) for n in paper.shape)
    paper = cv2.resize(paper[y : y + side, x : x + side], (side, side))
    paper = paper[:: int(rng.choice([-1, 1])), :: int(rng.choice([-1, 1]))]
    return np.clip(1 - (1 - paper) * rng.uniform(0.6, 1.5) + rng.uniform(-0.08, 0.05), 0.1, 1).astype(np.float32)


def wrinkles(rng: Rng, side: int) -> Field:
    """Crumpled paper: facets of different slope between random points, at two scales."""
    total = np.zeros((side, side), np.float32)
    y, x = grid(side // 2)
    for cell, weight in ((rng.uniform(40, 140), 1.0), (rng.uniform(15, 50), 0.5)):
        count = int((side / cell) ** 2) + 4
        at = rng.uniform(-50, side + 50, (count, 2)).astype(np.float32)
        down = 2 * y + clouds(rng, side // 2, (32, 16)) * cell * 0.12
        right = 2 * x + clouds(rng, side // 2, (32, 16)) * cell * 0.12
        # Row by row: all distances of a page of 2,048 pixels at once are 11 GB.
        away = lambda dy, dx: (dy * dy + dx * dx).argmin(-1)  # noqa: E731
        rows = zip(down, right, strict=True)
        nearest = np.stack([away(dy[:, None] - at[:, 0], dx[:, None] - at[:, 1]) for dy, dx in rows])
        slope = (rng.standard_normal((count, 2)) * rng.uniform(0.5, 1.2) / cell).astype(np.float32)
        level = rng.standard_normal(count).astype(np.float32) * 0.5
        facet = level[nearest] + (down - at[nearest, 0]) * slope[nearest, 0]
        facet = facet + (right - at[nearest, 1]) * slope[nearest, 1]
        total += weight * gauss(cv2.resize(facet, (side, side)), rng.uniform(0.6, 3))
    return np.clip(total / (total.std() + 1e-6), -3, 2.2) * rng.uniform(0.03, 0.1)


def folds(rng: Rng, side: int) -> Field:
    """Straight creases, each a thin line with a soft step of brightness beside it."""
    total, (y, x) = np.zeros((side, side), np.float32), grid(side)
    for _ in range(int(rng.integers(1, 7))):
        turn = rng.uniform(0, np.pi) if rng.random() < 0.5 else rng.choice([0, np.pi / 2]) + rng.normal(0, 0.03)
        away = (x - rng.uniform(0, side)) * np.cos(turn) + (y - rng.uniform(0, side)) * np.sin(turn)
        away += clouds(rng, side, (64, 32)) * rng.uniform(0, 2)
        line = np.exp(-((away / rng.uniform(0.8, 4)) ** 2)) * rng.choice([-1, 1])
        step = rng.uniform(-0.6, 0.6) * np.sign(away) * np.exp(-np.abs(away) / rng.uniform(10, 120))
        total += rng.uniform(0.02, 0.2) * (1 + 0.5 * clouds(rng, side, (32, 16))) * (line + step)
    return total


def stains(rng: Rng, side: int) -> Field:
    """Rings, blots, smears and drops of coffee and ink."""
    total, (y, x) = np.zeros((side, side), np.float32), grid(side)
    for _ in range(int(rng.integers(1, 5))):
        radius, squeeze = rng.uniform(12, 260), rng.uniform(0.6, 1.5)
        away = np.hypot(x - rng.uniform(-0.2, 1.2) * side, (y - rng.uniform(-0.2, 1.2) * side) * squeeze) - radius
        away += clouds(rng, side, (96, 48, 24)) * radius * rng.uniform(0.01, 0.12)
        ring = np.exp(-((away / rng.uniform(2, 14)) ** 2))
        if rng.random() < 0.5:  # a ring seldom closes
            ring = ring * gauss(clouds(rng, side, (128, 64)) > rng.uniform(-1, 0.3), rng.uniform(3, 12))
        blot = 1 / (1 + np.exp(np.clip(away / rng.uniform(0.8, 4), -40, 40)))
        blot = blot * (1 + rng.uniform(0, 0.4) * clouds(rng, side, (32, 16, 8, 4)))
        kind = int(rng.integers(3))
        total -= rng.uniform(0.05, 0.62) * (ring if kind == 0 else blot if kind == 1 else 0.6 * ring + 0.5 * blot)
    for _ in range(int(rng.integers(0, 25))):
        at = (int(rng.integers(side)), int(rng.integers(side)))
        cv2.circle(total, at, int(rng.integers(1, 9)), -rng.uniform(0.05, 0.6), -1, cv2.LINE_AA)
    return gauss(total, rng.uniform(0.5, 2))


def soles(rng: Rng, side: int) -> Field:
    """A print of a sole: a turned grid of blocks, in patches and mottled."""
    total = np.zeros((side, side), np.float32)
    tread, depth = int(rng.integers(8, 60)), rng.uniform(0.02, 0.22)
    pitch = max(4, int(tread * rng.uniform(1.3, 2.2)))
    for y in range(-tread, side + tread, pitch):
        for x in range(-tread, side + tread, pitch):
            if rng.random() < 0.7:
                far = (x + int(tread * rng.uniform(0.5, 1.1)), y + int(tread * rng.uniform(0.5, 1.1)))
                pen = -1 if rng.random() < 0.6 else int(rng.integers(2, 7))
                cv2.rectangle(total, (x, y), far, -depth * rng.uniform(0.3, 1), pen)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(0, 90), 1.3)
    total = gauss(cv2.warpAffine(total, turn, (side, side), borderMode=cv2.BORDER_REFLECT), rng.uniform(1, 4))
    where = gauss(clouds(rng, side, (128, 64)) > 0, rng.uniform(4, 20))
    return total * where * (1 + 0.4 * clouds(rng, side, (16, 8, 4, 2)))


def shade(rng: Rng, side: int) -> Field:
    """A shadow or fall of light across the page, hard or soft."""
    (y, x), turn = grid(side), rng.uniform(0, 2 * np.pi)
    across = (x / side - 0.5) * np.cos(turn) + (y / side - 0.5) * np.sin(turn) - rng.uniform(-0.4, 0.4)
    across += clouds(rng, side, (256, 128)) * rng.uniform(0, 0.08)
    return -rng.uniform(0.05, 0.5) / (1 + np.exp(np.clip(-across / rng.uniform(0.01, 0.5), -40, 40)))


def laid_lines(rng: Rng, side: int) -> Field:
    """Laid paper or a scanner's stripes: waves, and noise smeared along one direction."""
    y, x = grid(side)
    along = (y if rng.random() < 0.6 else x) + clouds(rng, side, (128, 64)) * rng.uniform(0, 2)
    wave = rng.uniform(0.01, 0.06) * np.sin(2 * np.pi * along / rng.uniform(4, 30))
    length = int(rng.integers(9, 41))
    grain = rng.standard_normal((side, side)).astype(np.float32)
    window = (length, 1) if rng.random() < 0.6 else (1, length)
    smear = cv2.blur(grain, window)
    return wave * (1 + 0.5 * clouds(rng, side, (64, 16))) + smear / (smear.std() + 1e-6) * rng.uniform(0.005, 0.05)


LAYERS = ((wrinkles, 0.28), (folds, 0.35), (stains, 0.5), (soles, 0.25), (shade, 0.35), (laid_lines, 0.22))


def background(rng: Rng, side: int, papers: list[Field], behind: Field | None) -> Field:
    """Paper with its damage, 0.08..1.05; `behind` is the page on the other side, which shines through."""
    paper = real_paper(rng, side, papers) if papers and rng.random() < 0.25 else plain_paper(rng, side)
    for layer, chance in LAYERS:
        if rng.random() < chance:
            paper = paper + layer(rng, side)
    if behind is not None:
        paper = paper - rng.uniform(0.03, 0.35) * (1 - gauss(behind[:, ::-1], rng.uniform(0.8, 3.5)))
    paper = np.clip(paper, 0.08, 1.05)
    return paper * rng.uniform(0.45, 0.9) if rng.random() < 0.35 else paper


def print_on(rng: Rng, paper: Field, clean: Field, size_px: int) -> Field:
    """Ink on paper: contrast, mottle, worn letters, soft and swollen edges. `clean` and the result are [H, W]."""
    side = paper.shape[0]
    contrast = rng.uniform(0.2, 1) if rng.random() < 0.3 else rng.uniform(0.6, 1)
    ink = paper * (1 - contrast)
    if rng.random() < 0.4:
        ink = ink * (1 + rng.uniform(0, 0.5) * np.clip(clouds(rng, side, (16, 8, 4, 2)), -2, 2))
    if rng.random() < 0.5:
        ink = np.maximum(ink, rng.uniform(0, 0.15) * np.minimum(1, paper + 0.3))
    ink = np.minimum(np.clip(ink, 0, None), paper * 0.85)
    soft = gauss(clean, rng.uniform(0.3, float(np.clip(size_px / 22, 0.9, 3.2)))) if rng.random() < 0.8 else clean
    soft = np.clip(soft, 0, 1) ** rng.uniform(0.7, 1.4)
    if rng.random() < 0.2:
        worn = clouds(rng, side, (8, 4, 2)) > rng.uniform(1.6, 2.6)
        soft = np.where(worn, np.maximum(soft, rng.uniform(0.3, 0.9)), soft)
    return (ink + (paper - ink) * soft).astype(np.float32)


def specks(rng: Rng, page: Field) -> Field:
    """Single wrong pixels, or small dark dots."""
    if rng.random() < 0.5:
        dice, share = rng.random(page.shape), rng.uniform(0.0005, 0.01)
        return np.where(dice < share, rng.uniform(0, 0.4), np.where(dice > 1 - share, 1, page)).astype(np.float32)
    page = np.ascontiguousarray(page, np.float32)
    for _ in range(int(rng.integers(5, 120))):
        at = (int(rng.integers(page.shape[1])), int(rng.integers(page.shape[0])))
        cv2.circle(page, at, int(rng.integers(1, 4)), rng.uniform(0, 0.5), -1, cv2.LINE_AA)
    return page


def fax(rng: Rng, page: Field) -> Field:
    """One bit a pixel; on half of the pages the line flipped some pixels afterwards."""
    page = (page > float(np.quantile(page, 0.9)) * rng.uniform(0.45, 0.7)).astype(np.float32)
    if rng.random() < 0.5:
        flipped = rng.random(page.shape) < 10 ** rng.uniform(-3.3, -2)
        page = np.where(flipped, 1 - page, page)
    return page


def capture(rng: Rng, page: Field, size_px: int) -> np.ndarray:
    """Camera or scanner: noise, blur, range, gamma, fax, JPEG; float [H, W] -> uint8 [H, W]."""
    if rng.random() < 0.4:
        page = page + rng.uniform(0, 0.08) * rng.standard_normal(page.shape)
    if rng.random() < 0.2:
        grain = gauss(rng.standard_normal(page.shape), rng.uniform(0.6, 1.6))
        page = page + grain / grain.std() * rng.uniform(0.01, 0.06)
    if rng.random() < 0.3:
        page = specks(rng, page)
    if rng.random() < 0.2:
        page = gauss(page, rng.uniform(0.4, max(0.5, min(2.0, size_px / 20))))
    if rng.random() < 0.08:
        length = int(rng.integers(2, max(3, min(7, size_px // 6))))  # a hand that moved
        page = cv2.blur(np.asarray(page, np.float32), (length, 1) if rng.random() < 0.5 else (1, length))
    if rng.random() < 0.35:
        low = rng.uniform(0, 0.25)
        page = low + (rng.uniform(max(0.5, low + 0.3), 1) - low) * page
    page = np.clip(page, 0, 1) ** rng.uniform(0.7, 1.4)
    if rng.random() < 0.06:
        page = fax(rng, page)
    out = (page * 255).round().astype(np.uint8)
    if rng.random() < 0.35:
        quality = int(rng.integers(25, 95))
        out = cv2.imdecode(cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)
    return out
