"""Guarantee 10: nothing unknown breaks a read."""

from __future__ import annotations

from everwhen.testing._async.bench import Bench, events_of, typed
from everwhen.testing.checks import equal, raises, true
from everwhen.testing.promises import Guarantee, promise
from everwhen.testing.specimens import Deposited, Noted, plain
from everwhen.vocabulary.errors import DecodeError
from everwhen.vocabulary.events import Event, EventType, NewEvent, UnknownEvent
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.upcasting import Upcast


class _NotedLater(Event):
    type_name = "Noted"
    schema_version = 2

    text: str
    colour: str


_COLOURED = Upcast("Noted", 1, lambda data: {**data, "colour": "none"})


class _NotedOtherwise(Event):
    type_name = "Noted"

    text: int


@promise(Guarantee.UNKNOWN)
async def an_undeclared_type_reads_as_unknown(bench: Bench) -> None:
    await (await bench.store()).append(
        "a", [Deposited(1, 5), NewEvent(event=Noted("x"), tags=("t",))]
    )
    blind = await bench.store([Noted])
    unknown, known = await events_of(blind)
    equal(unknown.event, UnknownEvent("Deposited", {"account": 1, "amount": 5}), "its raw data")
    equal(unknown.tags, ("account:1",), "its tags")
    equal(unknown.data, {"account": 1, "amount": 5}, "its data")
    equal(known.event, Noted("x"), "a known one beside it")
    equal(len(await events_of(blind, Query().types("Deposited"))), 1, "it can be asked for")
    equal(len(await events_of(blind, Query().tags("account:1"))), 1, "also by its tags")


@promise(Guarantee.UNKNOWN)
async def a_newer_schema_version_reads_as_unknown(bench: Bench) -> None:
    later = await bench.store([EventType(_NotedLater)], upcasts=[_COLOURED])
    await later.append("a", [_NotedLater("x", "red")])
    store = await bench.store()
    (event,) = await typed(store)
    equal(event, UnknownEvent("Noted", {"text": "x", "colour": "red"}, 2), "with its version")


@promise(Guarantee.UNKNOWN)
async def plain_events_need_no_class(bench: Bench) -> None:
    store = await bench.store([])
    events = [
        plain("Ünknown type", 7, nested={"list": [1, 2.5, None, True, "ü"], "empty": {}}),
        plain("Empty"),
        plain("Text", text="\u0000\u2028\"'\\/ 🎲"),
    ]
    await store.append("a", events)
    equal(await typed(store), events, "plain data under any type name")
    await store.append("a", [plain("Noted", text="x")])
    knowing = await bench.store()
    equal((await typed(knowing))[-1], Noted("x"), "and is typed where the class is known")


@promise(Guarantee.UNKNOWN)
async def data_that_does_not_fit_its_class_breaks_only_its_own_event(bench: Bench) -> None:
    store = await bench.store()
    await store.append("a", [Noted("x"), Deposited(1, 2)])
    wrong = await bench.store([EventType(_NotedOtherwise), Deposited])
    misfit, fine = await events_of(wrong)
    with raises(DecodeError, "text where a number is declared") as caught:
        _ = misfit.event
    true("'a'" in str(caught.error), "the error says where")
    equal(misfit.data, {"text": "x"}, "its raw data can be read")
    equal(fine.event, Deposited(1, 2), "the next event isn't touched by it")
