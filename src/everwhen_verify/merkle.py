"""Merkle trees as in RFC 6962 (and RFC 9162, which has the same ones): pure arithmetic.

A tree of n leaves is a complete tree over the largest power of two below n, and beside it a tree
over the rest. So all of its nodes are complete subtrees, named here by ``(level, index)``: the
``index``-th run of ``2**level`` leaves; except along its right edge, which follows from them. A
`Frontier` keeps only the complete subtrees that the right edge is made of (its *peaks*), which is
enough to go on and to know the root.

Hashes are 32 bytes. A leaf's begins with 0x00 and a node's with 0x01, so none is ever the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple, TypeAlias

from everwhen_verify.errors import ProofError

Node: TypeAlias = Callable[[int, int], bytes]
"""Gives the hash of the complete subtree of ``2**level`` leaves at ``index``."""

HASH_SIZE: Final = 32
MAX_SIZE: Final = (1 << 63) - 1
"""The largest size that anybody's tree may claim, also Go's."""

EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf that holds this data."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node over two others."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: its size, and the peaks from the largest to the smallest.

    There is a peak for each bit that is set in ``size``; other numbers raise `ValueError`.
    """

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self._peaks = list(peaks)
        if size < 0 or len(self._peaks) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves doesn't have {len(self._peaks)} peaks")

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """The hashes of the complete subtrees, from the largest to the smallest."""
        return tuple(self._peaks)

    def append(self, leaf: bytes) -> None:
        """Add one leaf's hash."""
        peaks, size = self._peaks, self.size
        while size & 1:
            leaf = sha256(b"\x01" + peaks.pop() + leaf).digest()
            size >>= 1
        peaks.append(leaf)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add many leaves' hashes: level by level, which is faster than one after the other."""
        row, size = list(leaves), self.size
        self.size += len(row)
        left_over: list[bytes] = []
        while row:
            if size & 1:
                row.insert(0, self._peaks.pop())
            if len(row) & 1:
                left_over.append(row.pop())
            row = _paired(row)
            size >>= 1
        self._peaks += reversed(left_over)

    def root(self) -> bytes:
        """The root of the tree as it is."""
        return _joined(self._peaks)


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The root over these leaf hashes."""
    frontier = Frontier()
    frontier.extend(hashes)
    return frontier.root()


def complete_root(row: bytes) -> bytes:
    """The root over these hashes, which stand side by side: as many as a power of two."""
    while len(row) > HASH_SIZE:
        pairs = range(0, len(row), 2 * HASH_SIZE)
        row = b"".join([sha256(b"\x01" + row[at : at + 2 * HASH_SIZE]).digest() for at in pairs])
    return row


def root_from(size: int, node: Node) -> bytes:
    """The root of a tree of this size."""
    return _run_hash(0, size, node) if size else EMPTY_ROOT


def inclusion_path(index: int, size: int, node: Node) -> list[bytes]:
    """What proves that a leaf is the ``index``-th of ``size``: the siblings from it to the root.

    Raises `ValueError` for an index outside the tree.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    siblings, _ = _way(index, size, index)
    return [_run_hash(sibling.low, sibling.high, node) for sibling in siblings]


def consistency_path(old: int, new: int, node: Node) -> list[bytes]:
    """What proves that a tree of ``old`` leaves became one of ``new`` leaves by growing only.

    Empty from the empty tree on, and between trees of the same size. Raises `ValueError` for a
    tree that would have to shrink.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {old} leaves can't grow to one of {new}")
    if old in {0, new}:
        return []
    siblings, shared = _way(old - 1, new, 0)
    runs = siblings if shared.low == 0 else [shared, *siblings]
    return [_run_hash(run.low, run.high, node) for run in runs]


def check_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Raises `ProofError` unless the path leads from the leaf's hash at ``index`` to the root."""
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofError(f"a tree of {size} leaves has no leaf {index}")
    _check_hashes(leaf, *path, root)
    siblings, _ = _way(index, size, index)
    _check_length("inclusion", path, len(siblings))
    found = leaf
    for sibling, way in zip(path, siblings, strict=True):
        found = node_hash(sibling, found) if way.is_left else node_hash(found, sibling)
    if found != root:
        raise ProofError("the inclusion proof does not fit this leaf", root, found)


