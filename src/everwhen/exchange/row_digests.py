"""Whether a file shares rows with one that was imported before, judged by a few digests of each.

Of each import the smallest distinct digests of its rows are kept: a bottom-k sketch, which is a
fair sample of them whatever their order. A row's digest is of what the file says in it, not of how
that was read, so a row is known again in a file that has grown, was cut or sorted, or has other
delimiters, line ends or options. A row with personal data has a digest that is made with the keys
of those whom it is about: once one of them is forgotten, no guess at the row can be confirmed.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final

from everwhen.exchange.import_records import Attempt

KEPT_DIGESTS: Final = 256
"""Enough for a file to be recognised in one 50 times as large, by five of them on average."""

_MAX_COMMON_SHARE: Final = 0.25
"""The share of either file's rows from which on an import is refused.

Files of one kind may have rows in common that say no time, or a day that both of them end in.
"""

_MIN_COMMON_ROWS: Final = 4
"""How many common rows a sample must hold: fewer may be chance."""

_DIGEST_BYTES: Final = 8
_PARTS_END: Final = "\x1f"


def row_of(parts: Iterable[str]) -> bytes:
    """What stands for a row, by the texts it is made of."""
    return blake2b(_PARTS_END.join(parts).encode(errors="surrogatepass"), digest_size=32).digest()


class Sketch:
    """The smallest distinct digests of the rows that were added, in order."""

    def __init__(self) -> None:
        self.rows = 0
        self.digests: list[int] = []

    def add(self, digest: int) -> None:
        """Take in the digest of one more row."""
        self.rows += 1
        digests = self.digests
        if len(digests) == KEPT_DIGESTS and digest >= digests[-1]:
            return
        place = bisect_right(digests, digest)
        if place and digests[place - 1] == digest:
            return
        insort(digests, digest)
        del digests[KEPT_DIGESTS:]

    @property
    def packed(self) -> bytes:
        """The digests as they are kept with an import; see `unpacked`."""
        return b"".join(digest.to_bytes(_DIGEST_BYTES) for digest in self.digests)


def unpacked(kept: bytes) -> list[int]:
    """The digests of a kept sketch; none where there is none, or it is damaged."""
    if len(kept) % _DIGEST_BYTES:
        return []
    starts = range(0, len(kept), _DIGEST_BYTES)
    return [int.from_bytes(kept[start : start + _DIGEST_BYTES]) for start in starts]


class SharedRows:
    """A file's rows, as they are read, beside the sketches of earlier imports."""

    def __init__(self, earlier: Iterable[Attempt]) -> None:
        self.sketch = Sketch()
        self._earlier = [(one, unpacked(one.sketch)) for one in earlier if one.sketch]
        self._wanted = {digest for _, kept in self._earlier for digest in kept}
        self._seen: set[int] = set()

    def add(self, row: bytes, secret: bytes) -> None:
        """Take in one more row; ``secret`` is of the keys of those whom it has data of."""
        digest = int.from_bytes(blake2b(row, digest_size=_DIGEST_BYTES, key=secret[:64]).digest())
        self.sketch.add(digest)
        if digest in self._wanted:
            self._seen.add(digest)

    def most(self) -> tuple[Attempt, int] | None:
        """The earlier import that shares too much with the file, and about how many rows."""
        shares = [(self._share(one, kept), one) for one, kept in self._earlier]
        shared, found = max(shares, key=lambda share: share[0], default=(0, None))
        return (found, shared) if shared and found is not None else None

    def _share(self, earlier: Attempt, kept: Sequence[int]) -> int:
        """About how many rows both have; 0 where that is little of either."""
        both = len(self._seen.intersection(kept))
        end = kept[-1] if len(kept) == KEPT_DIGESTS else 1 << 8 * _DIGEST_BYTES
        near = [digest for digest in self.sketch.digests if digest <= end]
        common = len(self._seen.intersection(kept).intersection(near))
        of_earlier = both / len(kept) if kept else 0.0
        of_this = common / len(near) if near else 0.0
        is_sample = len(kept) == KEPT_DIGESTS or len(self.sketch.digests) == KEPT_DIGESTS
        if is_sample and both < _MIN_COMMON_ROWS:
            return 0
        if max(of_earlier, of_this) < _MAX_COMMON_SHARE:
            return 0
        if of_earlier >= of_this:
            return max(1, round(of_earlier * earlier.rows))
        return max(1, round(of_this * self.sketch.rows))
