"""The page over time: many steps, quick ones, states with numbers as keys, and what it copies."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import Struct
from tests.patience import PATIENCE_SECONDS
from tests.web.serving import served, store_app
from tests.web.test_page import Watched, browser, pytestmark

from everwhen import (
    CommandBus,
    Decisions,
    Event,
    Fold,
    StateOf,
    UnknownEvent,
    open_store,
)
from everwhen.cli import main
from everwhen.testing import Scenario

__all__ = ["browser", "pytestmark"]
MANY: Final = 1_100
_PRESS: Final = """async ([key, times]) => {
    for (let left = times; left > 0; left--) {
        document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        if (left % 5 === 0) await new Promise((done) => setTimeout(done));
    }
}"""
_SCRUB: Final = """async (times) => {
    const slider = document.querySelector(".scrubber input");
    for (let left = times; left > 0; left--) {
        slider.value = 26 + times - left + 1;
        slider.dispatchEvent(new InputEvent("input", { bubbles: true }));
        await new Promise((done) => setTimeout(done));
    }
}"""


class Ticked(Event):
    name: str = "tick — “tock” \\ 'n' 🕰"
    at: float | None = None


class Wind(Struct, frozen=True):
    clock: str


class Placed(Event):
    amount: int
    fields: dict[str, str]
    name: str = "text"
    note: str = "text"
    place: str = "text"
    reason: str = "text"


ticks: Final = Fold("ticks", lambda: 0)
ticks.on(Ticked)(lambda state, event: state + 1)
decisions: Final = Decisions()


@decisions.on(Wind, StateOf(ticks, lambda command: f"clock-{command.clock}"))
def wind(command: Wind, state: int) -> list[Event]:
    return [Ticked(at=state / 2)]


def _numbered(state: dict[int, Any], event: Placed) -> dict[int, Any]:
    number = event.amount
    return {**state, number % 9: {"last": number, "by": {number % 2: number}}}


numbers: Final = Fold[dict[int, Any]]("numbers", dict)
numbers.on(Placed)(_numbered)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("steps") / "shop.db"
    with open_store(found, events=[Ticked, Placed], durable=False) as store:
        bus = CommandBus(store, decisions)
        for _ in range(25):
            bus.send(Wind("1"))
        for number in range(1, MANY + 1):
            store.append(f"order-{number % 20}", [Placed(amount=number, fields={"field 1": "x"})])
        store.append("odd", [UnknownEvent("odd type", {'it\'s "so"': None})])
    return found


@pytest.fixture(scope="module")
def url(path: Path) -> Iterator[str]:
    with served(
        store_app(path, folds={"numbers": numbers}, opened={"events": [Ticked, Placed]})
    ) as found:
        yield found


@pytest.fixture
def watched(browser: Any, url: str) -> Iterator[Watched]:
    with closing(Watched(browser, url)) as found:
        found.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield found
        assert found.faults == []


def press(page: Any, key: str, times: int) -> None:
    page.evaluate(_PRESS, [key, times])


def copied(page: Any, button: str) -> str:
    """What a button copies."""
    page.evaluate("navigator.clipboard.writeText('')")
    page.click(button)
    page.wait_for_selector(".toast.is-done")
    text: str = page.evaluate("navigator.clipboard.readText()")
    page.click(".toast button")
    return text


@pytest.mark.parametrize("view", ["compact", "commits", "full", "lanes"])
def test_a_thousand_steps_leave_a_small_page(watched: Watched, view: str) -> None:
    page = watched.open(f"/s/main/events?at=26&view={view}")
    watched.waits_for("26")
    press(page, "j", 1_000)
    watched.waits_for("1,026")
    assert page.evaluate("document.querySelectorAll('*').length") < 3_000
    page.wait_for_url(re.compile("at=1026"))


def held_by(page: Any) -> dict[str, float]:
    """What a page holds, once what it doesn't need was collected: bytes, nodes and listeners."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable")
    devtools.send("HeapProfiler.collectGarbage")
    metrics = devtools.send("Performance.getMetrics")["metrics"]
    devtools.detach()
    return {one["name"]: one["value"] for one in metrics}


def comes_to_rest(page: Any) -> None:
    """Wait until the page stays where it is: steps in a state are taken one after another."""
    place = None
    while place != (place := page.input_value("#goto")):
        time.sleep(1)


