# Generated from tests/_async/test_copying.py by tools/unasync.py: edit that, then run `make sync`.
"""A store is copied into another backend, and is the same one there; or the target is refused."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from tests.postgres_server import PostgresServer

from everwhen import (
    CommandBus,
    Commit,
    Decisions,
    Event,
    Fold,
    KeyFile,
    NewEvent,
    Personal,
    Query,
    Store,
    TimeMachine,
    UnknownEvent,
    Vault,
    Write,
    open_store,
)
from everwhen import open_store as open_elsewhere
from everwhen.errors import (
    CorruptStoreError,
    DeclarationError,
    ReadOnlyError,
    UnsupportedError,
)
from everwhen.exchange import (
    CloudEvents,
    CopyReport,
    ExchangeProgress,
    OtherCopyError,
    copy_store,
    export_events,
    import_events,
)
from everwhen.exchange import history_commits as batching
from everwhen.exchange._sync import history_writing
from everwhen.merkle import MemoryTiles, MerkleLog
from everwhen.partitions import ByStream, open_partitioned_store
from everwhen.privacy import Erased
from everwhen.reactions import Reaction, ReactionRunner, Timer
from everwhen.system.object_storage import object_url
from everwhen.testing import ManualClock
from everwhen.vocabulary import CommitMetadata
from everwhen.vocabulary.contract import (
    Archive,
    Checkpoint,
    Evict,
    Retire,
    Seal,
    SegmentSize,
    StoredSlice,
)
from everwhen_verify.notes import Signer

pytestmark = pytest.mark.slow

Places: TypeAlias = Callable[[str], str]

KINDS = ("sqlite", "postgresql")
WAYS = [(one, other) for one in KINDS for other in KINDS]
SMALL = SegmentSize(slices=8, frame=2, frames=2)


class Paid(Event):
    tag_fields = ("by",)

    by: str
    amount: int


class Wrote(Event):
    data_subject = "who"

    who: str
    text: Personal[str]


class CutError(Exception):
    """Ends a copying somewhere."""


@pytest.fixture
def place(tmp_path: Path, postgres: PostgresServer) -> Iterator[Places]:
    """Gives locations of a kind, at which nothing is yet."""
    with ExitStack() as held:

        def new(kind: str) -> str:
            if kind == "sqlite":
                return str(tmp_path / f"{uuid4().hex}.db")
            return held.enter_context(postgres.schema())

        yield new


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copying that has many places to end at."""
    monkeypatch.setattr(batching, "_BATCH_EVENTS", 7)
    monkeypatch.setattr(history_writing, "PAGE_EVENTS", 11)


def slices_of(store: Store) -> list[StoredSlice]:
    page = store.kernel.backend.read(Query(), 1 << 20)
    assert page.end
    return list(page.slices)


def exported(store: Store) -> bytes:
    out = io.BytesIO()
    export_events(store, out, CloudEvents())
    return out.getvalue()


def root_of(store: Store) -> bytes:
    signed = MerkleLog(store, MemoryTiles(), Signer.generate("example.org/log")).sign()
    return signed.checkpoint.root


def fill(store: Store, commits: int = 20, *, seed: int = 0) -> None:
    clock = store.clock
    assert isinstance(clock, ManualClock)
    for number in range(commits):
        clock.advance(number % 3)
        writes = [
            Write(f"order-{number % 5}", [Paid("ann", number), Paid("ü", 1)]),
            Write(
                "log",
                [NewEvent(event=UnknownEvent("Noted", {"n": [number, "\x00"]}), tags=("x", "y"))],
            ),
            Write(f"order-{number % 5}", [Paid("bob", -number)]),
        ]
        store.commit(
            Commit(
                writes[: 1 + number % 3],
                id=UUID(int=(seed << 64) + number + 1, version=4) if number % 4 else None,
                metadata=CommitMetadata(user_id="eve") if number % 2 else None,
            )
        )


def opened(location: str, *, clock: ManualClock | None = None) -> Store:
    return open_store(location, events=[Paid], clock=clock or ManualClock())


