"""Branches: made at once, apart from their parent for good, and gone when they are deleted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from tests.places import everywhere, logs_beside

from everwhen import (
    EXISTS,
    NO_STREAM,
    Commit,
    Condition,
    ConditionError,
    ConflictError,
    Decisions,
    Event,
    EverwhenError,
    Fold,
    Query,
    RecordedEvent,
    TableProjection,
    Tables,
    Write,
)
from everwhen.aio import CommandBus, ProjectionRunner, Repository, Store, open_store
from everwhen.errors import (
    BranchError,
    CommitIdError,
    CorruptStoreError,
    InlineError,
    InvalidCommitError,
    ReadOnlyError,
    StatementError,
    StoreClosedError,
    UnknownBranchError,
)
from everwhen.projections.aio import projection_statuses
from everwhen.reactions import Reaction
from everwhen.reactions.aio import ReactionRunner
from everwhen.state import NeverSnapshot
from everwhen.testing import ManualClock
from everwhen.testing._async.concurrency import Beside, together
from everwhen.vocabulary import Checkpoint


class Moved(Event):
    tag_fields = ("account",)

    account: int
    amount: int


class Welcomed(Event):
    account: int


class Welcome(msgspec.Struct, frozen=True):
    account: int


balance = Fold("balance", lambda: 0)
balance.on(Moved)(lambda state, event: state + event.amount)


def opened(location: str | Path, clock: ManualClock | None = None, **options: Any) -> Any:
    if clock is not None:
        options["clock"] = clock
    return open_store(location, events=[Moved, Welcomed], **options)


async def shown(store: Store, query: Query | str = "a-1") -> list[int]:
    return [event.event.amount async for event in store.read(query)]


async def refusal(call: Callable[[], Any], kind: type[Exception] = BranchError) -> str:
    with pytest.raises(kind) as caught:
        await call()
    return str(caught.value)


@everywhere
async def test_neither_side_sees_what_the_other_writes(location: str) -> None:
    async with opened(location) as store:
        await store.append("a-1", [Moved(1, 1), Moved(1, 2)])
        async with store.create_branch("what-if") as branch:
            await store.append("a-1", [Moved(1, 3)])
            await store.append("a-2", [Moved(2, 30)])
            receipt = await branch.append("a-1", [Moved(1, 4)], expected=2)
            assert (receipt.position, receipt.versions) == (3, {"a-1": 3})
            await branch.append("a-3", [Moved(3, 40)], expected=NO_STREAM)
            assert await shown(store) == [1, 2, 3]
            assert await shown(branch) == [1, 2, 4]
            assert [s.name async for s in store.streams()] == ["a-1", "a-2"]
            assert [s.name async for s in branch.streams()] == ["a-1", "a-3"]
            assert await branch.version("a-2") == 0
            assert await branch.fold(balance, "a-1") == 7
            assert await store.receipt(receipt.commit_id) is None
            assert (await branch.head()).position == 4
            assert await branch.check() == await store.check() == []


@everywhere
async def test_a_branch_begins_now_or_at_a_position_or_a_moment(location: str) -> None:
    clock = ManualClock()
    async with opened(location, clock) as store:
        for amount in range(1, 6):
            await store.append("a-1", [Moved(1, amount)])
            clock.advance(60)
        two_minutes = clock() - timedelta(minutes=3, seconds=30)
        for name, at, wanted in (
            ("now", None, 5),
            ("place", 3, 3),
            ("moment", two_minutes, 2),
            ("dawn", clock() - timedelta(days=1), 0),
            ("nothing", 0, 0),
        ):
            async with store.create_branch(name, at) as branch:
                assert await shown(branch) == list(range(1, wanted + 1))
                assert branch.name == name
                assert branch.branch_info is not None
                assert (branch.branch_info.parent, branch.branch_info.position) == ("main", wanted)
                assert branch.branch_info.created_at == clock()
        assert (store.name, store.branch_info) == ("main", None)


async def test_no_place_to_begin_at() -> None:
    async with opened("memory:") as store:
        await store.commit(Commit([Write("a-1", [Moved(1, 1)] * 2), Write("a-2", [Moved(2, 1)])]))
        await store.append("a-1", [Moved(1, 1)] * 1_500)
        for at in (-1, 1_504, True, 1.5, "head", clockless()):
            text = await refusal(lambda at=at: store.create_branch("b", at))  # type: ignore[misc]
            assert "give a moment" in text
        for at, before, end in ((1, 0, 3), (2, 0, 3), (4, 3, 1_503), (1_003, 3, 1_503)):
            text = await refusal(lambda at=at: store.create_branch("b", at))  # type: ignore[misc]
            assert f"begin at {end} with it, or at {before} without it" in text
        assert await store.branches() == []


def clockless() -> Any:
    return ManualClock()().replace(tzinfo=None)


@everywhere
async def test_names(location: str) -> None:
    async with opened(location) as store:
        bad = (
            "",
            ".",
            "..",
            "a/b",
            "a\\b",
            "../a",
            "-a",
            ".a",
            " a",
            "a ",
            "a\nb",
            "a\x00",
            "\x7f",
        )
        for name in (*bad, "x" * 201, "ü" * 101, "\ud800", None, 7, "main"):
            await refusal(lambda name=name: store.create_branch(name))  # type: ignore[misc]
            await refusal(lambda name=name: store.branch(name))  # type: ignore[misc]
        for name in ("ü ' \" %", "b", "B", "x" * 200, "a.b-c", "日本"):
            await (await store.create_branch(name)).close()
            assert "of that name" in await refusal(lambda name=name: store.create_branch(name))  # type: ignore[misc]
        names = [info.name for info in await store.branches()]
        assert names == ["ü ' \" %", "b", "B", "x" * 200, "a.b-c", "日本"]
        text = await refusal(lambda: store.branch("c"), UnknownBranchError)
        assert "a.b-c, b, x" in text


@everywhere
async def test_branches_of_branches(location: str) -> None:
    async with opened(location) as store:
        await store.append("a-1", [Moved(1, 1)])
        one = await store.create_branch("one")
        await one.append("a-1", [Moved(1, 2)])
        two = await one.create_branch("two")
        await one.append("a-1", [Moved(1, 3)])
        await two.append("a-1", [Moved(1, 4)])
        three = await two.create_branch("three", 2)
        await three.append("a-1", [Moved(1, 5)])
        early = await two.create_branch("early", 1)
        await early.append("a-1", [Moved(1, 6)], expected=1)
        await one.close()  # those that rest on it go on
        for branch, amounts in ((two, [1, 2, 4]), (three, [1, 2, 5]), (early, [1, 6])):
            assert await shown(branch) == amounts
            assert await shown(branch, Query().backwards()) == amounts[::-1]
            await branch.close()
        found = {
            info.name: (info.parent, info.position, info.head) for info in await store.branches()
        }
        assert found == {
            "one": ("main", 1, 3),
            "two": ("one", 2, 3),
            "three": ("two", 2, 3),
            "early": ("two", 1, 2),
        }


@everywhere
async def test_renaming_and_deleting(location: str) -> None:
    async with opened(location) as store:
        one = await store.create_branch("one")
        await one.append("a-1", [Moved(1, 1)])
        two = await one.create_branch("two")
        await two.append("a-1", [Moved(1, 2)])
        other = await store.create_branch("other")
        await store.rename_branch("one", "first")
        await one.append("a-1", [Moved(1, 3)])
        assert await shown(await store.branch("first")) == [1, 3]
        assert [i.parent for i in await store.branches()] == ["main", "first", "main"]
        await refusal(lambda: store.rename_branch("one", "again"), UnknownBranchError)
        await refusal(lambda: store.rename_branch("first", "other"))
        await refusal(lambda: store.rename_branch("first", "main"))
        await refusal(lambda: store.delete_branch("one"), UnknownBranchError)
        assert "(two)" in await refusal(lambda: store.delete_branch("first"))
        assert len(await store.branches()) == 3
        await two.delete_branch("first", with_children=True)
        assert [info.name for info in await store.branches()] == ["other"]
        for gone in (one, two):
            await refusal(lambda gone=gone: gone.append("a-1", [Moved(1, 9)]), UnknownBranchError)  # type: ignore[misc]
            await refusal(lambda gone=gone: gone.create_branch("x"), UnknownBranchError)  # type: ignore[misc]
        await store.delete_branch("other")
        await refusal(lambda: other.append("a-1", [Moved(1, 9)]), UnknownBranchError)
        assert logs_beside(location) == []
        async with store.create_branch("one") as again:
            assert await shown(again) == []


@everywhere
async def test_closing(location: str) -> None:
    store = await opened(location)
    first, second = await store.create_branch("first"), await store.create_branch("second")
    await first.append("a-1", [Moved(1, 1)])
    await first.close()
    await first.close()
    await refusal(lambda: first.append("a-1", [Moved(1, 1)]), StoreClosedError)
    await second.append("a-1", [Moved(1, 1)])
    nested = await second.create_branch("nested")

    async def follow() -> list[int]:
        return [event.position async for event in nested.subscribe()]

    following = Beside(follow)
    assert await shown(nested) == [1]
    await store.close()
    assert await following.result() in ([], [1])
    for closed in (second, nested):
        await refusal(closed.head, StoreClosedError)
        await refusal(lambda closed=closed: closed.append("a-1", [Moved(1, 1)]), StoreClosedError)  # type: ignore[misc]
        await closed.close()


@everywhere
async def test_beliefs_rest_on_both_sides_of_the_fork(location: str) -> None:
    clock = ManualClock()
    async with opened(location, clock) as store:
        mine = Commit([Write("a-1", [Moved(1, 1)])], id=UUID(int=1))
        first = await store.commit(mine)
        await store.append("a-1", [Moved(1, 2)])
        branch = await store.create_branch("b")
        theirs = Commit([Write("a-1", [Moved(1, 3)])], id=UUID(int=2))
        await store.commit(theirs)
        again = await branch.commit(mine)
        assert again.repeated
        assert (again.position, again.recorded_at) == (first.position, first.recorded_at)
        other = Commit([Write("a-1", [Moved(1, 9)])], id=UUID(int=1))
        await refusal(lambda: branch.commit(other), CommitIdError)
        assert not (await branch.commit(theirs)).repeated
        for expected in (0, 1, 2, 4, NO_STREAM):
            with pytest.raises(ConflictError) as caught:
                await branch.append("a-1", [Moved(1, 1)], expected=expected)
            assert (caught.value.expected, caught.value.actual) == (expected, 3)
        await branch.append("a-1", [Moved(1, 1)], expected=EXISTS)
        of = Query().tags("account:1")
        for after, position in ((0, 1), (1, 2), (2, 3), (3, 4)):
            with pytest.raises(ConditionError) as failed:
                await branch.append("x", [Moved(1, 1)], condition=Condition(of, after))
            assert (failed.value.after, failed.value.position) == (after, position)
        await branch.append("x", [Moved(2, 1)], condition=Condition(of, 4), expected=0)
        early = clock() - timedelta(seconds=1)
        late = Commit([Write("x", [Moved(1, 1)])], recorded_at=early)
        await refusal(lambda: branch.commit(late), InvalidCommitError)
        clock.advance(-3_600)
        async with store.create_branch("c") as behind:
            receipt = await behind.append("y", [Moved(1, 1)])
            assert receipt.recorded_at == first.recorded_at


@everywhere
async def test_subscriptions_stay_on_their_side(location: str) -> None:
    async with opened(location) as store:
        await store.append("a-1", [Moved(1, 1)])
        branch = await store.create_branch("b")
        followed, parents = branch.subscribe(), store.subscribe()

        async def take(subscription: Any, count: int) -> list[int]:
            return [(await anext(subscription)).event.amount for _ in range(count)]

        waiting = Beside(lambda take=take, followed=followed: take(followed, 3))  # type: ignore[misc]
        await store.append("a-1", [Moved(1, 2)])
        await branch.append("a-1", [Moved(1, 3)])
        await store.append("a-1", [Moved(1, 4)])
        await branch.append("a-1", [Moved(1, 5)])
        assert await waiting.result() == [1, 3, 5]
        assert await take(parents, 3) == [1, 2, 4]


@everywhere
async def test_a_page_ends_where_its_bound_is(location: str) -> None:
    """Also where the stream that it is of has ended long before: who follows goes on from there."""
    async with opened(location) as store:
        await store.append("a-1", [Moved(1, 1)])
        for _ in range(20):
            await store.append("a-2", [Moved(1, 1)])
        branch = await store.create_branch("b")
        await branch.append("a-2", [Moved(1, 1)])
        nested = await branch.create_branch("c")
        for one in (store, branch, nested):
            for name in ("a-1", "none"):
                query = Query().stream(name)
                for bound in (3, 12, 21):
                    for after in (0, 2):
                        page = await one.kernel.backend.read(query.after(after).up_to(bound), 50)
                        assert (page.end, page.cursor) == (True, bound)


def sums(fails_at: int = -1) -> TableProjection:
    projection = TableProjection("sums", "CREATE TABLE {sums} (account INTEGER, amount INTEGER)")

    @projection.on(Moved)
    def moved(tables: Tables, event: RecordedEvent[Moved]) -> None:
        if event.event.amount == fails_at:
            raise ValueError("no")
        row = (event.event.account, event.event.amount)
        tables.execute("INSERT INTO {sums} VALUES (?, ?)", row)

    return projection


async def rows(store: Store) -> list[int]:
    found = await store.kernel.backend.view(lambda view: view.execute("SELECT amount FROM sums"))
    return [row[0] for row in found]


@pytest.mark.parametrize("inline", [False, True])
async def test_read_models_are_each_sides_own(inline: bool, location: str) -> None:
    async with opened(location) as store:
        await store.append("a-1", [Moved(1, 1), Moved(1, 2)])
        async with ProjectionRunner(store, [sums()]) as runner:
            await store.append("a-1", [Moved(1, 3)])
            branch = await store.create_branch("b", 2)
            deeper = await branch.create_branch("c")
            await refusal(lambda: rows(branch), StatementError)
            assert await branch.checkpoints() == []
            for one, amount in ((branch, 10), (deeper, 20)):
                if inline:
                    mine = ProjectionRunner(one, [], inline=[sums(fails_at=99)])
                else:
                    mine = ProjectionRunner(one, [sums()])
                async with mine:
                    await mine.catch_up()
                    await one.append("a-1", [Moved(1, amount)])
                    if inline:
                        with pytest.raises(InlineError):
                            await one.append("a-1", [Moved(1, 99)])
                    else:
                        await mine.catch_up()
                    assert await rows(one) == [1, 2, amount]
                    (status,) = await projection_statuses(one)
                    assert (status.position, status.lag) == (3, 0)
            await store.append("a-1", [Moved(1, 4)])
            await runner.catch_up()
            assert await rows(store) == [1, 2, 3, 4]
            assert await rows(branch) == [1, 2, 10]


@everywhere
async def test_snapshots_and_checkpoints(location: str) -> None:
    async with opened(location) as store:
        await store.append("a-1", [Moved(1, 1)] * 10)
        shared = Repository(store, balance, strategy=NeverSnapshot())
        await shared.snapshot(await shared.load("a-1"))
        branch = await store.create_branch("b")
        async with store.transaction() as transaction:
            await transaction.save_checkpoint(Checkpoint("reader", 5))
        assert await branch.checkpoint("reader") is None
        await branch.append("a-1", [Moved(1, 2)])
        await store.append("a-1", [Moved(1, 3)])
        await shared.snapshot(await shared.load("a-1"))
        mine = Repository(branch, balance, strategy=NeverSnapshot())
        loaded = await mine.load("a-1")
        assert (loaded.state, loaded.since.events) == (12, 1)  # from the shared snapshot
        await mine.snapshot(loaded)
        loaded = await mine.load("a-1")
        assert (loaded.state, loaded.since.events) == (12, 0)
        assert (await shared.load("a-1")).state == 13
        await mine.delete_snapshots("a-1")
        assert (await mine.load("a-1")).since.events == 11
        assert len(await store.snapshots("balance/a-1")) == 2
        async with branch.transaction() as transaction:
            await transaction.save_checkpoint(Checkpoint("reader", 1))
        assert await store.checkpoint("reader") == Checkpoint("reader", 5)


async def test_nothing_reacts_unless_asked(location: str) -> None:
    decisions = Decisions()

    @decisions.on(Welcome, into=lambda command: f"welcome-{command.account}")
    def welcome(command: Welcome) -> list[Event]:
        return [Welcomed(command.account)]

    reaction = Reaction("welcomes")

    @reaction.on(Moved)
    def moved(event: RecordedEvent[Moved]) -> list[Any]:
        return [Welcome(event.event.account)]

    async with opened(location) as store:
        await store.append("a-1", [Moved(1, 1)])
        await ReactionRunner(CommandBus(store, decisions), [reaction]).catch_up()
        branch = await store.create_branch("b")
        await branch.append("a-2", [Moved(2, 1)])
        bus = CommandBus(branch, decisions)
        with pytest.raises(BranchError, match="on_branches=True"):
            ReactionRunner(bus, [reaction])
        await ReactionRunner(bus, [reaction], on_branches=True).catch_up()
        welcomed = Query().types(Welcomed)
        assert [e.event.account async for e in branch.read(welcomed)] == [1, 2]
        assert [e.event.account async for e in store.read(welcomed)] == [1]


@everywhere
async def test_a_scratch_branch_is_in_memory_only(location: str) -> None:
    async with opened(location) as store:
        await store.append("a-1", [Moved(1, 1), Moved(1, 2)])
        await store.append("a-1", [Moved(1, 3)])
        known = store.capabilities
        async with store.scratch_branch() as scratch, store.scratch_branch(2) as early:
            receipt = await scratch.append("a-1", [Moved(1, 4)], expected=3)
            await early.append("a-1", [Moved(1, 5)], expected=2)
            assert (receipt.position, receipt.versions) == (4, {"a-1": 4})
            assert await shown(scratch) == [1, 2, 3, 4]
            assert await shown(early) == [1, 2, 5]
            assert await shown(store) == [1, 2, 3]
            assert scratch.branch_info is not None
            assert (scratch.name, scratch.branch_info.position) == ("scratch", 3)
            assert not scratch.capabilities.durable
            assert store.capabilities == known
            assert "of this store" in await refusal(lambda: store.shared_with(scratch))
            create = partial(scratch.create_branch, "deeper")
            assert "scratch" in await refusal(create, UnknownBranchError)
            async with scratch.scratch_branch() as deeper:
                await deeper.append("a-1", [Moved(1, 6)], expected=4)
                assert await shown(deeper) == [1, 2, 3, 4, 6]
        assert await store.branches() == []
        assert logs_beside(location) == []
        assert await shown(store) == [1, 2, 3]
        with pytest.raises(StoreClosedError):
            await shown(scratch)
        left_open = await store.scratch_branch()
    with pytest.raises(StoreClosedError):
        await shown(left_open)


async def test_a_read_only_store_has_scratch_branches(location: str) -> None:
    async with opened(location) as store:
        await store.append("a-1", [Moved(1, 1)])
    async with opened(location, read_only=True) as store:
        async with store.scratch_branch() as scratch:
            await scratch.append("a-1", [Moved(1, 2)])
            assert await shown(scratch) == [1, 2]
        assert await shown(store) == [1]


async def test_a_read_only_store_has_read_only_branches(location: str) -> None:
    async with opened(location) as store:
        await store.append("a-1", [Moved(1, 1)])
        async with store.create_branch("written") as branch:
            await branch.append("a-1", [Moved(1, 2)])
        await (await store.create_branch("fresh")).close()
    async with opened(location, read_only=True) as store:
        await refusal(lambda: store.create_branch("x"), ReadOnlyError)
        await refusal(lambda: store.delete_branch("fresh"), ReadOnlyError)
        for name, amounts in (("written", [1, 2]), ("fresh", [1])):
            async with store.branch(name) as branch:
                assert await shown(branch) == amounts
                with pytest.raises(ReadOnlyError):
                    await branch.append("a", [Moved(1, 1)])
        assert [info.head for info in await store.branches()] == [2, 1]
    assert len(logs_beside(location)) == 1


async def test_two_openers_share_a_branch(location: str) -> None:
    async with opened(location) as here, opened(location) as there:
        await here.append("a-1", [Moved(1, 1)])
        mine = await here.create_branch("b")
        theirs = await there.branch("b")
        assert await shown(theirs) == [1]
        following = theirs.subscribe()
        first = Beside(lambda: anext(following))
        assert (await first.result()).event.amount == 1
        second = Beside(lambda: anext(following))
        await mine.append("a-1", [Moved(1, 2)], expected=1)
        assert (await second.result()).event.amount == 2
        await refusal(lambda: theirs.append("a-1", [Moved(1, 3)], expected=1), ConflictError)
        await theirs.append("a-1", [Moved(1, 3)], expected=2)
        assert await shown(mine) == [1, 2, 3]
        await here.delete_branch("b")
        await refusal(lambda: theirs.append("a-1", [Moved(1, 3)]), UnknownBranchError)
        unwritten = await there.create_branch("c")
        await here.delete_branch("c")
        await refusal(lambda: unwritten.append("a-1", [Moved(1, 3)]), UnknownBranchError)
        assert logs_beside(location) == []


@everywhere
async def test_one_of_many_who_want_a_name_gets_it(location: str) -> None:
    async with opened(location) as store:

        async def create() -> Store:
            branch: Store = await store.create_branch("b")
            return branch

        outcomes = await together(*[create] * 8)
        assert sum(isinstance(o, Store) for o in outcomes) == 1
        assert sum(isinstance(o, BranchError) for o in outcomes) == 7

        branch = await store.branch("b")
        others = [await store.branch("b") for _ in range(4)]

        async def write(number: int) -> None:
            await others[number % 4].append("a-1", [Moved(1, number)])

        await together(*[lambda n=n: write(n) for n in range(16)])
        assert sorted(await shown(branch)) == list(range(16))


async def test_a_damaged_registration_says_so(location: str) -> None:
    async with opened(location) as store:
        await (await store.create_branch("b")).close()
    for data in (
        b"nonsense",
        b'{"id": "../../x", "parent": "", "recorded_at": 1, "created_at": 1}',
    ):
        async with opened(location) as store:
            async with store.transaction() as transaction:
                await transaction.save_checkpoint(Checkpoint("branch/b", 0, data))
            text = await refusal(lambda store=store: store.branch("b"), CorruptStoreError)  # type: ignore[misc]
            assert "'branch/b'" in text


CUT_OFF = """
import os, sys
from everwhen import UnknownEvent, open_store
store = open_store(sys.argv[1])
branch = store.create_branch("b")
for number in range(1000000):
    branch.append("a", [UnknownEvent("Noted", {"n": number})])
    os.write(1, b"%d\\n" % number)
