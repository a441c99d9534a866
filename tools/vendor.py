"""Take the page's libraries, and what only its tests use, out of their npm packages.

    python tools/vendor.py

Files stay as they were shipped, but for two things: a bare import (``"preact"``) becomes a path,
since an import map would be an inline script, which the page's policy forbids; and what leads to a
source map goes. Needs npm. Versions stand in `PACKAGES`.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

HOME: Final = Path(__file__).parents[1]
PAGE: Final = HOME / "src/everwhen/web/static/vendor"
TESTS: Final = HOME / "tests/web/vendor"

PACKAGES: Final = (
    (
        PAGE,
        "preact",
        "11.2.0",
        "MIT",
        {"preact.js": "dist/preact.mjs", "hooks.js": "hooks/dist/hooks.mjs"},
    ),
    (PAGE, "htm", "3.1.1", "Apache-2.0", {"htm.js": "dist/htm.mjs"}),
    (PAGE, "@preact/signals-core", "1.14.5", "MIT", {"signals-core.js": "dist/signals-core.mjs"}),
    (PAGE, "@preact/signals", "2.11.4", "MIT", {"signals.js": "dist/signals.mjs"}),
    (TESTS, "axe-core", "4.14.1", "MPL-2.0", {"axe.js": "axe.min.js"}),
)
"""Where to, name, version, licence, and which of its files become which of ours."""

PATHS: Final = {
    "preact": "./preact.js",
    "preact/hooks": "./hooks.js",
    "@preact/signals-core": "./signals-core.js",
}
_BARE: Final = re.compile(r"""((?:from|import)\s*)(["'])([@a-z][^"'./]*(?:/[^"']*)?)\2""")
_SOURCE_MAP: Final = re.compile(r"\n?(?://# sourceMappingURL=.*|/\*# sourceMappingURL=.*?\*/)")


def main() -> None:
    """Write every file, its licence, and what they are."""
    entries: dict[Path, list[str]] = {PAGE: [], TESTS: []}
    for folder, name, version, licence, files in PACKAGES:
        with tempfile.TemporaryDirectory() as scratch:
            package = fetched(name, version, Path(scratch))
            (folder / "licences").mkdir(parents=True, exist_ok=True)
            kept = f"licences/{name.replace('/', '-').removeprefix('@')}.txt"
            (folder / kept).write_text((package / "LICENSE").read_text())
            entry = [
                "[[package]]",
                f'name = "{name}"',
                f'version = "{version}"',
                f'licence = "{licence}"',
                f'licence_text = "{kept}"',
                "",
                "[package.sha256]",
            ]
            for ours, theirs in files.items():
                text = (package / theirs).read_text()
                if folder == PAGE:
                    text = with_paths(text)
                (folder / ours).write_text(text)
                entry.append(f'"{ours}" = "{hashlib.sha256(text.encode()).hexdigest()}"')
        entries[folder].append("\n".join(entry))
    for folder, found in entries.items():
        head = "# Made by tools/vendor.py out of npm packages.\n\n"
        (folder / "VENDOR.toml").write_text(head + "\n\n".join(found) + "\n")


def fetched(name: str, version: str, scratch: Path) -> Path:
    """The folder of the package, unpacked. Raises CalledProcessError."""
    command = ["npm", "pack", "--silent", f"{name}@{version}"]
    subprocess.run(command, cwd=scratch, check=True, stdout=subprocess.DEVNULL)
    (archive,) = scratch.glob("*.tgz")
    with tarfile.open(archive) as unpacked:
        unpacked.extractall(scratch, filter="data")
    return scratch / "package"


def with_paths(text: str) -> str:
    """The module with paths for bare imports. Raises KeyError for one that isn't known."""
    text = _BARE.sub(lambda found: f'{found[1]}"{PATHS[found[3]]}"', text)
    return _SOURCE_MAP.sub("", text)


if __name__ == "__main__":
    main()
