"""The page in a real browser, over a real server: by address, by keyboard, with hostile data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from tests.network_changes import network_kept
from tests.patience import PATIENCE_SECONDS
from tests.web.serving import served, store_app

from everwhen import UnknownEvent, open_store

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM: Final = Path("/usr/bin/chromium")
expect: Final = api.expect
"""Looks until it holds, from outside: the page's policy forbids waiting by a script of one's own."""
expect.set_options(timeout=PATIENCE_SECONDS * 1_000)
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no /usr/bin/chromium")

AXE: Final = (Path(__file__).parent / "vendor/axe.js").read_text()
ONLY_IN: Final = {"dark": (), "light": ("color-contrast",)}
"""Rules by colour scheme: colours are all that differs between the two."""
HOSTILE: Final = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "javascript:alert(3)",
    "\u202egnp.exe\u202c \x1b[31mred\x00 \u200b",
    "'; --\"`${alert(4)}",
)
EVENTS: Final = 400


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("page") / "shop.db"
    with open_store(path) as store:
        for number in range(1, EVENTS - len(HOSTILE) + 1):
            data = {"amount": number, "customer": {"name": f"Ada {number % 7}"}, "paid": number > 9}
            store.append(f"order-{number % 20}", [UnknownEvent("Placed", data)])
        for text in HOSTILE:
            name = re.sub(r"[\x00-\x1f]", "", text)  # names can't have any
            store.append(f"bad-{name}", [UnknownEvent(name, {text: text, "list": [text]})])
        store.create_branch("second", at=100)
    with served(store_app(path)) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with network_kept(), api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield found
        found.close()


class Watched:
    """A page, and what must not happen on it: dialogs, violations of the policy, script errors."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.url = url
        self.faults: list[str] = []
        self.page = browser.new_page(viewport={"width": 1440, "height": 900}, **options)
        self.page.set_default_timeout(PATIENCE_SECONDS * 1_000)
        self.page.on("dialog", self._asked)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._heard)

    def _asked(self, dialog: Any) -> None:
        self.faults.append(dialog.message)
        dialog.dismiss()

    def _heard(self, message: Any) -> None:
        if "Content Security Policy" in message.text or "Refused to" in message.text:
            self.faults.append(message.text)

    def close(self) -> None:
        self.page.close()

    def open(self, path: str) -> Any:
        self.page.goto(self.url + path)
        self.page.wait_for_selector("main.screen")
        return self.page

    def violations(
        self, address: str, expected: str, only: Sequence[str] = (), state: str = "visible"
    ) -> list[tuple[str, ...]]:
        """What axe-core finds at an address, once what is expected is there, by only these rules.

        Each is the address, the rule and the element.
        """
        page = self.open(f"/s/main/{address}")
        page.wait_for_selector(expected, state=state)
        page.evaluate(AXE)
        rules = {"resultTypes": ["violations"], **({"runOnly": [*only]} if only else {})}
        found = page.evaluate("(rules) => axe.run(document, rules)", rules)
        return [
            (address, one["id"], node["html"][:200])
            for one in found["violations"]
            for node in one["nodes"]
        ]

    def waits_for(self, position: str) -> None:
        expect(self.page.locator(".events [aria-selected=true] .position")).to_have_text(position)


@pytest.fixture
def watched(browser: Any, url: str) -> Iterator[Watched]:
    found = Watched(browser, url)
    yield found
    found.page.close()
    assert found.faults == []


SCREENS: Final = {
    "timeline?at=50": ".events [aria-selected=true]",
    "events?at=50&type=Placed&view=commits": ".events .row.alone",
    "events?at=50&view=lanes": ".lane-row",
    "events?at=50&view=full": ".row.full",
    "state?at=50&stream=order-10": ".tree [role=treeitem]",
    "state?at=50&stream=order-10&pin=10&view=compare": ".changes li",
    "state?at=50&stream=order-10&path=data.amount&view=blame": ".blame li",
    "state?at=50&stream=order-10&path=data.amount&view=watch": ".sparkline",
    "find?at=50&stream=order-10": ".examples button",
}


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_each_view_opens_by_its_address_and_is_accessible(
    browser: Any, url: str, scheme: str
) -> None:
    with closing(Watched(browser, url, color_scheme=scheme)) as watched:
        _is_accessible(watched, scheme)


