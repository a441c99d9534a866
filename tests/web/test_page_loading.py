"""What the page loads when: a screen as it is opened, and again where that failed; and its chart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import pytest
from tests.web.test_page import EVENTS, Watched, browser, expect, pytestmark, url

__all__ = ["browser", "pytestmark", "url"]
FAILED: Final = "This screen can't be loaded"


@pytest.fixture
def hasty(browser: Any, url: str) -> Iterator[Watched]:
    """A page of somebody who saves data: nothing is loaded before it is wanted."""
    with closing(Watched(browser, url)) as found:
        found.page.add_init_script(
            "Object.defineProperty(navigator, 'connection', {value: {saveData: true}})"
        )
        yield found
        assert found.faults == []


def loaded(page: Any) -> list[str]:
    """The screens' modules that the page has asked for."""
    names: list[str] = page.evaluate(
        "performance.getEntriesByType('resource').map((one) => one.name)"
    )
    found = [re.search(r"/screens/(\w+)\.js$", name) for name in names]
    return sorted({one[1] for one in found if one} - {"index"})


def test_a_screen_is_loaded_when_it_is_opened_or_pointed_at(hasty: Watched) -> None:
    page = hasty.open("/s/main/timeline?at=50")
    hasty.waits_for("50")
    assert loaded(page) == ["timeline"]
    page.keyboard.press("5")
    page.wait_for_selector(".graph")
    assert loaded(page) == ["branches", "timeline"]
    with page.expect_response(re.compile("/screens/find.js")):
        page.hover("nav >> text=Find when")
    page.click("nav >> text=Find when")
    page.wait_for_selector("main.find .asking")
    page.go_back()
    page.wait_for_selector(".graph")


def test_all_screens_are_there_before_they_are_opened(browser: Any, url: str) -> None:
    with closing(Watched(browser, url)) as watched:
        page = watched.page
        with page.expect_response(re.compile("/screens/debug.js")):
            watched.open("/s/main/timeline?at=50")
        page.wait_for_load_state("networkidle")
        page.context.set_offline(True)
        page.keyboard.press("6")
        page.wait_for_selector("main.whatif .panes")
        assert page.locator(f"text={FAILED}").count() == 0
        assert watched.faults == []


@pytest.mark.parametrize("part", ["screens/state.js", "components/subject.js", "states.css"])
def test_a_screen_that_can_not_be_loaded_is_tried_again(hasty: Watched, part: str) -> None:
    page = hasty.open("/s/main/timeline?at=50")
    page.route(re.compile(f"/{part}$"), lambda route: route.abort())
    page.click("nav >> text=State")
    alert = page.locator("[role=alert]", has_text=FAILED)
    expect(alert).to_be_visible()
    page.click("text=Try again")
    expect(alert).to_be_visible()
    page.unroute_all()
    page.click("text=Try again")
    page.wait_for_selector(".tree [role=treeitem]")
    assert "at=50" in page.url


class Cut:
    """Cuts off the first requests for something, so many of them."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, route: Any) -> None:
        self.left -= 1
        if self.left < 0:
            route.continue_()
        else:
            route.abort("internetdisconnected")


@pytest.mark.parametrize("part", ["app.js", "vendor/preact.js", "app.css", "v1"])
def test_what_a_changing_network_cut_off_is_loaded_again(browser: Any, url: str, part: str) -> None:
    with closing(Watched(browser, url)) as watched:
        cut = Cut(2)
        watched.page.route(re.compile(f"/{part}([?].*)?$"), cut)
        watched.open("/s/main/timeline?at=50")
        watched.waits_for("50")
        expect(watched.page.locator(".sr").first).to_have_css("position", "absolute")
        assert watched.page.evaluate("sessionStorage.length") == 0
        assert watched.faults == []


def test_a_page_without_its_styles_is_not_loaded_again_and_again(browser: Any, url: str) -> None:
    with closing(Watched(browser, url)) as watched:
        page, opened = watched.page, []
        page.on("framenavigated", lambda frame: opened.append(frame.url.partition("?")[0]))
        page.route(re.compile("/app.css$"), lambda route: route.abort())
        watched.open("/s/main/timeline?at=50")
        watched.waits_for("50")
        expect(page.locator("link[data-tries='5']")).to_be_attached()
        assert opened == [url + "/s/main/timeline"]


def test_a_page_that_can_not_be_loaded_says_so(browser: Any, url: str) -> None:
    with closing(Watched(browser, url)) as watched:
        watched.page.route(re.compile("/app.js$"), lambda route: route.abort())
        watched.page.goto(url + "/s/main/timeline")
        expect(watched.page.locator(".starting")).to_contain_text("See that the server runs")


def test_the_chart_is_pointed_at_clicked_and_dragged_over(browser: Any, url: str) -> None:
    with closing(Watched(browser, url)) as watched:
        page = watched.open("/s/main/timeline?at=50")
        chart = page.locator(".chart .pointed")
        page.wait_for_selector(".chart .bars")
        box = chart.bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + 3, middle)
        expect(page.locator(".tip")).to_contain_text("event")
        page.mouse.click(box["x"] + box["width"] - 2, middle)
        page.wait_for_url(lambda address: int(address.partition("at=")[2] or 0) > EVENTS / 4)
        page.mouse.move(box["x"] + box["width"] * 0.2, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.7, middle, steps=3)
        page.wait_for_selector(".marks .dragged")
        page.mouse.up()
        page.wait_for_url(re.compile("from=.*to="))
        page.wait_for_selector(".marks .dragged", state="detached")
        page.click("text=Show all of history")
        page.wait_for_url(re.compile("^((?!from=).)*$"))
        assert watched.faults == []
