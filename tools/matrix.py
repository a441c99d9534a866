"""Runs the tests on every supported Python that is on the path; says which of them are missing.

With pyenv, switch them on: ``PYENV_VERSION=3.11.7:3.12.1:3.13.0 make matrix``.

Whatever follows on the command line goes to pytest: ``python tools/matrix.py tests/_sync -x``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
VERSIONS: Final = ("3.11", "3.12", "3.13", "3.14")


def environment(python: str, folder: Path) -> Path:
    """An environment with the pinned tools and this checkout; returns its interpreter."""
    made = folder / "bin" / "python"
    if not made.exists():
        subprocess.run([python, "-m", "venv", folder], check=True)
    pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
    install: list[str | Path] = [made, *pip, "install"]
    for pins in ("build.txt", "develop.txt"):
        pinned = ROOT / "requirements" / pins
        subprocess.run([*install, "--require-hashes", "-r", pinned], check=True)
    here: list[str | Path] = ["--no-deps", "--no-build-isolation", "--editable", ROOT]
    subprocess.run([*install, *here], check=True)
    return made


def outcome(version: str, options: list[str]) -> str:
    """Run the tests on one Python; ``missing`` where it isn't installed."""
    found = shutil.which(f"python{version}")
    if found is None or subprocess.call([found, "-c", ""], stderr=subprocess.DEVNULL):
        return "missing"  # pyenv has a stand-in on the path also for what isn't switched on
    print(f"Python {version}: {found}", flush=True)
    python = environment(found, ROOT / ".matrix" / version)
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    command: list[str | Path] = [python, "-m", "pytest", *(options or ["-n", "auto"])]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, check=False)
    return "passed" if done.returncode == 0 else "failed"


def main() -> int:
    """Run them all; 1 where one failed, or none was there."""
    outcomes = {version: outcome(version, sys.argv[1:]) for version in VERSIONS}
    for version, how in outcomes.items():
        print(f"Python {version}: {how}")
    return "failed" in outcomes.values() or "passed" not in outcomes.values()


if __name__ == "__main__":
    sys.exit(main())
