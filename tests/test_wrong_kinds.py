"""What is of the wrong kind is refused with our errors, by name, and before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from everwhen import Commit, Condition, Event, EverwhenError, Fold, Query, Store, open_store
from everwhen.errors import DeclarationError, InvalidCommitError, InvalidQueryError


class Noted(Event):
    text: str


WRONG: list[tuple[type[EverwhenError], Callable[[Any], Any]]] = [
    (InvalidCommitError, lambda s: s.append("a", "text")),
    (InvalidCommitError, lambda s: s.append("a", Noted("x"))),
    (InvalidCommitError, lambda s: s.append("a", None)),
    (InvalidCommitError, lambda s: s.append("a", [])),
    (InvalidCommitError, lambda s: s.append(None, [Noted("x")])),
    (InvalidCommitError, lambda s: s.append("a", [Noted("x")], expected=1.0)),
    (InvalidCommitError, lambda s: s.append("a", [Noted("x")], commit_id="x")),
    (InvalidCommitError, lambda s: s.append("a", [Noted("x")], metadata={})),
    (InvalidCommitError, lambda s: s.append("a", [Noted("x")], condition=Query())),
    (InvalidCommitError, lambda s: s.append("a", [Noted("x")], condition=Condition(Query(), -1))),
    (InvalidCommitError, lambda s: s.commit("x")),
    (InvalidCommitError, lambda s: s.commit(Commit(["x"]))),  # type: ignore[list-item]
    (InvalidCommitError, lambda s: s.commit_batch([Commit([]), "x"])),
    (EverwhenError, lambda s: s.append("a", [None])),
    (EverwhenError, lambda s: s.append("a", [{"text": "x"}])),
    (InvalidQueryError, lambda s: list(s.read(7))),
    (InvalidQueryError, lambda s: list(s.read(b"a"))),
    (InvalidQueryError, lambda s: s.subscribe(7)),
    (InvalidQueryError, lambda s: s.stream(None)),
    (InvalidQueryError, lambda s: s.version(7)),
    (InvalidQueryError, lambda s: list(s.streams(7))),
    (InvalidQueryError, lambda s: s.checkpoint(None)),
    (InvalidQueryError, lambda s: s.snapshots(7)),
    (InvalidQueryError, lambda s: s.position_at(datetime(2026, 1, 1))),
    (DeclarationError, lambda s: s.fold("x")),
    (DeclarationError, lambda _: Fold("x", 0)),  # type: ignore[arg-type]
    (DeclarationError, lambda _: open_store("memory:", events=7)),  # type: ignore[arg-type]
    (DeclarationError, lambda _: open_store("memory:", events="Noted")),  # type: ignore[arg-type]
    (DeclarationError, lambda _: open_store("memory:", events=[Noted("x")])),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("error", "call"), WRONG, ids=map(str, range(len(WRONG))))
def test_wrong_kinds(error: type[EverwhenError], call: Callable[[Store], Any]) -> None:
    with open_store("memory:", events=[Noted]) as store:
        with pytest.raises(error) as caught:
            call(store)
        assert len(str(caught.value)) > 20, "it says what is wrong"
        assert store.head().position == 0
        assert store.append("a", [Noted("still works")]).position == 1


@pytest.mark.parametrize("clock", [lambda: 1, datetime.now])
def test_a_clock_that_gives_no_moments(clock: Any, tmp_path: Any) -> None:
    for location in ("memory:", tmp_path / "s.db"):
        with open_store(location, events=[Noted], clock=clock) as store:
            with pytest.raises(DeclarationError, match="time zone"):
                store.append("a", [Noted("x")])
            assert store.head().position == 0