"""


def acknowledged_before_a_kill(location: str) -> int:
    process = subprocess.Popen(
        [sys.executable, "-c", CUT_OFF, location],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    with process.stdout:
        for _ in range(20):
            process.stdout.readline()
        process.kill()
        acknowledged = 20 + len(process.stdout.read().splitlines())
    process.wait()
    return acknowledged


async def test_what_a_branch_acknowledged_survives_a_kill(location: str) -> None:
    acknowledged = acknowledged_before_a_kill(location)
    async with open_store(location) as store:
        assert (await store.head()).position == 0
        async with store.branch("b") as branch:
            assert (await branch.head()).position in (acknowledged, acknowledged + 1)
            assert await branch.check() == []


async def test_a_file_that_nobody_knows_does_no_harm(location: str) -> None:
    async with opened(location) as store:
        async with store.create_branch("b") as branch:
            await branch.append("a-1", [Moved(1, 1)])
        async with store.transaction() as transaction:  # as after a kill between the two steps
            await transaction.delete_checkpoint("branch/b")
        assert await store.branches() == []
        async with store.create_branch("b") as branch:
            assert await shown(branch) == []


async def test_a_store_behind_a_link_finds_its_branches(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    async with opened(tmp_path / "real/store.db") as store:
        async with store.create_branch("b") as branch:
            await branch.append("a-1", [Moved(1, 1)])
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "store.db")
    async with opened(tmp_path / "link.db") as store, store.branch("b") as branch:
        assert await shown(branch) == [1]


def test_errors_survive_pickling() -> None:
    import pickle

    for error in (BranchError("b", "why"), UnknownBranchError("b", ["a", "c"])):
        again: EverwhenError = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