def _is_accessible(watched: Watched, scheme: str) -> None:
    faults: list[tuple[str, ...]] = []
    for address, expected in SCREENS.items():
        faults += watched.violations(address, expected, ONLY_IN[scheme])
        assert watched.page.locator("h1").count() == 1, address
    assert faults == [], faults[:9]
    assert watched.faults == []


def test_the_keyboard_is_enough(watched: Watched) -> None:
    page = watched.open("/s/main/timeline?at=200")
    watched.waits_for("200")
    page.keyboard.press("j")
    page.keyboard.press("j")
    watched.waits_for("202")
    page.keyboard.press("k")
    watched.waits_for("201")
    page.keyboard.press("End")
    watched.waits_for(str(EVENTS))
    page.keyboard.press("g")
    page.keyboard.type("150\n")
    watched.waits_for("150")
    page.keyboard.press("p")
    page.wait_for_url(re.compile("pin=150"))
    page.keyboard.press("/")
    page.keyboard.type("stream:order-7 event.amount < 100\n")
    page.wait_for_selector(".chip")
    assert [chip.split("\n")[-1] for chip in page.locator(".chip").all_inner_texts()] == [
        "order-7",
        "event.amount < 100",
    ]
    page.keyboard.press("Escape")
    page.keyboard.press("3")
    page.wait_for_selector(".tree [role=treeitem]")
    page.focus(".tree")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(".tree [aria-selected=true]")
    assert page.locator(".tree").get_attribute("aria-activedescendant")
    page.keyboard.press("b")
    page.wait_for_selector(".blame li")
    page.keyboard.press("?")
    page.wait_for_selector("dialog.help[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.keyboard.press("Control+k")
    page.keyboard.type("show events")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/s/main/events"))


def test_back_and_forward_lead_through_views(watched: Watched) -> None:
    page = watched.open("/s/main/timeline?at=120")
    watched.waits_for("120")
    page.click("nav >> text=State")
    page.wait_for_url(re.compile("/state"))
    page.click("nav >> text=Events")
    page.wait_for_selector(".choice")
    page.click("text=Lanes")
    page.wait_for_selector(".lane-row")
    page.go_back()
    page.wait_for_selector(".lane-row", state="detached")
    page.go_back()
    page.wait_for_selector(".tree")
    page.go_forward()
    watched.waits_for("120")
    assert "at=120" in page.url


def test_what_is_hostile_is_shown_and_nothing_else(watched: Watched) -> None:
    for screen in ("timeline", "events?view=full", "events?view=lanes", "events?view=commits"):
        page = watched.open(f"/s/main/{screen}")
        watched.page.wait_for_selector(".events [aria-selected=true]")
        for back in range(len(HOSTILE)):
            expect(page.locator("#goto")).to_have_value(str(EVENTS - back))
            page.keyboard.press("k")
        text = page.locator("body").inner_text()
        assert "<img src=x onerror=alert(1)>" in text
        assert "\\u202egnp.exe\\u202c" in text
        assert not re.search("[\u202a-\u202e\u200b\x1b\x00]", text)
        assert page.locator("img, iframe, body script:not([src])").count() == 0
    for text in HOSTILE[:3]:
        page = watched.open(f"/s/main/state?stream={'bad-' + text}".replace("<", "%3C"))
        page.wait_for_selector(".tree [role=treeitem], .problem")
    page = watched.open(
        "/s/main/%3Cimg%20src=x%20onerror=alert(5)%3E".replace("/s/main/", "/s/main/events?at=")
    )
    page.wait_for_selector(".toast")


def test_what_the_server_refuses_is_said_where_it_is_missing(watched: Watched) -> None:
    page = watched.open("/s/main/state?at=5&stream=order-1&fold=nothing")
    assert "there is no fold 'nothing'" in page.locator(".problem").first.inner_text()
    page = watched.page
    page.goto(watched.url + "/s/main/nowhere")
    page.wait_for_selector("text=There is no screen")
    page.goto(watched.url + "/s/absent/timeline")
    page.wait_for_selector(".problem")


def test_another_branch_is_another_history(watched: Watched) -> None:
    watched.open("/s/second/timeline")
    watched.waits_for("100")
    watched.page.select_option(".branch select", "main")
    watched.waits_for(str(EVENTS))
