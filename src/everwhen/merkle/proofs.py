"""Proofs out of a log's tiles: that a commit is in it, and that it only ever grew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from everwhen.merkle.log_writer import Signed, nodes, position_after, tile_at
from everwhen.merkle.retired_leaves import Unrecorded, retired_part
from everwhen.merkle.tile_stores import TileStore
from everwhen.store.retirement_records import RetirementRecord, retired_end
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.errors import MerkleLogError, TamperedError
from everwhen.vocabulary.paging import ReadPage
from everwhen.vocabulary.query import Query
from everwhen_verify.entries import FIRST, evidence_of, leaf_of
from everwhen_verify.errors import MalformedError
from everwhen_verify.merkle import Node, consistency_path, inclusion_path
from everwhen_verify.proofs import Proof
from everwhen_verify.tiles import WIDTH

_PAGE_EVENTS: Final = 4 * WIDTH
"""The commit lies within one tile's commits, and most have few events."""


def inclusion(
    tiles: TileStore,
    at: Signed | None,
    position: int,
    elsewhere: RetirementRecord | None,
    read: ReadPage,
) -> Proof:
    """The proof for the commit of a position, under the newest checkpoint, which was checked.

    ``elsewhere`` is the newest record of a retirement in a branch's parent. Raises
    `MerkleLogError` where there is no such commit, or it was retired, and `TamperedError` where it
    isn't what was signed.
    """
    try:
        return _inclusion(tiles, at, position, elsewhere, read)
    except MalformedError as error:
        raise TamperedError(f"the log's folder is damaged ({error})") from error


def _inclusion(
    tiles: TileStore,
    at: Signed | None,
    position: int,
    elsewhere: RetirementRecord | None,
    read: ReadPage,
) -> Proof:
    if at is None:
        raise MerkleLogError(
            "nothing is signed yet, so nothing can be proven; sign first, with sign() or 'everwhen "
            "sign'"
        )
    nothing = MerkleLogError(f"position {position} has no event; give one up to the head's")
    if position < 1:
        raise nothing
    if position <= (end := retired_end(read)):
        raise MerkleLogError(
            f"position {position} can't be proven: everything up to position {end} was retired, so "
            f"that its hash is still in the log, and its content is not; a proof that was made "
            f"before stays valid"
        )
    size = at.checkpoint.size
    node = nodes(tiles, size).node
    tile = tile_at(tiles, size, position)
    start, after = tile * WIDTH, position_after(tiles, tile)
    span = range(start, min(start + WIDTH, size))
    through = position_after(tiles, tile + 1) - after if len(span) == WIDTH else 0
    likely = start + (position - after) * len(span) // through if through else start
    found = _found(read, position, sorted(span, key=lambda i: abs(i - likely)), node)
    if found is None:
        if after < end:
            part = retired_part(read, end, elsewhere)
            if isinstance(part, Unrecorded):
                raise TamperedError(part.what)
            start, after = part.commits, end
        found = _commit_at(read, start, after, position)
    index, slices = found
    if not slices:
        raise nothing
    if index >= size:
        raise MerkleLogError(f"position {position} is not signed yet; sign, then prove")
    previous = node(0, index - 1) if index else FIRST
    if leaf_of(index, previous, slices) != node(0, index):
        raise TamperedError(f"the commit at position {position} is not the one that was signed")
    path = inclusion_path(index, size, node)
    return Proof(index, tuple(path), at.note, evidence_of(index, previous, slices))


def _found(
    read: ReadPage, position: int, candidates: Sequence[int], node: Node
) -> tuple[int, list[StoredSlice]] | None:
    """The same as `_commit_at`, by the leaves that it may be, the likeliest first.

    Only the commit itself is read: the leaf that it hashes to says where it stands. None for a
    commit of several slices, and where no leaf is its.
    """
    page = read(Query(after_position=position - 1), 2)
    after = page.slices[1:] or read(Query(after_position=page.cursor), 1).slices
    if not page.slices or page.slices[0].first_index or (after and after[0].first_index):
        return None
    slices = list(page.slices[:1])
    for index in candidates:
        previous = node(0, index - 1) if index else FIRST
        if leaf_of(index, previous, slices) == node(0, index):
            return index, slices
    return None


def _commit_at(
    read: ReadPage, index: int, after: int, position: int
) -> tuple[int, list[StoredSlice]]:
    """The number and the slices of the commit that a position is in; none where there is none.

    ``index`` is the number of the first commit after ``after``.
    """
    query, found, index = Query(after_position=after), list[StoredSlice](), index - 1
    while True:
        page = read(query, _PAGE_EVENTS)
        for stored in page.slices:
            if not stored.first_index:
                if found and found[-1].position >= position:
                    return index, found
                index, found = index + 1, []
            found.append(stored)
        if page.end:
            return index, found if found and found[-1].position >= position else []
        query = query.after(page.cursor)


def consistency(tiles: TileStore, old: int, new: int) -> list[bytes]:
    """What proves that the tree of ``new`` leaves begins with that of ``old`` leaves."""
    return consistency_path(old, new, nodes(tiles, new).node)
