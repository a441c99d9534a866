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

from everwhen import Fold, KeyFile, Personal, Vault
from everwhen import open_store as open_elsewhere
from everwhen.aio import (
    CommandBus,
    Commit,
    Decisions,
    Event,
    NewEvent,
    Query,
    Store,
    TimeMachine,
    UnknownEvent,
    Write,
    open_store,
)
from everwhen.errors import (
    CorruptStoreError,
    DeclarationError,
    ReadOnlyError,
    UnsupportedError,
)
from everwhen.exchange import CloudEvents, CopyReport, ExchangeProgress, OtherCopyError
from everwhen.exchange import history_commits as batching
from everwhen.exchange._async import history_writing
from everwhen.exchange.aio import copy_store, export_events, import_events
from everwhen.merkle.aio import MemoryTiles, MerkleLog
from everwhen.partitions.aio import ByStream, open_partitioned_store
from everwhen.privacy import Erased
from everwhen.reactions import Reaction, Timer
from everwhen.reactions.aio import ReactionRunner
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


async def slices_of(store: Store) -> list[StoredSlice]:
    page = await store.kernel.backend.read(Query(), 1 << 20)
    assert page.end
    return list(page.slices)


async def exported(store: Store) -> bytes:
    out = io.BytesIO()
    await export_events(store, out, CloudEvents())
    return out.getvalue()


async def root_of(store: Store) -> bytes:
    signed = await MerkleLog(store, MemoryTiles(), Signer.generate("example.org/log")).sign()
    return signed.checkpoint.root


async def fill(store: Store, commits: int = 20, *, seed: int = 0) -> None:
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
        await store.commit(
            Commit(
                writes[: 1 + number % 3],
                id=UUID(int=(seed << 64) + number + 1, version=4) if number % 4 else None,
                metadata=CommitMetadata(user_id="eve") if number % 2 else None,
            )
        )


async def opened(location: str, *, clock: ManualClock | None = None) -> Store:
    return await open_store(location, events=[Paid], clock=clock or ManualClock())


async def filled(location: str) -> Store:
    """A store with a little of everything."""
    store = await opened(location)
    other = await opened("memory:")
    async with other:
        await fill(other, 2, seed=9)
        file = io.BytesIO(await exported(other))
    await import_events(store, file, CloudEvents())
    await fill(store)
    await TimeMachine(store, Fold("n", int)).set_bookmark("here", 7)
    async with store.kernel.backend.transaction() as transaction:
        await transaction.save_checkpoint(Checkpoint("mailer", 5, b"five"))
        await transaction.save_checkpoint(Checkpoint("projection/p@1.1", 5, b"{}"), local=True)
    await store.create_branch("unused", at=10)
    await store.create_branch("what-if", at=10)
    async with await store.branch("what-if") as branch:
        await fill(branch, 5, seed=1)
        await branch.create_branch("deeper")
        await TimeMachine(branch, Fold("n", int)).set_bookmark("there", 11)
        async with await branch.branch("deeper") as deeper:
            await fill(deeper, 5, seed=2)
    return store


async def is_same(one: Store, other: Store) -> None:
    """Compares all that a copy has to have."""
    assert await slices_of(one) == await slices_of(other)
    assert await exported(one) == await exported(other)
    assert await root_of(one) == await root_of(other)
    for query in (Query().tags("by:ann"), Query().types("Noted"), Query().category("log")):
        found = [e.position async for e in one.read(query)]
        assert found == [e.position async for e in other.read(query)] != []
    assert await other.check() == []
    assert await kept_of(one) == await kept_of(other)
    branches = await one.branches()
    assert branches == await other.branches()
    for info in branches:
        async with await one.branch(info.name) as mine, await other.branch(info.name) as copy:
            assert await slices_of(mine) == await slices_of(copy)
            assert await kept_of(mine) == await kept_of(copy)
            assert await copy.check() == []


async def kept_of(store: Store) -> list[Checkpoint]:
    found = await store.kernel.backend.checkpoints()
    return [one for one in found if not one.name.startswith("projection/")]


