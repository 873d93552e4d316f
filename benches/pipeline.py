"""The preset `photo` on a photo of 12 megapixels, beside libvips and Pillow making the same three files: process against
process, taken in turns. usage: pipeline.py INKPOOL PHOTO.jpg

Each makes a full-size WebP (quality 80, method 4), a centred crop of 512 × 512 that fills, and a thumbnail that fits
320 × 320. Inkpool's process is `inkpool clean`, its sandboxed worker included. Prints medians of CPU time (user and system),
medians of the paired ratios, and the largest resident memory of one process.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 11


def vips(photo, out):
    """One shell, three commands: libvips has no single one for three outputs."""
    return [
        "sh",
        "-ec",
        f'vips webpsave "{photo}" "{out}/full.webp" --Q 80 --reduction-effort 4 --strip\n'
        f'vipsthumbnail "{photo}" --size 512x512 --smartcrop centre -o "{out}/crop.webp[Q=80,strip]"\n'
        f'vipsthumbnail "{photo}" --size "320x320>" -o "{out}/thumb.webp[Q=80,strip]"\n',
    ]


def pillow(photo, out):
    code = f"""
from PIL import Image, ImageOps
picture = ImageOps.exif_transpose(Image.open({photo!r}))
picture.load()
picture.save({out!r} + "/full.webp", quality=80, method=4)
ImageOps.fit(picture, (512, 512), Image.Resampling.LANCZOS).save({out!r} + "/crop.webp", quality=80, method=4)
picture.thumbnail((320, 320), Image.Resampling.LANCZOS)
picture.save({out!r} + "/thumb.webp", quality=80, method=4)
"""
    return [sys.executable, "-c", code]


def inkpool(program):
    return lambda photo, out: [program, "clean", photo, "--preset", "photo", "-o", out]


def measure(command):
    """CPU seconds, wall seconds and the largest resident memory (MB) of a command and its children."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{command[0]} failed: {error.decode(errors='replace')}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - began, usage.ru_maxrss / 1024


def main():
    program, photo = (os.path.abspath(path) for path in sys.argv[1:3])
    peers = {"inkpool": inkpool(program), "libvips": vips, "Pillow": pillow}
    results = {name: [] for name in peers}
    for round_number in range(ROUNDS + 1):
        for name, command in peers.items():
            with tempfile.TemporaryDirectory(prefix="inkpool-bench-") as out:
                result = measure(command(photo, out))
            if round_number > 0:  # the first round warms the page cache
                results[name].append(result)
    print(f"`photo`, 12 megapixels, {ROUNDS} paired rounds:\n")
    print("| program | CPU, median | wall, median | peak memory | CPU of inkpool / this, median of ratios |")
    print("|---|---|---|---|---|")
    for name, rows in results.items():
        cpu, wall, memory = (statistics.median(row[column] for row in rows) for column in range(3))
        ratio = statistics.median(ours[0] / theirs[0] for ours, theirs in zip(results["inkpool"], rows))
        print(f"| {name} | {cpu:.3f} s | {wall:.3f} s | {memory:.0f} MB | {ratio:.2f} |")
    print()


if __name__ == "__main__":
    main()
