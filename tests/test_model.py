"""SQLite against the memory model: the same calls, the same outcomes, the same events."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from everwhen import (
    ANY,
    EXISTS,
    NO_STREAM,
    Commit,
    Condition,
    Event,
    EverwhenError,
    NewEvent,
    Query,
    Store,
    Write,
    open_store,
)
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.sqlite import query_plan
from everwhen.errors import BatchError
from everwhen.system.object_storage import ObjectStorage, object_url
from everwhen.testing import ManualClock
from everwhen.tiers import SegmentSize
from everwhen.vocabulary import Checkpoint, Receipt, Snapshot
from everwhen.vocabulary.contract import Archive, Evict, Merge, Move, Restore, Seal, Sweep
from everwhen.vocabulary.microseconds import to_micros

pytestmark = pytest.mark.slow

STREAMS = ("a", "a-1", "a-2", "b-1", "ab-1")
TAGS = ("red", "blue", "player:7")


class Opened(Event):
    number: int


class Closed(Event):
    tag_fields = ("number",)

    number: int


def event_of(kind: int, number: int, tags: tuple[str, ...], late: int | None) -> Any:
    event = (Opened if kind % 3 else Closed)(number)
    if not tags and late is None:
        return event
    occurred_at = None if late is None else datetime(2023, 1, 1, tzinfo=UTC) + timedelta(late)
    return NewEvent(event=event, tags=tags, occurred_at=occurred_at)


EVENTS = st.builds(
    event_of,
    st.integers(0, 5),
    st.integers(0, 3),
    st.lists(st.sampled_from(TAGS), max_size=2, unique=True).map(tuple),
    st.none() | st.integers(0, 700),
)
EXPECTED = st.sampled_from([ANY, ANY, ANY, NO_STREAM, EXISTS]) | st.integers(0, 6)
WRITES = st.lists(
    st.builds(Write, st.sampled_from(STREAMS), st.lists(EVENTS, max_size=4), EXPECTED),
    min_size=1,
    max_size=3,
    unique_by=lambda write: write.stream,
)


MOVES = st.sampled_from([Archive, Archive, Evict, Evict, Restore, Merge, Sweep])
SIZES = st.builds(SegmentSize, st.integers(1, 9), frame=st.integers(1, 3), frames=st.integers(1, 3))


def selections(draw: st.DrawFn) -> Query:
    query = Query()
    if draw(st.booleans()):
        query = query.stream(*draw(st.sets(st.sampled_from([*STREAMS, "none"]), min_size=1)))
    if draw(st.booleans()):
        query = query.category(*draw(st.sets(st.sampled_from(["a", "b", "ab"]), min_size=1)))
    if draw(st.booleans()):
        query = query.types(*draw(st.sets(st.sampled_from([Opened, Closed]), min_size=1)))
    if draw(st.booleans()):
        tags = [*TAGS, "number:1"]
        query = query.tags(*draw(st.sets(st.sampled_from(tags), min_size=1, max_size=2)))
    return query


@st.composite
def selectors(draw: st.DrawFn) -> Query:
    query = selections(draw)
    return query | selections(draw) if draw(st.booleans()) else query


@st.composite
def queries(draw: st.DrawFn) -> Query:
    query = draw(selectors())
    bound: Callable[[], int] = lambda: draw(st.integers(0, 60))  # noqa: E731
    if draw(st.booleans()):
        query = query.after(bound())
    if draw(st.booleans()):
        query = query.up_to(bound())
    if draw(st.booleans()):
        query = query.from_version(bound() // 8)
    if draw(st.booleans()):
        query = query.to_version(bound() // 4)
    if draw(st.booleans()):
        query = query.as_at(datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=bound()))
    if draw(st.booleans()):
        query = query.as_of(datetime(2023, 1, 1, tzinfo=UTC) + timedelta(days=bound() * 10))
    if draw(st.booleans()):
        query = query.backwards()
    return query.limit(bound() // 5) if draw(st.booleans()) else query


class LogMachine(RuleBasedStateMachine):
    """Every rule does the same to a file, to a second opener of that file, and to the model."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="everwhen-test-")
        self.path = Path(self.folder.name) / "store.db"
        self.clock = ManualClock()
        self.model = open_store("memory:", events=[Opened, Closed], clock=self.clock)
        self.files = [self.opened(), self.opened()]
        self.ids = 0
        self.known: list[Commit] = []
        self.followers = [store.subscribe() for store in (self.model, self.files[0])]

    def opened(self) -> Store:
        return open_store(self.path, events=[Opened, Closed], clock=self.clock, durable=False)

    def teardown(self) -> None:
        if hasattr(self, "files"):
            for store in (self.model, *self.files):
                store.close()
            self.folder.cleanup()

    def both(self, which: int, call: Callable[[Store], Any]) -> Any:
        """The call's outcome on the file, which must be the model's."""
        outcomes = [outcome(call, store) for store in (self.model, self.files[which])]
        assert outcomes[0] == outcomes[1]
        return outcomes[0]

    def with_id(self, writes: list[Write], condition: Condition | None) -> Commit:
        self.ids += 1
        millis = int(self.clock().timestamp() * 1_000) << 80
        made_now = UUID(int=millis | 7 << 76 | 2 << 62 | self.ids)
        commit = self.commit_of(writes, condition, made_now if self.ids % 2 else UUID(int=self.ids))
        self.known.append(commit)
        return commit

    def commit_of(
        self, writes: list[Write], condition: Condition | None, id_: UUID | None
    ) -> Commit:
        return Commit(writes, condition, id_)

    @rule(which=st.integers(0, 1), writes=WRITES)
    def append(self, which: int, writes: list[Write]) -> None:
        commit = self.with_id(writes, None)
        self.both(which, lambda store: store.commit(commit))

    @rule(which=st.integers(0, 1), writes=WRITES, query=selectors(), back=st.integers(0, 30))
    def append_under_a_condition(
        self, which: int, writes: list[Write], query: Query, back: int
    ) -> None:
        after = max(0, self.model.head().position - back)
        commit = self.with_id(writes, Condition(query, after))
        self.both(which, lambda store: store.commit(commit))

    @rule(which=st.integers(0, 1), batch=st.lists(WRITES, min_size=1, max_size=4))
    def append_a_batch(self, which: int, batch: list[list[Write]]) -> None:
        commits = [self.with_id(writes, None) for writes in batch]
        self.both(which, lambda store: store.commit_batch([*commits, commits[0]]))

    @rule(which=st.integers(0, 1), pick=st.integers(0, 1_000), writes=WRITES, same=st.booleans())
    def repeat(self, which: int, pick: int, writes: list[Write], same: bool) -> None:
        if self.known:
            known = self.known[pick % len(self.known)]
            commit = known if same else self.commit_of(writes, None, known.id)
            self.both(which, lambda store: store.commit(commit))

    @rule(which=st.integers(0, 1), count=st.integers(100, 400), stream=st.sampled_from(STREAMS))
    def append_many(self, which: int, count: int, stream: str) -> None:
        commit = self.with_id([Write(stream, [Opened(n % 3) for n in range(count)])], None)
        self.both(which, lambda store: store.commit(commit))

    @rule(seconds=st.integers(-20, 20))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(which=st.integers(0, 1), query=queries())
    def read(self, which: int, query: Query) -> None:
        self.both(which, lambda store: list(store.read(query)))

    @rule(which=st.integers(0, 1), seconds=st.integers(-30, 60))
    def find_a_moment(self, which: int, seconds: int) -> None:
        moment = self.clock() + timedelta(seconds=seconds)
        self.both(which, lambda store: store.position_at(moment))

    @rule(which=st.integers(0, 1), category=st.none() | st.sampled_from(["a", "b", "a-1"]))
    def list_streams(self, which: int, category: str | None) -> None:
        self.both(which, lambda store: list(store.streams(category)))

    @rule(which=st.integers(0, 1), place=st.integers(0, 5), fails=st.booleans())
    def keep_places(self, which: int, place: int, fails: bool) -> None:
        def keep(store: Store) -> None:
            with store.transaction() as transaction:
                transaction.save_checkpoint(Checkpoint(f"c{place % 2}", place))
                transaction.save_snapshot(Snapshot("s", place, "fold", 1, bytes([place])))
                if place == 5:
                    transaction.delete_snapshots("s", [1, 2])
                if fails:
                    raise EverwhenError("no")

        self.both(which, keep)
        self.both(1 - which, lambda store: (store.checkpoints(), store.snapshots("s", up_to=3)))

    @rule(which=st.integers(0, 1), query=selectors())
    def everything_is_found(self, which: int, query: Query) -> None:
        assert self.files[which].kernel.backend.check() == []
        self.both(which, lambda store: list(store.read(query)))

    @rule(which=st.integers(0, 1))
    def reopen(self, which: int) -> None:
        if which == 0:
            self.followers[1].close()
        self.files[which].close()
        self.files[which] = self.opened()
        if which == 0:
            query = Query().after(self.followers[1].position)
            self.followers[1] = self.files[0].subscribe(query)

    @rule()
    def follow(self) -> None:
        """Both subscriptions deliver the same, up to the head, and nothing twice."""
        head = self.model.head().position
        model, file = self.followers
        while model.position < head:
            assert next(model) == next(file)
        assert model.position == file.position == head

    @invariant()
    def heads_agree(self) -> None:
        if hasattr(self, "files"):
            for store in self.files:
                assert store.head() == self.model.head()


