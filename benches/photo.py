"""Makes a photo-like JPEG of 12 megapixels (4000 × 3000, quality 90, 4:2:0): smooth light, edges, texture and grain from a
fixed seed. usage: photo.py OUT.jpg"""

import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 4000, 3000


def main():
    rng = np.random.default_rng(12)
    small = Image.fromarray(rng.integers(40, 220, (12, 16, 3), dtype=np.uint8))
    picture = small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(400):
        x, y = int(rng.integers(WIDTH)), int(rng.integers(HEIGHT))
        w, h = int(rng.integers(10, 500)), int(rng.integers(10, 400))
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, x + w, y + h), fill=colour)
    picture = picture.filter(ImageFilter.GaussianBlur(1.2))
    texture = rng.normal(0, 1, (HEIGHT // 4, WIDTH // 4)).repeat(4, 0).repeat(4, 1) * 5
    grain = rng.normal(0, 4, (HEIGHT, WIDTH, 1))
    pixels = np.asarray(picture, np.float32) + texture[..., None] + grain
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(sys.argv[1], quality=90)


if __name__ == "__main__":
    main()
