"""What derives state, beside pyeventsourcing: commands, loads, projections.

    python -m benchmarks.states [--quick] [--json FILE]

The same aggregate on both sides, an account with a balance and a count, on SQLite files with each
library's defaults, durable. The peer is driven as its documentation does: an ``Application`` with
its aggregates, once without and once with its cache (the better figure counts); for projections its
notifications, decoded by its mapper, read in pages of 1,000 and written by one transaction a page,
which is less than its own runner does. Rounds are taken in turn; figures are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate
from eventsourcing.domain import event as evolves
from eventsourcing.persistence import IntegrityError, OperationalError

import everwhen
import everwhen.aio
from everwhen import Event, Fold, RecordedEvent, StateOf
from everwhen.state import Adaptive, NeverSnapshot


class Deposited(Event):
    amount: int


class Account(msgspec.Struct, frozen=True):
    balance: int = 0
    moves: int = 0


account = Fold("account", Account)


@account.on(Deposited)
def _deposited(state: Account, event: Deposited) -> Account:
    return Account(state.balance + event.amount, state.moves + 1)


class Deposit(msgspec.Struct, frozen=True):
    account: int
    amount: int


decisions = everwhen.Decisions()


@decisions.on(Deposit, StateOf(account, lambda command: f"account-{command.account}"))
def _deposit(command: Deposit, state: Account) -> list[Event]:
    if state.balance + command.amount < 0:
        raise everwhen.Refusal(str(state.balance))
    return [Deposited(command.amount)]


class PeerAccount(Aggregate):
    def __init__(self, number: int) -> None:
        self.number = number
        self.balance = 0
        self.moves = 0

    @staticmethod
    def create_id(number: int) -> UUID:
        return uuid5(NAMESPACE_URL, f"account-{number}")

    @evolves("Deposited")
    def deposit(self, amount: int) -> None:
        self.balance += amount
        self.moves += 1


class Bank(Application[UUID]):
    pass


class SnapshottingBank(Application[UUID]):
    snapshotting_intervals = {PeerAccount: 100}  # noqa: RUF012


def bank(folder: Path, kind: type[Application[UUID]] = Bank, *, cached: bool = False) -> Any:
    env = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(folder / "bank.db")}
    if cached:
        env["AGGREGATE_CACHE_MAXSIZE"] = "10000"
    return kind(env=env)


def timed(work: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def together(clients: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Commands: clients, accounts, commands of each client -> commands per second


def everwhen_commands(folder: Path, clients: int, accounts: int, each: int) -> float:
    with everwhen.open_store(folder / "a.db", events=[Deposited]) as store:
        bus = everwhen.CommandBus(store, decisions)

        def work(client: int) -> None:
            for number in range(each):
                bus.send(Deposit((client + number * clients) % accounts, 5))

        seconds = timed(lambda: together(clients, work) if clients > 1 else work(0))
        _check(store.head().position, clients * each)
    return clients * each / seconds


def everwhen_tasks(folder: Path, clients: int, accounts: int, each: int) -> float:
    async def run() -> float:
        async with everwhen.aio.open_store(folder / "a.db", events=[Deposited]) as store:
            bus = everwhen.aio.CommandBus(store, decisions)

            async def work(client: int) -> None:
                for number in range(each):
                    await bus.send(Deposit((client + number * clients) % accounts, 5))

            gc.collect()
            began = time.perf_counter()
            await asyncio.gather(*(work(client) for client in range(clients)))
            seconds = time.perf_counter() - began
            _check((await store.head()).position, clients * each)
            return seconds

    return clients * each / asyncio.run(run())


def peer_commands(folder: Path, clients: int, accounts: int, each: int, *, cached: bool) -> float:
    app = bank(folder, cached=cached)
    for number in range(accounts):
        app.save(PeerAccount(number))
    done = [0] * clients

    def work(client: int) -> None:
        for number in range(each):
            key = PeerAccount.create_id((client + number * clients) % accounts)
            while True:
                try:
                    found = app.repository.get(key)
                    found.deposit(5)
                    app.save(found)
                except (IntegrityError, OperationalError):
                    continue
                break
            done[client] += 1

    seconds = timed(lambda: together(clients, work) if clients > 1 else work(0))
    _check(sum(done), clients * each)
    app.close()
    return clients * each / seconds


# Loads: events of one aggregate -> events per second


def everwhen_load(folder: Path, events: int, times: int, *, snapshots: bool) -> float:
    with everwhen.open_store(folder / "a.db", events=[Deposited]) as store:
        for _ in range(0, events, 1_000):
            store.append("account-1", [Deposited(1)] * min(events, 1_000))
        if snapshots:
            repository = everwhen.Repository(store, account)
            repository.snapshot(repository.load("account-1"))
            store.append("account-1", [Deposited(1)] * 9)
    with everwhen.open_store(folder / "a.db", events=[Deposited]) as store:
        strategy = Adaptive() if snapshots else NeverSnapshot()
        repository = everwhen.Repository(store, account, strategy=strategy)

        def work() -> None:
            for _ in range(times):
                _check(repository.load("account-1").state.moves, events + 9 * snapshots)

        return events * times / timed(work)


def peer_load(folder: Path, events: int, times: int, *, snapshots: bool) -> float:
    app = bank(folder, SnapshottingBank if snapshots else Bank)
    key = PeerAccount.create_id(1)
    aggregate = PeerAccount(1)
    for number in range(events):
        aggregate.deposit(1)
        if number % 10_000 == 9_999:
            app.save(aggregate)
    app.save(aggregate)
    if snapshots:
        app.take_snapshot(key)
        for _ in range(9):
            aggregate = app.repository.get(key)
            aggregate.deposit(1)
            app.save(aggregate)
    app.close()
    app = bank(folder, SnapshottingBank if snapshots else Bank)

    def work() -> None:
        for _ in range(times):
            _check(app.repository.get(key).moves, events + 9 * snapshots)

    rate = events * times / timed(work)
    app.close()
    return rate


# Projections: events in 1,000 streams -> events per second


def fill_everwhen(folder: Path, events: int) -> Any:
    store = everwhen.open_store(folder / "a.db", events=[Deposited])
    for start in range(0, events, 20_000):
        store.commit_batch(
            everwhen.Commit([everwhen.Write(f"account-{n % 1_000}", [Deposited(1)] * 20)])
            for n in range(start // 20, min(start + 20_000, events) // 20)
        )
    return store


totals: Fold[dict[str, int]] = Fold("totals", dict, state=dict[str, int])


@totals.on(Deposited)
def _total(state: dict[str, int], event: Deposited) -> dict[str, int]:
    state["total"] = state.get("total", 0) + event.amount
    return state


def everwhen_in_memory(folder: Path, events: int) -> float:
    with fill_everwhen(folder, events) as store:
        projection = everwhen.Projection(totals)
        runner = everwhen.ProjectionRunner(store, [projection])
        seconds = timed(runner.catch_up)
        _check(runner.ask(projection, lambda state: state["total"])[0], events)
        runner.close()
    return events / seconds


def everwhen_in_tables(folder: Path, events: int) -> float:
    projection = everwhen.TableProjection(
        "balances",
        "CREATE TABLE {balances} (account TEXT PRIMARY KEY, balance INTEGER) WITHOUT ROWID",
    )

    @projection.on(Deposited)
    def add(tables: everwhen.Tables, recorded: RecordedEvent[Deposited]) -> None:
        tables.execute(UPSERT.format("{balances}"), (recorded.stream, recorded.event.amount))

    with fill_everwhen(folder, events) as store:
        runner = everwhen.ProjectionRunner(store, [projection])
        seconds = timed(runner.catch_up)
        runner.close()
        with store.transaction() as transaction:
            ((total,),) = transaction.execute("SELECT sum(balance) FROM balances")
        _check(total, events)
    return events / seconds


UPSERT = (
    "INSERT INTO {} VALUES (?, ?) ON CONFLICT DO UPDATE SET balance = balance + excluded.balance"
)


def fill_peer(folder: Path, events: int) -> Any:
    app = bank(folder)
    for number in range(1_000):
        aggregate = PeerAccount(number)
        for _ in range(events // 1_000 - 1):
            aggregate.deposit(1)
        app.save(aggregate)
    return app


def peer_in_memory(folder: Path, events: int) -> float:
    app = fill_peer(folder, events)
    totals = {"total": 0}

    def work() -> None:
        start = 1
        while notifications := app.recorder.select_notifications(start=start, limit=1_000):
            for notification in notifications:
                event = app.mapper.to_domain_event(notification)
                if isinstance(event, PeerAccount.Deposited):
                    totals["total"] += event.amount
            start = notifications[-1].id + 1

    seconds = timed(work)
    _check(totals["total"], events - 1_000)
    app.close()
    return events / seconds


def peer_in_tables(folder: Path, events: int) -> float:
    app = fill_peer(folder, events)
    connection = sqlite3.connect(folder / "view.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute(
        "CREATE TABLE balances (account TEXT PRIMARY KEY, balance INTEGER) WITHOUT ROWID"
    )
    connection.execute("CREATE TABLE tracking (position INTEGER)")
    upsert = UPSERT.format("balances")

    def work() -> None:
        start = 1
        while notifications := app.recorder.select_notifications(start=start, limit=1_000):
            connection.execute("BEGIN IMMEDIATE")
            for notification in notifications:
                event = app.mapper.to_domain_event(notification)
                if isinstance(event, PeerAccount.Deposited):
                    connection.execute(upsert, (str(event.originator_id), event.amount))
            start = notifications[-1].id + 1
            connection.execute("INSERT INTO tracking VALUES (?)", (start,))
            connection.execute("COMMIT")

    seconds = timed(work)
    ((total,),) = connection.execute("SELECT sum(balance) FROM balances").fetchall()
    _check(total, events - 1_000)
    connection.close()
    app.close()
    return events / seconds


def plain_fold(folder: Path, events: int) -> float:
    del folder
    typed = [Deposited(number % 7) for number in range(events)]
    return events / timed(lambda: account.apply(Account(), typed))


def _check(got: int, expected: int) -> None:
    if got != expected:
        raise RuntimeError(f"got {got:,} instead of {expected:,}")


Measure = Callable[[Path], float]


def lines(*, quick: bool) -> list[tuple[str, str, dict[str, Measure], dict[str, Measure], float]]:
    """Title, unit, our ways, the peer's ways, and the ratio that is wanted (0 for none)."""
    each = 10 if quick else 60
    many = 100_000 if quick else 1_000_000
    peer_many = 20_000 if quick else 100_000
    found: list[tuple[str, str, dict[str, Measure], dict[str, Measure], float]] = []
    for clients, accounts, wanted in ((1, 64, 0.0), (64, 64, 5.0), (64, 8, 5.0)):
        commands = each * 20 if clients == 1 else each
        ours: dict[str, Measure] = {
            way: partial(run, clients=clients, accounts=accounts, each=commands)
            for way, run in (("threads", everwhen_commands), ("tasks", everwhen_tasks))
        }
        theirs: dict[str, Measure] = {
            "cached" if cached else "plain": partial(
                peer_commands, clients=clients, accounts=accounts, each=commands, cached=cached
            )
            for cached in (False, True)
        }
        title = f"commands, {clients} client{'s' * (clients > 1)} on {accounts} accounts"
        found.append((title, "/s", ours, theirs, wanted))
    for events, times in ((10, 500), (1_000, 50), (100_000, 1)):
        for snapshots in (False, True):
            if quick and events == 100_000:
                continue
            repeated = max(times, 200) if snapshots else times
            found.append(
                (
                    f"load {events:,} events{' by snapshot' if snapshots else ', cold'}",
                    " events/s",
                    {
                        "": partial(
                            everwhen_load, events=events, times=repeated, snapshots=snapshots
                        )
                    },
                    {"": partial(peer_load, events=events, times=repeated, snapshots=snapshots)},
                    0.0 if snapshots or events == 10 else 10.0,
                )
            )
    found += [
        (
            "rebuild in memory",
            " events/s",
            {"": partial(everwhen_in_memory, events=many)},
            {"": partial(peer_in_memory, events=peer_many)},
            10.0,
        ),
        (
            "rebuild in SQL",
            " events/s",
            {"": partial(everwhen_in_tables, events=many)},
            {"": partial(peer_in_tables, events=peer_many)},
            0.0,
        ),
        ("plain fold", " events/s", {"": partial(plain_fold, events=many)}, {}, 0.0),
    ]
    return found


def measured(ways: dict[str, Measure], rounds: int) -> dict[str, float]:
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, measure in ways.items():
            with tempfile.TemporaryDirectory(prefix="everwhen-bench-") as folder:
                rates[way].append(measure(Path(folder)))
    return {way: statistics.median(values) for way, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    rounds = 1 if options.quick else 3
    figures: dict[str, Any] = {}
    print(f"{'':38}{'everwhen':>22}{'pyeventsourcing':>22}{'ratio':>8}{'wanted':>8}")
    for title, unit, ours, theirs, wanted in lines(quick=options.quick):
        mine = measured(ours, rounds)
        peers = measured(theirs, rounds)
        best, peer = max(mine.values()), max(peers.values(), default=0.0)
        ratio = best / peer if peer else 0.0
        figures[title] = {"everwhen": mine, "pyeventsourcing": peers, "ratio": ratio}
        print(
            f"{title:38}{_shown(best, unit):>22}{_shown(peer, unit) if peer else '':>22}"
            f"{f'{ratio:.1f}' if peer else '':>8}{f'{wanted:.0f}' if wanted else '':>8}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


def _shown(rate: float, unit: str) -> str:
    return f"{rate:,.0f}{unit}"


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
