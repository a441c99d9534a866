"""What events are found by in every database, and how closely their places are marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from everwhen.codec.slice_bodies import decode_entries
from everwhen.vocabulary.query import Query, Selector

TAG: Final = 1
TYPE: Final = 2
CATEGORY: Final = 3
"""The kinds of terms, as they are stored."""

BLOCK: Final = 256
"""How many positions share a mark of their types and categories. Fewer would cost more to write,
and more would have a rare type's reader go through more that isn't meant. It is part of the format:
a store's marks were made with it."""

_BODIES_AT_ONCE: Final = 64
_ANYTHING: Final = (Selector(),)


def block_of(position: int) -> int:
    """The last position of the block that the position is in."""
    return position | (BLOCK - 1)


def everything(query: Query) -> bool:
    """Whether every slice in the query's window matches that is in its share."""
    return (
        query.selectors == _ANYTHING
        and query.min_version is None
        and query.max_version is None
        and query.recorded_until is None
    )


class Named(msgspec.Struct, array_like=True, gc=False):
    """What queries look for in an event."""

    type: str
    schema_version: msgspec.Raw
    data: msgspec.Raw
    tags: tuple[str, ...] = ()


_decode: Final = msgspec.json.Decoder(list[Named]).decode
_decode_bodies: Final = msgspec.json.Decoder(list[list[Named]]).decode


def named_in_each(bodies: Sequence[bytes]) -> Iterator[list[Named]]:
    """What `named_in` says of each body."""
    for start in range(0, len(bodies), _BODIES_AT_ONCE):
        some = bodies[start : start + _BODIES_AT_ONCE]
        try:
            found = _decode_bodies(b"[%b]" % b",".join(some))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found = []
        if len(found) == len(some):
            yield from found
        else:
            yield from map(named_in, some)


def named_in(body: bytes) -> list[Named]:
    """The type and tags of each event; nothing of a body that can't be read."""
    try:
        return _decode(body)
    except RecursionError:
        return decode_entries(body)  # type: ignore[return-value]  # the same, but for deep extras
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
