"""The terms by which events are found: numbers, made of what they stand for.

There is no dictionary of them. Where two names make the same number, a reader looks at slices that
aren't meant, and `everwhen.backends.query_matching` leaves them out.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

from everwhen.system.limits import MAX_REMEMBERED

_BYTES = 8


@lru_cache(MAX_REMEMBERED)
def term_of(kind: int, name: str) -> int:
    """The term of a tag, a type or a category: of the BLAKE2b digest of both (RFC 7693)."""
    digest = blake2b(f"{kind}\0{name}".encode("utf-8", "surrogatepass"), digest_size=_BYTES)
    return int.from_bytes(digest.digest(), signed=True)
