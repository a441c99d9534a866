"""What is recorded of an erasure, and what of a store has to be made anew after one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID, uuid5

import msgspec

from everwhen.codec import EventTypes
from everwhen.commits import Commit, Write
from everwhen.contract import Checkpoint, Snapshot
from everwhen.events import Event
from everwhen.projections import build_of, record_of
from everwhen.vault import Forgotten

ERASURES: Final = "everwhen-erasures"
"""The stream that erasures are recorded in."""

_NAMESPACE: Final = UUID("3c1f8f52-6a0b-5d0e-9b7c-6d8f2f4f6f10")


class SubjectErased(Event):
    """A data subject was forgotten, as the vault's erasure of that ``number``."""

    tag_fields = ("subject",)

    subject: str
    number: int


SUBJECT_ERASED: Final = EventTypes(SubjectErased)


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


def erasure_commit(forgotten: Forgotten) -> Commit:
    """The commit that records an erasure: the same each time."""
    event = SubjectErased(forgotten.subject, forgotten.number)
    commit_id = uuid5(_NAMESPACE, f"{forgotten.number}/{forgotten.subject}")
    return Commit((Write(ERASURES, [event]),), id=commit_id)


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
