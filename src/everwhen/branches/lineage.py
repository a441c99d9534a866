"""How branches descend from one another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from everwhen.backends.branch_records import MAIN, BranchInfo, Registered
from everwhen.vocabulary.errors import BranchError
from everwhen.vocabulary.streams import MAX_POSITION


def base_of(
    source: BranchInfo | None, target: BranchInfo | None, every: Sequence[BranchInfo]
) -> int:
    """The last position that two branches share; None stands for the store itself.

    Raises `BranchError` where they are the same, or where one is of another store.
    """
    by_name = {info.name: info for info in every}
    for info in (source, target):
        if info is not None and all(info.id != known.id for known in every):
            raise BranchError(info.name, "it is not a branch of this store")
    mine, theirs = _lineage(source, by_name), _lineage(target, by_name)
    if mine[-1][0] == theirs[-1][0]:
        raise BranchError(mine[-1][0], "it is the same branch; name two")
    shared = 0
    for (name, position), (other, also) in zip(mine, theirs, strict=False):
        if name != other:
            break
        shared = min(position, also)
    return shared


def _lineage(info: BranchInfo | None, by_name: Mapping[str, BranchInfo]) -> list[tuple[str, int]]:
    """The branches from the root to this one, each with the last position that it contributes."""
    chain: list[tuple[str, int]] = []
    until = MAX_POSITION
    while info is not None:
        chain.append((info.name, until))
        until = min(until, info.position)
        info = by_name.get(info.parent)
    chain.append((MAIN, until))
    return chain[::-1]


def children_of(parent: str, known: Iterable[Registered]) -> list[Registered]:
    """The branches that fork off the one of that id, and those that fork off them, and so on."""
    children: dict[str, list[Registered]] = {}
    for branch in known:
        children.setdefault(branch.parent, []).append(branch)
    found: list[Registered] = []
    waiting = [parent]
    while waiting:
        mine = children.pop(waiting.pop(), [])
        found += mine
        waiting += [branch.id for branch in mine]
    return found
