"""Two checkouts side by side: what the same work costs in each, and the ratio.

Run it as ``python -m benchmarks.compare BEFORE AFTER [TURNS]``; each is a checkout with its own
``.venv``. In each turn both are measured once, in processes of their own, and the order alternates.
Figures are processor time, the best of all turns, in microseconds for one event, call or command; a
busy machine moves them by about 5 %.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

ROOMS = ("", ".projections", ".state", ".travel", ".vocabulary", ".privacy", ".merkle")


def named(name: str) -> Any:
    """A public name, in whichever room the checkout shows it."""
    for room in ROOMS:
        found = getattr(importlib.import_module(f"everwhen{room}"), name, None)
        if found is not None:
            return found
    raise SystemExit(f"{name} is not public in this checkout")


began = time.process_time()
Event = named("Event")
OPENED = time.process_time() - began


class Bet(Event):  # type: ignore[misc, valid-type]
    """An event with a tag."""

    tag_fields = ("player",)

    player: str
    amount: int


class Place(msgspec.Struct, frozen=True):
    """A command."""

    player: str
    amount: int


class Measured:
    """One checkout's figures, by name."""

    def __init__(self, folder: Path) -> None:
        self.figures: dict[str, float] = {}
        self._folder = folder
        self._fresh = count()
        self.total = named("Fold")("total", int)
        self.total.on(Bet)(lambda state, event: state + event.amount)

    def store(self) -> Any:
        """A new store in a file."""
        path = self._folder / f"{next(self._fresh)}.db"
        return named("open_store")(path, events=[Bet], durable=False)

    def filled(self, commits: int, events: int = 1, streams: int = 200) -> Any:
        """A store with that many commits."""
        store, commit, write = self.store(), named("Commit"), named("Write")
        for start in range(0, commits, 4_000):
            store.commit_batch(
                [
                    commit([write(f"game-{n % streams}", [Bet(f"p{n % 97}", n)] * events)])
                    for n in range(start, min(commits, start + 4_000))
                ]
            )
        return store

    def measure(
        self, name: str, each: int, work: Callable[[Any], Any], given: Callable[[], Any]
    ) -> None:
        """The best of five turns; ``given`` is made anew for each, and not measured."""
        best = float("inf")
        for _ in range(5):
            value = given()
            start = time.process_time()
            work(value)
            best = min(best, time.process_time() - start)
        self.figures[name] = best / each * 1e6


def writing(run: Measured) -> None:
    """Appends."""
    commit, write = named("Commit"), named("Write")

    def singly(store: Any) -> None:
        for n in range(500):
            store.append(f"game-{n % 50}", [Bet("p1", n)])

    def hundreds(store: Any) -> None:
        for n in range(60):
            store.append(f"game-{n}", [Bet("p1", m) for m in range(100)])

    def batch(store: Any) -> None:
        store.commit_batch(
            [commit([write(f"game-{n % 50}", [Bet("p1", n)])]) for n in range(3_000)]
        )

    def expecting(store: Any) -> None:
        for n in range(300):
            store.append(f"game-{n}", [Bet("p1", n)], expected=named("NO_STREAM"))

    run.measure("append, one event", 500, singly, run.store)
    run.measure("append, 100 events", 6_000, hundreds, run.store)
    run.measure("commit_batch", 3_000, batch, run.store)
    run.measure("append, no stream expected", 300, expecting, run.store)


def reading(run: Measured, big: Any) -> None:
    """Reads and folds."""
    query, tens = named("Query"), run.filled(3_000, 10)
    moment = next(iter(big.read(query().after(20_000).limit(1)))).recorded_at

    def touched(of: Any, asked: Any = None) -> int:
        pages = of.read_pages() if asked is None else of.read_pages(asked)
        return sum(event.position for page in pages for event in page if event.type)

    def streams(_: Any) -> None:
        for n in range(40):
            list(big.read(f"game-{n}"))

    run.measure("read all, one event a slice", 40_000, touched, lambda: big)
    run.measure("read all, ten events a slice", 30_000, touched, lambda: tens)
    run.measure("read a stream of 200", 8_000, streams, lambda: None)
    run.measure("read by type", 40_000, lambda q: touched(big, q), lambda: query().types("Bet"))
    run.measure("read by tag", 412, lambda q: touched(big, q), lambda: query().tags("player:p7"))
    run.measure(
        "newest 100", 100, lambda q: touched(big, q), lambda: query().backwards().limit(100)
    )
    run.measure("fold all", 40_000, big.fold, lambda: run.total)
    run.measure("fold a stream of 200", 200, lambda f: big.fold(f, "game-7"), lambda: run.total)
    run.measure("position_at", 1, lambda _: big.position_at(moment), lambda: None)


