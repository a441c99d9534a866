"""The law of merges finds a merge that gives something else, and nothing where all is well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import replayed_elsewhere as elsewhere

from everwhen import Fold, document, documents
from everwhen.errors import DeclarationError
from everwhen.testing import check_merge

paid = st.builds(elsewhere.Paid, by=st.sampled_from("xyz"), amount=st.integers(-9, 99))
moved = st.builds(elsewhere.Moved, to=st.sampled_from("NESW"))
joined = st.builds(elsewhere.Joined, who=st.just("p"), name=st.sampled_from(["Ann", "Bob"]))


@given(st.lists(st.one_of(paid, moved, joined), max_size=12))
def test_a_lawful_merge_passes(events: list[Any]) -> None:
    check_merge(elsewhere.account, events)


@pytest.mark.parametrize("fold", [documents, document, elsewhere.account, elsewhere.positions])
@pytest.mark.parametrize("kind", elsewhere.KINDS)
def test_recorded_events_will_do(tmp_path: Path, kind: str, fold: Fold[Any]) -> None:
    with elsewhere.opened(kind, tmp_path) as store:
        check_merge(fold, store.read())
        check_merge(fold, store.read("a-1"))


def broken(initial: Any, on: Any, merge: Any) -> Fold[Any]:
    fold: Fold[Any] = Fold("broken", lambda: initial)
    fold.on(elsewhere.Paid)(on)
    fold.merge(merge)
    return fold


def pay(*amounts: int) -> list[elsewhere.Paid]:
    return [elsewhere.Paid("x", amount) for amount in amounts]


def test_a_merge_that_takes_the_wrong_side_is_found() -> None:
    last = broken(0, lambda _, event: event.amount, lambda earlier, later: earlier or later)
    check_merge(last, pay(3, 3))
    with pytest.raises(AssertionError) as raised:
        check_merge(last, pay(3, 5))
    assert str(raised.value) == (
        "fold 'broken': merge(fold(a), fold(b)) is not fold(a + b), "
        "cut before event 2 of 2: Paid(by='x', amount=5)\n"
        "state: 5 → 3\nthe first is 5\nthe other 3"
    )


def test_a_diff_shows_the_part() -> None:
    fold = broken(
        {},
        lambda state, event: {**state, event.by: state.get(event.by, 0) + event.amount},
        lambda earlier, later: {**earlier, **later},
    )
    with pytest.raises(AssertionError, match=r"(?m)^x: 7 → 4$"):
        check_merge(fold, pay(3, 4))


def test_an_initial_state_that_changes_something_is_found() -> None:
    fold = broken(1, lambda state, event: state + event.amount, lambda a, b: a + b)
    with pytest.raises(AssertionError, match="cut before event 1 of 1"):
        check_merge(fold, pay(5))
    with pytest.raises(AssertionError, match="cut after all 0 events"):
        check_merge(fold, [])


def test_a_merge_that_is_not_associative_is_found() -> None:
    """Two pieces of it always come out well."""
    fold = broken(
        (),
        lambda state, event: (*state, event.amount),
        lambda a, b: a + b if len(a + b) != 2 or not a or not b else tuple(sorted(a + b)),
    )
    check_merge(fold, pay(1, 2))
    with pytest.raises(AssertionError, match=r"merge\(merge\(a, b\), c\) is not"):
        check_merge(fold, pay(2, 1, 0))


def test_states_that_are_changed_in_place_are_not_mixed_up() -> None:
    fold: Fold[list[int]] = Fold("in place", list)

    @fold.on(elsewhere.Paid)
    def _(state: list[int], event: elsewhere.Paid) -> list[int]:
        state.append(event.amount)
        return state

    @fold.merge
    def _(earlier: list[int], later: list[int]) -> list[int]:
        earlier.extend(later)
        later.clear()
        return earlier

    check_merge(fold, pay(*range(40)))


def test_many_events_are_cut_here_and_there() -> None:
    seen: list[int] = []
    fold = broken(0, lambda state, event: state + 1, lambda a, b: seen.append(a) or a + b)  # type: ignore[func-returns-value]
    check_merge(fold, pay(*range(1_000)))
    assert len(seen) < 1_500
    assert max(seen) == 1_000


def test_what_can_not_be_checked_is_refused() -> None:
    with pytest.raises(DeclarationError, match="has no merge to check"):
        check_merge(elsewhere.steps, [])
    with pytest.raises(DeclarationError, match="give what a store reads"):
        check_merge(documents, pay(1))
