"""Writes requirements.txt, every package pinned by version and hash, from requirements.in; no package is downloaded.

    python lock.py            requirements.txt
    python lock.py compare    requirements-compare.txt: what it needs beside the other

Made for CPython 3.11 on Linux x86-64, and installed by: pip install --no-deps --require-hashes -r requirements.txt
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


# One package of the same name and content is enough.
SAME = {"opencv-python": "opencv-python-headless"}


def locked(here: Path, name: str) -> dict[str, str]:
    """Lines for every package that NAME.in needs, by package."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    done = subprocess.run([*command, "-r", here / f"{name}.in"], capture_output=True, check=True)
    return {
        i["metadata"]["name"].lower().replace("_", "-"): f"{i['metadata']['name'].lower().replace('_', '-')}=="
        f"{i['metadata']['version']} \\\n    --hash=sha256:{i['download_info']['archive_info']['hashes']['sha256']}\n"
        for i in json.loads(done.stdout)["install"]
    }


def main() -> None:
    here = Path(__file__).resolve().parent
    name = "-".join(["requirements", *sys.argv[1:]])
    lines = locked(here, name)
    if name != "requirements":
        there = (here / "requirements.txt").read_text()
        lines = {package: line for package, line in lines.items() if f"{SAME.get(package, package)}==" not in there}
    (here / f"{name}.txt").write_text(f"# Made by lock.py from {name}.in.\n" + "".join(sorted(lines.values())))


if __name__ == "__main__":
    main()
