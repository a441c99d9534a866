"""Diffs: applied with an independent library, they lead from the one value to the other."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs
import immutables
import jsonpatch
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everwhen.errors import InvalidPathError
from everwhen.state.differences import Change, diff
from everwhen.state.paths import MISSING, nearest, part_of, path_of, plain, text_of, value_at


class Point(msgspec.Struct, frozen=True):
    x: Any = 0
    y: Any = 0


class Renamed(msgspec.Struct, rename="camel", tag="renamed"):
    first_name: Any
    last_name: Any = None


class Sparse(msgspec.Struct, omit_defaults=True):
    a: Any = 0
    b: Any = 0


class Row(msgspec.Struct, array_like=True):
    a: Any = 0
    b: Any = 0


class Patchy(msgspec.Struct):
    a: Any = msgspec.UNSET
    b: Any = msgspec.UNSET


@dataclasses.dataclass
class Account:
    owner: Any
    _secret: Any = None


@attrs.define
class Box:
    inside: Any


class Object:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.text("ab/~.0", max_size=3)
    | st.decimals(0, 2, places=1)
    | st.frozensets(st.integers(0, 3), max_size=3)
)
KEYS = st.text("ab/~.0", max_size=2)


def _containers(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    two = st.tuples(parts, parts)
    dicts = st.dictionaries(KEYS, parts, max_size=4)
    return (
        st.lists(parts, max_size=4)
        | st.tuples(parts, parts)
        | dicts
        | dicts.map(immutables.Map)
        | st.dictionaries(st.integers(0, 5), parts, max_size=3)
        | two.map(lambda ab: Point(*ab))
        | two.map(lambda ab: Renamed(*ab))
        | two.map(lambda ab: Sparse(*ab))
        | two.map(lambda ab: Row(*ab))
        | parts.map(Patchy)
        | two.map(lambda ab: Account(*ab))
        | parts.map(Box)
        | st.dictionaries(st.sampled_from(["p", "q", "r"]), parts).map(lambda d: Object(**d))
    )


STATES = st.recursive(LEAVES, _containers, max_leaves=25)


@given(STATES, STATES)
def test_a_patch_leads_from_the_one_to_the_other(before: Any, after: Any) -> None:
    changes = diff(before, after)
    patched = jsonpatch.apply_patch(_json(before), changes.patch())
    assert _json(patched) == _json(after)


def _json(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(plain(value, ordered=True)))


@given(STATES)
def test_nothing_differs_from_itself(state: Any) -> None:
    assert not diff(state, state)
    assert not diff(state, msgspec.structs.replace(state) if isinstance(state, Point) else state)


@given(STATES, STATES)
def test_each_change_tells_both_values(before: Any, after: Any) -> None:
    for change in diff(before, after):
        removed = change.kind == "removed"
        if not removed and not any(isinstance(key, int) for key in change.path):
            assert _json(value_at(after, change.path)) == _json(change.after)
        if change.kind == "changed":
            assert _json(value_at(before, change.path)) == _json(change.before)


def test_changes_are_told_by_path() -> None:
    before = {"hedy": Point(1, [1, 2]), "ada": 7}
    after = {"hedy": Point(1, [1, 3, 4]), "mary": 8}
    assert list(diff(before, after)) == [
        Change(("ada",), 7, MISSING),
        Change(("hedy", "y", 1), 2, 3),
        Change(("hedy", "y", 2), MISSING, 4),
        Change(("mary",), MISSING, 8),
    ]
    assert str(diff(before, after)).splitlines() == [
        "ada: - 7",
        "hedy.y[1]: 2 → 3",
        "hedy.y[2]: + 4",
        "mary: + 8",
    ]


def test_an_item_that_left_a_queue_is_one_change() -> None:
    assert list(diff([1, 2, 3, 4], [2, 3, 4])) == [Change((0,), 1, MISSING)]
    assert list(diff([1, 2, 4], [1, 2, 3, 4])) == [Change((2,), MISSING, 3)]


def test_what_is_shared_is_not_looked_into() -> None:
    class Watched(dict[str, int]):
        looked = False

        def __eq__(self, other: object) -> bool:
            Watched.looked = True
            return super().__eq__(other)

        def __iter__(self) -> Any:
            Watched.looked = True
            return super().__iter__()

        __hash__ = None

    shared = Watched(a=1)
    assert list(diff({"shared": shared, "own": 1}, {"shared": shared, "own": 2}))
    assert not Watched.looked


def test_not_a_number_is_itself() -> None:
    assert not diff({"a": float("nan")}, {"a": float("nan")})


def test_what_a_diff_touches() -> None:
    changes = diff({"a": {"b": 1}}, {"a": {"b": 2}})
    assert changes.touches(("a",))
    assert changes.touches(("a", "b"))
    assert changes.touches(("a", "b", "c"))
    assert changes.touches(())
    assert not changes.touches(("a", "c"))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ()),
        ("players.hedy.balance", ("players", "hedy", "balance")),
        ("players[7].bets[-1]", ("players", 7, "bets", -1)),
        ('players["J. R."].balance', ("players", "J. R.", "balance")),
        ("players['a]b']", ("players", "a]b")),
        ("/players/a~1b/m~0n/0", ("players", "a/b", "m~n", "0")),
        (r'x["a\"b\\"]', ("x", 'a"b\\')),
        ("game-7.point", ("game-7", "point")),
    ],
)
def test_a_path_is_read(text: str, path: tuple[Any, ...]) -> None:
    assert path_of(text) == path
    if not text.startswith("/"):
        assert path_of(text_of(path)) == path


@pytest.mark.parametrize("text", ["a..b", "a[", "a[b]", 'a["b', "a b", "a[1]b", "a.", "." * 5])
def test_a_path_that_cannot_be_read_says_where(text: str) -> None:
    with pytest.raises(InvalidPathError, match="column"):
        path_of(text)


def test_a_path_has_an_end() -> None:
    with pytest.raises(InvalidPathError, match="more than 100 steps"):
        path_of(".".join("a" * 200))


@given(st.lists(st.text(max_size=4) | st.integers(), max_size=5).map(tuple))
def test_text_of_a_path_reads_back(path: tuple[Any, ...]) -> None:
    back = path_of(text_of(path))
    assert back == path


def test_a_text_finds_what_it_is_the_text_of() -> None:
    key = UUID(int=7)
    assert value_at({7: "seven"}, ("7",)) == "seven"
    assert value_at({key: "by id"}, (str(key),)) == "by id"
    assert value_at({Decimal("1.5"): 1}, ("1.5",)) == 1
    assert value_at([1, [2]], ("1", "0")) == 2
    assert value_at([1, 2], (-1,)) == 2
    assert value_at(Renamed("Ada"), ("firstName",)) == "Ada"
    assert value_at(Account(1, 2), ("_secret",)) == 2


@pytest.mark.parametrize(
    ("state", "key"),
    [
        ({}, "a"),
        ({"a": 1}, []),
        ([1], 1),
        ([1], -2),
        ([1], "x"),
        ([1], "٣"),
        (Point(), "__class__"),
        (Point(), "z"),
        (Object(a=1), "__init__"),
        (Object(_a=1), "_a"),
        (7, "real"),
        ("text", 0),
        (None, "a"),
        (frozenset({1}), 0),
    ],
)
def test_what_is_not_there_is_missing(state: Any, key: Any) -> None:
    assert part_of(state, key) is MISSING


def test_how_far_a_path_leads() -> None:
    assert nearest({"a": {"b": 1, "c": 2}}, ("a", "x", "y")) == (("a",), ["b", "c"])
    assert nearest(Point(), ()) == ((), ["x", "y"])