@pytest.mark.parametrize(("kind", "other"), WAYS)
async def test_a_copy_is_the_same_store(place: Places, kind: str, other: str) -> None:
    seen: list[ExchangeProgress] = []
    async with await filled(place(kind)) as store, await opened(place(other)) as copy:
        report = await copy_store(store, copy, progress=seen.append)
        head = await store.head()
        events = head.position + sum(b.head - b.position for b in await store.branches())
        assert report == CopyReport(
            head.position, head.recorded_at, 3, events, written=events, repeated=0, newer=0
        )
        assert [one.stage for one in seen] == sorted((one.stage for one in seen), reverse=True)
        assert seen[-1] == ExchangeProgress("comparing", events, events, "events")
        await is_same(store, copy)
        names = {one.name for one in await copy.kernel.backend.checkpoints()}
        assert {"mailer", "bookmark/here", "branch/deeper"} < names
        assert any(name.startswith("import:") for name in names)
        assert "projection/p@1.1" not in names
        assert "everwhen-copy" not in names
        again = await copy_store(store, copy)
        assert (again.written, again.repeated) == (0, events)
        async with await opened(place(kind)) as back:
            await copy_store(copy, back)
            await is_same(store, back)
        await copy.append("order-1", [Paid("ann", 1)])
        assert await copy.check() == []


async def test_a_store_without_events_is_copied(place: Places) -> None:
    async with await opened(place("sqlite")) as store, await opened(place("postgresql")) as copy:
        assert (await copy_store(store, copy)).events == 0
        await store.create_branch("what-if")
        report = await copy_store(store, copy)
        assert (report.branches, report.recorded_at) == (1, None)
        assert await copy.branches() == await store.branches()


@pytest.mark.parametrize(("kind", "other"), WAYS)
@pytest.mark.usefixtures("small_steps")
async def test_it_goes_on_wherever_it_was_cut_off(place: Places, kind: str, other: str) -> None:
    chance = random.Random(f"{kind}{other}")
    cuts = steps = 0

    def cut(_: ExchangeProgress) -> None:
        nonlocal cuts, steps
        steps -= 1
        if not steps:
            cuts += 1
            raise CutError

    async with await filled(place(kind)) as store:
        target = place(other)
        for _ in range(8):
            steps = chance.randrange(1, 15)
            async with await opened(target) as copy:
                with suppress(CutError):
                    await copy_store(store, copy, progress=cut)
                assert await copy.check() == []
        assert cuts >= 3
        async with await opened(target) as copy:
            await copy_store(store, copy)
            await is_same(store, copy)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("small_steps")
async def test_what_the_source_gets_meanwhile_is_counted(place: Places, kind: str) -> None:
    location, added = place(kind), 0
    async with await filled(location) as store, await opened(place("postgresql")) as copy:
        head, slices = (await store.head()).position, await slices_of(store)
        with open_elsewhere(location, events=[Paid]) as writer:

            def add(progress: ExchangeProgress) -> None:
                nonlocal added
                if added < 5:
                    added += 1
                    writer.append("late", [Paid("ann", 1)])

            report = await copy_store(store, copy, progress=add)
        assert (report.position, report.newer, await slices_of(copy)) == (head, 5, slices)
        report = await copy_store(store, copy)
        assert (report.written, report.newer) == (5, 0)
        await is_same(store, copy)


async def test_reactions_go_on_and_do_not_begin_again(place: Places) -> None:
    done: list[int] = []
    reaction = Reaction("reminders")

    @reaction.on(Paid)
    def _(recorded: Any) -> list[Timer]:
        done.append(recorded.position)
        return [Timer(f"t{recorded.position}", Remind(recorded.position), after=timedelta(1))]

    decisions = Decisions()
    decisions.on(Remind)(lambda command: [])

    async def run(store: Store) -> None:
        async with ReactionRunner(CommandBus(store, decisions), [reaction]) as runner:
            await runner.catch_up()

    async with await opened(place("sqlite")) as store, await opened(place("postgresql")) as copy:
        await fill(store, 4)
        await run(store)
        count = len(done)
        await copy_store(store, copy)
        await run(copy)
        assert len(done) == count > 0
        timers = [one for one in await kept_of(copy) if one.name.startswith("timer/")]
        assert len(timers) == count
        async with store.kernel.backend.transaction() as transaction:
            await transaction.delete_checkpoint(timers[0].name)
        await copy_store(store, copy)
        assert timers[0] not in await kept_of(copy)


