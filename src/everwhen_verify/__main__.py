"""``everwhen-verify``, and ``python -m everwhen_verify``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; see `everwhen_verify.program`."""
    try:
        import cryptography

        del cryptography
        from everwhen_verify.program import run
    except ImportError:
        sys.stderr.write("everwhen-verify: it needs cryptography: pip install cryptography\n")
        return 2
    except KeyboardInterrupt:
        return 130
    try:
        return run(arguments)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
