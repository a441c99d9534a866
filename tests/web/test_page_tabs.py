"""The page beside others: two tabs, a server that restarts under one, and hostile names."""

from __future__ import annotations

import re
import socket
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.web.serving import served, store_app
from tests.web.test_page import Watched, browser, pytestmark

from everwhen import EverwhenError, UnknownEvent, open_store

__all__ = ["browser", "pytestmark"]
AGAIN: Final = {"timeout_graceful_shutdown": 1}  # live answers have no end of their own


def test_two_tabs_are_two_moments_and_both_follow(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with open_store(path) as store:
        store.append("order-1", [UnknownEvent("Placed", {"n": n}) for n in range(30)])
        with (
            served(store_app(path), **AGAIN) as url,
            closing(Watched(browser, url)) as one,
            closing(Watched(browser, url)) as other,
        ):
            one.open("/s/main/timeline?at=10")
            other.open("/s/main/timeline")
            one.waits_for("10")
            other.waits_for("30")
            one.page.keyboard.press("p")
            one.page.keyboard.press("j")
            one.waits_for("11")
            store.append("order-2", [UnknownEvent("Placed", {})])
            other.waits_for("31")
            one.page.wait_for_selector("text=of 31")
            one.waits_for("11")
            assert "pin" not in other.page.url
            assert one.faults == other.faults == []


def test_a_server_may_restart_under_a_live_page(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with open_store(path) as store:
        store.append("order-1", [UnknownEvent("Placed", {"n": n}) for n in range(30)])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with served(store_app(path), port, **AGAIN) as url:
        watched = Watched(browser, url)
        page = watched.open("/s/main/timeline")
        watched.waits_for("30")
        page.wait_for_selector(".live.is-live")
    with closing(watched):
        page.wait_for_selector(".live:not(.is-live)")
        with open_store(path) as store:
            store.append("order-2", [UnknownEvent("Placed", {})])
        with served(store_app(path), port, **AGAIN):
            page.wait_for_selector(".live.is-live")
            watched.waits_for("31")
            page.keyboard.press("k")
            watched.waits_for("30")
            assert watched.faults == []
            watched.page.goto("about:blank")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of names, keys and texts as nobody would choose them."""
    path = tmp_path_factory.mktemp("hostile") / "hostile.db"
    texts = st.text(min_size=1, max_size=40) | st.sampled_from(
        [
            "<svg onload=alert(1)>",
            "__proto__",
            "constructor",
            "toString",
            "\u202e",
            "']",
            '"]',
            "$&",
        ]
    )

    with open_store(path, durable=False) as store:

        @settings(
            max_examples=120,
            database=None,
            derandomize=True,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(texts, texts, st.dictionaries(texts, texts | st.lists(texts), max_size=5))
        def write(stream: str, kind: str, data: dict[str, Any]) -> None:
            try:
                store.append(stream, [UnknownEvent(kind, data)])
            except (EverwhenError, ValueError):
                store.append("named", [UnknownEvent("Named", data)])

        write()
    return path


def test_no_name_breaks_the_page(browser: Any, hostile: Path) -> None:
    with (
        served(store_app(hostile), **AGAIN) as url,
        closing(Watched(browser, url)) as watched,
    ):
        for screen in ("events?view=full", "events?view=lanes", "state", "state?view=blame"):
            page = watched.open(f"/s/main/{screen}")
            page.wait_for_selector(".events [aria-selected=true], .tree [role=treeitem]")
            for _ in range(25):
                page.keyboard.press("k")
            page.wait_for_selector(".events [aria-selected=true], .tree [role=treeitem]")
            text = page.locator("body").inner_text()
            assert not re.search("[\u202a-\u202e\u200b\x1b\x00]", text)
            assert page.locator(".problem, .toast").count() == 0, page.locator(
                ".problem, .toast"
            ).all_inner_texts()
        assert watched.faults == []
