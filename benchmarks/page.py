"""The page over a large store: the first view, a step until it is painted, and the heap after many.

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
from typing import Any

from benchmarks.large import BetPlaced, build
from playwright.sync_api import sync_playwright
from tests.web.serving import served, store_app

OF_STEP = """() => new Promise((done) => {
    const began = performance.now();
    document.dispatchEvent(new KeyboardEvent("keydown", { key: "j", bubbles: true }));
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
})"""


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
                args=["--no-sandbox", "--enable-precise-memory-info", "--js-flags=--expose-gc"],
            )
            try:
                _measure(browser, url, given.steps)
            finally:
                browser.close()


def _measure(browser: Any, url: str, steps: int) -> None:
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for address in ("timeline", "timeline?at=500000", "state?at=500000&stream=game-7"):
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        began = time.perf_counter()
        page.goto(f"{url}/s/main/{address}")
        page.wait_for_selector(".events [aria-selected=true], .tree [role=treeitem]")
        print(f"first view, {address}: {time.perf_counter() - began:.2f} s")
        if address != "timeline?at=500000":
            page.close()
            continue
        before = _heap(page)
        found = sorted(page.evaluate(OF_STEP) for _ in range(steps))
        print(
            f"step to repaint, ms: median {statistics.median(found):.0f}, "
            f"99 % {found[int(len(found) * 0.99)]:.0f}"
        )
        nodes = page.evaluate("document.querySelectorAll('*').length")
        print(f"after {steps} steps: heap {before:.1f} -> {_heap(page):.1f} MB, {nodes} elements")
        page.close()


def _heap(page: Any) -> float:
    """What is used of the heap, in MB, once what isn't used has been collected."""
    page.evaluate("gc()")
    used: float = page.evaluate("performance.memory.usedJSHeapSize / 1e6")
    return used


if __name__ == "__main__":
    main()
