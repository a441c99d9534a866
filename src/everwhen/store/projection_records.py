"""What runners keep in a store: how far each build has come, its lease, its parked events."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, TypeVar

import msgspec

from everwhen.privacy.erasure_marks import ErasureMark
from everwhen.privacy.failure_texts import read_back
from everwhen.privacy.vault import Vault
from everwhen.vocabulary.contract import Checkpoint
from everwhen.vocabulary.errors import BeyondEndError, StatementError, StorageError
from everwhen.vocabulary.microseconds import from_micros

if TYPE_CHECKING:
    from everwhen.vocabulary.notebook_html import TableRow

R = TypeVar("R", "ProjectionStatus", "ParkedEvent")
RECORDS: Final = "projection/"
"""What the names of checkpoints of projections' builds begin with."""
REACTIONS: Final = "reaction/"
"""The same for reactions."""
PARKED: Final = "parked/"
"""The same for the events that either has parked."""
_RECORD: Final = re.compile(
    r"(?P<kind>projection|reaction)/(?P<name>[^@]+)@(?P<version>\d+)\.(?P<number>\d+)\Z"
)
_NOT_ALLOWED: Final = re.compile(
    r"(\A|;)\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|ATTACH|DETACH|PRAGMA|VACUUM)\b"
    r"|\A\s*END\b|\bOR\s+ROLLBACK\b",
    re.IGNORECASE,
)
_COMMENT: Final = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
BuildKind: TypeAlias = Literal["projection", "reaction"]
ProjectionState: TypeAlias = Literal["live", "building", "halted", "memory", "beyond"]


class Build(msgspec.Struct, frozen=True):
    """One build of a projection's tables; or a reaction, which has but one."""

    projection: str
    version: int = 1
    number: int = 1
    kind: BuildKind = "projection"

    @property
    def record(self) -> str:
        """The name of the checkpoint that it is kept under."""
        return f"{self.kind}/{self.projection}@{self.version}.{self.number}"

    @property
    def is_local(self) -> bool:
        """Whether each replica of the store has it for itself: tables are, reactions run once."""
        return self.kind == "projection"

    @property
    def parked(self) -> str:
        """What the names of the checkpoints of its parked events begin with."""
        return f"{PARKED}{self.record}/"

    def table(self, name: str) -> str:
        """The name of the table itself, which the view shows."""
        return f"{name}__{self.version}_{self.number}"

    def physical(self, tables: Sequence[str]) -> Callable[[str], str]:
        """Turns statements with tables in braces into those on this build's tables."""
        braced = re.compile("|".join(rf"\{{{table}\}}" for table in tables))
        known: dict[str, str] = {}

        def physical(sql: str) -> str:
            found = known.get(sql)
            if found is None:
                if _NOT_ALLOWED.search(_COMMENT.sub(" ", sql)):
                    raise StatementError(
                        f"a projection's statement runs inside a transaction that is not its own; "
                        f"leave this to the runner: {sql}"
                    )
                found = braced.sub(lambda match: self.table(match[0][1:-1]), sql)
                if len(known) < 1_000:
                    known[sql] = found
            return found

        return physical


class BuildRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept with a build's checkpoint.

    ``owner`` is the runner that works on it, by a ``lease`` of that many microseconds from each
    ``beat`` on, which counts its signs of life; ``at`` is the time of the last, in microseconds
    since 1970 UTC. ``rate`` is in events a second. ``erasures`` is how many data subjects had been
    forgotten when the build began. ``code`` is the fingerprint of the functions that worked on it
    last; it ``is_mixed`` where others have before.
    """

    tables: tuple[str, ...]
    is_live: bool = False
    owner: str | None = None
    lease: int = 0
    beat: int = 0
    at: int = 0
    rate: float = 0.0
    skipped: int = 0
    error: str | None = None
    erasures: int = 0
    code: str = ""
    is_mixed: bool = False

    def is_outdated(self, vault: Vault | None) -> bool:
        """Whether somebody has been forgotten since the build began."""
        return ErasureMark(vault, self.erasures).is_outdated


class Leased(Protocol):
    """A record of who holds a lease; the fields are those of `BuildRecord`."""

    @property
    def owner(self) -> str | None:
        """Who holds it, if anybody does."""
        ...

    @property
    def lease(self) -> int:
        """For how many microseconds."""
        ...

    @property
    def beat(self) -> int:
        """How many signs of life there were."""
        ...

    @property
    def at(self) -> int:
        """When the last was, in microseconds since 1970 UTC."""
        ...


class LeaseWatch:
    """What a process has seen of other runners' leases, so that it notices when one is over.

    A lease is over once nothing has been heard of its holder for as long as it lasts: by this
    process's own monotonic clock, whatever has been done to the time of day. Where nobody has
    watched for that long, the time of day is believed if it says so. A holder that is wrongly
    taken for dead loses some work by it and nothing else: each of its writes checks its lease.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._heard: dict[str, tuple[str | None, int, float]] = {}

    def is_free(self, build: Build, record: BuildRecord, owner: str, now: int) -> bool:
        """Whether ``owner`` may work on the build; ``now`` is in microseconds since 1970 UTC."""
        return self.is_over(build.record, record, owner, now)

    def is_over(self, name: str, record: Leased, owner: str, now: int) -> bool:
        """Whether ``owner`` may take the lease of that name."""
        if record.owner is None or record.owner == owner or record.at + record.lease <= now:
            self._heard.pop(name, None)
            return True
        holder, beat, since = self._heard.get(name, (None, 0, 0.0))
        if (holder, beat) != (record.owner, record.beat):
            since = self._monotonic()
            self._heard[name] = (record.owner, record.beat, since)
        return (self._monotonic() - since) * 1_000_000 >= record.lease


class ProjectionStatus(msgspec.Struct, frozen=True):
    """Where a projection stands. ``lag`` is how many positions it is behind the newest event.

    ``state`` is ``live`` (what readers see), ``building`` (beside it, or for the first time),
    ``halted`` (by ``error``), ``memory``, or ``beyond``: it stands after the newest event, so the
    store is of an earlier moment than it. Then ``lag`` is None. ``parked`` and ``skipped`` count
    the events that were left out. ``updated_at`` is when its runner was last heard of. It
    ``is_mixed`` where its functions have changed under this version, so that its rows may be of two
    kinds.
    """

    name: str
    version: int
    build: int
    state: ProjectionState
    position: int
    lag: int | None
    rate: float
    parked: int
    skipped: int
    error: str | None = None
    owner: str | None = None
    updated_at: datetime | None = None
    kind: BuildKind = "projection"
    is_mixed: bool = False

    def _html_row_(self) -> TableRow:
        from everwhen.vocabulary.notebook_html import BAD, GOOD, WARNING, TableRow, element, looking

        looks = {"live": GOOD, "building": WARNING, "halted": BAD, "beyond": BAD}
        mixed = "its functions have changed, but not its version" if self.is_mixed else ""
        cells = (
            element("bdi", self.name),
            self.kind,
            f"{self.version}.{self.build}",
            looking(looks.get(self.state, ""), self.state),
            self.position,
            "beyond the end" if self.lag is None else self.lag,
            self.parked,
            self.skipped,
            self.updated_at,
            element("bdi", self.error or mixed),
        )
        return TableRow(_COLUMNS, cells)

    def _repr_html_(self) -> str:
        from everwhen.vocabulary.notebook_html import card, heading, rows_table

        return card(heading("Status", self.name), rows_table([self], "build"))


class ParkedEvent(msgspec.Struct, frozen=True):
    """An event that a projection left out, to be retried.

    ``error`` is None for one that only waits for an earlier one of its stream. ``at`` is when it
    was left out, or tried the last time.
    """

    position: int
    stream: str
    type: str
    error: str | None
    at: datetime

    def _html_row_(self) -> TableRow:
        from everwhen.vocabulary.notebook_html import TableRow, element

        names = element("bdi", self.stream), element("bdi", self.type)
        why = element("bdi", self.error or "waits for an earlier event of its stream")
        return TableRow(
            ("position", "stream", "type", "parked", "why"), (self.position, *names, self.at, why)
        )

    def _repr_html_(self) -> str:
        from everwhen.vocabulary.notebook_html import card, heading, rows_table

        return card(heading("Parked event", ""), rows_table([self], "event"))