def filled(location: str) -> Store:
    """A store with a little of everything."""
    store = opened(location)
    other = opened("memory:")
    with other:
        fill(other, 2, seed=9)
        file = io.BytesIO(exported(other))
    import_events(store, file, CloudEvents())
    fill(store)
    TimeMachine(store, Fold("n", int)).set_bookmark("here", 7)
    with store.kernel.backend.transaction() as transaction:
        transaction.save_checkpoint(Checkpoint("mailer", 5, b"five"))
        transaction.save_checkpoint(Checkpoint("projection/p@1.1", 5, b"{}"), local=True)
    store.create_branch("unused", at=10)
    store.create_branch("what-if", at=10)
    with store.branch("what-if") as branch:
        fill(branch, 5, seed=1)
        branch.create_branch("deeper")
        TimeMachine(branch, Fold("n", int)).set_bookmark("there", 11)
        with branch.branch("deeper") as deeper:
            fill(deeper, 5, seed=2)
    return store


def is_same(one: Store, other: Store) -> None:
    """Compares all that a copy has to have."""
    assert slices_of(one) == slices_of(other)
    assert exported(one) == exported(other)
    assert root_of(one) == root_of(other)
    for query in (Query().tags("by:ann"), Query().types("Noted"), Query().category("log")):
        found = [e.position for e in one.read(query)]
        assert found == [e.position for e in other.read(query)] != []
    assert other.check() == []
    assert kept_of(one) == kept_of(other)
    branches = one.branches()
    assert branches == other.branches()
    for info in branches:
        with one.branch(info.name) as mine, other.branch(info.name) as copy:
            assert slices_of(mine) == slices_of(copy)
            assert kept_of(mine) == kept_of(copy)
            assert copy.check() == []


def kept_of(store: Store) -> list[Checkpoint]:
    found = store.kernel.backend.checkpoints()
    return [one for one in found if not one.name.startswith("projection/")]


@pytest.mark.parametrize(("kind", "other"), WAYS)
def test_a_copy_is_the_same_store(place: Places, kind: str, other: str) -> None:
    seen: list[ExchangeProgress] = []
    with filled(place(kind)) as store, opened(place(other)) as copy:
        report = copy_store(store, copy, progress=seen.append)
        head = store.head()
        events = head.position + sum(b.head - b.position for b in store.branches())
        assert report == CopyReport(
            head.position, head.recorded_at, 3, events, written=events, repeated=0, newer=0
        )
        assert [one.stage for one in seen] == sorted((one.stage for one in seen), reverse=True)
        assert seen[-1] == ExchangeProgress("comparing", events, events, "events")
        is_same(store, copy)
        names = {one.name for one in copy.kernel.backend.checkpoints()}
        assert {"mailer", "bookmark/here", "branch/deeper"} < names
        assert any(name.startswith("import:") for name in names)
        assert "projection/p@1.1" not in names
        assert "everwhen-copy" not in names
        again = copy_store(store, copy)
        assert (again.written, again.repeated) == (0, events)
        with opened(place(kind)) as back:
            copy_store(copy, back)
            is_same(store, back)
        copy.append("order-1", [Paid("ann", 1)])
        assert copy.check() == []


def test_a_store_without_events_is_copied(place: Places) -> None:
    with opened(place("sqlite")) as store, opened(place("postgresql")) as copy:
        assert (copy_store(store, copy)).events == 0
        store.create_branch("what-if")
        report = copy_store(store, copy)
        assert (report.branches, report.recorded_at) == (1, None)
        assert copy.branches() == store.branches()


@pytest.mark.parametrize(("kind", "other"), WAYS)
@pytest.mark.usefixtures("small_steps")
def test_it_goes_on_wherever_it_was_cut_off(place: Places, kind: str, other: str) -> None:
    chance = random.Random(f"{kind}{other}")
    cuts = steps = 0

    def cut(_: ExchangeProgress) -> None:
        nonlocal cuts, steps
        steps -= 1
        if not steps:
            cuts += 1
            raise CutError

    with filled(place(kind)) as store:
        target = place(other)
        for _ in range(8):
            steps = chance.randrange(1, 15)
            with opened(target) as copy:
                with suppress(CutError):
                    copy_store(store, copy, progress=cut)
                assert copy.check() == []
        assert cuts >= 3
        with opened(target) as copy:
            copy_store(store, copy)
            is_same(store, copy)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("small_steps")
