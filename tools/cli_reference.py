"""Writes docs/reference/cli.md from the commands' own help; ``--check`` only compares."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path
from typing import Final

os.environ |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}

from everwhen.cli import main as everwhen

ROOT: Final = Path(__file__).resolve().parent.parent
TARGET: Final = ROOT / "docs" / "reference" / "cli.md"
HEAD: Final = """# The command line

Made from the commands' own `--help`. Exit codes: 0 done, 1 the answer is no (rejected, faults
found, nothing there), 2 wrong usage, 65 wrong data, 66 no such store, 70 a fault in a program, 73
the file to write already exists, 74 the disk failed, 75 busy, 77 not allowed, 130 interrupted. No
error prints a traceback, unless the variable `EVERWHEN_TRACEBACK` is set.

Shell completion, also of streams and types: `everwhen --install-completion`.
"""


def help_of(*command: str) -> str:
    """What a command says of itself, as it would in a pipe 100 columns wide."""
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        code = everwhen([*command, "--help"])
    if code:
        raise SystemExit(f"everwhen {' '.join(command)} --help ends with {code}")
    return "\n".join(line.rstrip() for line in written.getvalue().strip().splitlines())


def reference() -> str:
    """The page."""
    program = help_of()
    names = _names(program)
    parts = [HEAD, f"```text\n{program}\n```\n"]
    for name in names:
        page = help_of(name)
        parts.append(f"## everwhen {name}\n\n```text\n{page}\n```\n")
        parts += [
            f"### everwhen {name} {part}\n\n```text\n{help_of(name, part)}\n```\n"
            for part in _names(page)
        ]
    return "\n".join(parts)


def _names(page: str) -> list[str]:
    """The commands that a help lists."""
    return re.findall(r"^  ([\w-]+)  ", page.partition("Commands:")[2], re.MULTILINE)


def main() -> int:
    """Write the page, or compare it; 1 where it differs."""
    page = reference()
    if "--check" in sys.argv:
        if not TARGET.exists() or TARGET.read_text("utf-8") != page:
            print(f"{TARGET.relative_to(ROOT)} is not up to date; run `make sync`")
            return 1
        return 0
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(page, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
