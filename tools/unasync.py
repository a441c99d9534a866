"""Generates the sync flavour from the async one; ``--check`` only says whether it is up to date.

A token-wise translation: what the async flavour calls async, the sync one doesn't. Modules that
are written by hand in both flavours are left alone.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BY_HAND: Final = {"__init__.py", "concurrency.py", "cancelling.py", "flavour_checks.py"}
DROPPED: Final = {"async", "await"}
NAMES: Final = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "AbstractAsyncContextManager": "AbstractContextManager",
    "AsyncConnection": "Connection",
    "AsyncExitStack": "ExitStack",
    "AsyncGenerator": "Generator",
    "AsyncIterable": "Iterable",
    "AsyncIterator": "Iterator",
    "StopAsyncIteration": "StopIteration",
    "asynccontextmanager": "contextmanager",
    "push_async_callback": "callback",
    "aclosing": "closing",
    "anext": "next",
    "_async": "_sync",
}
TREES: Final = ("src/everwhen", "tests")
FLAVOUR_OF_MODULE: Final = re.compile(r"\.aio\b")  # everwhen.aio is async, everwhen sync
HEADER: Final = "# Generated from {source} by tools/unasync.py: edit that, then run `make sync`.\n"


def translated(source: str) -> str:
    """The sync twin of an async module's text."""
    out: list[str] = []
    line, column = 1, 0
    skip_space = False
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        (start_line, start_column), (end_line, end_column) = token.start, token.end
        if start_line > line:
            column = 0
            line = start_line
        if not skip_space:
            out.append(token.line[column:start_column] if start_column > column else "")
        skip_space = False
        if token.type == tokenize.NAME and token.string in DROPPED:
            skip_space = True
        elif token.type == tokenize.NAME:
            out.append(NAMES.get(token.string, token.string))
        elif token.type == tokenize.STRING:
            out.append(
                token.string.replace("_async", "_sync").replace("AsyncConnection", "Connection")
            )
        else:
            out.append(token.string)
        line, column = end_line, end_column
    return FLAVOUR_OF_MODULE.sub("", "".join(out))


def formatted(source: str, path: Path) -> str:
    """As ruff would leave it, so that the twin passes the same checks."""
    for command in (
        ["check", "--select", "I,UP", "--fix", "--exit-zero", "--quiet"],
        ["format", "--quiet"],
    ):
        run = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"],
            input=source,
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        source = run.stdout
    return source


def twins() -> dict[Path, str]:
    """Every generated file and what it should hold."""
    found: dict[Path, str] = {}
    for tree in TREES:
        for path in sorted((ROOT / tree).rglob("_async/*.py")):
            if path.name in BY_HAND:
                continue
            header = HEADER.format(source=path.relative_to(ROOT).as_posix())
            target = path.parent.with_name("_sync") / path.name
            found[target] = header + translated(path.read_text("utf-8"))
    with ThreadPoolExecutor() as pool:  # each is two processes
        return dict(zip(found, pool.map(formatted, found.values(), found), strict=True))


def main() -> int:
    """Write the twins, or with ``--check`` compare them; 1 where some differ."""
    made = twins()
    stale = [p for p, text in made.items() if not p.exists() or p.read_text("utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not up to date; run `make sync`")
        return bool(stale)
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