def test_what_the_source_gets_meanwhile_is_counted(place: Places, kind: str) -> None:
    location, added = place(kind), 0
    with filled(location) as store, opened(place("postgresql")) as copy:
        head, slices = (store.head()).position, slices_of(store)
        with open_elsewhere(location, events=[Paid]) as writer:

            def add(progress: ExchangeProgress) -> None:
                nonlocal added
                if added < 5:
                    added += 1
                    writer.append("late", [Paid("ann", 1)])

            report = copy_store(store, copy, progress=add)
        assert (report.position, report.newer, slices_of(copy)) == (head, 5, slices)
        report = copy_store(store, copy)
        assert (report.written, report.newer) == (5, 0)
        is_same(store, copy)


def test_reactions_go_on_and_do_not_begin_again(place: Places) -> None:
    done: list[int] = []
    reaction = Reaction("reminders")

    @reaction.on(Paid)
    def _(recorded: Any) -> list[Timer]:
        done.append(recorded.position)
        return [Timer(f"t{recorded.position}", Remind(recorded.position), after=timedelta(1))]

    decisions = Decisions()
    decisions.on(Remind)(lambda command: [])

    def run(store: Store) -> None:
        with ReactionRunner(CommandBus(store, decisions), [reaction]) as runner:
            runner.catch_up()

    with opened(place("sqlite")) as store, opened(place("postgresql")) as copy:
        fill(store, 4)
        run(store)
        count = len(done)
        copy_store(store, copy)
        run(copy)
        assert len(done) == count > 0
        timers = [one for one in kept_of(copy) if one.name.startswith("timer/")]
        assert len(timers) == count
        with store.kernel.backend.transaction() as transaction:
            transaction.delete_checkpoint(timers[0].name)
        copy_store(store, copy)
        assert timers[0] not in kept_of(copy)


class Remind(msgspec.Struct, frozen=True):
    position: int


def test_what_is_encrypted_is_copied_without_keys(place: Places, tmp_path: Path) -> None:
    with Vault(tmp_path / "vault", KeyFile.create(tmp_path / "key")) as vault:
        location, target = place("sqlite"), place("postgresql")
        with open_store(location, events=[Wrote], vault=vault) as store:
            for who in ("ann", "bob"):
                store.append("letters", [Wrote(who, f"of {who}")])
            store.forget("ann")
        with open_store(location) as store, open_store(target) as copy:
            copy_store(store, copy)
            slices = slices_of(store)
        with open_store(target, events=[Wrote], vault=vault) as copy:
            assert slices_of(copy) == slices
            ann, bob = [e.event.text for e in copy.read("letters")]
            assert (isinstance(ann, Erased), bob) == (True, "of bob")
            assert copy.check() == []


def test_sealed_and_archived_history_is_copied(place: Places, tmp_path: Path) -> None:
    location = place("sqlite")
    with filled(location) as store, opened(place("postgresql")) as copy:
        backend, head = store.kernel.backend, (store.head()).position
        while backend.move(Seal(head - 9, SMALL)) is not None:
            pass
        for segment in (backend.segments())[:3]:
            backend.move(Archive(segment.last, object_url(tmp_path / "archive")))
            backend.move(Evict(segment.last))
        copy_store(store, copy)
        is_same(store, copy)
        with opened(place("sqlite")) as back:
            copy_store(copy, back)
            is_same(store, back)


def test_retired_history_is_refused(place: Places) -> None:
    with opened(place("sqlite")) as store, opened(place("postgresql")) as copy:
        fill(store)
        backend = store.kernel.backend
        segment = backend.move(Seal((store.head()).position, SMALL))
        assert segment is not None
        backend.move(Retire(segment.last, (store.head()).position))
        with pytest.raises(UnsupportedError, match=f"up to position {segment.last} were retired"):
            copy_store(store, copy)
        with pytest.raises(UnsupportedError, match="were retired"):
            copy_store(copy, store)
        assert (copy.head()).position == 0


@pytest.mark.parametrize(("kind", "other"), WAYS)
def test_a_target_with_other_history_is_refused(place: Places, kind: str, other: str) -> None:
    def refused(store: Store, copy: Store, position: int, reason: str) -> None:
        before = slices_of(copy), copy.branches()
        with pytest.raises(OtherCopyError, match=reason) as caught:
            copy_store(store, copy)
        assert (caught.value.position, caught.value.written) == (position, 0)
        assert "new store" in str(caught.value)
        assert before == (slices_of(copy), copy.branches())

    with opened(place(kind)) as store, opened(place(other)) as copy:
        store.append("a", [Paid("ann", 1)] * 3, commit_id=UUID(int=1))
        copy_store(store, copy)
        copy.append("a", [Paid("ann", 1)] * 2)
        refused(store, copy, 4, "2 events more")
        store.append("a", [Paid("ann", 2)] * 2)
        refused(store, copy, 4, "commit .* is there, and commit .* in the source")
        with opened(place(other)) as odd:
            eve = CommitMetadata(user_id="eve")
            odd.append("b", [Paid("ann", 1)] * 3, commit_id=UUID(int=1), metadata=eve)
            refused(store, odd, 1, "another stream and metadata")
        with opened(place(other)) as odd:
            odd.create_branch("theirs")
            refused(store, odd, 1, "branch 'theirs' of its own")


