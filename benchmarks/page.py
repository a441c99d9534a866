"""The page over a large store: its first view, a step until it is painted, what many steps leave.

    python -m benchmarks.page [--events N] [--store FILE] [--steps N]

It needs playwright and /usr/bin/chromium.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.large import BetPlaced, build
from playwright.sync_api import sync_playwright
from tests.web.serving import served, store_app

SHOWN = ".events [aria-selected=true], .tree [role=treeitem]"
VIEWS = 5
STEPPED_FROM = 500_000
WARMING_STEPS = 250
"""More than the page remembers answers of."""
_REPAINTED = "requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));"
BY_KEY = f"""() => new Promise((done) => {{
    const began = performance.now();
    document.dispatchEvent(new KeyboardEvent("keydown", {{ key: "j", bubbles: true }}));
    {_REPAINTED}
}})"""
BY_SCRUBBER = f"""() => new Promise((done) => {{
    const began = performance.now();
    const slider = document.querySelector(".scrubber input");
    slider.value = Number(slider.value) + 7;
    slider.dispatchEvent(new InputEvent("input", {{ bubbles: true }}));
    {_REPAINTED}
}})"""


class Left(NamedTuple):
    """What a page holds: megabytes of heap, elements shown, and all nodes and listeners."""

    heap_mb: float
    elements: int
    nodes: int
    listeners: int

    def __str__(self) -> str:
        return (
            f"{self.heap_mb:.1f} MB, {self.elements} elements, {self.nodes} nodes, "
            f"{self.listeners} listeners"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--store", type=Path, help="one that was built before")
    parser.add_argument("--steps", type=int, default=1_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.store or Path(folder) / "large.db"
        if not path.exists():
            build(path, given.events, 10)
        app = store_app(path, opened={"events": [BetPlaced], "read_only": True})
        with served(app) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path="/usr/bin/chromium",
                args=["--no-sandbox"],
            )
            try:
                _measure(browser, url, given.steps)
            finally:
                browser.close()


def _measure(browser: Any, url: str, steps: int) -> None:
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for address in ("timeline", f"timeline?at={STEPPED_FROM}", "state?at=500000&stream=game-7"):
        found = sorted(_first_view(browser, f"{url}/s/main/{address}") for _ in range(VIEWS))
        print(f"first view, {address}, s: median {found[VIEWS // 2]:.2f}, least {found[0]:.2f}")
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{url}/s/main/timeline?at={STEPPED_FROM}")
    page.locator(SHOWN).first.wait_for()
    for way, step in (("j", BY_KEY), ("scrubber", BY_SCRUBBER)):
        _step(page, way, step, steps)
    page.close()


def _first_view(browser: Any, url: str) -> float:
    """Seconds until a page that nothing is kept of shows what it is about."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    began = time.perf_counter()
    page.goto(url)
    page.locator(SHOWN).first.wait_for()
    found = time.perf_counter() - began
    page.close()
    return found


def _step(page: Any, way: str, step: str, steps: int) -> None:
    """Take steps, once some were taken that fill what is remembered."""
    for _ in range(WARMING_STEPS):
        page.evaluate(step)
    before = left_in(page)
    found = sorted(page.evaluate(step) for _ in range(steps))
    after = left_in(page)
    print(
        f"step to repaint by {way}, ms: median {statistics.median(found):.0f}, "
        f"99 % {found[int(len(found) * 0.99)]:.0f}"
    )
    print(f"after {steps} steps by {way}: {before} -> {after}")


def left_in(page: Any) -> Left:
    """What a page holds, once what it doesn't need has been collected."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable")
    devtools.send("HeapProfiler.collectGarbage")
    found = {
        one["name"]: one["value"] for one in devtools.send("Performance.getMetrics")["metrics"]
    }
    elements = page.evaluate("document.querySelectorAll('*').length")
    devtools.detach()
    return Left(
        found["JSHeapUsedSize"] / 1e6, elements, int(found["Nodes"]), int(found["JSEventListeners"])
    )


if __name__ == "__main__":
    main()
