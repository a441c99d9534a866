"""Snapshots: a fold's state at a place in history, sealed so that a wrong one is never used.

A snapshot saves the replay of what comes before it, and nothing else: deleting every one changes
nothing but speed. It is believed only if it is authenticated with a key of its reader
(`everwhen.privacy.snapshot_keys`), its fold is the present one in name, version and the shape of
its state, and the event that it ends with is still the one in the store.

Several who share a store's file each have a key of their own. A state that another one has taken
already is authenticated by both, and each leaves the others' newest snapshots alone: to be without
the other's key costs a replay once, not every time.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, Final, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import msgspec

from everwhen.privacy.erasure_marks import NO_VAULT, ErasureMark
from everwhen.privacy.snapshot_keys import SnapshotKey
from everwhen.state.fold import Fold
from everwhen.state.state_encoding import UNFIT, Encoded, decoded, encode, encoded
from everwhen.state.type_shapes import shape_of
from everwhen.vocabulary.contract import MAX_KEPT_BYTES, MAX_NAME_BYTES, Snapshot
from everwhen.vocabulary.errors import DeclarationError, InvalidQueryError, SnapshotError
from everwhen.vocabulary.query import Query

S = TypeVar("S")

_FORMAT_VERSION: Final = 3
"""Older formats are outdated and made anew: a snapshot is disposable."""
_DIGEST_BYTES: Final = 16  # 128 bits: no forger tries them all
_MAX_STATE_BYTES: Final = MAX_KEPT_BYTES - (1 << 20)
"""Leaves room beside the state for the digests of others who authenticate it too."""
_MAX_READERS: Final = 8
"""Who authenticate one state together: users or machines that share a store, each with a digest."""
_MAX_OTHERS: Final = 3
"""Whose newest snapshot is left alone: the more there are, the more space is taken."""
_shapes: Final[WeakKeyDictionary[Fold[Any], bytes]] = WeakKeyDictionary()
_refused: Final[WeakSet[Fold[Any]]] = WeakSet()


class ReplayCost(msgspec.Struct, frozen=True):
    """What has gathered since the newest snapshot, or since the beginning where there is none.

    ``events`` counts them, ``seconds`` is what folding them takes, as measured, and ``age`` is how
    much of the store's time lies between the snapshot and the newest of them.
    """

    events: int
    seconds: float
    age: timedelta


NOTHING: Final = ReplayCost(0, 0.0, timedelta())
"""Nothing since."""


def _check(given: msgspec.Struct, fix: str, *, is_sound: bool) -> None:
    if not is_sound:
        raise DeclarationError(f"{given!r}: {fix}")


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and value >= 0


class SnapshotStrategy(Protocol):
    """When to take the next snapshot."""

    def is_due(self, since: ReplayCost) -> bool:
        """Whether it is time for one."""
        ...


def check_strategy(given: SnapshotStrategy) -> SnapshotStrategy:
    """The strategy. Raises `DeclarationError` for anything else."""
    if isinstance(given, type) or not callable(getattr(given, "is_due", None)):
        raise DeclarationError(
            f"strategy={given!r}: give what says when a snapshot is due, such as EveryEvents(100)"
        )
    return given


class EveryEvents(msgspec.Struct, frozen=True):
    """A snapshot every N events."""

    events: int

    def __post_init__(self) -> None:
        is_sound = type(self.events) is int and self.events > 0
        _check(self, "use a whole number from 1", is_sound=is_sound)

    def is_due(self, since: ReplayCost) -> bool:
        """Whether that many have gathered."""
        return since.events >= self.events


class EveryPeriod(msgspec.Struct, frozen=True):
    """A snapshot for every period in which something happened, by the store's time."""

    period: timedelta

    def __post_init__(self) -> None:
        is_sound = isinstance(self.period, timedelta) and self.period > timedelta()
        _check(self, "use a timedelta above 0", is_sound=is_sound)

    def is_due(self, since: ReplayCost) -> bool:
        """Whether the period is over."""
        return since.events > 0 and since.age >= self.period


