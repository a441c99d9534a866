"""A condition asked of many states in a row says what it says of each alone, and tells its progress."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everwhen import Event, Fold, Query, TimeMachine, open_store
from everwhen.errors import ExpressionError
from everwhen.expressions import Expression


class Seat(msgspec.Struct, frozen=True):
    level: Any = 0


CONDITIONS = [
    "m.exists(k, m[k].level > 2)",
    "m.all(k, m[k].level < 2)",
    "m.all(k, v, v.level < 2 || k == 'a')",
    "m.exists(k, k == 'c' && m[k].level == 1)",
    "m.exists(k, v, v.level > limit)",
    "m.exists(k, m[k].level.size() > 1)",
    "m.exists(k, m['a'].level == m[k].level)",
    "m.exists(m, m == 'a')",
    "m.exists(k, [1].exists(k, m[k].level == 1))",
    "m.exists(k, [1, 2].exists(n, m[k].level == n))",
    "l.exists(x, x.level > 2)",
    "l.all(i, x, x.level < 2 || i == 1)",
    "l.exists(x, l[x] == 1)",
    "limit > 1 && m.exists(k, m[k].level == 0) || l.all(x, x.level == 0)",
]
LEVELS = st.integers(0, 3) | st.sampled_from(["xy", "x"])
SEATS = st.builds(Seat, LEVELS) | st.just(Seat(1))
PARTS = st.fixed_dictionaries(
    {
        "m": st.dictionaries(
            st.sampled_from("abcd"), SEATS | st.fixed_dictionaries({"level": LEVELS})
        ),
        "l": st.lists(SEATS, max_size=4) | st.lists(SEATS, max_size=3).map(tuple),
        "limit": st.integers(0, 3),
    }
)


def said(function: Any, state: Any) -> Any:
    try:
        return function(state)
    except LookupError:
        return "missing"
    except ExpressionError as error:
        return str(error)


@pytest.mark.slow
@pytest.mark.parametrize("text", CONDITIONS)
@given(st.lists(PARTS, min_size=1, max_size=6), st.sampled_from([25, 40, 10_000_000]))
def test_of_states_in_a_row_as_of_each_alone(text: str, parts: list[Any], steps: int) -> None:
    expression = Expression(text, steps=steps)
    ask = expression.asked_of_states()
    in_place: dict[str, Any] = {"m": {}, "l": [], "limit": 0}
    for part in parts:
        assert said(ask, part) == said(expression.holds_for, part)
        in_place["m"].update(part["m"])
        in_place["l"] = [*in_place["l"][:2], *part["l"]]
        assert said(ask, in_place) == said(expression.holds_for, in_place)
        if in_place["m"] and part["limit"] == 0:
            in_place["m"].pop(next(iter(in_place["m"])))
        for seat in in_place["m"].values():
            if isinstance(seat, dict):
                seat["level"] = part["limit"]
        assert said(ask, in_place) == said(expression.holds_for, in_place)


class Sat(Event):
    at: str
    level: int


def hall() -> Fold[dict[str, Any]]:
    fold: Fold[dict[str, Any]] = Fold("hall", lambda: {"m": {}}, copy=lambda s: {"m": dict(s["m"])})

    @fold.on(Sat)
    def _(state: dict[str, Any], event: Sat) -> dict[str, Any]:
        state["m"][event.at] = Seat(event.level)
        return state

    return fold


def test_a_search_through_a_wide_state_looks_at_what_changed() -> None:
    width, events = 400, 3_000
    condition = Expression("m.exists(k, m[k].level > 8)")
    plain = Expression("m.exists(k, m[k].level > 8 && 'x' in m)")  # rests on more than its items
    with open_store("memory:", events=[Sat]) as store:
        store.append("a", [Sat(f"s{n % width}", n % 9) for n in range(events)])
        machine = TimeMachine(store, hall(), Query())
        began = time.process_time()
        assert machine.find_when(condition.holds_for) is None
        spent, began = time.process_time() - began, time.process_time()
        assert machine.find_when(plain.holds_for, end=events // 10) is None
        assert spent < 5 * (time.process_time() - began)
        store.append("a", [Sat("s1", 9)])
        found = machine.find_when(condition.holds_for)
        assert found is not None
        assert found.position == events + 1


@pytest.mark.slow
def test_progress_is_told_while_a_slow_condition_is_asked() -> None:
    def slow(state: Any) -> bool:
        time.sleep(0.02)
        return False

    told: list[tuple[int, int]] = []
    with open_store("memory:", events=[Sat]) as store:
        store.append("a", [Sat("s", n) for n in range(150)])
        machine = TimeMachine(store, hall(), Query())
        machine.find_when(slow, tracked=False, progress=lambda at, last: told.append((at, last)))
    assert [at for at, _ in told] == sorted({at for at, _ in told})
    assert len(told) > 3
    assert told[-1] == (150, 150)