def test_a_branch_with_other_history_is_refused(place: Places) -> None:
    with filled(place("sqlite")) as store, opened(place("postgresql")) as copy:
        copy_store(store, copy)
        with copy.branch("what-if") as branch:
            head = (branch.head()).position
            branch.append("a", [Paid("ann", 1)])
        store.append("a", [Paid("ann", 1)])
        with pytest.raises(OtherCopyError, match="branch 'what-if', it has 1 events") as caught:
            copy_store(store, copy)
        assert (caught.value.position, caught.value.written) == (head + 1, 0)


def test_a_renamed_branch_is_renamed_in_the_copy(place: Places) -> None:
    with filled(place("sqlite")) as store, opened(place("postgresql")) as copy:
        copy_store(store, copy)
        store.rename_branch("what-if", "then")
        copy_store(store, copy)
        is_same(store, copy)


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_is_not_copied_into_itself(place: Places, kind: str, tmp_path: Path) -> None:
    location = place(kind)
    again = location.replace("127.0.0.1", "localhost")
    if kind == "sqlite":
        again = link_to(location, tmp_path / "link.db")
    with filled(location) as store, opened(again) as same:
        for target in (store, same):
            with pytest.raises(DeclarationError, match="name another"):
                copy_store(store, target)
        assert "everwhen-copy" not in {one.name for one in kept_of(store)}


def test_what_can_not_be_copied_is_refused(place: Places, tmp_path: Path) -> None:
    location = place("postgresql")
    with filled(place("sqlite")) as store, opened(location) as copy:
        with store.branch("what-if") as branch:
            for one, other in ((branch, copy), (copy, branch)):
                with pytest.raises(UnsupportedError, match="is a branch"):
                    copy_store(one, other)
        with open_partitioned_store(tmp_path / "parts", ByStream(2)) as parts:
            for one, other in ((parts, copy), (copy, parts)):
                with pytest.raises(UnsupportedError, match="of its own"):
                    copy_store(one, other)
        with open_store(location, read_only=True) as closed:
            with pytest.raises(ReadOnlyError):
                copy_store(store, closed)
        assert (copy.head()).position == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", ["writing", "comparing"])
@pytest.mark.usefixtures("small_steps")
def test_whoever_writes_to_the_target_meanwhile_ends_it(
    place: Places, kind: str, stage: str
) -> None:
    target = place(kind)
    with filled(place("sqlite")) as store, opened(target) as copy:
        with open_elsewhere(target, events=[Paid]) as writer:

            def intrude(progress: ExchangeProgress) -> None:
                if progress.stage == stage and progress.done > 20:
                    writer.append("theirs", [Paid("ann", 1)])

            with pytest.raises(OtherCopyError, match="somebody else has written") as caught:
                copy_store(store, copy, progress=intrude)
        assert caught.value.written > 20
        assert copy.branches() == []


@pytest.mark.usefixtures("small_steps")
def test_what_was_written_is_read_back(place: Places) -> None:
    target = place("postgresql")
    with filled(place("sqlite")) as store, opened(target) as copy:

        def damage(progress: ExchangeProgress) -> None:
            if progress.stage == "writing" and progress.done == progress.total:
                with psycopg.connect(libpq(target)) as session:
                    session.execute(
                        f"UPDATE {schema_of(target)}.slices SET metadata = '{{}}' "
                        f"WHERE position = (SELECT max(position) FROM {schema_of(target)}.slices)"
                    )

        with pytest.raises(CorruptStoreError, match=r"another metadata there"):
            copy_store(store, copy, progress=damage)


def link_to(location: str, link: Path) -> str:
    link.symlink_to(location)
    return str(link)


def libpq(url: str) -> str:
    return url.partition("?")[0]


def schema_of(url: str) -> str:
    return url.partition("schema=")[2]
