"""Lines out of chunks, with a bound on how long one may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from everwhen.exchange.errors import DamagedInputError

MAX_LINE_BYTES: Final = 48 << 20
"""Enough for the largest event, with its text escaped."""

_UTF8_MARK: Final = b"\xef\xbb\xbf"
_OTHER_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


def lines(
    chunks: Iterator[bytes], limit: int = MAX_LINE_BYTES
) -> Iterator[tuple[int, bytes | None]]:
    """Each line with its number, from 1; None for a line that is too long to be kept.

    Lines end at a line feed; a carriage return before it stays. Raises `DamagedInputError` for
    UTF-16 and UTF-32.
    """
    number = 1
    held: list[bytes] = []
    size = 0
    first = True
    for chunk in chunks:
        if first:
            first = False
            if chunk.startswith(_OTHER_MARKS):
                raise DamagedInputError("the text is UTF-16 or UTF-32; convert it to UTF-8", 1)
            *whole, rest = chunk.removeprefix(_UTF8_MARK).split(b"\n")
        else:
            *whole, rest = chunk.split(b"\n")
        for end in whole:
            line: bytes | None = end
            if held:
                line = None if size + len(end) > limit else b"".join([*held, end])
                held, size = [], 0
            yield number, line
            number += 1
        if rest:
            size += len(rest)
            if size > limit:
                held = [b""]  # what was too long is dropped, not collected
            else:
                held.append(rest)
    if held:
        yield number, None if size > limit else b"".join(held)