class WhenReplayTakes(msgspec.Struct, frozen=True):
    """A snapshot as soon as replaying what has gathered takes that many seconds, as measured."""

    seconds: float

    def __post_init__(self) -> None:
        _check(self, "use a number of seconds, 0 or more", is_sound=_is_seconds(self.seconds))

    def is_due(self, since: ReplayCost) -> bool:
        """Whether it takes that long."""
        return since.events > 0 and since.seconds >= self.seconds


class Adaptive(msgspec.Struct, frozen=True):
    """A snapshot when replay takes that many seconds, but no sooner and no later than given.

    Not before ``shortest`` events have gathered, however slow they are, and in any case once
    there are ``longest``.
    """

    seconds: float = 0.005
    shortest: int = 100
    longest: int = 10_000

    def __post_init__(self) -> None:
        _check(self, "use a number of seconds, 0 or more", is_sound=_is_seconds(self.seconds))
        numbers = (self.shortest, self.longest)
        is_sound = all(type(n) is int and n > 0 for n in numbers) and self.shortest <= self.longest
        _check(
            self, "use whole numbers of events from 1, the shortest one first", is_sound=is_sound
        )

    def is_due(self, since: ReplayCost) -> bool:
        """Whether replay costs too much by now."""
        if since.events >= self.longest:
            return True
        return since.events >= self.shortest and since.seconds >= self.seconds


class NeverSnapshot(msgspec.Struct, frozen=True):
    """No snapshots, but those that are asked for."""

    def is_due(self, since: ReplayCost) -> bool:
        """Never."""
        del since
        return False


class Retention(msgspec.Struct, frozen=True):
    """How many of a subject's snapshots are kept, and how many bytes; the newest always is."""

    snapshots: int = 10
    size: int = 64 << 20

    def __post_init__(self) -> None:
        is_sound = all(type(n) is int and n >= 0 for n in (self.snapshots, self.size))
        _check(self, "use whole numbers, 0 or more", is_sound=is_sound)

    def surplus(self, stored: list[Snapshot]) -> list[int]:
        """Positions of those to delete, out of all of a subject's, newest first."""
        kept = size = 0
        gone: list[int] = []
        for snapshot in stored:
            size += len(snapshot.state)
            if kept and (kept >= self.snapshots or size > self.size):
                gone.append(snapshot.position)
            else:
                kept += 1
        return gone


class Place(msgspec.Struct, frozen=True):
    """The event that a state ends with: where it stands, when, and in which commit.

    ``version`` is that in its stream; ``recorded_at`` is in microseconds since 1970 UTC.
    """

    position: int
    version: int
    recorded_at: int
    commit_id: bytes


START: Final = Place(0, 0, 0, b"")
"""Before every event."""


class Loaded(msgspec.Struct, Generic[S], frozen=True):
    """A state as it was loaded, and where in history it stands.

    ``version`` and ``position`` are those of the last event in it, 0 where there is none;
    ``version`` counts in that event's stream. ``read_until`` is how far the store was read: none
    of the events between ``position`` and there concern the state. ``since`` says what was folded
    to get here: the events after the snapshot, if there was one. ``place`` is that of the last
    event. ``subject`` is what a snapshot of it is kept under; None where there can't be one.
    ``mark`` says whether it may still be used.
    """

    state: S
    version: int
    position: int
    read_until: int
    since: ReplayCost
    place: Place
    subject: str | None
    mark: ErasureMark = NO_VAULT

    @classmethod
    def at(cls, place: Place, state: S, subject: str | None, mark: ErasureMark) -> Loaded[S]:
        """A state that ends with the event at that place, with nothing folded to get there."""
        until = place.position
        return cls(state, place.version, until, until, NOTHING, place, subject, mark)


class _Sealed(msgspec.Struct, array_like=True, frozen=True):
    """``digests`` are by the ids of the keys that they are made with."""

    format: int
    digests: list[tuple[bytes, bytes]]
    content: bytes
    shape: bytes = b""


class _Content(msgspec.Struct, array_like=True, frozen=True):
    version: int
    recorded_at: int
    commit_id: bytes
    state: msgspec.Raw
    zoned: bool


class _Format(msgspec.Struct, array_like=True, frozen=True):
    format: int


_decode_format: Final = msgspec.msgpack.Decoder(_Format).decode
_decode_sealed: Final = msgspec.msgpack.Decoder(_Sealed).decode
_decode_content: Final = msgspec.msgpack.Decoder(_Content).decode


