"""Decisions by example: the examples can fail."""

from __future__ import annotations

import msgspec
import pytest

from everwhen import Decisions, Event, Fold, NewEvent, Refusal, StateOf
from everwhen.testing import Scenario


class Opened(Event):
    name: str


class Closed(Event):
    pass


class Close(msgspec.Struct, frozen=True):
    door: int


class IsClosed(Refusal):
    def __init__(self, door: int) -> None:
        self.door = door
        super().__init__(f"door {door} is closed")


door = Fold("door", lambda: False)
door.on(Opened)(lambda state, event: True)
door.on(Closed)(lambda state, event: False)
decisions = Decisions()


@decisions.on(Close, StateOf(door, lambda command: f"door-{command.door}"))
def _close(command: Close, is_open: bool) -> list[Event]:
    if command.door == 13:
        raise ZeroDivisionError
    if not is_open:
        raise IsClosed(command.door)
    return [Closed()]


house = Scenario(decisions, events=[Opened, Closed])


def test_what_was_decided() -> None:
    verdict = house.given("door-1", Opened("ann")).when(Close(1)).then(Closed())
    assert verdict.events == (Closed(),)
    assert verdict.state(door, "door-1") is False
    verdict.then(NewEvent(event=Closed()))
    for wrong in ((), (Opened("ann"),), (Closed(), Closed())):
        with pytest.raises(AssertionError, match=r"the events that Close\(door=1\) leads to"):
            verdict.then(*wrong)
    with pytest.raises(AssertionError, match="should be refused by IsClosed"):
        verdict.refused(IsClosed)


def test_what_was_refused() -> None:
    verdict = house.given("door-1", Opened("ann")).given("door-1", Closed()).when(Close(1))
    assert verdict.refused(IsClosed, door=1).door == 1
    with pytest.raises(AssertionError, match=r"IsClosed\.door"):
        verdict.refused(IsClosed, door=2)
    with pytest.raises(AssertionError, match="was refused: IsClosed"):
        verdict.then()
    with pytest.raises(AssertionError, match="should be refused by OtherRefusal"):
        verdict.refused(OtherRefusal)


class OtherRefusal(Refusal):
    pass


def test_an_error_is_no_verdict() -> None:
    with pytest.raises(ZeroDivisionError):
        house.when(Close(13))


def test_each_example_is_its_own() -> None:
    opened = house.given("door-1", Opened("ann"))
    opened.when(Close(1)).then(Closed())
    opened.when(Close(1)).then(Closed())
    house.when(Close(1)).refused(IsClosed)