@pytest.mark.parametrize("address", ["timeline?at=26", "state?at=26&fold=numbers&category=order"])
def test_a_thousand_steps_hold_on_to_nothing(watched: Watched, address: str) -> None:
    page = watched.open(f"/s/main/{address}")
    slowly = _PRESS.replace("left % 5 === 0", "true")
    page.evaluate(slowly, ["j", 500])  # these fill what is remembered of answers
    comes_to_rest(page)
    looks = [held_by(page) for _ in range(5)]
    before = {name: max(look[name] for look in looks) for name in looks[0]}
    page.evaluate(slowly, ["j", 500])
    page.evaluate(slowly, ["k", 500])
    page.evaluate(_SCRUB, 500)
    comes_to_rest(page)
    most = {"Nodes": 10_000, "JSEventListeners": 500, "JSHeapUsedSize": 10e6}
    end = time.monotonic() + PATIENCE_SECONDS
    while True:  # what is collected later is no leak, which would be five times as much
        after = held_by(page)
        if all(after[name] < before[name] + more for name, more in most.items()):
            return
        assert time.monotonic() < end, (before, after)
        time.sleep(0.5)


def test_each_of_two_quick_presses_is_a_step_of_the_state(watched: Watched) -> None:
    page = watched.open("/s/main/state?stream=order-3&at=28")
    page.wait_for_selector(".around")
    page.evaluate(_PRESS.replace("left % 5 === 0", "false"), ["j", 3])
    page.wait_for_url(re.compile("at=88"))
    page.evaluate(_PRESS.replace("left % 5 === 0", "false"), ["k", 2])
    page.wait_for_url(re.compile("at=48"))


def test_what_changed_is_marked_under_numbers_too(watched: Watched) -> None:
    page = watched.open("/s/main/state?fold=numbers&category=order&at=100")
    page.wait_for_selector(".changes li")
    page.wait_for_selector(".leaf.changed")
    assert "last" in page.locator(".leaf.changed").all_inner_texts()[0]
    page.locator(".changes button").first.click()
    page.wait_for_selector(".tree [aria-selected=true].changed")
    page.click(".tree .leaf >> text=last >> nth=0")
    page.keyboard.press("b")
    page.wait_for_selector(".blame .what.on")


def test_a_copied_test_runs_and_can_fail(watched: Watched) -> None:
    for at in (1, 4, 25):
        page = watched.open(f"/s/main/timeline?at={at}")
        watched.waits_for(str(at))
        text = copied(page, "text=as test")
        assert text.count("Ticked(") == min(20, at - 1) + 1
        names = {"Ticked": Ticked, "Wind": Wind}
        exec(text, names)  # noqa: S102 (it is what this is about)
        example: Any = names[f"test_ticked_at_{at}"]
        if at < 25:  # of the last one, not all that was before is given
            example(Scenario(decisions, events=[Ticked]))
        with pytest.raises(AssertionError):
            example(Scenario(decisions, events=[Ticked]).given("clock-1", Ticked()))
    page = watched.open("/s/main/timeline")
    page.wait_for_selector("text=odd type")
    text = copied(page, "text=as test")
    compile(text, "copied", "exec")
    assert 'UnknownEvent("odd type", {"it\'s \\"so\\"": None})' in text


COMMANDS: Final = {
    "timeline?at=30": "Placed",
    "events?at=1000&type=Placed&stream=order-3": "Placed",
    "state?at=500&stream=order-3": "text",
    "state?at=500&stream=order-3&pin=400&view=compare": "amount",
    "state?at=500&stream=order-3&path=data.amount&view=blame": "Placed",
    'state?at=500&stream=order-3&path=data.fields%5B"field+1"%5D&view=watch': "x",
    "find?at=50&stream=order-3&find=data.amount+%3E+40+%26%26+type+%3D%3D+'Placed'": "68\t",
}


def test_copied_commands_run(
    watched: Watched, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for address, expected in COMMANDS.items():
        page = watched.open(f"/s/main/{address}")
        where = "main .side" if "view=" in address else "main"
        command = copied(page, f"{where} >> text=as command >> nth=0")
        words = [str(path) if word == "STORE" else word for word in shlex.split(command)]
        assert words[0] == "everwhen"
        capfd.readouterr()
        assert main(words[1:]) == 0, command
        assert expected in capfd.readouterr().out, command