def check_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> None:
    """Raises `ProofError` unless the path proves that the new tree begins with the old one."""
    if not 0 <= old_size <= new_size <= MAX_SIZE:
        raise ProofError(f"a tree of {old_size} leaves can't have grown to {new_size}")
    _check_hashes(old_root, new_root, *path)
    if old_size in {0, new_size}:
        _check_without_path(old_size, old_root, new_size, new_root, path)
        return
    siblings, shared = _way(old_size - 1, new_size, 0)
    # Where the shared run is the whole old tree, its hash is known and needn't be given.
    hashes = list(path) if shared.low else [old_root, *path]
    _check_length("consistency", path, len(siblings) + bool(shared.low))
    old = new = hashes[0]
    for sibling, way in zip(hashes[1:], siblings, strict=True):
        if way.is_left:
            old = node_hash(sibling, old)
            new = node_hash(sibling, new)
        else:
            new = node_hash(new, sibling)
    if old != old_root:
        raise ProofError("the consistency proof does not begin with the old tree", old_root, old)
    if new != new_root:
        raise ProofError("the consistency proof doesn't end with the new tree", new_root, new)


class _Run(NamedTuple):
    """The leaves from ``low`` to before ``high``, and whether they are left of the way down."""

    low: int
    high: int
    is_left: bool


def _way(place: int, size: int, least: int) -> tuple[list[_Run], _Run]:
    """The way from a leaf up: the runs beside it, and the run that it begins with.

    That is, going down from the root, the first one that ends with the leaf and doesn't begin
    before ``least``.
    """
    siblings: list[_Run] = []
    low, high = 0, size
    while high != place + 1 or low < least:
        middle = low + _split(high - low)
        if place < middle:
            siblings.append(_Run(middle, high, is_left=False))
            high = middle
        else:
            siblings.append(_Run(low, middle, is_left=True))
            low = middle
    return siblings[::-1], _Run(low, high, is_left=False)


def _check_length(kind: str, path: Sequence[bytes], expected: int) -> None:
    if len(path) != expected:
        raise ProofError(f"the {kind} proof has {len(path)} hashes, expected {expected}")


def _check_without_path(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> None:
    if path:
        raise ProofError(f"a proof from {old_size} to {new_size} leaves must be empty")
    expected = new_root if old_size == new_size else EMPTY_ROOT
    if old_root != expected:
        raise ProofError("two trees of the same size differ", expected, old_root)


def _check_hashes(*hashes: bytes) -> None:
    for found in hashes:
        if len(found) != HASH_SIZE:
            raise ProofError(f"a hash has {len(found)} bytes, expected {HASH_SIZE}")


def _split(count: int) -> int:
    """The largest power of two below the count: where a tree of ``count`` leaves is split."""
    return 1 << ((count - 1).bit_length() - 1)


def _run_hash(low: int, high: int, node: Node) -> bytes:
    """The tree over a run of leaves that begins where a complete subtree of its size may."""
    parts: list[bytes] = []
    while low < high:
        level = (high - low).bit_length() - 1
        parts.append(node(level, low >> level))
        low += 1 << level
    return _joined(parts)


def _joined(peaks: Sequence[bytes]) -> bytes:
    if not peaks:
        return EMPTY_ROOT
    found = peaks[-1]
    for peak in peaks[-2::-1]:
        found = node_hash(peak, found)
    return found


def _paired(row: list[bytes]) -> list[bytes]:
    """The level above an even number of hashes."""
    pairs = zip(row[::2], row[1::2], strict=True)
    return [sha256(b"\x01" + left + right).digest() for left, right in pairs]
