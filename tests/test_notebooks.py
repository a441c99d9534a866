"""What values show of themselves in a notebook: safe, complete in itself, and of bounded size."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.notebook_gallery import Joined, gallery

from everwhen import KeyFile, NewEvent, UnknownEvent, Vault, Write, open_store
from everwhen.backends.postgres.address import Address
from everwhen.errors import DeclarationError, DecodeError
from everwhen.merging.merge_plan import MergeItem, MergePlan
from everwhen.notebooks import Table
from everwhen.state import diff
from everwhen.travel import StateAt
from everwhen.undo.undo_plan import UndoPlan
from everwhen.vocabulary.escaping import escaped
from everwhen.vocabulary.notebook_html import card, element

NAMES = {
    *(["div", "span", "bdi", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"]),
}
LARGEST = 150_000
"""Characters of an output; a notebook keeps each of them in its file."""


class Checker(HTMLParser):
    """Raises for anything but elements of ours, properly nested, without anything that acts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text = ""
        self.styles: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in NAMES, tag
        for name, value in attrs:
            assert name in {"style", "open", "scope"}, name
            if name == "style":
                self.styles.append(value or "")
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)

    def handle_pi(self, data: str) -> None:
        raise AssertionError(data)

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(data)


def checked(html: object) -> Checker:
    assert isinstance(html, str)
    assert html == escaped(html)
    html.encode()
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert len(html) < LARGEST
    return checker


def text_of(value: Any) -> str:
    return checked(value._repr_html_()).text


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    values = gallery(tmp_path_factory.mktemp("gallery"))
    store, vault = values.pop("closing")
    yield values
    store.close()
    vault.close()


SAID = {
    "store": ("casino.db", "sqlite", "main", "BetPlaced", "vault"),
    "branch": ("plan-b", "of main, from position"),
    "branches": ("branch", "plan-b"),
    "receipt": ("player-hedy@1", "written"),
    "event": ("BetPlaced", "player-hedy@2", "by hedy", "amount", "100"),
    "personal event": ("Joined", "(encrypted)"),
    "unknown event": ("Tipped", "the dealer", "[5,5,1]"),
    "events": ("position", "recorded", "2026-05-01 20:01:00 UTC", "dice=", "[3,4]"),
    "state": ("after position 5", "players", "hedy", "balance", "900"),
    "step": ("BetPlaced", "players.ada.balance", "1000", "960"),
    "steps": ("changes", "Joined"),
    "diff": ("changes", "players.ada", "dice"),
    "change": ("players.ada", "+"),
    "history": ("by", "hedy", "900", "700"),
    "written": ("1000",),
    "blame": ("players.hedy.balance", "700", "BetPlaced", "hedy"),
    "explanation": ("BetPlaced", "its conversation"),
    "divergence": ("Divergence", "players.hedy"),
    "transitions": ("holds", "doesn't hold"),
    "transition": ("The condition",),
    "what if": ("left out", "hedy"),
    "what-if step": ("What if",),
    "merge plan": ("plan-b → main", "rejected", "PlaceBet", "left below the limit", "unsettled"),
    "undo plan": ("to undo", "to append", "that can't be undone", "taken back", "depend on it"),
    "projections": ("bets", "live", "halted", "no such dice"),
    "projection": ("bets",),
}


@pytest.mark.parametrize("name", SAID)
def test_each_value_shows_itself(shown: dict[str, Any], name: str) -> None:
    text = text_of(shown[name])
    for said in SAID[name]:
        assert said in text
    assert "Lamarr" not in text or name in {"state", "diff", "change", "step"}


def test_everything_in_the_gallery_is_looked_at(shown: dict[str, Any]) -> None:
    assert shown.keys() == SAID.keys()


TEXT = st.text(alphabet=st.characters(codec=None), max_size=40) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        "\u202egnp.exe",
        "</div>",
        "&lt;",
        "\"' onload=",
        "\x1b[2J",
        "\ud800",
    ]
)


@given(TEXT)
def test_text_of_any_kind_is_shown_and_does_nothing(text: str) -> None:
    checker = checked(card(element("bdi", text)))
    assert checker.text == escaped(text)
    assert text_of(diff({"a": 1}, {"a": 1, text: text}))
    assert text_of(StateAt({text: [text, {text: text}]}, 1, 1, None, 1))


