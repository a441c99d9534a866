"""Reading files that somebody names: never more than what such a file may hold.

A path may be that of a device or a pipe without an end, so its size says nothing.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO, Final

MAX_KEY_FILE_BYTES: Final = 1 << 20
"""Enough for a file of keys that are rotated every day for many years."""

_OTHERS_MODE: Final = 0o077
"""Any right of the group and of everybody."""

MAX_TRUST_BYTES: Final = 1 << 20
"""Enough for a checkpoint, a policy, or a chain of certificates."""


def read_file(path: str | os.PathLike[str], most: int) -> bytes:
    """The file's content, of at most ``most`` bytes. Raises ``OSError``, also for a longer one."""
    with Path(path).open("rb") as file:
        return _content(file, most)


class ExposedError(PermissionError):
    """A secret that others than its owner may read or change."""


def read_secret(path: str | os.PathLike[str], most: int) -> bytes:
    """The same for a file that must be its owner's alone. Raises `ExposedError` where it isn't."""
    with Path(path).open("rb") as file:
        if os.fstat(file.fileno()).st_mode & _OTHERS_MODE:
            raise ExposedError(errno.EPERM, "others may read or change it", str(path))
        return _content(file, most)


def _content(file: BinaryIO, most: int) -> bytes:
    content = file.read(most + 1)
    if len(content) > most:
        raise OSError(
            errno.EFBIG, f"it is larger than {most:,} bytes, the most for such a file", file.name
        )
    return content
