"""Uniform dice that neither side can choose, and that anybody can verify."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitcraps.dice import NO_LUCK, House, Roll, commitment, is_fair, mixed, roll_of

SEED = bytes(range(32))
LUCK = mixed(NO_LUCK, "ann", "seven come eleven")


def chi_square(counts: Counter[Roll], total: int) -> float:
    expected = total / 36
    pairs = [Roll(a, b) for a in range(1, 7) for b in range(1, 7)]
    assert set(counts) == set(pairs)
    return sum((counts[pair] - expected) ** 2 / expected for pair in pairs)


def test_all_36_rolls_are_as_likely_by_seed_and_by_luck() -> None:
    total = 36_000
    house = House(SEED)
    by_seed = Counter(roll_of(house.seed("g", n), LUCK) for n in range(total))
    by_luck = Counter(roll_of(SEED, mixed(LUCK, str(n))) for n in range(total))
    for counts in (by_seed, by_luck):  # 35 degrees of freedom: 99.99 % lie between
        assert 10 < chi_square(counts, total) < 75


def test_bytes_that_would_favour_low_sides_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = iter([bytes([252, 253, 254, 255] * 8), bytes([255] * 31 + [251]), bytes([6] * 32)])
    counters: list[int] = []

    def digest(key: bytes, message: bytes, name: str) -> bytes:
        assert (key, message[:-8], name) == (SEED, LUCK, "sha256")
        counters.append(int.from_bytes(message[-8:], "big"))
        return next(blocks)

    monkeypatch.setattr(hmac, "digest", digest)
    assert roll_of(SEED, LUCK) == Roll(251 % 6 + 1, 1)
    assert counters == [0, 1, 2]


def test_a_roll_as_anybody_would_compute_it() -> None:
    block = hmac.new(SEED, LUCK + bytes(8), hashlib.sha256).digest()
    first, second = [byte % 6 + 1 for byte in block if byte < 252][:2]
    assert roll_of(SEED, LUCK) == Roll(first, second)
    assert commitment(SEED) == hashlib.sha256(SEED).hexdigest()


def test_a_fair_roll_is_verified_and_a_forged_one_is_not() -> None:
    roll, promised = roll_of(SEED, LUCK), commitment(SEED)
    other = Roll(roll.first % 6 + 1, roll.second)
    assert is_fair(roll, seed=SEED, seed_hash=promised, luck=LUCK)
    assert not is_fair(other, seed=SEED, seed_hash=promised, luck=LUCK)
    assert not is_fair(roll, seed=SEED, seed_hash=commitment(bytes(32)), luck=LUCK)
    chosen = next(s for s in map(_seed, range(9_999)) if roll_of(s, LUCK).total == 7)
    assert not is_fair(roll_of(chosen, LUCK), seed=chosen, seed_hash=promised, luck=LUCK)


def _seed(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_the_house_derives_every_seed_from_its_secret() -> None:
    house = House(SEED)
    seeds = {house.seed(game, roll) for game in ("1", "11", "g") for roll in (1, 2, 11, 111)}
    assert len(seeds) == 12
    assert all(len(seed) == 32 for seed in seeds)
    assert House(SEED).seed("g", 1) == house.seed("g", 1) != House(SEED + b"!").seed("g", 1)
    with pytest.raises(ValueError, match="31 bytes"):
        House(SEED[1:])


@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_luck_depends_on_every_contribution(one: list[str], other: list[str]) -> None:
    assert (mixed(NO_LUCK, *one) == mixed(NO_LUCK, *other)) == (one == other)
    assert mixed(mixed(NO_LUCK, *one), "x") != mixed(NO_LUCK, *one)


def test_what_a_roll_is() -> None:
    assert (Roll(2, 2).total, Roll(2, 2).is_hard, Roll(1, 3).is_hard) == (4, True, False)
