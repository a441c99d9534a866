"""The time machine: where it goes, what it finds, and what it says when it can't."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from everwhen import Event, Fold, NewEvent, Query, Write, documents
from everwhen.aio import Repository, Store, TimeMachine, open_store
from everwhen.codec import causation
from everwhen.errors import FoldError, InvalidEventError, InvalidPathError, InvalidQueryError
from everwhen.state import diff
from everwhen.testing import ManualClock
from everwhen.testing._async.concurrency import together
from everwhen.travel import (
    HEAD,
    AsOf,
    Back,
    Before,
    Bookmark,
    EventFilter,
    Moment,
    StateAt,
    Version,
    moment_from,
)
from everwhen.vocabulary import CommitMetadata, Snapshot

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Deposited(Event):
    tag_fields = ("owner",)

    owner: str
    amount: int


class Closed(Event):
    pass


class Account(msgspec.Struct, frozen=True):
    balance: int = 0
    is_open: bool = True


class Bank(msgspec.Struct, frozen=True):
    owners: dict[str, int] = {}
    total: int = 0


account = Fold("account", Account)


@account.on(Deposited)
def _deposited(state: Account, event: Deposited) -> Account:
    if not state.is_open:
        raise ValueError("it is closed")
    return Account(state.balance + event.amount)


@account.on(Closed)
def _closed(state: Account, _: Closed) -> Account:
    return Account(state.balance, is_open=False)


bank = Fold("bank", Bank)


@bank.on(Deposited)
def _banked(state: Bank, event: Deposited) -> Bank:
    owned = state.owners.get(event.owner, 0) + event.amount
    return Bank({**state.owners, event.owner: owned}, state.total + event.amount)


@asynccontextmanager
async def opened(location: str) -> AsyncIterator[Store]:
    clock = ManualClock(NOON)
    async with open_store(
        location, events=[Deposited, Closed], clock=clock, durable=False
    ) as store:
        for number, owner in enumerate(["ada", "bob", "ada", "cy", "ada"], start=1):
            await store.append(f"account-{owner}", [Deposited(owner, number)])
            clock.advance(3600)
        yield store


async def test_every_form_of_moment(location: str) -> None:
    async with opened(location) as store:
        machine = TimeMachine(store, account, "account-ada")
        assert await machine.travel_to(0) == StateAt(Account(), 0, 0, None, 0)
        assert await machine.travel_to(2) == StateAt(Account(1), 1, 1, NOON, 2)
        assert (await machine.travel_to(HEAD)).state == Account(9)
        assert (await machine.travel_to(NOON + timedelta(hours=2))).position == 3
        assert (await machine.travel_to(NOON - timedelta(hours=1))).position == 0
        assert (await machine.travel_to(NOON + timedelta(days=99))).position == 5
        assert (await machine.travel_to(Version(2))).state == Account(4)
        assert (await machine.travel_to(Version(0))).state == Account()
        assert (await machine.travel_to(Back(1))).state == Account(4)
        assert (await machine.travel_to(Back(1), here=3)).state == Account(1)
        assert (await machine.travel_to(Back(9))).position == 0
        assert (await machine.travel_to(Back(-1), here=1)).position == 3
        assert (await machine.travel_to(Back(-9), here=1)).position == 5
        assert (await machine.travel_to(Before(timedelta(minutes=90)))).position == 3
        assert (await machine.travel_to(Before(timedelta(hours=-2)), here=1)).position == 3
        assert (await machine.travel_to(Before(timedelta(hours=1)), here=0)).position == 0


MOMENTS: list[Moment] = [
    *range(6),
    HEAD,
    *(NOON + timedelta(minutes=30 * n) for n in range(-1, 11)),
    *(Back(n) for n in range(7)),
    *(Before(timedelta(minutes=50 * n)) for n in range(7)),
    Bookmark("lunch"),
    *(Version(n, "account-ada") for n in range(4)),
    *(AsOf(NOON + timedelta(hours=n)) for n in range(-1, 6)),
]


async def test_a_store_folds_up_to_whatever_a_time_machine_goes_to(location: str) -> None:
    async with opened(location) as store:
        late = NewEvent(event=Deposited("ada", 50), occurred_at=NOON + timedelta(minutes=30))
        await store.append("account-ada", [late])
        whole = TimeMachine(store, bank)
        await whole.set_bookmark("lunch", 3)
        for moment in MOMENTS:
            assert await store.fold(bank, at=moment) == (await whole.travel_to(moment)).state
            for name in ("account-ada", "account-bob"):
                machine = TimeMachine(store, account, name)
                wanted = (await machine.travel_to(moment)).state
                assert await store.fold(account, name, at=moment) == wanted, (name, moment)
        assert await store.fold(account, "account-ada", at=Version(2)) == Account(4)


async def test_what_a_fold_is_bounded_by_already_stays(location: str) -> None:
    async with opened(location) as store:
        early = Query().stream("account-ada").up_to(3)
        assert await store.fold(account, early, at=HEAD) == Account(4)
        assert await store.fold(account, early, at=Back(1)) == Account(1)
        assert await store.fold(account, early.after(1), at=HEAD) == Account(3)
        assert await store.fold(account, early.backwards().limit(1), at=HEAD) == Account(3)
        with pytest.raises(InvalidQueryError, match="6 is after the store's newest event, 5"):
            await store.fold(account, "account-ada", at=6)
        with pytest.raises(InvalidQueryError, match="has no version 9; its newest is 3"):
            await store.fold(account, "account-ada", at=Version(9))
        with pytest.raises(InvalidQueryError, match="no bookmark 'tea'; none is set"):
            await store.fold(account, "account-ada", at=Bookmark("tea"))
        with pytest.raises(InvalidQueryError, match="versions count the events of one stream"):
            await store.fold(account, at=Version(2))
        nowhen: Any = "yesterday"
        with pytest.raises(InvalidQueryError, match="'yesterday' is not a moment"):
            await store.fold(account, at=nowhen)


async def test_moments_that_are_none(location: str) -> None:
    async with opened(location) as store:
        machine = TimeMachine(store, account, "account-ada")
        everyone = TimeMachine(store, bank)
        unfit: list[tuple[Any, str]] = [
            (6, "6 is after the store's newest event, 5"),
            (-1, "-1 is before the first"),
            (True, "not a moment"),
            ("2024", "not a moment"),
            (2.0, "not a moment"),
            (Version(4), "no version 4; its newest is 3"),
            (Bookmark("lunch"), "no bookmark 'lunch'; none is set"),
            (datetime(2024, 1, 1), "time zone"),
        ]
        for moment, words in unfit:
            with pytest.raises(InvalidQueryError, match=words):
                await machine.travel_to(moment)
        with pytest.raises(InvalidQueryError, match="versions count the events of one stream"):
            await everyone.travel_to(Version(1))
        for query in (Query().up_to(3), Query().backwards(), Query().limit(1), Query().after(1)):
            with pytest.raises(InvalidQueryError):
                TimeMachine(store, bank, query)
        with pytest.raises(InvalidQueryError, match="there is one at 1"):
            await machine.step_at(2)
        with pytest.raises(InvalidQueryError, match="there is one at 5"):
            await machine.step_at(99)
        with pytest.raises(InvalidQueryError, match="none at all"):
            await TimeMachine(store, account, "account-x").step_at(1)
        with pytest.raises(InvalidQueryError, match="is after the end"):
            await machine.find_when(lambda s: True, start=4, end=2)


async def test_bookmarks_are_for_everyone(location: str) -> None:
    async with opened(location) as store:
        machine = TimeMachine(store, bank)
        assert await machine.set_bookmark("lunch", Back(2)) == 3
        async with open_store(location, events=[Deposited]) as again:
            other = TimeMachine(again, account, "account-ada")
            assert (await other.travel_to(Bookmark("lunch"))).state == Account(4)
            assert await other.bookmarks() == {"lunch": 3}
            with pytest.raises(InvalidQueryError, match="'lunsh' among lunch"):
                await other.travel_to(Bookmark("lunsh"))
            await other.delete_bookmark("lunch")
        assert await machine.bookmarks() == {}
        with pytest.raises(InvalidQueryError, match="no bookmark"):
            await machine.delete_bookmark("lunch")
        with pytest.raises(InvalidQueryError):
            await machine.set_bookmark("", 1)


async def test_what_came_after_the_journey_is_seen_by_the_next(location: str) -> None:
    async with opened(location) as store:
        machine = TimeMachine(store, bank)
        assert (await machine.travel_to(HEAD)).state.total == 15
        assert await machine.moved(5, 3) == 5
        await store.append("account-ada", [Deposited("ada", 100)])
        assert (await machine.travel_to(HEAD)).state.total == 115
        assert await machine.moved(5, 3) == 6
        assert (await machine.step_at(6)).before.total == 15


async def test_waypoints_are_kept_and_only_believed_if_they_fit(
    location: str, caplog: pytest.LogCaptureFixture
) -> None:
    def folded(version: int) -> Fold[Bank]:
        fold = Fold("bank", Bank, version=version)
        fold.on(Deposited)(_banked)
        return fold

    async with open_store(location, events=[Deposited], durable=False) as store:
        for number in range(60):
            await store.append("account-ada", [Deposited("ada", n) for n in range(number, 500)])
        head = (await store.head()).position
        first = TimeMachine(store, folded(1))
        seen: list[tuple[int, int]] = []
        await first.prepare(lambda at, last: seen.append((at, last)))
        assert seen[-1] == (head, head)
        assert [at for at, _ in seen] == sorted(at for at, _ in seen)
        kept = await store.snapshots("travel/bank", limit=1000)
        assert kept
        assert not await store.snapshots("bank")
        middle = kept[len(kept) // 2].position + 1
        true = await store.fold(folded(1), Query().up_to(middle))
        spoilt = [msgspec.structs.replace(s, state=s.state[:-3] + b"\xff\xff\xff") for s in kept]
        async with store.transaction() as transaction:
            for snapshot in spoilt:
                await transaction.save_snapshot(snapshot)
        with caplog.at_level(logging.ERROR, "everwhen"):
            assert (await TimeMachine(store, folded(1)).travel_to(middle)).state == true
            assert (await TimeMachine(store, folded(2)).travel_to(middle)).state == true
    async with open_store(location, events=[Deposited], read_only=True) as store:
        assert (await TimeMachine(store, folded(3)).travel_to(middle)).state == true


async def test_a_state_that_cannot_be_stored_is_travelled_in_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fold: Fold[Any] = Fold("odd", tuple)

    @fold.on(Deposited)
    def _(state: Any, event: Deposited) -> Any:
        return (*state[-2:], object, event.amount)

    async with open_store("memory:", events=[Deposited]) as store:
        for _times in range(20):
            await store.append("account-ada", [Deposited("ada", n) for n in range(500)])
        machine = TimeMachine(store, fold)
        await machine.prepare()
        assert (await machine.travel_to(1_001)).state[-1] == 0
        assert not await store.snapshots("travel/odd")
    assert sum("memory only" in r.message for r in caplog.records) <= 1


async def test_a_fold_that_raises_says_where(location: str) -> None:
    async with opened(location) as store:
        await store.append("account-ada", [Closed(), Deposited("ada", 1)])
        machine = TimeMachine(store, account, "account-ada")
        assert (await machine.travel_to(6)).state == Account(9, is_open=False)
        with pytest.raises(ValueError, match="it is closed") as raised:
            await machine.travel_to(7)
        assert "account-ada@5" in "".join(raised.value.__notes__)
        assert (await machine.travel_to(6)).state == Account(9, is_open=False)
        refusing = Fold("refusing", Account, unknown="refuse")
        with pytest.raises(FoldError):
            await TimeMachine(store, refusing).travel_to(1)


async def test_finding_tells_how_far_it_is_and_can_be_left() -> None:
    async with open_store("memory:", events=[Deposited]) as store:
        for _ in range(20):
            await store.append("account-ada", [Deposited("ada", 1) for _ in range(1000)])
        machine = TimeMachine(store, bank)
        seen: list[tuple[int, int]] = []
        await machine.find_when(lambda s: s.total < 0, progress=lambda *at: seen.append(at))
        assert seen[-1] == (20_000, 20_000)
        assert len(seen) > 5

        def leave(position: int, _: int) -> None:
            if position > 5_000:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await machine.find_when(lambda s: s.owners["ada"] < 0, progress=leave, tracked=False)
        found = await machine.find_when(lambda s: s.owners["ada"] >= 7_000)
        assert found is not None
        assert found.position == 7_000


@pytest.mark.parametrize("way", [{"last": True}, {"monotone": True}, {"last": True, "start": 9}])
async def test_any_search_can_be_left(location: str, way: dict[str, Any]) -> None:
    async with opened(location) as store:
        for _ in range(20):
            await store.append("account-ada", [Deposited("ada", 1) for _ in range(1000)])
        told: list[tuple[int, int]] = []

        def leave(*at: int) -> None:
            told.append((at[0], at[1]))
            if len(told) == 3:
                raise EnoughError

        machine = TimeMachine(store, bank)
        with pytest.raises(EnoughError):
            await machine.find_when(lambda s: s.total < 0, progress=leave, **way)
        assert all(position <= last <= 20_005 for position, last in told)


class EnoughError(Exception):
    """Somebody has seen enough."""


async def test_a_search_that_is_cut_off_leaves_nothing_wrong_behind(location: str) -> None:
    async with opened(location) as store:
        rare = 39_000
        for start in range(0, 40_000, 8_000):
            names = ["ann" if n % 900 == 0 or n == rare else "bob" for n in range(8_000)]
            await store.append(f"bank-{start}", [Deposited(name, 1) for name in names])
        machine = TimeMachine(store, bank)
        written = [w.position async for w in TimeMachine(store, bank).history("owners.ann")]
        asked: list[int] = []

        def enough(position: int, _: int) -> None:
            asked.append(position)
            if len(asked) % 3 == 0:
                raise EnoughError

        for _ in range(4):
            with pytest.raises(EnoughError):
                await machine.last_write("owners.eve", progress=enough)
            with pytest.raises(EnoughError):
                async for _ in machine.transitions(lambda s: s.owners["ann"] > 40, progress=enough):
                    pass
        assert [w.position async for w in machine.history("owners.ann")] == written
        found, position = [], 0
        while (step := await machine.next_write("owners.ann", position)) is not None:
            position = step.position
            found.append(position)
        assert found == written
        found, position = [], 40_005
        while (step := await machine.last_write("owners.ann", position)) is not None:
            found.append(step.position)
            position = step.position - 1
        assert found[::-1] == written


async def test_nothing_is_looked_through_twice_and_what_is_near_is_found_nearby(
    location: str,
) -> None:
    async with opened(location) as store:
        await store.append("bank-1", [Deposited("eve", 1)])
        for _ in range(5):
            await store.append("bank-2", [Deposited("bob", 1)] * 8_000)
        await store.append("bank-3", [Deposited("ann", 1)])
        machine = TimeMachine(store, bank)
        pages: list[int] = []

        def told(position: int, _: int) -> None:
            pages.append(position)
            if len(pages) == 6:
                raise EnoughError

        near = await machine.last_write("owners.ann", progress=told)
        assert near is not None
        assert near.position == 40_007
        assert min(pages) > 30_000
        pages.clear()
        with pytest.raises(EnoughError):
            await machine.last_write("owners.eve", progress=told)
        far = await machine.last_write("owners.eve", progress=told)
        assert far is not None
        assert far.position == 6
        assert len(pages) == len(set(pages)) > 6
        count = len(pages)
        for path in ("owners.eve", "owners.ann"):
            assert await machine.next_write(path, 6, progress=told) is None or path == "owners.ann"
        assert len(pages) > count
        count = len(pages)
        assert [w.position async for w in machine.history("owners.eve")] == [6]
        assert (await machine.last_write("owners.eve", progress=told)) == far
        assert len(pages) == count


async def test_writes_far_away_and_those_that_came_since(location: str) -> None:
    async with opened(location) as store:
        await store.append("bank-1", [Deposited("ann", 1), Deposited("eve", 1)])
        for _ in range(5):
            await store.append("bank-2", [Deposited("bob", 1)] * 8_000)
        machine = TimeMachine(store, bank)
        for _ in range(2):
            step = await machine.last_write("owners.eve")
            assert step is not None
            assert step.position == 7
            assert await machine.next_write("owners.eve", 7) is None
            step = await machine.next_write("owners.eve", 6)
            assert step is not None
            assert step.position == 7
        await store.append("bank-3", [Deposited("bob", 1), Deposited("eve", 1)])
        step = await machine.next_write("owners.eve", 7)
        assert step is not None
        assert step.position == 40_009
        step = await machine.last_write("owners.eve")
        assert step is not None
        assert (step.position, step.before.owners["eve"]) == (40_009, 1)
        assert await machine.last_write("owners.nobody") is None
        assert await machine.last_write("owners.eve", 40_008, start=7) is None
        assert await machine.next_write("owners.eve", 7, end=40_008) is None


async def test_a_condition_that_is_wrong_says_so(location: str) -> None:
    async with opened(location) as store:
        machine = TimeMachine(store, bank)
        with pytest.raises(AttributeError, match="ownersh"):
            await machine.find_when(lambda s: s.ownersh["ada"] > 1)
        assert await machine.find_when(lambda s: s.owners["nobody"] > 1) is None


async def test_history_blame_and_explain(location: str) -> None:
    async with opened(location) as store:
        machine = TimeMachine(store, bank)
        (first,) = [e async for e in store.read(Query().limit(1))]
        with causation(first):
            await store.append(
                "account-ada",
                [NewEvent(event=Deposited("ada", 7))],
                metadata=CommitMetadata(user_id="eve"),
            )
        written = [(w.position, w.before, w.after) async for w in machine.history("owners.ada")]
        assert [w[0] for w in written] == [1, 3, 5, 6]
        assert [w[2] for w in written] == [1, 4, 9, 16]
        blamed = await machine.blame("owners")
        assert {path: event.position for path, event in blamed.items() if event} == {
            ("owners", "ada"): 6,
            ("owners", "bob"): 2,
            ("owners", "cy"): 4,
        }
        eve = blamed["owners", "ada"]
        assert eve is not None
        assert eve.metadata.user_id == "eve"
        with pytest.raises(InvalidPathError, match="owners has no 'adda'; did you mean ada"):
            await machine.blame("owners.adda")
        explained = await machine.explain(6)
        assert [(c.id, c.event) for c in explained.causes] == [(first.event_id, first)]
        assert [e.position for e in explained.correlated] == [1, 6]
        assert [e.position for e in (await machine.explain(first)).effects] == [6]
        assert (await machine.explain(2)).causes == []
        with pytest.raises(InvalidQueryError, match="position 9"):
            await machine.explain(9)


async def test_causes_outside_of_the_store_and_in_circles() -> None:
    async with open_store("memory:", events=[Deposited]) as store:
        around = CommitMetadata(causation_id="b", correlation_id="round")
        await store.append(
            "a-1", [NewEvent(event=Deposited("x", 1), event_id="a")], metadata=around
        )
        machine = TimeMachine(store, bank)
        (cause,) = (await machine.explain(1)).causes
        assert (cause.id, cause.event) == ("b", None)
        receipt = await store.append("a-1", [Deposited("x", 1)])
        by_commit = CommitMetadata(causation_id=str(receipt.commit_id))
        await store.append("a-1", [Deposited("x", 1)], metadata=by_commit)
        (cause,) = (await machine.explain(3)).causes
        assert cause.event is not None
        assert cause.event.position == 2


async def test_what_if(location: str) -> None:
    async with opened(location) as store:
        machine = TimeMachine(store, bank)
        without = machine.altered(without=EventFilter(tags={"owner:ada"}))
        supposed = await without.travel_to()
        assert supposed.state == Bank({"bob": 2, "cy": 4}, 6)
        assert supposed.left_out == {"Deposited": 3}
        assert (await without.diff()).touches(("owners", "ada"))
        only = machine.altered(only=EventFilter(users={"eve"}))
        assert (await only.travel_to()).state == Bank()
        more = machine.altered(
            edited={2: [Deposited("bob", 20)]},
            inserted={0: [Write("account-dan", [Deposited("dan", 1)])], 5: [Write("a", [])]},
        )
        supposed = await more.travel_to()
        assert supposed.state == Bank({"dan": 1, "ada": 9, "bob": 20, "cy": 4}, 34)
        assert (supposed.edited, supposed.inserted) == (1, 1)
        assert (await machine.travel_to(HEAD)).state.total == 15
        docs = TimeMachine(store, documents)
        edited = docs.altered(edited={5: [Deposited("ada", 50)]})
        assert (await edited.travel_to()).state["account-ada"].data == {
            "owner": "ada",
            "amount": 50,
        }
        (part,) = await docs.unknown_parts("state.account-ada.data.amuont")
        assert (part.path[-1], list(part.suggestions)) == ("amuont", ["account-ada.data.amount"])
        assert await docs.unknown_parts("account-ada.data.amount") == []
        assert await docs.position_of(Version(1, "account-ada")) == 1
        with pytest.raises(InvalidQueryError, match="position 9 has no event of this history"):
            await machine.altered(edited={9: []}).travel_to(HEAD)
        with pytest.raises(InvalidQueryError, match="nothing is altered"):
            machine.altered()
        with pytest.raises(InvalidQueryError, match="say which events"):
            EventFilter()
        with pytest.raises(InvalidQueryError, match="give a set"):
            EventFilter(types="Deposited")  # type: ignore[arg-type]
        with pytest.raises(InvalidEventError):
            await machine.altered(edited={2: [object()]}).travel_to()


async def test_where_two_versions_of_a_fold_part(location: str) -> None:
    newer = Fold("bank", Bank, version=2)

    @newer.on(Deposited)
    def _(state: Bank, event: Deposited) -> Bank:
        bonus = 1 if state.total > 5 else 0
        return _banked(state, Deposited(event.owner, event.amount + bonus))

    async with opened(location) as store:
        machine = TimeMachine(store, bank)
        parting = await machine.compare(newer)
        assert parting is not None
        assert parting.event is not None
        assert parting.event.position == 4
        assert {change.path for change in parting.changes} == {("owners", "cy"), ("total",)}
        assert await machine.compare(newer, end=3) is None
        assert await machine.compare(bank) is None
        other = await machine.compare(Fold("other", Account))
        assert other is not None
        assert other.event is None


async def test_a_look_at_every_event_of_a_kind(location: str) -> None:
    async with opened(location) as store:
        machine = TimeMachine(store, bank)
        seen = machine.probe(
            lambda step: step.before.total, EventFilter(tags={"owner:ada"}), start=1
        )
        assert [(step.position, total) async for step, total in seen] == [(3, 3), (5, 10)]


async def test_many_travel_at_once(location: str) -> None:
    async with open_store(location, events=[Deposited], durable=False) as store:
        for number in range(30):
            await store.append("account-ada", [Deposited("ada", number) for _ in range(100)])
        machine = TimeMachine(store, bank)

        async def travel(position: int) -> None:
            visit = await machine.travel_to(position)
            whole, rest = divmod(position, 100)
            assert visit.state.total == 100 * sum(range(whole)) + whole * rest
            found = await machine.find_when(lambda s: s.total >= visit.state.total)
            assert found is not None
            assert found.state.total == visit.state.total

        def one(position: int) -> Any:
            return lambda: travel(position)

        assert await together(*(one(p) for p in range(150, 3000, 137))) == [None] * 21


async def test_a_snapshot_of_the_projection_is_a_place_to_start_from(location: str) -> None:
    async with opened(location) as store:
        repository = Repository(store, bank)
        await repository.snapshot(await repository.load(Query().up_to(4)))
        loaded = await TimeMachine(store, bank)._timeline.waypoint(5)
        assert loaded.position == 4
        assert (await store.snapshots("bank"))[0].__class__ is Snapshot


async def test_diff_of_two_moments(location: str) -> None:
    async with opened(location) as store:
        machine = TimeMachine(store, bank)
        changes = await machine.diff(2, Back(-1))
        assert str(changes) == "owners.ada: 1 → 4\ntotal: 3 → 6"
        bob, ada = (
            TimeMachine(store, account, "account-bob"),
            TimeMachine(store, account, "account-ada"),
        )
        between = diff((await bob.travel_to(HEAD)).state, (await ada.travel_to(HEAD)).state)
        assert [change.path for change in between] == [("balance",)]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("17", 17),
        ("start", 0),
        ("head", HEAD),
        ("v12", Version(12)),
        ("version 3", Version(3)),
        ("@lunch", Bookmark("lunch")),
        ("5 events back", Back(5)),
        ("5 back", Back(5)),
        ("1 on", Back(-1)),
        ("2h before", Before(timedelta(hours=2))),
        ("10 min after", Before(timedelta(minutes=-10))),
        ("2026-01-01 12:00Z", NOON),
        ("1h ago", NOON - timedelta(hours=1)),
    ],
)
async def test_what_people_type(text: str, moment: Any) -> None:
    assert moment_from(text, now=NOON, zone=UTC) == moment


@pytest.mark.parametrize("text", ["", "@", "@7x y", "v", "back", "x back", "of", "soon", "-3"])
async def test_what_nobody_understands(text: str) -> None:
    with pytest.raises(InvalidQueryError):
        moment_from(text, now=NOON, zone=UTC)
