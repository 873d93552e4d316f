"""Pages of our own making, as PNG, without a library: stained paper with lines of strokes."""

import math
import struct
import zlib

# Left, top, width, height.
BLOTS = [(433, 32, 68, 96), (253, 230, 76, 67), (194, 107, 90, 101)]


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


def blotted() -> bytes:
    """A page with black blots, at whose edges the gate finds ink that was not there: places to look at."""
    rows = gray(540, 420, 0)
    for left, top, width, height in BLOTS:
        for row in rows[top : top + height]:
            row[left : left + width] = bytes([10]) * width
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
