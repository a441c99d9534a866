"""Guarantee 7: recorded_at never decreases along positions; "as at" is a search on positions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec

from everwhen.codec.commits import Commit, Write, encoded, new_commit_id
from everwhen.state.fold import Fold
from everwhen.testing._async.bench import Bench, events_of
from everwhen.testing.checks import equal, raises, true
from everwhen.testing.promises import Guarantee, promise
from everwhen.testing.specimens import Noted, notes
from everwhen.vocabulary.contract import BatchError, Receipt
from everwhen.vocabulary.errors import InvalidCommitError, InvalidQueryError
from everwhen.vocabulary.events import NewEvent
from everwhen.vocabulary.microseconds import FIRST_MICROS, LAST_MICROS
from everwhen.vocabulary.query import Query

_MICROSECOND = timedelta(microseconds=1)


@promise(Guarantee.TIME)
async def recorded_at_is_the_clocks_time(bench: Bench) -> None:
    store = await bench.store()
    bench.clock.set(datetime(2024, 5, 6, 7, 8, 9, 123_456, UTC))
    receipt = await store.append("a", notes(1))
    equal(receipt.recorded_at, bench.clock(), "to the microsecond, in the receipt")
    (event,) = await events_of(store)
    equal(event.recorded_at, bench.clock(), "and in the event")
    equal(event.recorded_at.utcoffset(), timedelta(0), "in UTC")
    equal(event.occurred_at, bench.clock(), "occurred_at is the same where it isn't given")
    equal(event.metadata.occurred_at, None, "and not written")
    bench.clock.set(datetime(2024, 5, 6, 12, tzinfo=timezone(timedelta(hours=2))))
    receipt = await store.append("a", notes(1))
    equal(receipt.recorded_at, datetime(2024, 5, 6, 10, tzinfo=UTC), "whatever the clock's zone")


@promise(Guarantee.TIME)
async def recorded_at_never_steps_back(bench: Bench) -> None:
    store = await bench.store()
    for seconds in (0, 10, -3_600, 1, -1, 86_400, -0.000_001, 0.5):
        bench.clock.advance(seconds)
        await store.commit_batch([Commit((Write("a", notes(2)),)), Commit((Write("b", notes(1)),))])
    times = [e.recorded_at for e in await events_of(store)]
    true(sorted(times) == times, "times rise with positions though the clock steps back")
    equal((await store.head()).recorded_at, times[-1], "the head has the last of them")


@promise(Guarantee.TIME)
async def a_moment_is_a_position(bench: Bench) -> None:
    store = await bench.store()
    equal(await store.position_at(bench.clock()), 0, "an empty store")
    receipts: list[Receipt] = []
    for number in range(60):
        bench.clock.advance((0, 1, 0.000_001, 30, 0)[number % 5])
        receipts.append(await store.append(f"s-{number % 3}", notes((1, 5, 2)[number % 3])))
    moments = {r.recorded_at for r in receipts}
    for moment in (
        moments | {m - _MICROSECOND for m in moments} | {m + _MICROSECOND for m in moments}
    ):
        wanted = max((r.position for r in receipts if r.recorded_at <= moment), default=0)
        equal(await store.position_at(moment), wanted, f"the last position at {moment}")
        seen = await events_of(store, Query().as_at(moment))
        equal(len(seen), len([e for e in seen if e.recorded_at <= moment]), "nothing newer")
        equal(seen[-1].position if seen else 0, wanted, f"the store as at {moment}")
    far = datetime(9999, 12, 31, tzinfo=UTC)
    equal(await store.position_at(far), receipts[-1].position, "after everything")
    equal(await store.position_at(datetime(1, 1, 1, tzinfo=UTC)), 0, "before everything")
    with raises(InvalidQueryError, "a moment without a zone"):
        await store.position_at(datetime(2024, 1, 1))  # noqa: DTZ001 (that is the point)


@promise(Guarantee.TIME)
async def as_at_joins_with_other_bounds(bench: Bench) -> None:
    store = await bench.store()
    for _ in range(10):
        bench.clock.advance(1)
        await store.append("a", notes(3))
    recorded = await events_of(store)
    moment = recorded[14].recorded_at
    then = Query().as_at(moment)
    equal(await events_of(store, then), recorded[:15], "as at the fifth commit")
    equal(await events_of(store, then.backwards().limit(4)), recorded[14:10:-1], "from its end")
    middle = recorded[7].position
    equal(await events_of(store, then.up_to(middle)), recorded[:8], "the earlier bound counts")
    equal(await events_of(store, then.after(middle)), recorded[8:15], "with a beginning")
    later = recorded[20].position
    equal(await events_of(store, then.up_to(later)), recorded[:15], "the earlier bound counts")
    equal(await events_of(store, then.after(later)), [], "nothing lies in between")


@promise(Guarantee.TIME)
async def as_of_asks_for_occurred_at(bench: Bench) -> None:
    store = await bench.store()
    day = timedelta(days=1)
    start = bench.clock()
    moved = start.astimezone(timezone(timedelta(hours=-5, minutes=-30)))
    await store.append(
        "a",
        [
            NewEvent(event=Noted("late news"), occurred_at=start - 3 * day),
            Noted("now"),
            NewEvent(event=Noted("plan"), occurred_at=moved + 3 * day),
        ],
    )
    bench.clock.advance(86_400)
    await store.append("b", [NewEvent(event=Noted("later news"), occurred_at=start - 2 * day)])

    async def known(moment: datetime) -> list[str]:
        return [e.event.text for e in await events_of(store, Query().as_of(moment))]

    equal(await known(start - 4 * day), [], "before all")
    equal(await known(start - 2 * day), ["late news", "later news"], "inclusive")
    equal(await known(start), ["late news", "now", "later news"], "recorded_at is the default")
    equal(await known(start + 4 * day), ["late news", "now", "plan", "later news"], "all of it")
    both = Query().as_of(start).as_at(start).backwards()
    texts = [e.event.text for e in await events_of(store, both)]
    equal(texts, ["now", "late news"], "valid and system time together")
    plan = (await events_of(store))[2]
    equal(plan.occurred_at, moved + 3 * day, "the moment comes back")
    equal(plan.occurred_at.utcoffset(), moved.utcoffset(), "in its own zone")


@promise(Guarantee.TIME)
async def a_state_as_of_a_time_goes_by_what_happened_last(bench: Bench) -> None:
    store = await bench.store()
    told: Fold[tuple[str, ...]] = Fold("told", tuple)
    told.on(Noted)(lambda state, event: (*state, event.text))
    day = timedelta(days=1)
    start = bench.clock()

    async def happened(stream: str, text: str, days: int) -> None:
        event = NewEvent(event=Noted(text), occurred_at=start + days * day)
        await store.append(stream, [event])

    for stream, text, days in (
        ("a", "of day 20", 20),
        ("a", "of day 10, told late", 10),
        ("b", "of day 20, too", 20),
        ("b", "of day 30", 30),
        ("a", "of day 15, told late", 15),
        ("a", "of day 10, told later", 10),
    ):
        await happened(stream, text, days)

    async def known(query: Query) -> tuple[str, ...]:
        return await store.fold(told, query)

    tenth = ("of day 10, told late", "of day 10, told later")
    rest = ("of day 15, told late", "of day 20", "of day 20, too")
    equal(await known(Query().as_of(start + 12 * day)), tenth, "one moment: as recorded")
    equal(await known(Query().as_of(start + 25 * day)), (*tenth, *rest), "by valid time")
    backwards = Query().as_of(start + 25 * day).backwards()
    equal(await known(backwards), (*tenth, *rest)[::-1], "backwards, all the other way round")
    of_a = await known(Query().stream("a").as_of(start + 25 * day))
    equal(of_a, (*tenth, *rest[:2]), "of one stream")
    before = Query().as_of(start + 25 * day).up_to(2)
    equal(await known(before), (tenth[0], "of day 20"), "as it was known at a position")
    limited = Query().as_of(start + 25 * day).limit(3)
    equal(await known(limited), (tenth[0], *rest[1:]), "the first that were recorded")
    plain = (rest[1], tenth[0], rest[2], "of day 30", rest[0], tenth[1])
    equal(await known(Query()), plain, "without it, in the order of recording")


@promise(Guarantee.TIME, "keeps_recorded_at")
async def an_imported_commit_keeps_its_own_time(bench: Bench) -> None:
    store = await bench.store()
    old = datetime(1999, 12, 31, 23, 59, 59, 999_999, UTC)
    first = await store.commit(Commit((Write("a", notes(2)),), recorded_at=old))
    equal(first.recorded_at, old, "its own recorded_at")
    second = await store.commit(Commit((Write("a", notes(1)),), recorded_at=old))
    equal(second.recorded_at, old, "the same moment again")
    third = await store.append("a", notes(1))
    equal(third.recorded_at, bench.clock(), "then the clock's")
    equal(await store.position_at(old), second.position, "one can travel there")
    with raises(InvalidCommitError, "an imported time before the newest event's"):
        await store.commit(Commit((Write("a", notes(1)),), recorded_at=old))
    future = bench.clock() + timedelta(days=1)
    fourth = await store.commit(Commit((Write("a", notes(1)),), recorded_at=future))
    equal(fourth.recorded_at, future, "a later one is taken")
    equal((await store.append("a", notes(1))).recorded_at, future, "and time waits for the clock")
    equal(await store.version("a"), 6, "the refused one wrote nothing")


@promise(Guarantee.TIME, "keeps_recorded_at")
async def imported_times_are_judged_one_by_one_in_a_batch(bench: Bench) -> None:
    store = await bench.store()
    moments = [bench.clock() + timedelta(seconds=s) for s in (5, 9, 7, 9, 8, 10)]
    with raises(BatchError, "a batch with two times that step back") as caught:
        await store.commit_batch(
            Commit((Write("a", notes(1)),), recorded_at=moment) for moment in moments
        )
    kept = [isinstance(outcome, Receipt) for outcome in caught.error.outcomes]
    equal(kept, [True, True, False, True, False, True], "those that step back are refused")


@promise(Guarantee.TIME, "keeps_recorded_at")
async def a_time_that_could_not_be_given_back_is_refused(bench: Bench) -> None:
    store, backend = await bench.store(), await bench.backend()
    good = encoded(Commit((Write("a", notes(1)),)), store.kernel.codec, new_commit_id)
    wrong: list[Any] = [-(1 << 62), FIRST_MICROS - 1, LAST_MICROS + 1, 1 << 80, 1.5, True, "2026"]
    for moment in wrong:
        commit = msgspec.structs.replace(good, recorded_at=moment)
        (outcome,) = await backend.append((commit,))
        true(isinstance(outcome, InvalidCommitError), f"recorded_at={moment!r} is {outcome!r}")
    with raises(InvalidCommitError, "a moment that is in the year 10000, in UTC"):
        zone = timezone(-timedelta(hours=1))
        latest = datetime.max.replace(tzinfo=zone)
        await store.commit(Commit((Write("a", notes(1)),), recorded_at=latest))
    equal((await store.head()).position, 0, "nothing is written")
    for moment in (FIRST_MICROS, LAST_MICROS):
        commit = msgspec.structs.replace(good, id=new_commit_id(), recorded_at=moment)
        (outcome,) = await backend.append((commit,))
        true(isinstance(outcome, Receipt), f"recorded_at={moment!r} is {outcome!r}")
    equal(
        [event.recorded_at for event in await events_of(store)],
        [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)],
        "the first and the last moment there are",
    )
    equal(await store.check(), [], "and nothing is wrong with them")


@promise(Guarantee.TIME, "keeps_recorded_at")
async def history_may_be_older_than_1970(bench: Bench) -> None:
    store = await bench.store()
    moon = datetime(1969, 7, 20, 20, 17, 40, 250_000, UTC)
    receipt = await store.commit(Commit((Write("eagle", notes(1)),), recorded_at=moon))
    equal(receipt.recorded_at, moon, "a time before 1970")
    await store.append("eagle", notes(1))
    equal(await store.position_at(moon), receipt.position, "can be travelled to")
    equal(await store.position_at(moon - _MICROSECOND), 0, "exactly")


@promise(Guarantee.TIME, "shared_by_processes")
async def time_never_steps_back_between_processes(bench: Bench) -> None:
    here = await bench.store()
    there = await bench.store(backend=await bench.another_backend())
    times = []
    for store, seconds in ((here, 0), (there, 10), (here, -60), (there, -60), (here, 1_000)):
        bench.clock.advance(seconds)
        times.append((await store.append("a", notes(1))).recorded_at)
    true(sorted(times) == times, "each sees the time that the other has reached")