_COLUMNS: Final = (
    "name",
    "kind",
    "version",
    "state",
    "position",
    "lag",
    "parked",
    "skipped",
    "heard of",
    "error",
)
_decode_record: Final = msgspec.json.Decoder(BuildRecord).decode
_decode_parked: Final = msgspec.json.Decoder(ParkedEvent).decode


def build_of(checkpoint: Checkpoint) -> Build | None:
    """The build that a checkpoint is of; None for another kind of checkpoint."""
    found = _RECORD.match(checkpoint.name)
    if found is None:
        return None
    kind: BuildKind = "reaction" if found["kind"] == "reaction" else "projection"
    return Build(found["name"], int(found["version"]), int(found["number"]), kind)


def record_of(checkpoint: Checkpoint) -> BuildRecord:
    """What is kept with a build's checkpoint. Raises `StorageError` where it is damaged."""
    try:
        return _decode_record(checkpoint.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageError(
            f"checkpoint {checkpoint.name!r} is damaged ({error}); delete it, and the projection "
            f"is built anew"
        ) from error


def builds_of(checkpoints: Iterable[Checkpoint], name: str) -> dict[Build, Checkpoint]:
    """A projection's builds."""
    found = ((build_of(checkpoint), checkpoint) for checkpoint in checkpoints)
    return {
        build: kept
        for build, kept in found
        if build is not None and build.projection == name and build.kind == "projection"
    }


def parked_of(checkpoints: Iterable[Checkpoint], build: Build) -> list[ParkedEvent]:
    """A build's parked events, in order."""
    found: list[ParkedEvent] = []
    for checkpoint in checkpoints:
        if checkpoint.name.startswith(build.parked):
            try:
                found.append(_decode_parked(checkpoint.data))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise StorageError(
                    f"checkpoint {checkpoint.name!r} is damaged ({error}); delete it, and rebuild "
                    f"the projection"
                ) from error
    return sorted(found, key=lambda parked: parked.position)


def read_back_in(found: R, vault: Vault | None) -> R:
    """What was found, with its error as it may be shown."""
    if found.error is None:
        return found
    return msgspec.structs.replace(found, error=read_back(found.error, vault))


def parked_checkpoint(build: Build, parked: ParkedEvent) -> Checkpoint:
    """How a parked event is kept."""
    name = f"{build.parked}{parked.position}"
    return Checkpoint(name, parked.position, msgspec.json.encode(parked))


def kept(build: Build, position: int, record: BuildRecord) -> Checkpoint:
    """How a build is kept."""
    return Checkpoint(build.record, position, msgspec.json.encode(record))


def status_of(
    build: Build, known: Checkpoint, checkpoints: Sequence[Checkpoint], head: int
) -> ProjectionStatus:
    """Where a build stands, out of all checkpoints; ``head`` was looked at after them."""
    record = record_of(known)
    state: ProjectionState = "live" if record.is_live else "building"
    lag: int | None = head - known.position
    error = record.error
    if error is not None:
        state = "halted"
    if known.position > head:
        state, lag = "beyond", None
        error = error or str(BeyondEndError("the store", known.position, head))
    return ProjectionStatus(
        build.projection,
        build.version,
        build.number,
        state,
        known.position,
        lag,
        record.rate,
        sum(other.name.startswith(build.parked) for other in checkpoints),
        record.skipped,
        error,
        record.owner,
        from_micros(record.at),
        build.kind,
        record.is_mixed,
    )


def statuses_of(checkpoints: Sequence[Checkpoint], head: int) -> list[ProjectionStatus]:
    """Where everything stands that has a checkpoint: projections that keep tables, reactions."""
    builds = ((build_of(checkpoint), checkpoint) for checkpoint in checkpoints)
    return [status_of(b, known, checkpoints, head) for b, known in builds if b is not None]