@given(name=TEXT, value=TEXT)
def test_hostile_events_are_shown_and_do_nothing(name: str, value: str) -> None:
    name = name.encode("utf-8", "replace").decode() or "x"
    value = value.encode("utf-8", "replace").decode()
    with open_store("memory:") as store:
        store.append("a-1", [UnknownEvent("Said", {name: value, "b": {"c": [value]}})])
        (event,) = store.read()
        text = text_of(event) + text_of(Table([event])) + text_of(event)
    assert escaped(msgspec.json.encode(value).decode()) in text


class Cycle:
    def __init__(self) -> None:
        self.me = self


class Raises(dict[str, int]):
    def __len__(self) -> int:
        raise ValueError("not today")


def test_a_state_of_any_size_and_shape_is_shown_in_bounds() -> None:
    large = {f"player-{n}": {"balance": n, "bets": list(range(100))} for n in range(10_000)}
    assert "… 9,950 more parts" in text_of(StateAt(large, 1, 1, None, 1))
    deep: Any = 0
    for _ in range(5_000):
        deep = [deep]
    wide = {"<" * 500 + str(n): "\u202e" * 2_000_000 for n in range(60)}
    for state in (deep, wide, Cycle(), [large] * 100, "<" * 3_000_000, b"x" * 3_000_000, None):
        text_of(StateAt(state, 1, 1, None, 1))
    assert StateAt(Raises(a=1), 1, 1, None, 1)._repr_html_() is None


def test_an_event_of_any_size_is_shown_in_bounds() -> None:
    with open_store("memory:") as store:
        store.append("a-1", [UnknownEvent("Large", {"text": "x" * 3_000_000})])
        store.append("a-1", [UnknownEvent("Wide", {f"field-{n}": "y" * 999 for n in range(9_000)})])
        large, wide = store.read()
    assert re.search(r"… 2,999,\d+ more characters", text_of(large))
    assert "… 8,950 more fields" in text_of(wide)
    assert "more" in text_of(Table([wide, large] * 1_000))


def test_plans_of_ten_thousand_rows_are_shown_in_bounds() -> None:
    with open_store("memory:") as store:
        store.append(
            "a-1", [UnknownEvent("Noted", {"n": n, "text": "z" * 500}) for n in range(900)]
        )
        events = tuple(store.read()) * 12
    items = tuple(
        MergeItem(uuid4(), 1, (event,), "Note<", "conflict", (), n % 2 == 0, "why " * 900)
        for n, event in enumerate(events)
    )
    merge = MergePlan("a", "b", 0, 9, 1, items)
    assert "… 10,750 more commits" in text_of(merge)
    writes = tuple(Write("a-1", [UnknownEvent("Noted", {"n": "w" * 999})]) for _ in events)
    undo = UndoPlan(what="undo", position=1, commit_id=uuid4(), undone=events, appended=writes)
    assert text_of(undo).count("… 10,750 more events") == 2
    assert "… 9,950 more changes" in text_of(diff({}, dict.fromkeys(range(10_000), "v" * 999)))


def test_what_is_personal_stays_out_of_notebooks_also_under_steps_of_ones_own(
    tmp_path: Path, shown: dict[str, Any]
) -> None:
    class Wrapped:
        def encode(self, name: str, version: int, event_id: str, data: bytes) -> bytes:
            return msgspec.json.encode({"hex": data.hex()})

        def decode(self, name: str, version: int, event_id: str, data: bytes) -> bytes:
            return bytes.fromhex(msgspec.json.decode(data)["hex"])

    vault = Vault(":memory:", KeyFile.create(tmp_path / "keys"))
    with vault, open_store("memory:", events=[Joined], vault=vault, steps=[Wrapped()]) as store:
        store.append("a-1", [Joined("ann", "Ann Secret")])
        store.append(
            "a-1", [UnknownEvent("Told", {"who": {"$personal": "Ann Secret", "subject": "ann"}})]
        )
        events = list(store.read())
        assert events[0].event.name == "Ann Secret"
        for event in events:
            assert "(encrypted)" in text_of(event)
            assert "Secret" not in event._repr_html_() + repr(event) + text_of(Table([event]))
        new = [Joined("ann", "Ann Secret"), NewEvent(event=Joined("ann", "Ann Secret"))]
        new.append(UnknownEvent("Told", {"who": {"$personal": "Ann Secret", "subject": "ann"}}))
        plan = UndoPlan(what="undo", position=1, commit_id=uuid4(), appended=(Write("a", new),))
        assert text_of(plan).count("(personal)") == 3
        assert "Secret" not in text_of(plan)