class Remind(msgspec.Struct, frozen=True):
    position: int


async def test_what_is_encrypted_is_copied_without_keys(place: Places, tmp_path: Path) -> None:
    with Vault(tmp_path / "vault", KeyFile.create(tmp_path / "key")) as vault:
        location, target = place("sqlite"), place("postgresql")
        async with await open_store(location, events=[Wrote], vault=vault) as store:
            for who in ("ann", "bob"):
                await store.append("letters", [Wrote(who, f"of {who}")])
            await store.forget("ann")
        async with await open_store(location) as store, await open_store(target) as copy:
            await copy_store(store, copy)
            slices = await slices_of(store)
        async with await open_store(target, events=[Wrote], vault=vault) as copy:
            assert await slices_of(copy) == slices
            ann, bob = [e.event.text async for e in copy.read("letters")]
            assert (isinstance(ann, Erased), bob) == (True, "of bob")
            assert await copy.check() == []


async def test_sealed_and_archived_history_is_copied(place: Places, tmp_path: Path) -> None:
    location = place("sqlite")
    async with await filled(location) as store, await opened(place("postgresql")) as copy:
        backend, head = store.kernel.backend, (await store.head()).position
        while await backend.move(Seal(head - 9, SMALL)) is not None:
            pass
        for segment in (await backend.segments())[:3]:
            await backend.move(Archive(segment.last, object_url(tmp_path / "archive")))
            await backend.move(Evict(segment.last))
        await copy_store(store, copy)
        await is_same(store, copy)
        async with await opened(place("sqlite")) as back:
            await copy_store(copy, back)
            await is_same(store, back)


async def test_retired_history_is_refused(place: Places) -> None:
    async with await opened(place("sqlite")) as store, await opened(place("postgresql")) as copy:
        await fill(store)
        backend = store.kernel.backend
        segment = await backend.move(Seal((await store.head()).position, SMALL))
        assert segment is not None
        await backend.move(Retire(segment.last, (await store.head()).position))
        with pytest.raises(UnsupportedError, match=f"up to position {segment.last} were retired"):
            await copy_store(store, copy)
        with pytest.raises(UnsupportedError, match="were retired"):
            await copy_store(copy, store)
        assert (await copy.head()).position == 0


@pytest.mark.parametrize(("kind", "other"), WAYS)
async def test_a_target_with_other_history_is_refused(place: Places, kind: str, other: str) -> None:
    async def refused(store: Store, copy: Store, position: int, reason: str) -> None:
        before = await slices_of(copy), await copy.branches()
        with pytest.raises(OtherCopyError, match=reason) as caught:
            await copy_store(store, copy)
        assert (caught.value.position, caught.value.written) == (position, 0)
        assert "new store" in str(caught.value)
        assert before == (await slices_of(copy), await copy.branches())

    async with await opened(place(kind)) as store, await opened(place(other)) as copy:
        await store.append("a", [Paid("ann", 1)] * 3, commit_id=UUID(int=1))
        await copy_store(store, copy)
        await copy.append("a", [Paid("ann", 1)] * 2)
        await refused(store, copy, 4, "2 events more")
        await store.append("a", [Paid("ann", 2)] * 2)
        await refused(store, copy, 4, "commit .* is there, and commit .* in the source")
        async with await opened(place(other)) as odd:
            eve = CommitMetadata(user_id="eve")
            await odd.append("b", [Paid("ann", 1)] * 3, commit_id=UUID(int=1), metadata=eve)
            await refused(store, odd, 1, "another stream and metadata")
        async with await opened(place(other)) as odd:
            await odd.create_branch("theirs")
            await refused(store, odd, 1, "branch 'theirs' of its own")


