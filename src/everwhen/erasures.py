"""What is recorded of an erasure, and what of a store has to be made anew after one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID, uuid4, uuid5

import msgspec

from everwhen.codec import Codec, EventTypes
from everwhen.commits import Commit, Write, encoded, new_commit_id
from everwhen.contract import Checkpoint, EncodedCommit, Snapshot
from everwhen.events import Event
from everwhen.projections import build_of, record_of
from everwhen.vault import Stone, Vault

ERASURES: Final = "everwhen-erasures"
"""The stream that erasures are recorded in."""

PURGE_DUE: Final = f"{ERASURES}/purge"
"""The checkpoint that is there while something was deleted whose traces have to be purged."""

_NAMESPACE: Final = UUID("3c1f8f52-6a0b-5d0e-9b7c-6d8f2f4f6f10")


class SubjectErased(Event):
    """A data subject was forgotten, as the vault's erasure of that ``number``."""

    tag_fields = ("subject",)

    subject: str
    number: int


_CODEC: Final = Codec(EventTypes(SubjectErased))
_decode_stone: Final = msgspec.json.Decoder(Stone).decode


class Erasure(msgspec.Struct, frozen=True):
    """What ``forget`` has done.

    ``subjects`` are those whose keys were destroyed, ``position`` is that of the record.
    ``projections`` names those whose tables still hold what was known before; a runner that works
    on them builds them anew. ``repeated`` says that the subject had been forgotten before.
    """

    subject: str
    number: int
    subjects: tuple[str, ...]
    position: int
    projections: tuple[str, ...]
    repeated: bool = False


def erasure_commit(stone: Stone) -> EncodedCommit:
    """The commit that records an erasure: the same each time."""
    event = SubjectErased(stone.subject, stone.number)
    commit_id = uuid5(_NAMESPACE, f"{stone.number}/{stone.subject}")
    return encoded(Commit((Write(ERASURES, [event]),), id=commit_id), _CODEC, new_commit_id)


def carried_out(last: Stone) -> Checkpoint:
    """What says that a store has carried out all erasures up to this one."""
    return Checkpoint(ERASURES, last.number, msgspec.json.encode(last))


def purge_due() -> Checkpoint:
    """What says that a purge is due; another one each time, so that none is missed."""
    return Checkpoint(PURGE_DUE, 0, uuid4().bytes)


def first_pending(known: Checkpoint | None, vault: Vault) -> int:
    """The number of the first erasure that a store still has to carry out, if there is one.

    Where the vault doesn't know the last one that was carried out, it is another vault, or was
    restored from a backup: then it is the first of all.
    """
    if known is None:
        return 1
    try:
        last = _decode_stone(known.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 1
    return last.number + 1 if vault.stones(last.number)[:1] == [last] else 1


def outdated(checkpoints: Iterable[Checkpoint], erasures: int) -> tuple[str, ...]:
    """The projections whose tables were built before that many erasures."""
    names = {
        build.projection
        for checkpoint in checkpoints
        if (build := build_of(checkpoint)) is not None
        and build.kind == "projection"
        and record_of(checkpoint).erasures < erasures
    }
    return tuple(sorted(names))


def bound_to(snapshot: Snapshot) -> bytes:
    """What a snapshot is, so that no other can take its place."""
    return msgspec.json.encode(
        (snapshot.subject, snapshot.position, snapshot.fold, snapshot.fold_version)
    )
