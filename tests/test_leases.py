"""Who may take over a lease, whatever is done to the time of day."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from everwhen.store.projection_records import Build, BuildRecord, LeaseWatch

SALES = Build("sales")
SECOND = 1_000_000
NOON = 43_200 * SECOND


class Hand:
    """A monotonic clock that a test moves on; in seconds."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def held(beat: int = 1, *, owner: str | None = "one", at: int = NOON) -> BuildRecord:
    return BuildRecord((), owner=owner, lease=5 * SECOND, beat=beat, at=at)


def test_nobodys_and_ones_own_are_free() -> None:
    watch = LeaseWatch(Hand())
    assert watch.is_free(SALES, held(owner=None), "two", NOON)
    assert watch.is_free(SALES, held(), "one", NOON)
    assert not watch.is_free(SALES, held(), "two", NOON)


def test_an_old_one_is_free_at_first_sight() -> None:
    watch = LeaseWatch(Hand())
    assert not watch.is_free(SALES, held(), "two", NOON + 5 * SECOND - 1)
    assert watch.is_free(SALES, held(), "two", NOON + 5 * SECOND)


def test_without_a_sign_of_life_it_ends_by_the_watchers_clock() -> None:
    hand = Hand()
    watch = LeaseWatch(hand)
    for seconds in (0.0, 4.0, 0.9):
        hand.now += seconds
        assert not watch.is_free(SALES, held(), "two", NOON - 3_600 * SECOND)
    hand.now += 0.2
    assert watch.is_free(SALES, held(), "two", NOON - 3_600 * SECOND)


def test_each_build_is_watched_by_itself() -> None:
    hand = Hand()
    watch = LeaseWatch(hand)
    assert not watch.is_free(SALES, held(), "two", NOON)
    hand.now += 6
    assert not watch.is_free(Build("stock"), held(), "two", NOON)
    assert watch.is_free(SALES, held(), "two", NOON)


@given(
    beats=st.lists(st.floats(0, 4.99), max_size=8),
    skew=st.integers(-86_400, 0),
    silence=st.floats(0, 20).filter(lambda seconds: abs(seconds - 5) > 0.01),
)
def test_it_lasts_as_long_as_its_holder_lives_and_one_lease_more(
    beats: list[float], skew: int, silence: float
) -> None:
    hand, wall = Hand(), NOON + skew * SECOND
    watch = LeaseWatch(hand)
    beat = 1
    assert not watch.is_free(SALES, held(beat), "two", wall)
    for seconds in beats:
        hand.now += seconds
        assert not watch.is_free(SALES, held(beat), "two", wall)
        beat += 1
        assert not watch.is_free(SALES, held(beat), "two", wall)
    hand.now += silence
    assert watch.is_free(SALES, held(beat), "two", wall) == (silence > 5)