class StoreMachine(LogMachine):
    """The same for stores whose history moves."""

    @property
    def url(self) -> str:
        return object_url(Path(self.folder.name) / "archive")

    @rule(which=st.integers(0, 1), back=st.integers(0, 40), size=SIZES)
    def seal(self, which: int, back: int, size: SegmentSize) -> None:
        backend = self.files[which].kernel.backend
        while backend.move(Seal(self.model.head().position - back, size)) is not None:
            pass

    @rule(which=st.integers(0, 1), size=SIZES, steps=st.integers(1, 12))
    def seal_and_be_cut_off(self, which: int, size: SegmentSize, steps: int) -> None:
        backend = self.files[which].kernel.backend
        assert isinstance(backend, EmbeddedBackend)
        taken = backend._engine.moving(Seal(self.model.head().position, size)).steps()
        for step in islice(taken, steps):
            step()

    @rule(which=st.integers(0, 1), kind=MOVES, pick=st.integers(0, 99))
    def move_history(self, which: int, kind: type[Move], pick: int) -> None:
        move = self.some_move(which, kind, pick)
        if move is not None:
            self.files[which].kernel.backend.move(move)
            self.only_swept_objects_are_gone(is_swept=kind is Sweep)

    @rule(which=st.integers(0, 1), kind=MOVES, pick=st.integers(0, 99), steps=st.integers(1, 6))
    def move_history_and_be_cut_off(
        self, which: int, kind: type[Move], pick: int, steps: int
    ) -> None:
        """The work between the last step and the next one is done, or isn't."""
        backend = self.files[which].kernel.backend
        assert isinstance(backend, EmbeddedBackend)
        move = self.some_move(which, kind, pick)
        if move is not None:
            taken = backend._engine.moving(move).steps()
            for step in islice(taken, steps):
                step()
            if pick % 2:
                next(taken, None)
            self.only_swept_objects_are_gone(is_swept=False)

    def some_move(self, which: int, kind: type[Move], pick: int) -> Move | None:
        """One of a kind, of any segments that can be moved so."""
        if kind is Sweep:
            return Sweep(to_micros(self.clock()) + 1)
        segments = self.files[which].kernel.backend.segments()
        if kind is not Archive:
            segments = [segment for segment in segments if segment.object is not None]
        if not segments:
            return None
        last = segments[pick % len(segments)].last
        if kind is Archive:
            return Archive(last, self.url, reads_back=bool(pick % 2))
        if kind is Merge:
            return Merge(tuple({last, *(one.last for one in segments[: pick % 5])}), self.url)
        return Evict(last) if kind is Evict else Restore(last)

    def only_swept_objects_are_gone(self, *, is_swept: bool) -> None:
        objects = [segment.object for segment in self.files[0].kernel.backend.segments()]
        used = {(one.name, one.size) for one in objects if one is not None}
        stored = set(ObjectStorage(self.url).names()) if used else set()
        assert used == stored if is_swept and used else used <= stored


def outcome(call: Callable[[Store], Any], store: Store) -> Any:
    try:
        return call(store)
    except BatchError as error:
        return [o if isinstance(o, Receipt) else (type(o), str(o)) for o in error.outcomes]
    except EverwhenError as error:
        return type(error), str(error)


@pytest.mark.parametrize("short_scan", [512, 0], ids=["scans", "indexes"])
def test_sqlite_is_the_model(short_scan: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_plan, "_SHORT_SCAN", short_scan)

    class Machine(StoreMachine):
        pass

    Machine.TestCase.settings = settings(
        max_examples=40, stateful_step_count=40, deadline=None, print_blob=True
    )
    Machine.TestCase("runTest").debug()