def test_what_cannot_be_read_says_so_in_its_place(tmp_path: Path) -> None:
    vault = Vault(":memory:", KeyFile.create(tmp_path / "keys"))
    with vault, open_store(tmp_path / "a.db", events=[Joined], vault=vault) as store:
        store.append("a-1", [Joined("ann", "Ann")])

    class Closed:
        def encode(self, name: str, version: int, event_id: str, data: bytes) -> bytes:
            return data

        def decode(self, name: str, version: int, event_id: str, data: bytes) -> bytes:
            raise DecodeError("no <key>")

    with open_store(tmp_path / "a.db", steps=[Closed()]) as store:
        (event,) = store.read()
        assert "DecodeError" in text_of(event)
        assert "no <key>" in text_of(event)
        assert "no <key>" in text_of(Table([event]))


def test_a_store_shows_no_password_and_a_closed_one_shows_itself(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    assert "closed" not in text_of(store)
    store.close()
    assert "a.db', closed" in text_of(store)
    place = Address.parsed("postgresql://ann:hunter2@db.example/shop").place
    assert "hunter2" not in place
    assert "db.example" in place


def test_a_table_takes_any_iterable_of_one_kind(shown: dict[str, Any]) -> None:
    events = [shown["event"]] * 120
    assert repr(Table(events)) == "<Table of 120 rows>"
    assert "… 70 more rows" in text_of(Table(events))
    assert "the first 50 rows" in text_of(Table(iter(events)))
    assert "120 rows" in text_of(Table(iter(events), most=200))
    assert "0 rows" in text_of(Table([]))
    with pytest.raises(DeclarationError, match="several kinds"):
        Table([shown["event"], shown["receipt"]])
    with pytest.raises(DeclarationError, match="3 has no line"):
        Table([3])


def luminance(colour: tuple[float, ...]) -> float:
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def rgb(written: str) -> tuple[float, ...]:
    return tuple(int(written[n : n + 2], 16) / 255 for n in (1, 3, 5))


MIX = re.compile(r"color-mix\(in srgb,currentColor (\d+)%,(#\w{6}|transparent)\)")
THEMES = [
    ("#000000", "#ffffff"),
    ("#212121", "#f8f8f8"),
    ("#e0e0e0", "#111111"),
    ("#d4d4d4", "#1e1e1e"),
]


def test_every_colour_is_mixed_with_that_of_the_text_and_is_legible_on_dark_and_light(
    shown: dict[str, Any],
) -> None:
    mixes: set[Any] = set()
    for value in shown.values():
        for style in checked(value._repr_html_()).styles:
            for declaration in style.split(";"):
                name, _, given_value = declaration.partition(":")
                rest = MIX.sub("", given_value)
                assert re.search(r"#|rgb|url|hsl", rest) is None
                if name == "opacity":
                    mixes.add((str(float(given_value) * 100), "transparent"))
                if name == "color":
                    mixes.add(MIX.fullmatch(given_value).groups())  # type: ignore[union-attr]
                assert not name.startswith("background")
    assert len(mixes) >= 4
    for share, tint in mixes:
        for text, ground in THEMES:
            mixed = rgb(ground if tint == "transparent" else tint)
            part = float(share) / 100
            colour = tuple(part * a + (1 - part) * b for a, b in zip(rgb(text), mixed, strict=True))
            assert contrast(colour, rgb(ground)) >= 4.5, (share, tint, text)


def test_nothing_of_it_is_loaded_before_it_is_asked_for() -> None:
    import subprocess

    program = (
        "import sys, everwhen\n"
        "with everwhen.open_store('memory:') as store:\n"
        "    store.append('a', [everwhen.UnknownEvent('A', {})])\n"
        "    event, = store.read()\n"
        "print(*[m for m in sys.modules if 'html' in m or 'notebook' in m])\n"
        "event._repr_html_()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("\n", "")
