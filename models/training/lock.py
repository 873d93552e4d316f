"""Writes requirements.txt, every package pinned by version and hash, from requirements.in; no package is downloaded.

    python lock.py

Made for CPython 3.11 on Linux x86-64, and installed by: pip install --require-hashes -r requirements.txt
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def main() -> None:
    here = Path(__file__).resolve().parent
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    done = subprocess.run([*command, "-r", here / "requirements.in"], capture_output=True, check=True)
    report = json.loads(done.stdout)
    lines = [
        f"{i['metadata']['name'].lower().replace('_', '-')}=={i['metadata']['version']} \\\n"
        f"    --hash=sha256:{i['download_info']['archive_info']['hashes']['sha256']}\n"
        for i in report["install"]
    ]
    (here / "requirements.txt").write_text("# Made by lock.py from requirements.in.\n" + "".join(sorted(lines)))


if __name__ == "__main__":
    main()
