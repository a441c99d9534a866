"""Who moves a store's history, and how it went the last time: kept in the store, for all to see."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Final, TypeAlias

import msgspec

from everwhen.vocabulary.contract import Checkpoint
from everwhen.vocabulary.microseconds import from_micros

MOVER: Final = "history/mover"
"""The name of the checkpoint that it is kept under, on each replica: files move by themselves."""

MAX_LEASE_SECONDS: Final = 86_400
"""A day: a longer lease would keep others out long after its holder's death."""

_MAX_ERROR_LETTERS: Final = 1_000

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999_999)]
"""As many microseconds as there are until the end of the year 9999, at most."""


class MoverRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept with the checkpoint.

    ``owner`` moves history now, by a ``lease`` of that many microseconds from each ``beat`` on,
    which counts its signs of life; ``at`` is the time of the last, in microseconds since 1970 UTC.
    ``ran_at`` is when somebody ended who had moved what there was to move, or failed by ``error``.
    """

    owner: str | None = None
    lease: Annotated[int, msgspec.Meta(ge=0, le=MAX_LEASE_SECONDS * 1_000_000)] = 0
    beat: _Count = 0
    at: _Count = 0
    ran_at: _Count | None = None
    error: str | None = None

    def held_by(self, owner: str, lease_seconds: float) -> MoverRecord:
        """The same, with a sign of life of the owner."""
        return msgspec.structs.replace(
            self,
            owner=owner,
            lease=int(lease_seconds * 1_000_000),
            beat=self.beat + 1,
            at=now_micros(),
        )

    def given_back(self) -> MoverRecord:
        """The same, held by nobody."""
        return msgspec.structs.replace(self, owner=None, lease=0, at=now_micros())

    def ended(self, error: str | None) -> MoverRecord:
        """The same, after a run that came to its end, or failed."""
        error = None if error is None else error[:_MAX_ERROR_LETTERS]
        return msgspec.structs.replace(self, ran_at=now_micros(), error=error)

    @property
    def last_run(self) -> datetime | None:
        """When history was moved the last time, with or without success."""
        return None if self.ran_at is None else from_micros(self.ran_at)


_decode: Final = msgspec.json.Decoder(MoverRecord).decode


def mover_record_in(checkpoint: Checkpoint | None) -> MoverRecord:
    """What a checkpoint says; nothing where there is none, or it is damaged: it is only a lease."""
    try:
        return MoverRecord() if checkpoint is None else _decode(checkpoint.data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return MoverRecord()


def mover_checkpoint(record: MoverRecord) -> Checkpoint:
    """How it is kept."""
    return Checkpoint(MOVER, 0, msgspec.json.encode(record))


def now_micros() -> int:
    """Microseconds since 1970 UTC, by the system's clock: leases are about processes."""
    return time.time_ns() // 1_000
