"""Expressions: what they mean, what they read, and that nothing makes them run away."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import attrs
import immutables
import msgspec
import pytest
from cel_expr_python import cel
from hypothesis import given, settings
from hypothesis import strategies as st

from everwhen import EverwhenError, Fold, TimeMachine, open_store
from everwhen.errors import ExpressionError, MissingPartError
from everwhen.expressions import Expression, Variables
from everwhen.expressions.cel.faults import MAX_EXPRESSION_SIZE
from everwhen.expressions.cel.syntax import MAX_TEXT_CHARACTERS
from everwhen.state.read_sets import Read, looked_at, reads_of


class Suit(Enum):
    HEARTS = "hearts"
    SPADES = "spades"


class Rank(IntEnum):
    LOW = 1
    HIGH = 2


class Opaque(Enum):
    THING = object()


class Player(msgspec.Struct, frozen=True):
    balance: int
    note: str | None = None
    bets: tuple[int, ...] = ()


class Sparse(msgspec.Struct, frozen=True, rename="camel"):
    first_name: str | msgspec.UnsetType = msgspec.UNSET


@dataclasses.dataclass(frozen=True)
class Table:
    limit: Decimal
    opened: datetime
    suit: Suit = Suit.HEARTS


@attrs.frozen
class Seat:
    number: int
    _own: str = "s"


class Plain:
    def __init__(self) -> None:
        self.shown = 1
        self._hidden = 2

    def method(self) -> int:
        raise AssertionError("never called")

    @property
    def computed(self) -> int:
        raise AssertionError("never computed")


class Game(msgspec.Struct, frozen=True):
    players: Mapping[str, Player]
    round: int = 0


class Won(msgspec.Struct, frozen=True):
    player: str
    amount: int


ID = UUID("0b5c1f6e-0000-4000-8000-000000000001")
STATE = {
    "game": Game({"hedy": Player(1500, "in", (1, 2, 3)), "george": Player(-5)}, 7),
    "table": Table(Decimal("9.99"), datetime(2026, 7, 1, 20, tzinfo=UTC)),
    "seat": Seat(4),
    "plain": Plain(),
    "sparse": Sparse(),
    "by_number": {7: "seven", 8: "eight"},
    "by_id": {ID: "mine"},
    "by_pair": {("a", 1): "pair"},
    "by_suit": {Suit.HEARTS: 3, Suit.SPADES: 0},
    "by_day": {date(2026, 7, 1): 5},
    "persistent": immutables.Map({"a": 1}),
    "proxy": MappingProxyType({"a": 2}),
    "suit": Suit.SPADES,
    "rank": Rank.HIGH,
    "opaque": Opaque.THING,
    "names": frozenset({"hedy", "george"}),
    "id": ID,
    "nothing": None,
    "raw": b"\x00\xff",
    "span": timedelta(minutes=90),
    "day": date(2026, 7, 1),
    "huge": 1 << 70,
    "ratio": 0.5,
    "naive": datetime(2026, 7, 1),
    "letters": "naïve 😀",
}


def value_of(text: str, **more: Any) -> Any:
    return Expression(text)({**STATE, **more})


@pytest.mark.parametrize(
    "text",
    [
        'game.players["hedy"].balance > 1000',
        "game.players.hedy.balance == 1500 && game.round == 7",
        "game.players.hedy.bets[2] == 3",
        "game.players.george.note == null",
        "has(game.players.hedy) && !has(game.players.fred)",
        '"hedy" in game.players && !("fred" in game.players)',
        "!has(sparse.firstName) && !has(sparse.nothing)",
        "table.limit < 10.0 && table.limit == decimal('9.99') && table.limit * 2 > 19",
        "table.limit + decimal('0.01') == 10",
        "table.opened + duration('1h30m') == timestamp('2026-07-01T21:30:00Z')",
        "table.opened.getHours('Europe/Vienna') == 22 && table.opened.getHours('-01:30') == 18",
        "table.opened - timestamp('2026-07-01T18:30:00Z') == span && span.getMinutes() == 90",
        "table.suit == 'hearts' && suit == 'spades' && rank == 2 && rank + 1 == 3",
        "opaque == 'THING'",
        "seat.number == 4 && plain.shown == 1",
        "by_number[7] == 'seven' && 8 in by_number && by_number['8'] == 'eight'",
        f"by_id['{ID}'] == 'mine' && '{ID}' in by_id && id == '{ID}'",
        "by_pair[['a', 1]] == 'pair'",
        "by_suit.hearts == 3 && by_suit['spades'] == 0 && by_suit.all(s, by_suit[s] >= 0)",
        "by_day['2026-07-01'] == 5 && day < '2026-08-01'",
        "persistent.a == 1 && proxy.a == 2 && size(persistent) == 1",
        "'hedy' in names && size(names) == 2 && names.map(n, n) == ['george', 'hedy']",
        "nothing == null && raw == b'\\x00\\xff' && size(raw) == 2",
        "huge > 9223372036854775807",
        "size(letters) == 7 && letters.matches('^na.ve') && !letters.matches('[0-9]')",
        "game.players.exists(name, p, p.balance < 0) && game.players.all(n, n != '')",
        "game.players.existsOne(name, p, name == 'hedy' && p.balance == 1500)",
        "sum(game.players.transformList(n, p, p.balance)) == 1495",
        "max(game.players.transformList(n, p, p.balance)) == 1500 && min(3, 1u, 2.0) == 1u",
        "game.players.transformMap(n, p, p.balance > 0, p.balance) == {'hedy': 1500}",
        "game.players.hedy == {'balance': 1500, 'note': 'in', 'bets': [1, 2, 3]}",
        "game.players.hedy.bets.filter(b, b > 1).map(b, b * 2) == [4, 6]",
        "1 == 1.0 && 1u == 1 && true != 1 && '1' != 1 && [true] != [1] && null != false",
        "-7 / 2 == -3 && -7 % 2 == -1 && 7.0 / 2.0 == 3.5",
        "string(1) + string(2.0) + string(true) + string(span) == '12true5400s'",
        "string(table.opened) == '2026-07-01T20:00:00Z' && int(table.opened) == 1782936000",
        "type(1) == int && type(game) == map && type(table.opened) == google.protobuf.Timestamp",
        "(1 / 0 > 0) || true",
        "!(false && nothing.at.all)",
        "[1, 2].exists(x, 1 / (x - 1) > 0 || x == 2)",
        "round == 1 && .round == 1 && [5].all(round, .round == 1)",
        "int('-42') == -42 && int(-1.9) == -1 && int(1.9) == 1 && int(7u) == 7 && int(true) == 1",
        "int(timestamp('1970-01-01T00:01:00.9Z')) == 60 && int(timestamp(-1)) == -1",
        "uint('7') == 7u && uint(7.9) == 7u && uint(7u) == 7u && uint(decimal('7')) == 7u",
        "double('1.5e3') == 1500.0 && double(2) == 2.0 && double(decimal('0.5')) == 0.5",
        "decimal('1.10') == decimal(11) / 10 && decimal(decimal('2')) == 2 && -decimal(1) == -1",
        "bool('true') && bool('1') && !bool('F' == 'F' ? 'false' : '') && bool(true)",
        "bytes('ü') == b'\\xc3\\xbc' && bytes(b'x') == b'x' && string(b'\\xc3\\xbc') == 'ü'",
        "string(1.0) == '1' && string(-2.5) == '-2.5' && string(5u) == '5' && string('x') == 'x'",
        "string(true) == 'true' && string(type(1)) == 'int' && string(decimal('1.10')) == '1.10'",
        "string(timestamp('2026-07-01T22:00:00.250+02:00')) == '2026-07-01T20:00:00.25Z'",
        "string(duration('1h0.5s')) == '3600.5s' && string(duration('-90s')) == '-90s'",
        "timestamp(0) == timestamp('1970-01-01T00:00:00Z') && timestamp(timestamp(5)) > timestamp(0)",
        "duration(duration('1s')) == duration('1000ms')",
        "'abc'.startsWith('ab') && !'abc'.startsWith('bc')",
        "'abc'.endsWith('bc') && !'abc'.endsWith('ab')",
        "[1] + [2, 3] == [1, 2, 3] && 2 in [1] + [2]",
        "1.0 / 0.0 == double('inf') && -1.0 / 0.0 == double('-inf') && 0.0 / 0.0 != 0.0 / 0.0",
    ],
)
def test_what_expressions_mean(text: str) -> None:
    assert value_of(text, round=1) is True


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("game.players.hedy", STATE["game"].players["hedy"]),  # type: ignore[attr-defined]
        ("[1u, game.round]", [1, 7]),
        ("{'a': [suit]}", {"a": [Suit.SPADES]}),
        ("type(1)", "int"),
        ("decimal('0.1') + decimal(0.2)", Decimal("0.3")),
        ("uint(5)", 5),
        ("duration('1.5s')", timedelta(seconds=1.5)),
    ],
)
def test_values_come_out_as_python_has_them(text: str, wanted: Any) -> None:
    got = value_of(text)
    assert got == wanted
    assert type(got) is type(wanted)


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("", 1, "ends where something is still to come"),
        ("game.round +", 13, "ends where something is still to come"),
        ("a b", 3, "'b' is not expected here"),
        ("a and b", 3, "write && for and"),
        ("a = 1", 3, "write == to compare"),
        ("\n  'unclosed", 4, "is not expected here"),
        ("fold(1)", 5, "there is no function 'fold'"),
        ("'a'.size(1)", 9, "size() with 1 values"),
        ("contains('a', 'b')", 9, "value.contains(…)"),
        ("'a'.int()", 8, "int(value)"),
        ("all(1)", 4, "is a macro"),
        ("has(a)", 5, "has() argument must be a field selection"),
        ("x.exists(a.b, c, true)", 9, "takes two different names"),
        ("Point{x: 1}", 1, "no messages here"),
        ("99999999999999999999", 1, "invalid int literal"),
        ("'\ud800'", 2, "half a character"),
    ],
)
def test_a_text_that_cannot_be_read_says_where_and_what_helps(
    text: str, column: int, said: str
) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression(text)
    assert said in str(caught.value)
    assert caught.value.column == column


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gamer.round", "nothing is called 'gamer' here; did you mean 'game'?"),
        ("game.rond", "Game has no field 'rond'; did you mean 'round'?"),
        ("game.players.hedi.balance", "no key 'hedi'; did you mean 'hedy'?"),
        ("by_number[9]", "no key '9'; there is 7, 8"),
        ("game.players.hedy.bets[3]", "no item 3, only 3"),
        ("game.players.hedy.bets[-1]", "no item -1"),
        ("game.round * 1.5", "write double(…) around the whole number"),
        ("'a' + 1", "write string(…) around what is not a text"),
        ("table.limit * 0.5", "write decimal(…) or double(…)"),
        ("1 < 'a'", "int and string have no order"),
        ("table.opened < naive", "with a time zone and one without"),
        ("nothing.x", "null_type has no parts"),
        ("1 / 0", "division by zero"),
        ("decimal('1') / 0", "division by zero"),
        ("9223372036854775807 + 1", "more than 64 bits"),
        ("-9223372036854775808 / -1", "more than 64 bits"),
        ("-(-9223372036854775807 - 1)", "more than 64 bits"),
        ("huge + 1", "more than 64 bits"),
        ("0u - 1u", "not a uint"),
        ("int(1e30)", "more than 64 bits"),
        ("int(decimal('1e999999'))", "more than 64 bits"),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1h')", "before the year 1 or after 9999"),
        ("timestamp('yesterday')", "RFC 3339"),
        ("table.opened.getHours('../../etc/passwd')", "is not a time zone"),
        ("duration('1 hour')", "write it as 1h30m"),
        ("'a'.matches('(')", "missing )"),
        ("1 && true", "int where true or false is needed"),
        ("5 in 7", "lists, maps and sets"),
        ("size(1)", "int has no size"),
        ("{'a': 1, 'a': 2}", "twice"),
        ("{1.5: 1}", "can't be double"),
        ("max([])", "of nothing"),
        ("int('x')", "int() can't be made of 'x'"),
        ("int([])", "int() can't be made of list"),
        ("uint('-1')", "uint() can't be made of '-1'"),
        ("uint(-1.5)", "below 0"),
        ("uint(null)", "uint() can't be made of null"),
        ("double('x')", "double() can't be made of 'x'"),
        ("double(decimal('1e999'))", "too large for a double"),
        ("decimal('x')", "decimal() can't be made of 'x'"),
        ("bool('yes')", "bool() can't be made of 'yes'"),
        ("bytes(1)", "bytes() can't be made of int"),
        ("string(null)", "string() can't be made of null"),
        ("string(b'\\xff')", "not text in UTF-8"),
        ("timestamp('2026-02-30T00:00:00Z')", "RFC 3339"),
        ("duration('999999999999h')", "too long"),
    ],
)
def test_what_has_no_value_says_why(text: str, said: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        value_of(text)
    assert said in str(caught.value)
    assert "^" in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (str(again), again.column) == (str(caught.value), caught.value.column)


def test_the_caret_stands_below_what_is_wrong() -> None:
    with pytest.raises(ExpressionError) as caught:
        value_of("game.round > 0 &&\n  game.rond > 1")
    assert str(caught.value).splitlines()[1:] == ["      game.rond > 1", "          ^"]


def test_what_is_not_there_is_a_lookup_error_and_what_is_misspelt_is_not() -> None:
    for text in ("game.players.fred.balance", "game.players.hedy.bets[9]"):
        with pytest.raises(MissingPartError) as caught:
            value_of(text)
        assert isinstance(caught.value, LookupError)
        assert isinstance(caught.value, EverwhenError)
    with pytest.raises(ExpressionError) as misspelt:
        value_of("game.rounds")
    assert not isinstance(misspelt.value, LookupError)


@pytest.mark.parametrize(
    "text",
    [
        "game.__class__",
        "game.__struct_fields__",
        "plain.__dict__",
        "plain.__init__",
        "plain._hidden",
        "plain.method",
        "plain.computed",
        "seat._own",
        "seat['_own']",
        "letters.__len__",
        "letters.upper",
        "table.opened.year",
        "game.players.keys",
        "game.players.items",
        "names.pop",
        "id.hex",
        "suit.value",
        "__builtins__",
        "__import__",
        "print",
        "function.f",
        "module.path",
        "kind.mro",
    ],
)
def test_only_data_can_be_reached(text: str) -> None:
    with pytest.raises(ExpressionError):
        value_of(text, function=test_only_data_can_be_reached, module=sys, kind=Game)


@pytest.mark.parametrize(
    "text",
    [
        "plain.method()",
        "letters.upper()",
        "game.players.clear()",
        "eval('1')",
        "__import__('os')",
        "game.__init__()",
    ],
)
def test_nothing_can_be_called_but_the_functions_of_the_language(text: str) -> None:
    with pytest.raises(ExpressionError, match="there is no function"):
        Expression(text)


TEN = "[0,1,2,3,4,5,6,7,8,9]"
HOSTILE = {
    "parentheses": "(" * 4_000 + "1" + ")" * 4_000,
    "lists": "[" * 4_000 + "1" + "]" * 4_000,
    "sums": "1" + "+1" * 4_000,
    "fields": "x" + ".a" * 4_000,
    "indexes": "x" + "[0]" * 3_000,
    "conditions": "true?1:" * 1_000 + "1",
    "calls": "size(" * 1_000 + "1" + ")" * 1_000,
    "macros": "[1].all(x," * 500 + "true" + ")" * 500,
    "length": "1" + " " * MAX_TEXT_CHARACTERS,
    "long text": '"' + "a" * MAX_TEXT_CHARACTERS + '"',
    "unclosed escapes": '"' + "\\n" * 4_000,
    "quotes": "'" * 9_999,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_refused_before_they_are_evaluated(name: str) -> None:
    with pytest.raises(ExpressionError):
        Expression(HOSTILE[name])


@pytest.mark.parametrize(
    "text",
    ["!" * 9_000 + "true", "-" * 9_000 + "1", "true" + "&&true" * 1_500, "1" + "-" * 9_000 + "1"],
)
def test_long_chains_that_cost_little_are_fine(text: str) -> None:
    assert value_of(text) in (True, 1, 2)


WIDE = {f"k{i}": i for i in range(20_000)}
LONG = list(range(20_000))


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "long.all(a, long.all(b, a + b >= 0))",
        "wide.exists(a, wide.exists(b, wide[a] + wide[b] < 0))",
        "long.map(a, long.map(b, b))",
        f"{TEN}.map(a, {TEN}.map(b, {TEN}.map(c, {TEN}.map(d, {TEN}.map(e, {TEN}.map(f, {TEN}.map(g, 1)))))))",
        "long.all(a, !(0 - a - 1 in long))",
        "long.all(a, long == long)",
        "wide.all(a, wide == wide)",
        "long.exists(a, sum(long) < 0)",
        "long.map(a, long + long)",
        "long.map(a, text + text)",
        "long.filter(a, text.contains(text))",
        "long.filter(a, text.matches('(a?){50}a{50}'))",
        "text.matches('[ab]{1000}[ab]{1000}[ab]{1000}c')",
        "numbered.all(a, !('x' in numbered))",
        "['ab'].map(x, [x+x, x+x])" + ".map(x, [x, x])" * 25,
    ],
)
def test_work_without_end_is_cut_off(text: str) -> None:
    expression = Expression(text, steps=1_000_000)
    numbered = dict.fromkeys(range(20_000))
    given = {"long": LONG, "wide": WIDE, "text": "a" * 200_000, "numbered": numbered}
    with pytest.raises(ExpressionError, match="more steps than it may"):
        expression(given)


def test_cut_off_work_is_not_hidden_by_an_or() -> None:
    with pytest.raises(ExpressionError, match="more steps"):
        Expression("long.all(a, long.all(b, true)) || true", steps=1_000)({"long": LONG})


def test_looking_at_the_first_of_many_costs_one_step_each() -> None:
    text = "wide.all(a, wide.exists(b, true))"
    assert Expression(text, steps=200_000)({"wide": WIDE}) is True


@pytest.mark.slow
def test_values_cannot_grow_without_end() -> None:
    with pytest.raises(ExpressionError, match="at most 1000000 are allowed"):
        Expression("text + text")({"text": "a" * (MAX_EXPRESSION_SIZE // 2 + 1)})
    doubled = "['aaaaaaaaaaaaaaaa']" + ".map(x, x + x)" * 24
    with pytest.raises(ExpressionError, match="at most 1000000 are allowed"):
        Expression(doubled)({})
    shared = "[1]" + ".map(x, [x, x])" * 28
    with pytest.raises(ExpressionError, match="more steps"):
        Expression(shared)({})
    assert Expression(f"size({shared}) == 1")({}) is True


def test_regular_expressions_take_linear_time() -> None:
    assert value_of("t.matches('^(a+)+$')", t="a" * 5_000 + "!") is False
    with pytest.raises(ExpressionError, match="at most 500"):
        value_of("t.matches(t)", t="a" * 501)
    with pytest.raises(ExpressionError, match="not one that RE2 accepts"):
        value_of("'a'.matches('((a{1000}){1000}){1000}')")
    with pytest.raises(ExpressionError, match="half a character"):
        value_of("'a'.matches(x)", x="\ud800")


def test_values_that_hold_themselves_are_cut_off() -> None:
    looped: list[Any] = []
    looped.append(looped)
    other: list[Any] = []
    other.append(other)
    with pytest.raises(ExpressionError, match="nested more than"):
        value_of("a == b", a=looped, b=other)


def test_the_same_state_takes_the_same_steps() -> None:
    text = "long.all(a, a >= 0)"
    lowest = next(n for n in range(60_000, 200_000, 1_000) if _passes(text, n))
    assert _passes(text, lowest)
    assert not _passes(text, lowest - 1_000)


def _passes(text: str, steps: int) -> bool:
    try:
        return bool(Expression(text, steps=steps)({"long": LONG}))
    except ExpressionError:
        return False


def test_a_condition_is_true_or_false() -> None:
    assert Expression("game.round > 3").condition(STATE) is True
    with pytest.raises(ExpressionError, match="no condition: its value is of type int"):
        Expression("game.round").condition(STATE)


def test_without_the_parser_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['cel_expr_python'] = None\n"
        "from everwhen.errors import UnsupportedError; from everwhen.expressions import Expression\n"
        "try: Expression('1')\n"
        "except UnsupportedError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install 'everwhen[expressions]'" in done.stdout


def test_names_are_the_free_ones() -> None:
    text = "a.b[c].all(x, x > d) && [1].map(y, y + int(e)) == f && type(g) == string"
    assert Expression(text).names == {"a", "c", "d", "e", "f", "g"}
    assert Expression("players.all(k, v, v > k)").names == {"players"}


def test_variables_of_a_state_and_an_event() -> None:
    game: Fold[dict[str, int]] = Fold("game", dict, copy=dict.copy)

    @game.on(Won)
    def _(state: dict[str, int], event: Won) -> dict[str, int]:
        return {**state, event.player: state.get(event.player, 0) + event.amount}

    with open_store("memory:", events=[Won]) as store:
        store.append("game-1", [Won("hedy", 5), Won("hedy", 7)])
        first, second = store.read("game-1")
    before = game.state_of([first])
    names = Variables(game.evolve(before, second), event=second, before=before)
    for text in (
        "hedy == 12 && state.hedy == 12 && before.hedy == 5",
        "event.amount == 7 && event.player == 'hedy' && hedy - before.hedy == event.amount",
        "recorded.type == 'Won' && recorded.stream == 'game-1' && recorded.version == 2",
        "recorded.time <= recorded.occurred && recorded.user == null && size(recorded.tags) == 0",
    ):
        assert Expression(text).condition(names) is True
    with pytest.raises(ExpressionError, match="nothing is called 'event' here"):
        Expression("event.amount")(Variables({"hedy": 1}))
    assert set(names) == {"state", "before", "event", "recorded", "hedy"}
    assert len(Variables(Game({}))) == 3


def test_names_of_our_own_win_over_the_state_and_its_parts_stay_within_reach() -> None:
    names = Variables({"event": 1, "state": 2, "type": 3, "_own": 4})
    assert Expression("state.event == 1 && state.state == 2 && type == 3")(names) is True
    with pytest.raises(ExpressionError):
        Expression("_own")(names)


def test_what_was_read() -> None:
    game = STATE["game"]
    value, reads = Expression('players["hedy"].balance > 1000 && round > 0').evaluate_tracked(game)
    assert value is True
    assert {read.path for read in reads if read.whole} == {
        ("players", "hedy", "balance"),
        ("round",),
    }
    _, reads = Expression("has(players.fred)").evaluate_tracked(game)
    assert Read(("players", "fred")) in reads
    assert not any(read.whole for read in reads if read.path == ("players",))
    for text in ("players.all(k, true)", "size(players) > 0", "players == {}", "[players]"):
        _, reads = Expression(text).evaluate_tracked(game)
        assert Read(("players",)) in reads, text
    value, reads = Expression("players.hedy").evaluate_tracked(game)
    assert type(value) is Player
    assert Read(("players", "hedy")) in reads
    found, reads = Expression(f"by_id['{ID}']").evaluate_tracked(STATE)
    assert (found, Read(("by_id", ID)) in reads) == ("mine", True)


def test_a_time_machine_takes_an_expression_as_its_condition() -> None:
    game: Fold[dict[str, int]] = Fold("game", dict, copy=dict.copy)

    @game.on(Won)
    def _(state: dict[str, int], event: Won) -> dict[str, int]:
        return {**state, event.player: state.get(event.player, 0) + event.amount}

    rich = Expression("hedy > 10 && !has(state.george)")
    assert {read.path for read in reads_of(rich.holds_for, {"hedy": 3})} == {(), ("hedy",)}
    with open_store("memory:", events=[Won]) as store:
        for player, amount in [("fred", 50), ("hedy", 8), ("hedy", 5), ("george", 1), ("hedy", 1)]:
            store.append("game-1", [Won(player, amount)])
        machine = TimeMachine(store, game)
        for tracked in (True, False):
            found = machine.find_when(rich.holds_for, tracked=tracked)
            assert found is not None
            assert (found.position, found.state) == (3, {"fred": 50, "hedy": 13})
        with pytest.raises(ExpressionError):
            machine.find_when(Expression("fred > 10 && fred > 'a'").holds_for)


AMOUNTS = st.integers(-3, 3)
PLAYERS = st.builds(
    Player, AMOUNTS, st.sampled_from([None, "a", "b"]), st.lists(AMOUNTS, max_size=2).map(tuple)
)
GAMES = st.builds(
    Game, st.dictionaries(st.sampled_from(["ann", "bob", "cy"]), PLAYERS, max_size=3), AMOUNTS
)
ATOMS = st.sampled_from([
    "players.ann.balance", "players['bob'].balance", "round", "players.cy.bets[0]", "size(players)",
    "size(players.ann.bets)", "state.round", "1", "0", "sum(players.transformList(k, p, p.balance))",
    "players.ann.note", "players.bob", "players", "state", "type(players.cy.note)",
])  # fmt: skip
CONDITIONS = st.recursive(
    st.one_of(
        st.tuples(ATOMS, st.sampled_from(["<", "==", "!=", ">="]), ATOMS).map(" ".join),
        st.sampled_from([
            "has(players.ann)", "'bob' in players", "players.all(k, players[k].balance > 0)",
            "players.exists(k, p, p.note == 'a')", "1 in players.ann.bets",
            "players.ann.bets.exists(b, b == round)", "players.ann == players.bob",
        ]),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda p: f"({' '.join(p)})"),
        inner.map(lambda text: f"!({text})"),
        st.tuples(inner, inner, inner).map(lambda p: f"({p[0]} ? {p[1]} : {p[2]})"),
    ),
    max_leaves=4,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(CONDITIONS, GAMES, GAMES)
def test_the_answer_rests_on_what_was_read_and_on_nothing_else(
    text: str, state: Game, other: Game
) -> None:
    expression = Expression(text)
    try:
        value, reads = expression.evaluate_tracked(state)
    except ExpressionError:
        with pytest.raises(ExpressionError):
            expression(Variables(state))
        return
    assert value == expression(Variables(state))
    for changed in _mixes(state, other):
        if all(_same(looked_at(read)(state), looked_at(read)(changed)) for read in reads):
            assert expression(Variables(changed)) == value


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _mixes(state: Game, other: Game) -> list[Game]:
    """States between the two, part by part."""
    mixes = [other, Game(state.players, other.round), Game(other.players, state.round)]
    for name, player in other.players.items():
        mixes.append(Game({**state.players, name: player}, state.round))
        mine = state.players.get(name)
        if mine is not None:
            for field in ("balance", "note", "bets"):
                changed = msgspec.structs.replace(mine, **{field: getattr(player, field)})
                mixes.append(Game({**state.players, name: changed}, state.round))
    mixes.extend(
        Game({k: v for k, v in state.players.items() if k != name}, state.round)
        for name in state.players
    )
    return mixes


LEAVES = st.one_of(
    st.integers(-5, 5).map(str),
    st.sampled_from([
        "9223372036854775807", "2.5", "-0.0", "1.0", "2u", "'a'", "'ab'", "''", "b'a'", "true", "false",
        "null", "x", "s", "l", "m", "m.a", "m['b']", "l[0]", "l[7]", "duration('90s')", "[]", "{}",
        "timestamp('2026-07-01T20:00:00Z')", "int", "string",
    ]),
)  # fmt: skip
BINARY = ["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in"]
UNARY = ["size", "int", "double", "string", "uint", "bool", "type", "bytes"]
TEXTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(BINARY), inner).map(lambda p: f"({' '.join(p)})"),
        st.tuples(st.sampled_from(UNARY), inner).map(lambda p: f"{p[0]}({p[1]})"),
        inner.map(lambda text: f"!({text})"),
        inner.map(lambda text: f"-({text})"),
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.tuples(inner, inner).map(lambda p: f"{{'k': {p[0]}, 2: {p[1]}}}"),
        st.tuples(inner, inner, inner).map(lambda p: f"({p[0]} ? {p[1]} : {p[2]})"),
        st.tuples(
            inner, st.sampled_from(["all", "exists", "exists_one", "map", "filter"]), inner
        ).map(lambda p: f"({p[0]}).{p[1]}(v, {p[2].replace('x', 'v')})"),
        st.tuples(
            inner, st.sampled_from(["contains", "startsWith", "endsWith", "matches"]), inner
        ).map(lambda p: f"({p[0]}).{p[1]}({p[2]})"),
        st.tuples(inner, inner).map(lambda p: f"({p[0]})[{p[1]}]"),
        inner.map(lambda text: f"has(({text}).a)"),
    ),
    max_leaves=6,
)
GIVEN: dict[str, Any] = {"x": 3, "s": "abc", "l": [1, 2.5, "a", None, [1]], "m": {"a": 1, "b": [2]}}
TYPES = {
    "null": "null_type",
    "timestamp": "google.protobuf.Timestamp",
    "duration": "google.protobuf.Duration",
}
GOOGLE = cel.NewEnv(variables=dict.fromkeys(GIVEN, cel.Type.DYN))


@settings(max_examples=500, deadline=None)
@given(TEXTS)
def test_google_says_the_same(text: str) -> None:
    try:
        reference = GOOGLE.compile(text, disable_check=True).eval(data=GIVEN)
    except RuntimeError:
        return
    try:
        ours = Expression(text)(GIVEN)
    except ExpressionError as error:
        ours = error
    if reference.type().name() == "*error*" or reference.type() == cel.Type.ERROR:
        assert isinstance(ours, ExpressionError), text
    else:
        assert _plain(ours) == _plain(reference.plain_value()), text


def _plain(value: Any) -> Any:
    """Told apart by type, where Python has numbers and truth values equal; NaN is itself."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, cel.Type):
        return "str", TYPES.get(name := value.name().lower().split("<")[0], name)
    if isinstance(value, bytearray):
        return "bytes", bytes(value)
    if isinstance(value, int | float):
        return type(value).__name__, repr(value)
    return type(value).__name__, value


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30) | st.text(alphabet="ax1.()[]{}'\"+-&|?:,!<>= \\\n", max_size=30))
def test_any_text_is_an_expression_or_an_error_of_ours(text: str) -> None:
    found = _outcome(text)
    if isinstance(found, ExpressionError):
        assert found.text == text
        assert found.column is None or 1 <= found.column <= len(text) + 1