def subject_of(fold: Fold[Any], query: Query) -> str:
    """What a snapshot is of: the fold, and the events it is given.

    Raises `InvalidQueryError` for a query that leaves out what came before.
    """
    lacks = query.reverse or query.max_events is not None or query.skips_retired
    if lacks or query.after_position or query.min_version is not None:
        raise InvalidQueryError(
            "a state rests on its whole history: leave out after, from_version, limit, backwards "
            "and skipping_retired"
        )
    (selector, *more) = query.selectors
    names = sorted(selector.streams)
    whole = Query().stream(*names).selectors if names else ()
    if not more and len(names) == 1 and query.selectors == whole:
        name = f"{fold.name}/{names[0]}"
    elif query.selectors == Query().selectors:
        name = fold.name
    else:
        parts = sorted(msgspec.json.encode(s, order="deterministic") for s in query.selectors)
        name = f"{fold.name}?{hashlib.sha256(b' '.join(parts)).hexdigest()}"
    if len(name.encode()) > MAX_NAME_BYTES:
        name = f"{fold.name[:100]}#{hashlib.sha256(name.encode()).hexdigest()}"
    return name


def sealed(
    fold: Fold[S],
    subject: str,
    state: S,
    place: Place,
    known: Collection[type[Any]],
    key: SnapshotKey,
) -> Snapshot:
    """The snapshot of a state that was folded where those classes of events were ``known``.

    Raises `SnapshotError` for a state that would not come back exactly as it is.
    """
    try:
        found = encoded(state, fold.state_type)
    except UNFIT as error:
        raise SnapshotError(
            f"a state of fold {fold.name!r} is not kept as a snapshot, since it would not come "
            f"back as it is: {error}. Give the fold the state's exact type, such as "
            f"Fold(…, state=dict[str, Account]), made of what msgspec can encode"
        ) from error
    raw = msgspec.Raw(found.data)
    content = encode(_Content(place.version, place.recorded_at, place.commit_id, raw, found.zoned))
    shape = _shape(fold)
    digest = _digest(fold, subject, place.position, content, known, key)
    body = encode(_Sealed(_FORMAT_VERSION, [(key.id, digest)], content, shape))
    if len(body) > _MAX_STATE_BYTES:
        raise SnapshotError(
            f"a state of fold {fold.name!r} is not kept as a snapshot: it is {len(body):,} bytes, "
            f"and the limit {_MAX_STATE_BYTES:,}. Split the state over several streams"
        )
    return Snapshot(subject, place.position, fold.name, fold.version, body)


def joined(new: Snapshot, stored: Snapshot) -> Snapshot:
    """The new one, authenticated by those too who have stored the same state at its position."""
    mine, theirs = _unsealed(new), _unsealed(stored)
    if mine is None or theirs is None:
        return new
    if (stored.fold, stored.fold_version) != (new.fold, new.fold_version):
        return new
    if (theirs.shape, theirs.content) != (mine.shape, mine.content):
        return new
    others = [digest for digest in theirs.digests if digest not in mine.digests]
    digests = [*mine.digests, *others][:_MAX_READERS]
    return msgspec.structs.replace(
        new, state=encode(msgspec.structs.replace(mine, digests=digests))
    )


def surplus(every: Sequence[Snapshot], keys: Collection[SnapshotKey], kept: Retention) -> list[int]:
    """Positions of those to delete, out of all of a subject's, newest first.

    The retention is that of one's own. Of a few others who have snapshots of it the newest is kept.
    """
    ids = {key.id for key in keys}
    mine: list[Snapshot] = []
    theirs: list[int] = []
    others: set[bytes] = set()
    for snapshot in every:
        seal = _unsealed(snapshot)
        strangers = set() if seal is None else {key_id for key_id, _ in seal.digests}
        if not strangers or not ids.isdisjoint(strangers):
            mine.append(snapshot)
        elif strangers <= others or len(others) >= _MAX_OTHERS:
            theirs.append(snapshot.position)
        else:
            others |= strangers
    return [*kept.surplus(mine), *theirs]


def _unsealed(snapshot: Snapshot) -> _Sealed | None:
    """What it is made of; None where it is of another format, damaged, or a vault's."""
    try:
        seal = _decode_sealed(snapshot.state)
    except UNFIT:
        return None
    return seal if seal.format == _FORMAT_VERSION else None


