"""The command line ``everwhen``, with the extra ``everwhen[cli]``.

Nothing here is imported by ``import everwhen``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; see `everwhen.cli.exit_codes`."""
    return load()(arguments)


def load() -> Callable[[Sequence[str] | None], int]:
    """Import the command line; returns what runs it, and its exit code."""
    try:
        import rich
        import typer
    except ImportError:
        sys.stderr.write(
            "everwhen: the command line needs typer and rich: pip install 'everwhen[cli]'\n"
        )
        return lambda _: 2
    del rich, typer
    from everwhen.cli.program import run

    return lambda arguments: run(sys.argv[1:] if arguments is None else list(arguments))