def _outcome(text: str) -> Any:
    try:
        return Expression(text)({"a": 1, "x": {"a": [1]}})
    except ExpressionError as error:
        return error


ASKED = [
    "round > 3",
    "players.hedy.balance >= 10 && !has(players.george)",
    "players.fred.balance > 0",
    "state.round == 7 || nothing",
    "round",
    "rounds > 1",
    "letters.all(l, l < 'c')",
    "state == null",
    "state",
    "event == 1",
    "self > 1",
]


class Round(msgspec.Struct, frozen=True):
    round: Any = msgspec.UNSET
    players: dict[str, Player] = {}
    letters: list[str] | None = None
    event: int = 1


STATES: list[Any] = [
    Round(4, {"hedy": Player(10)}, ["a", "b"]),
    {"round": 7, "players": {"fred": Player(1), "george": None}, "self": 2},
    Round(),
    True,
    {"rounds": 2, "state": 3},
    None,
    Plain(),
    Round(3, {}, ["d"]),
]


@pytest.mark.parametrize("text", ASKED)
def test_many_states_in_a_row_get_the_answers_that_each_gets_alone(text: str) -> None:
    expression = Expression(text)
    ask = expression.asked_of_states()
    for state in STATES * 2:
        assert _answer(ask, state) == _answer(expression.holds_for, state), state


def _answer(ask: Any, state: Any) -> Any:
    try:
        return ask(state)
    except LookupError:
        return LookupError
    except ExpressionError as error:
        return str(error)


def test_work_is_counted_anew_for_each_state() -> None:
    ask = Expression("letters.all(l, l < 'c')", steps=20).asked_of_states()
    for _ in range(10):
        assert ask({"letters": ["a", "b"]})
    with pytest.raises(ExpressionError, match="more steps"):
        ask({"letters": ["a"] * 20})
    assert ask({"letters": ["a", "b"]})
