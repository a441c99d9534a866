"""What lies at the edges: selectors of many tags, idle subscribers, other processes, backups.

    python -m benchmarks.edges [--json FILE]

Each line is a ratio to a plain case of the same run: a selector of many tags to one of two, a
hundred idle subscribers to none at all, appends beside a backup to appends alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from everwhen import Condition, ConditionError, NewEvent, Query, Store, UnknownEvent, open_store

TAGS = [f"tag-{number}" for number in range(300)]
PLAIN = UnknownEvent("Noted", {"text": "x" * 100})
WRITER = """
import sys, time
from everwhen import UnknownEvent, open_store
with open_store(sys.argv[1], durable=False) as store:
    for _ in range(200):
        time.sleep(0.02)
        store.append("there", [UnknownEvent("Noted", {"at": time.time()})])
"""


def seconds(work: Callable[[], object], times: int) -> float:
    """The median of so many runs."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def tags(store: Store, folder: Path) -> dict[str, float]:
    """Reading and judging by many tags, beside two."""
    del folder
    for number in range(2_000):
        store.append("plain", [NewEvent(event=PLAIN, tags=tuple(TAGS[: number % 3]))])
    store.append("full", [NewEvent(event=PLAIN, tags=tuple(TAGS))])
    found: dict[str, float] = {}
    few, many = (Query().tags(*TAGS[:count]) for count in (2, 300))

    def judged(query: Query) -> None:
        try:
            store.append("plain", [PLAIN], condition=Condition(query, 0))
        except ConditionError:
            return
        raise AssertionError

    for name, work in (("read", lambda query: list(store.read(query))), ("condition", judged)):
        plain = seconds(lambda work=work: work(few), 20)  # type: ignore[misc]
        found[f"{name}, 300 tags (ms)"] = 1_000 * seconds(lambda work=work: work(many), 20)  # type: ignore[misc]
        found[f"{name}, 300 tags beside 2"] = found[f"{name}, 300 tags (ms)"] / (1_000 * plain)
    return found


def subscribers(store: Store, folder: Path) -> dict[str, float]:
    """The processor's time that a hundred idle subscribers take, and when they hear of others."""
    heard: list[float] = []

    def follow(*, notes: bool) -> None:
        for event in store.subscribe("there", from_now=True):
            if notes:
                heard.append(time.time() - event.data["at"])  # noqa: PERF401 (it never ends)

    threads = [
        threading.Thread(target=follow, kwargs={"notes": number == 0}, daemon=True)
        for number in range(100)
    ]
    for thread in threads:
        thread.start()
    time.sleep(1)
    began, used = time.perf_counter(), time.process_time()
    time.sleep(5)
    share = (time.process_time() - used) / (time.perf_counter() - began)
    subprocess.run([sys.executable, "-c", WRITER, str(folder / "subscribers.db")], check=True)
    time.sleep(0.5)
    heard.sort()
    return {
        "100 idle subscribers (% of a core)": 100 * share,
        "heard of another process after (ms, median)": 1_000 * heard[len(heard) // 2],
        "heard of another process after (ms, p99)": 1_000 * heard[len(heard) * 99 // 100],
    }


def backup(store: Store, folder: Path) -> dict[str, float]:
    """Appends beside a backup of some 60 MB, and alone."""
    for _ in range(60):
        store.append("bulk", [UnknownEvent("Noted", {"text": "x" * 10_000})] * 100)
    taken: list[tuple[float, float]] = []
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            began = time.perf_counter()
            store.append("beside", [PLAIN])
            taken.append((began, time.perf_counter() - began))

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(3)
    begun = time.perf_counter()
    store.backup(folder / "copy.db")
    ended = time.perf_counter()
    over.set()
    writer.join()
    alone = [took for began, took in taken if began < begun]
    beside = [took for began, took in taken if began >= begun]
    rate = [len(alone) / 3, len(beside) / (ended - begun)]
    return {
        "backup (MB/s, checked)": (folder / "copy.db").stat().st_size / 1e6 / (ended - begun),
        "appends beside a backup, and alone": rate[1] / rate[0],
        "longest append alone (ms)": 1_000 * max(alone),
        "longest append beside a backup (ms)": 1_000 * max(beside),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", type=Path)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, float] = {}
        for measure in (tags, subscribers, backup):
            with open_store(Path(folder) / f"{measure.__name__}.db") as store:
                found |= measure(store, Path(folder))
    for line, value in found.items():
        print(f"{line:48} {value:10.2f}")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