def working(run: Measured, big: Any) -> None:
    """Commands, travel, branches and read models."""
    decisions, machine = named("Decisions")(), named("TimeMachine")
    state_of = named("StateOf")(run.total, lambda command: f"player-{command.player}")
    decisions.on(Place, state_of)(lambda command, _: [Bet(command.player, command.amount)])
    bus = named("CommandBus")

    def warm(sender: Any) -> None:
        for n in range(200):
            sender.send(Place("1", n))

    def cold(sender: Any) -> None:
        for n in range(100):
            sender.send(Place(str(n), n))

    def travelling() -> Any:
        return machine(big, run.total, keep=False)

    near = travelling()
    near.travel_to(39_000)
    branch = run.filled(3_000).create_branch("b")

    def branching(of: Any) -> None:
        for n in range(100):
            of.append("game-1", [Bet("p1", n)])

    run.measure("command, state at hand", 200, warm, lambda: bus(run.store(), decisions))
    run.measure("command, new streams", 100, cold, lambda: bus(run.store(), decisions))
    run.measure("travel_to, without waypoints", 1, lambda m: m.travel_to(39_000), travelling)
    run.measure("travel_to, near", 1, lambda _: near.travel_to(38_990), lambda: None)
    never = 10**12
    run.measure("find_when", 40_000, lambda m: m.find_when(lambda s: s > never), travelling)
    run.measure("read a branch", 3_000, lambda of: list(of.read()), lambda: branch)
    run.measure("append to a branch", 100, branching, lambda: branch)
    run.measure("table projection", 3_000, run_projection, lambda: run.filled(3_000))


def run_projection(store: Any) -> None:
    """Fill a table from the start."""
    projection = named("TableProjection")(
        "bets", schema=["CREATE TABLE {bets} (player TEXT, amount INTEGER)"]
    )

    @projection.on(Bet)  # type: ignore[untyped-decorator]
    def _(tables: Any, recorded: Any) -> None:
        event = recorded.event
        tables.execute("INSERT INTO {bets} VALUES (?, ?)", (event.player, event.amount))

    with named("ProjectionRunner")(store, [projection]) as runner:
        runner.catch_up()


def figures() -> dict[str, float]:
    """This checkout's."""
    with tempfile.TemporaryDirectory() as folder:
        run = Measured(Path(folder))
        writing(run)
        big = run.filled(40_000)
        reading(run, big)
        working(run, big)
        return {**run.figures, "import everwhen, to the first name": OPENED * 1e6}


def turns(trees: list[Path], number: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Each checkout's figures, turn by turn."""
    for turn in range(number):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            python = trees[which] / ".venv" / "bin" / "python"
            done = subprocess.run(
                [python, __file__, "--one"], capture_output=True, text=True, check=True
            )
            yield which, json.loads(done.stdout)


def main() -> None:
    """Measure, and print the table."""
    if sys.argv[1:] == ["--one"]:
        print(json.dumps(figures()))
        return
    trees, number = (
        [Path(word).resolve() for word in sys.argv[1:3]],
        int(sys.argv[3] if sys.argv[3:] else 4),
    )
    best: list[dict[str, float]] = [{}, {}]
    for which, found in turns(trees, number):
        for name, value in found.items():
            best[which][name] = min(best[which].get(name, value), value)
    print(f"| {'µs of processor time':34} | before | after | ratio |\n|---|---:|---:|---:|")
    for name, before in best[0].items():
        after = best[1][name]
        print(f"| {name:34} | {before:,.2f} | {after:,.2f} | {after / before:.2f} |")


if __name__ == "__main__":
    main()
