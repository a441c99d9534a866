"""Reading files that somebody names: never more than what such a file may hold.

A path may be that of a device or a pipe without an end, so its size says nothing.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

MAX_KEY_BYTES: Final = 1 << 20
"""Enough for a file of keys that are rotated every day for many years."""

MAX_TRUST_BYTES: Final = 1 << 20
"""Enough for a checkpoint, a policy, or a chain of certificates."""


def read_file(path: str | os.PathLike[str], most: int) -> bytes:
    """The file's content, of at most ``most`` bytes. Raises ``OSError``, also for a longer one."""
    with Path(path).open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(
            errno.EFBIG, f"it is larger than {most:,} bytes, the most for such a file", str(path)
        )
    return content
