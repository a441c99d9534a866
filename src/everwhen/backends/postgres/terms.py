"""The terms by which events are found: numbers, made of what they stand for.

There is no dictionary of them. Where two names make the same number, a reader looks at slices that
aren't meant, and `everwhen.backends.query_matching` leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b

from everwhen.backends.index_terms import CATEGORY, TYPE
from everwhen.system.limits import MAX_REMEMBERED
from everwhen.vocabulary.streams import category_of

_BYTES = 8


@lru_cache(MAX_REMEMBERED)
def term_of(kind: int, name: str) -> int:
    """The term of a tag, a type or a category: of the BLAKE2b digest of both (RFC 7693)."""
    digest = blake2b(f"{kind}\0{name}".encode("utf-8", "surrogatepass"), digest_size=_BYTES)
    return int.from_bytes(digest.digest(), signed=True)


def terms_of_block(stream: str, types: Sequence[str]) -> Iterator[int]:
    """What marks the block that a slice is in: its category and its types."""
    yield term_of(CATEGORY, category_of(stream))
    for name in types:
        yield term_of(TYPE, name)