class OutdatedSnapshotError(SnapshotError):
    """A snapshot of an older format, or a state of another shape: no damage."""


class ForeignSnapshotError(OutdatedSnapshotError):
    """A snapshot that none of one's own keys has authenticated: another's, or forged."""


def is_first_refusal(fold: Fold[Any]) -> bool:
    """Whether it wasn't logged yet that states of this fold don't make snapshots."""
    if fold in _refused:
        return False
    _refused.add(fold)
    return True


def _shape(fold: Fold[Any]) -> bytes:
    """A digest of the shape of the fold's state."""
    found = _shapes.get(fold)
    if found is None:
        text = shape_of(fold.state_type)
        found = _shapes[fold] = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return found


def opened(
    fold: Fold[S],
    snapshot: Snapshot,
    known: Collection[type[Any]],
    keys: Collection[SnapshotKey],
) -> tuple[S, Place]:
    """The state and its place. Raises `SnapshotError` where it is not to be believed.

    That is so unless it is authenticated with one of the ``keys``.
    """
    if (snapshot.fold, snapshot.fold_version) != (fold.name, fold.version):
        raise SnapshotError(
            f"it is of fold {snapshot.fold!r} version {snapshot.fold_version}, not of "
            f"{fold.name!r} version {fold.version}"
        )
    try:
        seal = _decode_current(snapshot.state)
        if seal.shape != _shape(fold):
            raise OutdatedSnapshotError("the state has another shape now: its type has changed")
        _check_authentic(fold, snapshot, seal, known, keys)
        content = _decode_content(seal.content)
        state = decoded(Encoded(bytes(content.state), content.zoned), fold.state_type)
    except UNFIT as error:
        raise SnapshotError(f"it can't be read: {error}") from error
    place = Place(snapshot.position, content.version, content.recorded_at, content.commit_id)
    return state, place


def _decode_current(state: bytes) -> _Sealed:
    """Raises `OutdatedSnapshotError` for another format."""
    form = _decode_format(state).format
    if form != _FORMAT_VERSION:
        raise OutdatedSnapshotError(f"it has format {form}, not {_FORMAT_VERSION}")
    return _decode_sealed(state)


def _check_authentic(
    fold: Fold[Any],
    snapshot: Snapshot,
    seal: _Sealed,
    known: Collection[type[Any]],
    keys: Collection[SnapshotKey],
) -> None:
    """Raises `SnapshotError` unless one of the keys has authenticated it."""
    is_mine = False
    for key in keys:
        for key_id, digest in seal.digests:
            if key_id != key.id:
                continue
            is_mine = True
            bound = fold, snapshot.subject, snapshot.position, seal.content, known, key
            if hmac.compare_digest(digest, _digest(*bound)):
                return
    if is_mine:
        raise SnapshotError(
            "it was altered or damaged, or taken where other event types were declared: its "
            "digest doesn't fit"
        )
    raise ForeignSnapshotError(
        "it was taken by another user, on another machine, or where the store lay before"
    )


def unsealed(fold: Fold[S], snapshot: Snapshot) -> tuple[S, Place]:
    """The state and its place, to be compared and never to be used: `opened` says what counts.

    Raises `SnapshotError` where it can't be read.
    """
    try:
        content = _decode_content(_decode_sealed(snapshot.state).content)
        state = decoded(Encoded(bytes(content.state), content.zoned), fold.state_type)
    except UNFIT as error:
        raise SnapshotError(f"it can't be read: {error}") from error
    return state, Place(snapshot.position, content.version, content.recorded_at, content.commit_id)


def _digest(
    fold: Fold[Any],
    subject: str,
    position: int,
    content: bytes,
    known: Collection[type[Any]],
    key: SnapshotKey,
) -> bytes:
    """Over the content and what it is bound to; also to which of its events the fold saw."""
    seen = sorted(cls.__name__ for cls in fold.event_classes if cls in known)
    bound = encode([subject, position, fold.name, fold.version, seen])
    digest = hashlib.blake2b(bound, key=key.secret, digest_size=_DIGEST_BYTES)
    digest.update(content)
    return digest.digest()
