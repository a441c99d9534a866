"""Guarantee 8: stored bytes never change; old schema versions are upcast when they are read."""

from __future__ import annotations

import base64
from typing import Final

from everwhen.codec.json_encoding import decode_json, encode_json
from everwhen.testing._async.bench import Bench, events_of, typed
from everwhen.testing.checks import equal, raises, true
from everwhen.testing.promises import Guarantee, promise
from everwhen.testing.specimens import Deposited, Noted, notes, plain
from everwhen.vocabulary.contract import Condition
from everwhen.vocabulary.errors import ConditionError, DecodeError, InvalidEventError
from everwhen.vocabulary.events import Event, UnknownEvent
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.upcasting import Data, Upcast


class _BetV1(Event):
    type_name = "Bet"

    amount: int


class _BetV2(Event):
    type_name = "Bet"
    schema_version = 2

    amount: int
    currency: str


class _Bet(Event):
    type_name = "Bet"
    schema_version = 3

    cents: int
    currency: str


class _Won(Event):
    type_name = "GameWon"

    player: int


class _Completed(Event):
    type_name = "GameCompleted"

    rounds: int


_TYPED: Final = (
    Upcast.typed(_BetV2, lambda old: _Bet(old.amount * 100, old.currency)),
    Upcast.typed(_BetV1, lambda old: _BetV2(old.amount, "EUR")),
)


def _split(data: Data) -> list[UnknownEvent]:
    return [
        UnknownEvent("GameWon", {"player": data["winner"]}),
        UnknownEvent("GameCompleted", {"rounds": data["rounds"]}),
    ]


_SPLIT: Final = Upcast("GameOver", 1, _split, into=("GameWon", "GameCompleted"))
_RENAMED: Final = Upcast("Remark", 1, lambda data: [UnknownEvent("Noted", data)], into=("Noted",))
_RAW: Final = (
    Upcast("Bet", 1, lambda data: {**data, "currency": "EUR"}),
    Upcast("Bet", 2, lambda d: {"cents": d["amount"] * 100, "currency": d["currency"]}),
)


@promise(Guarantee.IMMUTABLE)
async def a_chain_of_upcasts_makes_old_events_current(bench: Bench) -> None:
    await (await bench.store([_BetV1])).append("a", [_BetV1(5)])
    await (await bench.store([_BetV2], upcasts=_RAW[:1])).append("a", [_BetV2(6, "USD")])
    for upcasts in (_RAW, _TYPED):
        store = await bench.store([_Bet], upcasts=upcasts)
        events = await events_of(store)
        equal([e.event for e in events], [_Bet(500, "EUR"), _Bet(600, "USD")], "all current")
        equal([e.schema_version for e in events], [3, 3], "with the version they have now")
        equal(events[0].data, {"cents": 500, "currency": "EUR"}, "also as plain data")
        equal(decode_json(events[0].json), events[0].data, "and as JSON")
        equal([e.stored_as for e in events], [("Bet", 1), ("Bet", 2)], "stored as they were")
        equal([e.part for e in events], [0, 0], "one for one")


@promise(Guarantee.IMMUTABLE)
async def reading_with_upcasts_changes_nothing_stored(bench: Bench) -> None:
    old = await bench.store([_BetV1])
    await old.append("a", [_BetV1(5), _BetV1(6)])
    before = await events_of(old)
    await typed(await bench.store([_Bet], upcasts=_RAW))
    after = await events_of(old)
    equal(after, before, "the same recorded events")
    equal([e.json for e in after], [e.json for e in before], "to the byte")


@promise(Guarantee.IMMUTABLE)
async def an_event_may_be_renamed(bench: Bench) -> None:
    await (await bench.store([])).append("a", [plain("Remark", text="x"), plain("Other")])
    store = await bench.store(upcasts=[_RENAMED])
    await store.append("a", notes(1))
    found = await events_of(store, Query().types(Noted))
    equal([e.event for e in found], [Noted("x"), Noted("note 1")], "old and new name alike")
    equal([e.type for e in found], ["Noted", "Noted"], "under the new name")
    equal(await events_of(store, Query().types("Remark")), [], "no event has the old one any more")
    for query in (Query().types("Noted"), Query().types("Remark", "Noted").backwards()):
        equal(len(await events_of(store, query)), 2, f"{query}")


