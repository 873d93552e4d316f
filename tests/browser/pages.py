"""Pages of our own making, as PNG, without a library: stained paper with lines of strokes."""

import math
import os
import struct
import zlib

# Columns and rows of the middles of marks.
DOTS = [(x, y) for y in range(30, 400, 40) for x in range(30, 520, 40)]
# Blots, which any network keeps, and small crosses in two corners, which any network takes for specks, and no gate for drops:
# what is told of the page does not hang on a network.
BLOT_PX, CROSS_PX = 7, 3


def gray(width: int, height: int, seed: int) -> list[bytearray]:
    """The rows of a page; pages of different seeds differ."""
    rows = []
    for y in range(height):
        row = bytearray(width)
        stain_y = math.cos((y + seed * 37) / 45.0)
        in_line = (y // 9) % 3 != 0
        for x in range(width):
            value = 205 + int(25 * math.sin((x + seed * 53) / 60.0) * stain_y)
            if in_line and ((x * 7 + (y // 27) * 13 + seed) // 5) % 4 == 0 and (x // 40 + y // 27) % 6:
                value = 35
            row[x] = value
        rows.append(row)
    return rows


def png(width: int, height: int, seed: int = 0) -> bytes:
    """A gray page."""
    return encoded(gray(width, height, seed))


def noise(width: int, height: int) -> bytes:
    """A gray page of which no codec makes less."""
    return encoded([bytearray(os.urandom(width)) for _ in range(height)])


def dotted() -> bytes:
    """Gray paper with blots and crosses; the gate takes the crosses for strokes that were lost: places to look at."""
    grain = lambda x, y: ((x * 73856093 ^ y * 19349663) >> 7) % 41  # noqa: E731
    rows = [bytearray(150 + grain(x, y) for x in range(540)) for y in range(420)]
    for middle_x, middle_y in DOTS:
        in_corner = max(middle_x, middle_y) < 150 or (middle_x >= 390 and middle_y >= 270)
        reach = CROSS_PX if in_corner else BLOT_PX
        for y in range(-reach, reach + 1):
            half = math.isqrt(reach**2 - y**2)
            for x in (-y, y) if in_corner else range(-half, half + 1):
                rows[middle_y + y][middle_x + x] = 40
    return encoded(rows)


def encoded(gray_rows: list[bytearray]) -> bytes:
    """Rows of gray as PNG."""
    width, height = len(gray_rows[0]), len(gray_rows)
    rows = b"".join(b"\0" + row for row in gray_rows)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(width: int, height: int, count: int) -> bytes:
    """Gray pages, not compressed: header, then for each page its pixels and its directory."""
    out = bytearray(b"II*\0\0\0\0\0")
    link = 4
    for page in range(count):
        pixels = b"".join(gray(width, height, page))
        start = len(out)
        out += pixels + b"\0" * (len(pixels) % 2)
        out[link : link + 4] = struct.pack("<I", len(out))
        tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, start), (277, 1), (278, height)]
        tags.append((279, len(pixels)))
        out += struct.pack("<H", len(tags))
        for tag, value in tags:
            out += struct.pack("<HHII", tag, 4, 1, value)
        link = len(out)
        out += b"\0\0\0\0"
    return bytes(out)


def truncated_png() -> bytes:
    """Its header is whole, so it is taken; its pixels are not, so its job fails."""
    whole = png(400, 300)
    return whole[: len(whole) // 2]
