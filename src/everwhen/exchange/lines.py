"""Lines out of chunks, with a bound on how long one may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from everwhen.exchange.errors import DamagedInputError

MAX_LINE_BYTES: Final = 48 << 20
"""Enough for the largest event, with its text escaped."""

_ENDLESS_BYTES: Final = 1 << 30
"""A line that is longer ends the reading; shorter ones are skipped and reported."""

_UTF8_MARK: Final = b"\xef\xbb\xbf"
_OTHER_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


def lines(
    chunks: Iterator[bytes],
    limit: int = MAX_LINE_BYTES,
    *,
    marked: str = "convert it to UTF-8",
) -> Iterator[tuple[int, bytes | None]]:
    """Each line with its number, from 1; None, as soon as that is known, for one that is too long.

    Lines end at a line feed; a carriage return before it stays. Raises `DamagedInputError` for
    UTF-16 and UTF-32, where ``marked`` says what to do, and for a line that doesn't seem to end.
    """
    number = 1
    held: list[bytes] = []
    size = 0
    for chunk in _unmarked(chunks, marked):
        *whole, rest = chunk.split(b"\n")
        for end in whole:
            if size <= limit:  # else it was reported already
                line = b"".join([*held, end]) if held else end
                yield number, line if len(line) <= limit else None
            held, size = [], 0
            number += 1
        if not rest:
            continue
        size += len(rest)
        held.append(rest)
        if size > limit:
            held = []
            if size - len(rest) <= limit:
                yield number, None
            _check_end(size, number)
    if held:
        yield number, b"".join(held)


def _unmarked(chunks: Iterator[bytes], marked: str) -> Iterator[bytes]:
    """The chunks without the mark that some programs put at the beginning of UTF-8."""
    first = next(chunks, b"")
    if first.startswith(_OTHER_MARKS):
        raise DamagedInputError(f"the text is UTF-16 or UTF-32; {marked}", 1)
    yield first.removeprefix(_UTF8_MARK)
    yield from chunks


def _check_end(size: int, number: int) -> None:
    if size > _ENDLESS_BYTES:
        raise DamagedInputError(
            f"the line has more than {_ENDLESS_BYTES >> 20:,} MiB; check that this is a text file",
            number,
        )
