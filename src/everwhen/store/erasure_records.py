"""What is recorded of an erasure, and what of a store has to be made anew after one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID, uuid5

import msgspec

from everwhen.codec.codec import Codec
from everwhen.codec.commits import Commit, Write, encoded, new_commit_id
from everwhen.codec.event_types import EventTypes
from everwhen.codec.slice_bodies import decode_entries
from everwhen.privacy.vault import Tombstone, Vault
from everwhen.store.projection_records import build_of, record_of
from everwhen.vocabulary.contract import Checkpoint, EncodedCommit, Problem, Snapshot, StoredSlice
from everwhen.vocabulary.erasures import ERASURES
from everwhen.vocabulary.events import Event

_NAMESPACE: Final = UUID("3c1f8f52-6a0b-5d0e-9b7c-6d8f2f4f6f10")


class SubjectErased(Event):
    """A data subject was forgotten, as the vault's erasure of that ``number``."""

    tag_fields = ("subject",)

    subject: str
    number: int


class ErasureCarried(Event):
    """A record of an erasure, written again since the first one is to be retired.

    ``past`` is the position up to which history is retired.
    """

    tag_fields = ("subject",)

    subject: str
    number: int
    past: int


class Recorded(msgspec.Struct, frozen=True):
    """What the record of an erasure says: whose, and which of the vault's it was."""

    subject: str
    number: int
    past: int = 0


_CODEC: Final = Codec(EventTypes(SubjectErased, ErasureCarried))
_decode_recorded: Final = msgspec.json.Decoder(Recorded).decode
_decode_tombstone: Final = msgspec.json.Decoder(Tombstone).decode


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


def erasure_commit(tombstone: Tombstone) -> EncodedCommit:
    """The commit that records an erasure: the same each time."""
    event = SubjectErased(tombstone.subject, tombstone.number)
    commit_id = _record_id(tombstone.subject, tombstone.number)
    return encoded(Commit((Write(ERASURES, [event]),), id=commit_id), _CODEC, new_commit_id)


def carried_commit(erasure: Recorded, past: int) -> EncodedCommit:
    """The commit that records an erasure anew, past a position: the same each time."""
    event = ErasureCarried(erasure.subject, erasure.number, past)
    commit_id = _record_id(erasure.subject, erasure.number, past)
    return encoded(Commit((Write(ERASURES, [event]),), id=commit_id), _CODEC, new_commit_id)


def recorded_in(stored: StoredSlice) -> Recorded | None:
    """The erasure that a slice records; None for what Everwhen didn't write as one.

    Anybody who appends may write to the stream; that alone keeps no store from being opened.
    """
    try:
        (entry,) = decode_entries(stored.body)
        found = _decode_recorded(entry.data)
        own = stored.commit_id == _record_id(found.subject, found.number, found.past).bytes
    except ValueError:  # of which msgspec's and Unicode's are
        return None
    return found if own else None


def _record_id(subject: str, number: int, past: int = 0) -> UUID:
    return uuid5(_NAMESPACE, f"{number}/{subject}" if not past else f"{number}/{past}/{subject}")


def carried_out(last: Tombstone) -> Checkpoint:
    """What says that a store has carried out all erasures up to this one."""
    return Checkpoint(ERASURES, last.number, msgspec.json.encode(last))


def problems_of(vault: str, back: list[str], leftover: list[str]) -> list[Problem]:
    """What is wrong with the keys of those who were forgotten, a subject a problem."""
    again = "forget the subject again, which destroys them"
    return [
        Problem(f"{vault}: subject {subject!r}", f"has keys {which}; {again}")
        for subjects, which in (
            (back, "though the store records the erasure, so that it is readable again"),
            (leftover, "beside its tombstone, which are not used"),
        )
        for subject in subjects
    ]


def first_pending(known: Checkpoint | None, vault: Vault) -> int:
    """The number of the first erasure that a store still has to carry out, if there is one.

    Where the vault doesn't know the last one that was carried out, it is another vault, or was
    restored from a backup: then it is the first of all.
    """
    if known is None:
        return 1
    try:
        last = _decode_tombstone(known.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 1
    return last.number + 1 if vault.tombstones(last.number)[:1] == [last] else 1


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