@promise(Guarantee.IMMUTABLE)
async def an_event_may_be_split(bench: Bench) -> None:
    old = await bench.store([])
    for number in range(1, 4):
        await old.append("g", [plain("GameOver", winner=number, rounds=number * 10)])
        await old.append("g", [plain("GameWon", player=100 + number)])
    store = await bench.store([_Won, _Completed], upcasts=[_SPLIT])
    everything = await events_of(store)
    equal(len(everything), 9, "two for one, and one for one")
    first, second, third = everything[:3]
    equal([first.event, second.event], [_Won(1), _Completed(10)], "in the order of the split")
    equal((first.position, first.version), (second.position, second.version), "at one place")
    equal([first.part, second.part, third.part], [0, 1, 0], "counted from 0")
    equal(len({e.event_id for e in everything}), 9, "each has an id of its own")
    equal(await events_of(store, Query().backwards()), everything[::-1], "backwards is the reverse")
    completed = await typed(store, Query().types(_Completed))
    equal(completed, [_Completed(10), _Completed(20), _Completed(30)], "one part by its type")
    won = await typed(store, Query().types("GameWon"))
    equal([e.player for e in won], [1, 101, 2, 102, 3, 103], "split and original alike")
    for limit in range(10):
        for query in (Query(), Query().types(_Won), Query().types(_Completed).backwards()):
            found = await events_of(store, query.limit(limit))
            equal(found, (await events_of(store, query))[:limit], f"limit {limit} of {query}")


@promise(Guarantee.IMMUTABLE)
async def a_subscription_upcasts_too(bench: Bench) -> None:
    await (await bench.store([])).append("g", [plain("GameOver", winner=1, rounds=2)])
    store = await bench.store([_Won, _Completed], upcasts=[_SPLIT])
    async with store.subscribe() as subscription:
        won = await anext(subscription)
        true(subscription.position < won.position, "half a split event is not yet after it")
        completed = await anext(subscription)
        equal(subscription.position, completed.position, "all of it is")
    equal([won.event, completed.event], [_Won(1), _Completed(2)], "both parts")


@promise(Guarantee.IMMUTABLE)
async def conditions_see_through_upcasts(bench: Bench) -> None:
    await (await bench.store([])).append("g", [plain("GameOver", winner=1, rounds=2)])
    store = await bench.store([_Won, _Completed], upcasts=[_SPLIT])
    with raises(ConditionError, "an old event that now is of the type"):
        await store.append("g", [_Won(2)], condition=Condition(Query().types(_Completed), 0))
    condition = Condition(Query().types("Unheard"), 0)
    await store.append("g", [_Won(2)], condition=condition)


@promise(Guarantee.IMMUTABLE)
async def a_failing_upcast_says_where(bench: Bench) -> None:
    await (await bench.store([])).append("g", [plain("GameOver", winner=1)])
    store = await bench.store([_Won, _Completed], upcasts=[_SPLIT])
    await store.append("g", [_Won(2)])
    broken, whole = await events_of(store)
    equal(whole.event, _Won(2), "the events beside it can be read")
    with raises(DecodeError, "an upcast of data it didn't expect") as caught:
        _ = broken.event
    true("'GameOver' from version 1" in str(caught.error), "the error names the step")
    true("'g' version 1" in str(caught.error), "and the event")


@promise(Guarantee.IMMUTABLE)
async def old_classes_are_for_reading_only(bench: Bench) -> None:
    store = await bench.store([_Bet], upcasts=_TYPED)
    with raises(InvalidEventError, "an event of an old class"):
        await store.append("a", [_BetV1(5)])
    equal((await store.head()).position, 0, "nothing was written")


class _Sealed:
    """A reversible step: the data as base64 text, bound to the event's id."""

    def encode(self, type_name: str, schema_version: int, event_id: str, data: bytes) -> bytes:
        seal = f"{type_name}/{schema_version}/{event_id}/".encode()
        return encode_json(base64.b64encode(seal + data).decode())

    def decode(self, type_name: str, schema_version: int, event_id: str, data: bytes) -> bytes:
        seal = f"{type_name}/{schema_version}/{event_id}/".encode()
        text: str = decode_json(data)
        opened = base64.b64decode(text)
        if not opened.startswith(seal):
            raise DecodeError(f"event {event_id} carries another event's data")
        return opened.removeprefix(seal)


@promise(Guarantee.IMMUTABLE)
async def codec_steps_are_undone_when_reading(bench: Bench) -> None:
    store = await bench.store([*_GAME, Deposited], upcasts=[_SPLIT], steps=[_Sealed()])
    events = [Deposited(1, 5), _Won(3), plain("Unheard", x=[1])]
    receipt = await store.append("a", events)
    again = await store.append("a", events, commit_id=receipt.commit_id)
    true(again.repeated, "a repeated commit is recognised through the steps")
    await store.append("a", [plain("GameOver", winner=1, rounds=2)])
    equal(await typed(store), [*events, _Won(1), _Completed(2)], "also below upcasts")
    equal((await events_of(store))[0].data, {"account": 1, "amount": 5}, "as data")
    equal(len(await events_of(store, Query().tags("account:1"))), 1, "tags stay open")
    bare = await events_of(await bench.store([]))
    true(all(b"account" not in bytes(e.json) for e in bare), "what is stored is sealed")


_GAME: Final = (_Won, _Completed)
