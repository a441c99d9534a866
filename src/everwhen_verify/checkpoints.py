"""Signed tree heads, as in C2SP tlog-checkpoint: which log, how many leaves, which root."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

from everwhen_verify.errors import MalformedError, shown
from everwhen_verify.merkle import HASH_SIZE, MAX_SIZE
from everwhen_verify.notes import decode_base64, encode_base64

_LAST_SECOND: Final = 253_402_300_799
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


class Checkpoint(NamedTuple):
    """A log's tree at one size. Not signed as it is: a note with its `text` is."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The note's text, which `parse_checkpoint` reads."""
        lines = (self.origin, str(self.size), encode_base64(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a note's text as a checkpoint. Raises `MalformedError`."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise MalformedError(
            "checkpoint", "it does not have three or more lines, none of them empty"
        )
    origin, size, root, *extensions = lines
    hashed = decode_base64(root, "checkpoint")
    if len(hashed) != HASH_SIZE:
        raise MalformedError("checkpoint", f"the root has {len(hashed)} bytes")
    return Checkpoint(origin, parse_number(size, "checkpoint"), hashed, tuple(extensions))


def parse_number(text: str, what: str) -> int:
    """A decimal number without leading zeros, at most that of leaves. Raises `MalformedError`."""
    if _NUMBER.fullmatch(text) is None or int(text) > MAX_SIZE:
        raise MalformedError(what, f"{shown(text, 30)} is not a number of leaves")
    return int(text)


def utc(seconds: int) -> str:
    """A time in seconds since 1970, of the year 9999 at most, as text."""
    moment = datetime.fromtimestamp(min(seconds, _LAST_SECOND), UTC)
    return moment.isoformat().replace("+00:00", "Z")
