"""What others clean pages with: the classical methods and programs to beat. All map uint8 [H, W] to uint8 [H, W].

Each is given what suits it: those that leave the paper gray are followed by a division by the paper.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

Cleaner = Callable[[np.ndarray], np.ndarray]
# unpaper's work on the layout is switched off: the page must stay where it is to be compared.
UNPAPER = ("--layout", "none", "--no-deskew", "--no-wipe", "--no-border-scan", "--no-border-align", "--no-mask-scan")
IMAGEMAGICK = ("(", "+clone", "-blur", "0x20", ")", "-compose", "Divide_Src", "-composite", "-level", "25%,85%")


def as_it_is(page: np.ndarray) -> np.ndarray:
    """The page itself."""
    return page


def _stretched(page: np.ndarray, paper: np.ndarray) -> np.ndarray:
    """The page over its paper, with paper at white and ink (below 0.2 of the paper) at black."""
    quotient = page.astype(np.float32) / (paper.astype(np.float32) + 1e-3)
    return (np.clip((quotient - 0.2) / 0.7, 0, 1) * 255).round().astype(np.uint8)


def median_divide(page: np.ndarray, window: int = 21) -> np.ndarray:
    """The page over a median of itself, the window being wider than strokes."""
    return _stretched(page, cv2.medianBlur(page, window))


def closing_divide(page: np.ndarray, window: int = 7) -> np.ndarray:
    """The page over a morphological closing of itself, blurred."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (window, window))
    return _stretched(page, cv2.GaussianBlur(cv2.morphologyEx(page, cv2.MORPH_CLOSE, kernel), (0, 0), 2))


def sauvola(page: np.ndarray, window: int = 31, k: float = 0.2) -> np.ndarray:
    """Black and white by a local threshold (Sauvola and Pietikäinen, Adaptive document image binarization, 2000)."""
    gray = page.astype(np.float32)
    mean = cv2.boxFilter(gray, -1, (window, window))
    spread = np.sqrt(np.maximum(cv2.boxFilter(gray * gray, -1, (window, window)) - mean * mean, 0))
    return np.where(gray > mean * (1 + k * (spread / 128 - 1)), 255, 0).astype(np.uint8)


def nlm(page: np.ndarray, strength: float = 12) -> np.ndarray:
    """OpenCV's non-local means, then median-divide: alone, it leaves stains and shade as they are."""
    return median_divide(cv2.fastNlMeansDenoising(page, None, strength, 7, 21))


def _by_program(command: list[str], page: np.ndarray) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        before, after = f"{folder}/before.pgm", f"{folder}/after.pgm"
        cv2.imwrite(before, page)
        subprocess.run([part.format(before, after) for part in command], check=True, capture_output=True, timeout=120)
        return cv2.imread(after, cv2.IMREAD_GRAYSCALE)


def _is_imagemagick(program: str) -> bool:
    """Whether a program is there and is what it is taken for: other programs go by that name, too."""
    if not shutil.which(program):
        return False
    said = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60, check=False)
    return said.returncode == 0 and "Version: ImageMagick" in said.stdout


def unpaper(page: np.ndarray) -> np.ndarray:
    """The program unpaper with its filters of noise, blur and gray, after median-divide: it expects white paper."""
    return _by_program(["unpaper", *UNPAPER, "{0}", "{1}"], median_divide(page))


def imagemagick(page: np.ndarray) -> np.ndarray:
    """ImageMagick's usual recipe: the page divided by a blur of itself, stretched."""
    return _by_program(["convert", "{0}", *IMAGEMAGICK, "{1}"], page)


def tesseract(page: np.ndarray) -> str:
    """The text that Tesseract reads on a page, white space made single."""
    page = cv2.copyMakeBorder(page, 20, 20, 20, 20, cv2.BORDER_CONSTANT, value=255)
    command = ["tesseract", "-", "-", "-l", "eng", "--psm", "6", "--dpi", "200"]
    png = cv2.imencode(".png", page)[1].tobytes()
    done = subprocess.run(command, input=png, check=True, capture_output=True, timeout=120, env={"OMP_THREAD_LIMIT": "1"})
    return " ".join(done.stdout.decode().split())


def classical() -> dict[str, Cleaner]:
    """The peers that are on this machine, by name; the table says which are missing."""
    found: dict[str, Cleaner] = {
        "median-divide k21": median_divide,
        "closing-divide k7": closing_divide,
        "Sauvola": sauvola,
        "OpenCV NLM": nlm,
    }
    if shutil.which("unpaper"):
        found["unpaper"] = unpaper
    if _is_imagemagick("convert"):
        found["ImageMagick"] = imagemagick
    return found


@functools.cache
def prose() -> list[str]:
    """Words of English prose, which every Debian machine has: a licence."""
    for path in (Path("/usr/share/common-licenses/GPL-3"), Path("/usr/share/common-licenses/GPL-2")):
        if path.exists():
            return path.read_text().split()
    raise SystemExit("no English prose on this machine: /usr/share/common-licenses/GPL-3 is missing")