async def test_a_branch_with_other_history_is_refused(place: Places) -> None:
    async with await filled(place("sqlite")) as store, await opened(place("postgresql")) as copy:
        await copy_store(store, copy)
        async with await copy.branch("what-if") as branch:
            head = (await branch.head()).position
            await branch.append("a", [Paid("ann", 1)])
        await store.append("a", [Paid("ann", 1)])
        with pytest.raises(OtherCopyError, match="branch 'what-if', it has 1 events") as caught:
            await copy_store(store, copy)
        assert (caught.value.position, caught.value.written) == (head + 1, 0)


async def test_a_renamed_branch_is_renamed_in_the_copy(place: Places) -> None:
    async with await filled(place("sqlite")) as store, await opened(place("postgresql")) as copy:
        await copy_store(store, copy)
        await store.rename_branch("what-if", "then")
        await copy_store(store, copy)
        await is_same(store, copy)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_store_is_not_copied_into_itself(place: Places, kind: str, tmp_path: Path) -> None:
    location = place(kind)
    again = location.replace("127.0.0.1", "localhost")
    if kind == "sqlite":
        again = link_to(location, tmp_path / "link.db")
    async with await filled(location) as store, await opened(again) as same:
        for target in (store, same):
            with pytest.raises(DeclarationError, match="name another"):
                await copy_store(store, target)
        assert "everwhen-copy" not in {one.name for one in await kept_of(store)}


async def test_what_can_not_be_copied_is_refused(place: Places, tmp_path: Path) -> None:
    location = place("postgresql")
    async with await filled(place("sqlite")) as store, await opened(location) as copy:
        async with await store.branch("what-if") as branch:
            for one, other in ((branch, copy), (copy, branch)):
                with pytest.raises(UnsupportedError, match="is a branch"):
                    await copy_store(one, other)
        async with await open_partitioned_store(tmp_path / "parts", ByStream(2)) as parts:
            for one, other in ((parts, copy), (copy, parts)):
                with pytest.raises(UnsupportedError, match="of its own"):
                    await copy_store(one, other)
        async with await open_store(location, read_only=True) as closed:
            with pytest.raises(ReadOnlyError):
                await copy_store(store, closed)
        assert (await copy.head()).position == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", ["writing", "comparing"])
@pytest.mark.usefixtures("small_steps")
async def test_whoever_writes_to_the_target_meanwhile_ends_it(
    place: Places, kind: str, stage: str
) -> None:
    target = place(kind)
    async with await filled(place("sqlite")) as store, await opened(target) as copy:
        with open_elsewhere(target, events=[Paid]) as writer:

            def intrude(progress: ExchangeProgress) -> None:
                if progress.stage == stage and progress.done > 20:
                    writer.append("theirs", [Paid("ann", 1)])

            with pytest.raises(OtherCopyError, match="somebody else has written") as caught:
                await copy_store(store, copy, progress=intrude)
        assert caught.value.written > 20
        assert await copy.branches() == []


@pytest.mark.usefixtures("small_steps")
async def test_what_was_written_is_read_back(place: Places) -> None:
    target = place("postgresql")
    async with await filled(place("sqlite")) as store, await opened(target) as copy:

        def damage(progress: ExchangeProgress) -> None:
            if progress.stage == "writing" and progress.done == progress.total:
                with psycopg.connect(libpq(target)) as session:
                    session.execute(
                        f"UPDATE {schema_of(target)}.slices SET metadata = '{{}}' "
                        f"WHERE position = (SELECT max(position) FROM {schema_of(target)}.slices)"
                    )

        with pytest.raises(CorruptStoreError, match=r"another metadata there"):
            await copy_store(store, copy, progress=damage)


def link_to(location: str, link: Path) -> str:
    link.symlink_to(location)
    return str(link)


def libpq(url: str) -> str:
    return url.partition("?")[0]


def schema_of(url: str) -> str:
    return url.partition("schema=")[2]
