"""Pins the newest versions of what requirements/*.in name, with hashes for every platform."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parent.parent / "requirements"
ALONE: Final = {"demo.in"}  # installed without what it would drag in


def main() -> int:
    """Compile each list; uv comes with the development tools."""
    for source in sorted(FOLDER.glob("*.in")):
        command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
        command += ["--generate-hashes", "--no-header", "--no-annotate", "--upgrade"]
        command += ["--no-deps"] if source.name in ALONE else []
        target = source.with_suffix(".txt")
        subprocess.run([*command, source.name, "-o", target.name], check=True, cwd=FOLDER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
