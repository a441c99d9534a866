"""The audit log: entries beside their events, refusals, failing stores, permissions, queries."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.places import tables_of
from tests.read_elsewhere import bytes_of

from everwhen import (
    Commit,
    Decisions,
    Event,
    Fold,
    KeyFile,
    Refusal,
    StateOf,
    StorageError,
    Vault,
    Write,
    context,
)
from everwhen.aio import CommandBus, Store, open_store
from everwhen.audit import (
    AuditAction,
    AuditEntry,
    AuditFallback,
    AuditFilter,
    AuditResult,
    AuditRules,
    origin,
)
from everwhen.audit.aio import AuditLog, AuditRecovery, audited, audited_queries
from everwhen.backends._async.concurrency import INTERRUPTS
from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.backends.engine import Engine
from everwhen.commands.aio import authorised
from everwhen.errors import (
    AuditError,
    AuditFallbackError,
    DeclarationError,
    InvalidAuditEntryError,
    InvalidCommitError,
    InvalidEventError,
    InvalidQueryError,
    NotAllowedError,
)
from everwhen.privacy import PLAINTEXT, Erased
from everwhen.projections import Queries
from everwhen.projections.aio import QueryBus
from everwhen.testing import Faults, ManualClock
from everwhen.testing._async.concurrency import together
from everwhen.testing.aio import faulty

KEY = bytes(range(32))
DAY = 86_400.0
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Deposited(Event):
    amount: int


class Deposit(msgspec.Struct, frozen=True):
    account: int
    amount: int


class BalanceOf(msgspec.Struct, frozen=True):
    account: int


class Ping(msgspec.Struct, frozen=True):
    pass


class TooMuch(Refusal):
    pass


balance = Fold("balance", int)
balance.on(Deposited)(lambda state, event: state + event.amount)
decisions = Decisions()


@decisions.on(Deposit, StateOf(balance, lambda command: f"account-{command.account}"))
def _deposit(command: Deposit, state: int) -> list[Event]:
    if command.amount > 100:
        raise TooMuch(f"{command.amount} is too much\n\x1b[31mred")
    if command.amount == 13:
        raise RuntimeError("a bug")
    return [Deposited(command.amount)] if command.amount else []


queries = Queries()


@queries.on(BalanceOf, StateOf(balance, lambda query: f"account-{query.account}"))
def _balance_of(query: BalanceOf, state: int) -> list[int]:
    if query.account == 13:
        raise RuntimeError("a bug")
    return [state]


rules = AuditRules()
rules.on(
    Deposit,
    AuditAction.CREATE,
    lambda command: f"accounts/{command.account}/deposits",
    details=lambda command: {"amount": command.amount},
)
rules.on(BalanceOf, AuditAction.READ, lambda query: f"accounts/{query.account}")
rules.leave_out(Ping)


def everything(user: str | None) -> list[AuditFilter]:
    return [AuditFilter()]


def logged(store: Store, **options: Any) -> AuditLog:
    return AuditLog(store, policy=everything, **{"pause": 0.001, **options})


async def opened(path: Path | str = "memory:", **options: Any) -> Store:
    own = {"durable": False, "vault": PLAINTEXT, **options}
    return await open_store(path, events=[AuditEntry, Deposited], **own)


async def entries(audit: AuditLog, wanted: AuditFilter | None = None) -> list[AuditEntry]:
    return [record.entry async for record in audit.read(wanted or AuditFilter(), by="test")]


async def test_an_entry_is_in_the_commit_of_its_events(location: str) -> None:
    async with await opened(location) as store:
        audit = logged(store)
        with context(user_id="ann", correlation_id="talk"), origin(ip_address="2001:DB8::1"):
            entry = audit.entry(AuditAction.CREATE, "accounts/7", details={"amount": 5})
            write = Write("account-7", [Deposited(5)])
            receipt = await store.commit(Commit([write, audit.write_for(entry)]))
        (record,) = [record async for record in audit.read(by="test")]
        assert record.commit_id == receipt.commit_id
        assert record.id == f"{receipt.commit_id}/1"
        assert record.position == receipt.position == 2
        assert (record.entry.user, record.entry.ip_address) == ("ann", "2001:db8::1")
        assert (record.entry.correlation, record.entry.details) == ("talk", {"amount": 5})


async def test_a_command_has_its_entry_in_its_own_commit(location: str) -> None:
    async with await opened(location) as store:
        audit = logged(store)
        bus = CommandBus(store, decisions, middleware=[audited(audit, rules)])
        with context(user_id="ann"), origin(ip_address="192.0.2.7", session="s1"):
            result = await bus.send(Deposit(7, 5))
        assert result.events == (Deposited(5),)
        assert result.receipt is not None
        found = await store.commit_events(result.receipt.commit_id)
        assert [event.type for event in found] == ["Deposited", "AuditEntry"]
        entry = found[1].event
        assert (entry.user, entry.action, entry.resource) == (
            "ann",
            AuditAction.CREATE,
            "accounts/7/deposits",
        )
        assert entry.details == {"command": "Deposit", "amount": 5}
        assert (entry.ip_address, entry.session) == ("192.0.2.7", "s1")
        assert entry.correlation == str(result.receipt.commit_id)
        repeat = await bus.send(Deposit(7, 5), command_id=result.receipt.commit_id)
        assert repeat.repeated
        assert repeat.events == result.events
        assert len(await entries(audit)) == 1


async def test_a_command_without_a_rule_is_audited_where_details_are_sealed(
    location: str, tmp_path: Path
) -> None:
    with Vault(tmp_path / "vault", KeyFile.create(tmp_path / "keys")) as vault:
        async with await opened(location, vault=vault) as store:
            audit = logged(store)
            bus = CommandBus(store, decisions, middleware=[audited(audit)])
            with context(user_id="Deposit"):
                await bus.send(Deposit(7, 5))
            (entry,) = await entries(audit)
            assert entry.resource == "commands/Deposit"
            assert entry.details == {"command": "Deposit"}
            assert await store.check() == []


async def test_what_came_of_a_command_can_be_said() -> None:
    def outcome(command: Any, events: tuple[Any, ...]) -> dict[str, Any]:
        assert isinstance(command, Deposit)
        if command.amount == 99:
            raise RuntimeError("a bug")
        return {"events": [type(event).__name__ for event in events]}

    async with await opened() as store:
        audit = logged(store)
        bus = CommandBus(store, decisions, middleware=[audited(audit, rules, outcome=outcome)])
        await bus.send(Deposit(7, 5))
        with pytest.raises(RuntimeError):
            await bus.send(Deposit(7, 99))
        assert await store.version("account-7") == 1
        done, failed = await entries(audit)
        assert done.details == {"command": "Deposit", "amount": 5, "events": ["Deposited"]}
        assert failed.details["outcome"] == "failed"


async def test_refusals_failures_and_nothing_have_entries_of_their_own() -> None:
    async with await opened() as store:
        audit = logged(store)
        layers = [audited(audit, rules), authorised(lambda e: e.user_id != "eve")]
        bus = CommandBus(store, decisions, middleware=layers)
        with context(user_id="ann"):
            with pytest.raises(TooMuch):
                await bus.send(Deposit(7, 500))
            with pytest.raises(RuntimeError):
                await bus.send(Deposit(7, 13))
            await bus.send(Deposit(7, 0))
        with context(user_id="eve"), pytest.raises(NotAllowedError):
            await bus.send(Deposit(7, 5))
        found = await entries(audit)
        said = [(e.user, e.result.value, e.details.get("outcome")) for e in found]
        assert said == [
            ("ann", "Failure", "refused"),
            ("ann", "Failure", "failed"),
            ("ann", "Success", "nothing to do"),
            ("eve", "Failure", "refused"),
        ]
        assert found[0].reason == "TooMuch: 500 is too much [31mred"
        assert await store.version("account-7") == 0


async def test_what_is_wrong_with_an_entry_is_found_before_anything_is_done() -> None:
    async with await opened() as store:
        audit = logged(store)
        bad = AuditRules()
        bad.on(Deposit, AuditAction.CREATE, lambda command: "a\nb")
        bad.on(BalanceOf, AuditAction.READ, lambda query: "")
        bus = CommandBus(store, decisions, middleware=[audited(audit, bad)])
        with pytest.raises(InvalidAuditEntryError, match="resource"):
            await bus.send(Deposit(7, 5))
        asked = QueryBus(store, queries, middleware=[audited_queries(audit, bad)])
        with pytest.raises(InvalidAuditEntryError, match="resource"):
            await asked.ask(BalanceOf(7))
        assert await store.version("account-7") == 0
        one, two = await entries(audit)
        assert (one.resource, two.resource) == ('"a\\nb"', '""')
        assert one.details["escaped"] == two.details["escaped"] == ["resource"]


ODD: dict[Any, str] = {
    "": '""',
    "eve\n": '"eve\\n"',
    "a//b": 'a/""/b',
    "ann/\x1b[31m": 'ann/"\\u001b[31m"',
    "\ud800": '"\\ud800"',
    "ü" * 400: f'"{"ü" * 125}"…',
    7: '"7"',
}


@pytest.mark.attack(
    "somebody asks or acts under a name that no entry may hold",
    about="people",
    answer="the entry is there, escaped and marked",
)
@pytest.mark.parametrize("user", ODD, ids=ascii)
@pytest.mark.parametrize("sealed", [False, True])
async def test_nobody_goes_unseen_for_an_odd_name(
    user: Any, sealed: bool, location: str, tmp_path: Path
) -> None:
    vault: Any = PLAINTEXT
    if sealed:
        vault = Vault(tmp_path / "vault", KeyFile.create(tmp_path / "keys"))
    async with await opened(location, vault=vault) as store:
        audit = AuditLog(store, policy=lambda user: [AuditFilter()] if user == "test" else [])
        bus = CommandBus(store, decisions, middleware=[audited(audit, rules)])
        asked = QueryBus(store, queries, middleware=[audited_queries(audit, rules)])
        for wanted in (AuditFilter(), AuditFilter(resource="a\n\ud800" * 99)):
            with pytest.raises(NotAllowedError):
                await audit.query(wanted, by=user)
        with context(user_id=user):
            with pytest.raises(NotAllowedError):
                await audit.query()
            with pytest.raises(InvalidAuditEntryError):
                await bus.send(Deposit(7, 5))
            with pytest.raises(InvalidAuditEntryError):
                await asked.ask(BalanceOf(7))
        found = await entries(audit)
        assert [entry.user for entry in found] == [ODD[user]] * 5
        assert all("user" in entry.details["escaped"] for entry in found)  # type: ignore[operator]
        assert [entry.result for entry in found] == [AuditResult.FAILURE] * 5
        assert [entry.resource for entry in found[3:]] == ["accounts/7/deposits", "accounts/7"]
        assert await store.version("account-7") == 0
        assert await store.check() == []
    if sealed:
        vault.close()


@pytest.mark.attack(
    "a resource is named so that no entry may hold it",
    about="people",
    answer="the entry is there, escaped and marked",
)
@pytest.mark.parametrize("resource", ["", "accounts/7\n", "x" * 300, "accounts/\udfff", None, 7])
async def test_nothing_goes_unseen_for_an_odd_resource(resource: Any) -> None:
    own = AuditRules()
    own.on(Deposit, AuditAction.CREATE, lambda command: resource)
    own.on(BalanceOf, AuditAction.READ, lambda query: resource)
    async with await opened() as store:
        audit = logged(store)
        layers = [audited(audit, own), authorised(lambda e: e.user_id != "eve")]
        bus = CommandBus(store, decisions, middleware=layers)
        asked = QueryBus(store, queries, middleware=[audited_queries(audit, own)])
        with context(user_id="eve"):
            with pytest.raises(InvalidAuditEntryError):
                await bus.send(Deposit(7, 5))
            with pytest.raises(InvalidAuditEntryError):
                await asked.ask(BalanceOf(7))
        found = await entries(audit, AuditFilter(user="eve", result=AuditResult.FAILURE))
        assert [entry.details["escaped"] for entry in found] == [["resource"]] * 2
        above = isinstance(resource, str) and resource.startswith("accounts/")
        below = await entries(audit, AuditFilter(resource="accounts"))
        assert len(below) == (2 if above else 0)


@pytest.mark.attack("a resource is named so that no entry may hold it")
async def test_what_comes_of_an_odd_context_is_recorded_without_it() -> None:
    """It is the command that is refused for it; the entry is there all the same."""
    async with await opened() as store:
        audit = logged(store)
        bus = CommandBus(store, decisions, middleware=[audited(audit, rules)])
        odd: list[dict[str, Any]] = [
            {"source": "a\nb"},
            {"causation_id": "\ud800"},
            {"extras": {"at": NOON}},
            {"extras": {"deep": float("nan")}},
        ]
        for number, one in enumerate(odd):
            with (
                context(user_id="ann", **one),
                pytest.raises((InvalidCommitError, InvalidEventError)),
            ):
                await bus.send(Deposit(7, 5))
            assert len(await entries(audit)) == number + 1
        with context(correlation_id="c" * 300), pytest.raises(InvalidAuditEntryError):
            await bus.send(Deposit(7, 5))
        with pytest.raises(AttributeError):
            await bus.send(Deposit(7, 5), metadata={"user_id": "eve"})  # type: ignore[arg-type]
        found = await entries(audit)
        assert len(found) == 6
        assert all(entry.result is AuditResult.FAILURE for entry in found)


async def test_what_a_rule_or_the_policy_or_the_outcome_raises_is_recorded() -> None:
    own = AuditRules()
    own.on(Deposit, AuditAction.CREATE, lambda command: f"accounts/{command.nothing}")  # type: ignore[attr-defined]
    own.on(BalanceOf, AuditAction.READ, lambda query: "balances", details=lambda query: 7)  # type: ignore[arg-type, return-value]

    def policy(user: str | None) -> list[AuditFilter]:
        if user == "test":
            return [AuditFilter()]
        raise KeyError(user)

    def outcome(result: Any) -> Any:
        raise RuntimeError("a bug")

    async with await opened() as store:
        audit = AuditLog(store, policy=policy)
        bus = CommandBus(store, decisions, middleware=[audited(audit, own)])
        with pytest.raises(AttributeError):
            await bus.send(Deposit(7, 5))
        for layer in (audited_queries(audit, own), audited_queries(audit, rules, outcome=outcome)):
            with pytest.raises((TypeError, RuntimeError)):
                await QueryBus(store, queries, middleware=[layer]).ask(BalanceOf(7))
        with pytest.raises(KeyError):
            await audit.query(by="eve")
        found = await entries(audit)
        said = [(entry.resource, str(entry.reason).partition(":")[0]) for entry in found]
        assert said == [
            ("commands/Deposit", "AttributeError"),
            ("queries/BalanceOf", "TypeError"),
            ("accounts/7", "RuntimeError"),
            ("audit", "KeyError"),
        ]


async def test_a_question_that_makes_no_sense_is_recorded_of_those_who_may_not_see_all() -> None:
    async with await opened() as store:
        audit = AuditLog(store, policy=lambda user: [AuditFilter()] if user == "test" else [])
        for user in ("eve", "test"):
            with pytest.raises(InvalidQueryError):
                await audit.query(AuditFilter(resource=""), by=user)
        (found,) = await entries(audit)
        assert (found.user, found.result) == ("eve", AuditResult.FAILURE)


@pytest.mark.attack(
    "a command is broken off, so that no entry is left",
    about="people",
    answer="the entry is there, its outcome open",
)
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, *INTERRUPTS])
async def test_an_interrupted_command_or_question_is_recorded(
    interrupt: type[BaseException],
) -> None:
    class Stopped(msgspec.Struct, frozen=True):
        account: int

    def stopped(*_: Any) -> Any:
        raise interrupt

    stopping, asking = Decisions(), Queries()
    stopping.on(Stopped)(stopped)
    asking.on(Stopped, StateOf(balance, lambda query: "account-1"))(stopped)
    failing = AuditRules()
    failing.on(Deposit, AuditAction.CREATE, stopped)
    async with await opened() as store:
        audit = logged(store)
        with pytest.raises(interrupt):
            await CommandBus(store, stopping, middleware=[audited(audit)]).send(Stopped(1))
        with pytest.raises(interrupt):
            await QueryBus(store, asking, middleware=[audited_queries(audit)]).ask(Stopped(1))
        with pytest.raises(interrupt):
            await CommandBus(store, decisions, middleware=[audited(audit, failing)]).send(
                Deposit(7, 5)
            )
        found = await entries(audit)
        assert [entry.reason for entry in found] == [interrupt.__name__] * 3
        assert [entry.details.get("outcome") for entry in found] == ["open", None, "open"]


async def test_an_interrupt_goes_on_where_its_entry_can_be_kept_nowhere(location: str) -> None:
    faults = Faults()
    stopping = Decisions()

    class Stopped(msgspec.Struct, frozen=True):
        pass

    @stopping.on(Stopped)
    def _stop(command: Stopped) -> list[Event]:
        raise SystemExit(3)

    async with faulty(await opened(location), faults) as store:
        audit = logged(store, attempts=1)
        bus = CommandBus(store, stopping, middleware=[audited(audit)])
        faults.fail("append", 1)
        with pytest.raises(SystemExit) as raised:
            await bus.send(Stopped())
        assert isinstance(raised.value.__cause__, AuditError)


@pytest.mark.parametrize("interrupt", INTERRUPTS)
async def test_an_interrupt_while_an_entry_is_written_puts_it_into_the_fallback(
    interrupt: type[BaseException], location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fallback = AuditFallback(tmp_path / "fallback", KEY)
    async with await opened(location) as store:
        audit = logged(store, fallback=fallback)

        async def stop(commits: Any, connection: object) -> Any:
            raise interrupt

        with monkeypatch.context() as patch:
            patch.setattr(store.kernel.backend, "append", stop)
            with pytest.raises(interrupt):
                await audit.record(audit.entry(AuditAction.LOGIN, "web", user="ann"))
        assert fallback.state().count == 1
        assert await audit.recover() is not None
        assert (await entries(audit))[0].user == "ann"


async def test_questions_are_audited_with_what_came_out() -> None:
    async with await opened() as store:
        audit = logged(store)
        await store.append("account-7", [Deposited(5)])
        layer = audited_queries(audit, rules, outcome=lambda result: {"shown": str(result.data)})
        bus = QueryBus(store, queries, middleware=[layer])
        with context(user_id="bob"):
            assert (await bus.ask(BalanceOf(7))).data == [5]
            with pytest.raises(RuntimeError):
                await bus.ask(BalanceOf(13))
            with pytest.raises(InvalidQueryError):
                await bus.ask(Deposit(1, 1))
            with pytest.raises(InvalidQueryError):
                await bus.ask(Ping())
        one, two, three = await entries(audit)
        assert one.details == {"query": "BalanceOf", "position": 1, "length": 1, "shown": "[5]"}
        assert (one.user, one.resource, one.action) == ("bob", "accounts/7", AuditAction.READ)
        assert (two.result, two.reason) == (AuditResult.FAILURE, "RuntimeError: a bug")
        assert three.resource == "accounts/1/deposits"


async def test_no_action_is_without_its_entry_under_concurrency(location: str) -> None:
    async with await opened(location) as store:
        audit = logged(store)
        bus = CommandBus(store, decisions, middleware=[audited(audit, rules)])
        other = CommandBus(store, decisions, middleware=[audited(audit, rules)])

        async def clerk(number: int) -> None:
            for amount in range(1, 9):
                with context(user_id=f"clerk-{number}"):
                    await (bus, other)[number % 2].send(Deposit(amount % 3, amount))

        done = await together(*[partial(clerk, number) for number in range(8)])
        assert done == [None] * 8
        commits: dict[object, list[str]] = {}
        async for event in store.read():
            commits.setdefault(event.commit_id, []).append(event.type)
        assert len(commits) == 64
        assert all(types == ["Deposited", "AuditEntry"] for types in commits.values())
        found = await entries(audit, AuditFilter(user="clerk-3"))
        assert sorted(e.details["amount"] for e in found) == list(range(1, 9))  # type: ignore[type-var]


@pytest.mark.parametrize("what", ["append", "acknowledge"])
async def test_a_failing_store_is_tried_again(what: Any, location: str) -> None:
    faults = Faults()
    async with faulty(await opened(location), faults) as store:
        audit = logged(store, attempts=4)
        faults.fail(what, 3)
        receipt = await audit.record(audit.entry(AuditAction.LOGIN, "web", user="ann"))
        assert receipt.position == 1
        assert len(await entries(audit)) == 1


@pytest.mark.parametrize("what", ["append", "acknowledge"])
async def test_what_the_store_never_takes_goes_to_the_fallback(
    what: Any, location: str, tmp_path: Path
) -> None:
    faults = Faults()
    fallback = AuditFallback(tmp_path / "fallback", KEY)
    async with faulty(await opened(location), faults) as store:
        audit = logged(store, attempts=3, fallback=fallback)
        assert await audit.recover() is None
        faults.fail(what, 5)
        receipts = []
        for name in ("ann", "bob", "cid"):
            entry = audit.entry(AuditAction.LOGIN, "web", user=name)
            receipts.append(await audit.record(entry))
        assert [receipt.position for receipt in receipts] == [None, None, None]
        assert faults.struck == 5  # 3 attempts, then one each: the store is known to fail
        assert (fallback.path.stat().st_mode & 0o777) == 0o600
        assert fallback.state().count == 3
        faults.heal()
        late = await audit.record(audit.entry(AuditAction.LOGIN, "web", user="dan"))
        assert late.position is not None
        head = fallback.state().head
        known = 3 if what == "acknowledge" else 0
        assert await audit.recover() == AuditRecovery(3, known, head, 0)
        assert fallback.is_empty
        found = await entries(audit)
        users = [entry.user for entry in found if entry.action is AuditAction.LOGIN]
        wanted = ["dan", "ann", "bob", "cid"] if what == "append" else ["ann", "bob", "cid", "dan"]
        assert users == wanted
        assert found[-1].details == {"recovered": 3, "head": head}
        assert await audit.recover() is None


async def test_without_any_place_the_deed_is_stopped(location: str, tmp_path: Path) -> None:
    faults = Faults()
    async with faulty(await opened(location), faults) as store:
        audit = logged(store, attempts=2)
        faults.fail("append", 2)
        with pytest.raises(AuditError, match="no fallback"):
            await audit.record(audit.entry(AuditAction.LOGIN, "web"))
        nowhere = AuditFallback(tmp_path / "missing" / "fallback", KEY)
        both = logged(store, attempts=1, fallback=nowhere)
        faults.fail("append", 1)
        with pytest.raises(AuditError, match="so does the fallback"):
            await both.record(both.entry(AuditAction.LOGIN, "web"))
        faults.fail("append", 9)
        bus = QueryBus(store, queries, middleware=[audited_queries(audit, rules)])
        with pytest.raises(AuditError):
            await bus.ask(BalanceOf(7))


async def test_a_command_whose_store_fails_leaves_an_entry_that_says_so(
    location: str, tmp_path: Path
) -> None:
    faults = Faults()
    fallback = AuditFallback(tmp_path / "fallback", KEY)
    async with faulty(await opened(location), faults) as store:
        audit = logged(store, attempts=2, fallback=fallback)
        bus = CommandBus(store, decisions, middleware=[audited(audit, rules)])
        for what in ("append", "acknowledge", "read"):
            command_id = uuid4()
            faults.fail(what, 1)
            with pytest.raises(StorageError):
                await bus.send(Deposit(len(what), 5), command_id=command_id)
            faults.heal()
            await bus.send(Deposit(len(what), 5), command_id=command_id)
            mine = await entries(audit, AuditFilter(correlation=str(command_id)))
            outcomes = [entry.details.get("outcome") for entry in mine]
            assert sorted(map(str, outcomes)) == ["None", "open"]


async def test_a_recovery_fails_with_the_store_and_goes_on_later(
    location: str, tmp_path: Path
) -> None:
    faults = Faults()
    fallback = AuditFallback(tmp_path / "fallback", KEY)
    async with faulty(await opened(location), faults) as store:
        audit = logged(store, attempts=1, fallback=fallback)
        faults.fail("append", 250)
        for number in range(250):
            await audit.record(audit.entry(AuditAction.READ, f"files/{number}"))
        for what, after in (("append", 0), ("append", 1), ("acknowledge", 1), ("append", 3)):
            faults.fail(what, 1, after=after)  # type: ignore[arg-type]
            with pytest.raises(StorageError):
                await audit.recover()
            faults.heal()
            assert not fallback.is_empty
            faults.fail("append", 1)
            await audit.record(audit.entry(AuditAction.UPDATE, "meanwhile"))
        report = await audit.recover()
        assert report is not None
        assert (report.count, report.known) == (250, 250)
        second = await audit.recover()
        assert second is not None
        assert second.count == 4
        found = await entries(audit)
        assert [e.resource for e in found if e.action is AuditAction.READ] == [
            f"files/{number}" for number in range(250)
        ]
        counts = [e.details for e in found if e.action is AuditAction.SECURITY_EVENT]
        assert [details["recovered"] for details in counts] == [250, 4]


async def test_a_recovery_gets_past_rotated_keys_and_forgotten_users(
    location: str, tmp_path: Path
) -> None:
    faults = Faults()
    fallback = AuditFallback(tmp_path / "fallback", KEY)
    with Vault(tmp_path / "vault", KeyFile.create(tmp_path / "key")) as vault:
        inner = await open_store(location, events=[AuditEntry], vault=vault)
        async with faulty(inner, faults) as store:
            audit = logged(store, attempts=1, fallback=fallback)
            entry = audit.entry(AuditAction.LOGIN, "web", user="ann", session="s1")
            commit_id = uuid4()
            faults.fail("append", 1)
            assert (await audit.record(entry, commit_id=commit_id)).position is None
            vault.rotate(entry.subject)
            await audit.record(entry, commit_id=commit_id)
            vault.forget("bob")
            with context(user_id="bob"), origin(session="s2"):
                report = await audit.recover()
            assert report is not None
            assert (report.count, report.known) == (1, 1)
            login, note = await entries(audit)
            assert (login.session, note.user, note.session) == ("s1", None, None)
            assert note.details == {"recovered": 1, "head": report.head}
            assert fallback.is_empty


@pytest.mark.parametrize("forgotten_first", [False, True])
async def test_an_entry_told_twice_around_an_erasure_is_kept_once(
    location: str, tmp_path: Path, forgotten_first: bool
) -> None:
    faults = Faults()
    fallback = AuditFallback(tmp_path / "fallback", KEY)
    with Vault(tmp_path / "vault", KeyFile.create(tmp_path / "key")) as vault:
        async with faulty(await opened(location, vault=vault), faults) as store:
            audit = logged(store, attempts=1, fallback=fallback)
            entry = audit.entry(AuditAction.LOGIN, "web", user="ann", session="s1")
            commit_id = uuid4()
            if not forgotten_first:
                faults.fail("append", 1)
            await audit.record(entry, commit_id=commit_id)
            await store.forget("ann")
            if forgotten_first:
                faults.fail("append", 1)
            await audit.record(entry, commit_id=commit_id)
            faults.fail("append", 1)
            await audit.record(audit.entry(AuditAction.LOGOUT, "web", user="bob"))
            report = await audit.recover()
            assert report is not None
            assert (report.count, report.known) == (2, 1)
            found = await entries(audit)
            assert [(e.user, e.action.value) for e in found[:2]] == [
                ("ann", "Login"),
                ("bob", "Logout"),
            ]
            assert len(found) == 3
            assert fallback.is_empty


async def test_an_entry_whose_id_means_something_else_is_not_lost(
    location: str, tmp_path: Path
) -> None:
    faults, path = Faults(), tmp_path / "fallback"
    fallback = AuditFallback(path, KEY)
    with Vault(tmp_path / "vault", KeyFile.create(tmp_path / "key")) as vault:
        async with faulty(await opened(location, vault=vault), faults) as store:
            audit = logged(store, attempts=1, fallback=fallback)
            taken = (uuid4(), uuid4())
            await audit.record(audit.entry(AuditAction.READ, "a", user="ann"), commit_id=taken[0])
            await store.append("account-1", [Deposited(amount=5)], commit_id=taken[1])
            with context(correlation_id="req-9"):
                kept = [
                    audit.entry(AuditAction.LOGIN, "web", user="ann", session="s1"),
                    audit.entry(AuditAction.LOGOUT, "web", user="bob", session="s2"),
                    audit.entry(AuditAction.READ, "b", user="cid"),
                ]
            faults.fail("append", 3)
            for entry, commit_id in zip(kept, (*taken, uuid4()), strict=True):
                await audit.record(entry, commit_id=commit_id)
            whole = path.read_bytes()
            report = await audit.recover()
            assert report is not None
            assert (report.count, report.known) == (3, 0)
            found = await entries(audit, AuditFilter(correlation="req-9"))
            assert sorted(e.user or "" for e in found) == ["ann", "bob", "cid"]
            assert {e.user: e.session for e in found} == {"ann": "s1", "bob": "s2", "cid": None}
            events = [e async for e in store.read()]
            (login,) = [e for e in events if getattr(e.event, "session", None) == "s1"]
            assert (login.metadata.user_id, login.metadata.correlation_id) == ("ann", "req-9")
            head = (await store.head()).position
            for change in (lambda: None, lambda: vault.rotate("bob"), lambda: vault.forget("ann")):
                change()
                path.write_bytes(whole)
                again = await audit.recover()
                assert again is not None
                assert (again.count, again.known) == (3, 3)
                assert (await store.head()).position == head, "nothing is written twice"


async def test_a_torn_end_is_left_out_and_an_edited_file_is_refused(
    location: str, tmp_path: Path
) -> None:
    faults = Faults()
    path = tmp_path / "fallback"
    async with faulty(await opened(location), faults) as store:
        audit = logged(store, attempts=1, fallback=AuditFallback(path, KEY))
        faults.fail("append", 4)
        for number in range(4):
            await audit.record(audit.entry(AuditAction.READ, f"files/{number}"))
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"files/2", b"files/9"))
        with pytest.raises(AuditFallbackError, match="line 4: was edited") as raised:
            await audit.recover()
        assert raised.value.line == 4
        assert (await store.head()).position == 0
        (tmp_path / "fallback.recovering").write_bytes(whole[:-20])
        report = await audit.recover()
        assert report is not None
        assert report.count == 3
        assert report.torn > 0
        assert [e.resource for e in await entries(audit)][:3] == [f"files/{n}" for n in range(3)]


async def test_who_may_see_what() -> None:
    def policy(user: str | None) -> list[AuditFilter]:
        if user == "auditor":
            return [AuditFilter()]
        return [AuditFilter(user=user), AuditFilter(resource="public")] if user else []

    async with await opened() as store:
        audit = AuditLog(store, policy=policy)
        for user in ("ann", "bob"):
            await audit.record(audit.entry(AuditAction.LOGIN, "public/web", user=user))
        assert len((await audit.query(by="auditor")).records) == 2
        mine = await audit.query(AuditFilter(user="ann"), by="ann")
        assert [record.entry.user for record in mine.records] == ["ann"]
        with context(user_id="ann"):
            page = await audit.query(AuditFilter(resource="public/web"))
        assert len(page.records) == 2
        for asked in (AuditFilter(), AuditFilter(user="bob"), AuditFilter(resource="publicity")):
            with pytest.raises(NotAllowedError):
                await audit.query(asked, by="ann")
        with pytest.raises(NotAllowedError):
            _ = [record async for record in audit.read()]
        with pytest.raises(NotAllowedError):
            _ = [line async for line in audit.export("csv", by="bob")]
        denied = await audit.query(AuditFilter(result=AuditResult.FAILURE), by="auditor")
        said = [(r.entry.user, r.entry.details) for r in reversed(denied.records)]
        assert said == [
            ("ann", {"asked": [], "how": "query"}),
            ("ann", {"asked": ["user=bob"], "how": "query"}),
            ("ann", {"asked": ["resource=publicity"], "how": "query"}),
            (None, {"asked": [], "how": "read"}),
            ("bob", {"asked": [], "how": "export as csv"}),
        ]


async def test_looks_into_the_log_are_entries_where_that_is_wanted() -> None:
    async with await opened() as store:
        audit = logged(store, reads=True)
        await audit.query(AuditFilter(user="ann"), by="auditor")
        page = await audit.query(by="auditor")
        assert [r.entry.details["asked"] for r in page.records] == [[], ["user=ann"]]


async def test_pages_join_without_gap_or_overlap(location: str) -> None:
    async with await opened(location) as store:
        audit = logged(store)
        for number in range(25):
            await audit.record(audit.entry(AuditAction.READ, f"files/{number}"))
        for oldest_first in (False, True):
            seen: list[str] = []
            cursor = None
            sizes = []
            while True:
                page = await audit.query(by="a", limit=10, cursor=cursor, oldest_first=oldest_first)
                seen += [record.entry.resource for record in page.records]
                sizes.append(len(page.records))
                cursor = page.cursor
                if cursor is None:
                    break
            wanted = [f"files/{number}" for number in range(25)]
            assert seen == (wanted if oldest_first else wanted[::-1])
            assert sizes == [10, 10, 5]
        with pytest.raises(InvalidQueryError, match="limit"):
            await audit.query(by="a", limit=0)


async def test_what_is_older_than_the_retention_is_not_shown(location: str) -> None:
    clock = ManualClock(NOON)
    async with await opened(location, clock=clock) as store:
        audit = logged(store, retention=timedelta(days=90))
        await audit.record(audit.entry(AuditAction.LOGIN, "old"))
        clock.advance(60 * DAY)
        await audit.record(audit.entry(AuditAction.LOGIN, "young"))
        assert len(await entries(audit)) == 2
        clock.advance(31 * DAY)
        assert [e.resource for e in await entries(audit)] == ["young"]
        old = AuditFilter(since=NOON - timedelta(days=1))
        assert [e.resource for e in await entries(audit, old)] == ["young"]


async def test_declarations_that_make_no_sense() -> None:
    async with await open_store("memory:") as store:
        with pytest.raises(DeclarationError, match="AuditEntry"):
            AuditLog(store, policy=everything)
    async with await opened() as store:
        for options, why in (
            ({"policy": None}, "policy"),
            ({"attempts": 0}, "attempts"),
            ({"retention": timedelta(0)}, "retention"),
        ):
            with pytest.raises(DeclarationError, match=why):
                AuditLog(store, **{"policy": everything, **options})  # type: ignore[arg-type]
        with pytest.raises(DeclarationError, match="no fallback"):
            await logged(store).recover()
        with pytest.raises(DeclarationError, match="AuditFilters"):
            await AuditLog(store, policy=lambda user: ["all"]).query()  # type: ignore[list-item]
        with pytest.raises(InvalidQueryError):
            await logged(store).query(AuditFilter(since=datetime(2026, 1, 1)))
        with pytest.raises(InvalidQueryError):
            await logged(store).query("everything")  # type: ignore[arg-type]
        with pytest.raises(InvalidQueryError, match="form"):
            _ = [line async for line in logged(store).export("xml")]  # type: ignore[arg-type]


async def test_an_export_is_lines() -> None:
    async with await opened() as store:
        audit = logged(store)
        entry = audit.entry(AuditAction.LOGIN, "web", user="=ann", session="@s")
        await audit.record(entry)
        header, row = [line async for line in audit.export("csv", by="a")]
        assert header.startswith('"id","timestamp"')
        assert '"\'=ann"' in row
        (line,) = [line async for line in audit.export("ocsf", by="a")]
        assert json.loads(line)["class_uid"] == 3002


def _holding(folder: Path, location: str, secret: str) -> list[str]:
    found = [path.name for path in folder.iterdir() if secret.encode() in bytes_of(path)]
    return found + [table[:200] for table in tables_of(location) if secret in table]


async def test_a_forgotten_user_is_nowhere_in_the_clear(location: str, tmp_path: Path) -> None:
    faults, secret = Faults(), "203.0.113.77"
    fallback = AuditFallback(tmp_path / "fallback", KEY)
    with Vault(tmp_path / "vault", KeyFile.create(tmp_path / "keys")) as vault:
        async with faulty(await opened(location, vault=vault), faults) as store:
            audit = logged(store, attempts=1, fallback=fallback)

            def entry(user: str, number: int) -> AuditEntry:
                return audit.entry(
                    AuditAction.LOGIN,
                    f"web/{number}",
                    user=user,
                    result=AuditResult.FAILURE,
                    reason=f"wrong password from {secret}",
                    details={"tried": ["hunter2"]},
                    ip_address=secret,
                )

            await audit.record(entry("ann", 1))
            await audit.record(entry("bob", 2))
            faults.fail("append", 1)
            await audit.record(entry("ann", 3))
            assert _holding(tmp_path, location, secret) == []
            assert _holding(tmp_path, location, "hunter2") == []
            assert len(await entries(audit, AuditFilter(text="HUNTER2"))) == 2
            await store.forget("ann")
            report = await audit.recover()
            assert report is not None
            assert report.count == 1
            mine = await entries(audit, AuditFilter(user="ann"))
            assert [e.resource for e in mine] == ["web/1", "web/3"]
            for one in mine:
                assert isinstance(one.reason, Erased)
                assert isinstance(one.ip_address, Erased)
                assert isinstance(one.details["tried"], Erased)
            assert [e.user for e in await entries(audit, AuditFilter(text="hunter2"))] == ["bob"]
            shown = [line async for line in audit.export("ocsf", AuditFilter(user="ann"), by="a")]
            assert len(shown) == 2
            assert not any(secret in line or "hunter2" in line for line in shown)
            await audit.record(entry("ann", 4))  # what they try from now on is known, not more
            last = (await entries(audit, AuditFilter(user="ann")))[-1]
            assert (last.result, last.ip_address) == (AuditResult.FAILURE, None)
            assert last.details == {"user": "forgotten"}


def _engine_of(store: Store) -> type[Engine]:
    backend = store.kernel.backend
    assert isinstance(backend, EmbeddedBackend)
    return type(backend.engine)


async def test_retired_entries_lose_their_keys(location: str, tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with Vault(tmp_path / "vault", KeyFile.create(tmp_path / "keys")) as vault:
        async with await opened(location, vault=vault, clock=clock) as store:
            audit = logged(store, retention=timedelta(days=30))
            for user in ("ann", "bob"):
                await audit.record(audit.entry(AuditAction.LOGIN, "old", user=user, session="s"))
            assert await audit.retire() == ()
            clock.advance(35 * DAY)
            await audit.record(audit.entry(AuditAction.LOGIN, "young", user="ann", session="t"))
            with pytest.MonkeyPatch.context() as patch:
                purges, kind = [], _engine_of(store)
                purge = kind.purge

                def counted(engine: Engine) -> None:
                    purges.append(engine)
                    purge(engine)

                patch.setattr(kind, "purge", counted)
                assert await audit.retire() == ("ann/audit/2026-11", "bob/audit/2026-11")
                assert await audit.retire() == ()
            assert len(purges) == 1
            everything = logged(store)
            said = [(e.user, str(e.session)) for e in await entries(everything)]
            assert said == [("ann", "(erased)"), ("bob", "(erased)"), ("ann", "t")]
        async with await opened() as store:
            with pytest.raises(DeclarationError, match="vault"):
                await logged(store, retention=timedelta(days=30)).retire()


USERS = st.sampled_from(["ann", "bob", "a:b", None])
RESOURCES = st.sampled_from(["a", "a/b", "a/b/c", "ab", "x/y", "a/" * 9 + "z", "a/" * 12 + "z"])
CORRELATIONS = st.sampled_from(["one", "two", None])
TEXTS = st.sampled_from(["Straße", "lost", "key", "7", "STRASSE"])
MOMENTS = st.sampled_from([NOON + timedelta(days=days) for days in (-70, -40, 0, 3, 4, 35)])


@given(
    made=st.lists(
        st.tuples(USERS, st.sampled_from(AuditAction), RESOURCES, CORRELATIONS, MOMENTS, TEXTS),
        max_size=12,
    ),
    wanted=st.builds(
        AuditFilter,
        user=USERS,
        action=st.none() | st.sampled_from(AuditAction),
        resource=st.none() | RESOURCES,
        result=st.none() | st.sampled_from(AuditResult),
        since=st.none() | MOMENTS,
        until=st.none() | MOMENTS,
        correlation=CORRELATIONS,
        text=st.none() | TEXTS,
    ),
)
@settings(max_examples=60)
def test_a_query_is_a_filter_over_all(made: list[tuple[Any, ...]], wanted: AuditFilter) -> None:
    async def compare() -> None:
        async with await opened() as store:
            moments = iter([moment for _, _, _, _, moment, _ in made])
            audit = AuditLog(store, policy=everything, clock=lambda: next(moments))
            for user, action, resource, correlation, _, text in made:
                failed = text == "lost"
                entry = audit.entry(
                    action,
                    resource,
                    user=user,
                    correlation=correlation,
                    result=AuditResult.FAILURE if failed else AuditResult.SUCCESS,
                    reason=text if failed else None,
                    details={"key": [{"deep": text}], "n": 7} if text != "7" else {},
                )
                await audit.record(entry)
            everyone = await entries(audit)
            assert len(everyone) == len(made)
            found = await entries(audit, wanted)
            assert found == [entry for entry in everyone if wanted.matches(entry)]

    run(compare)


def run(call: Any) -> None:
    """Run a check to its end, in whichever flavour."""
    going = call()
    if going is not None:
        asyncio.run(going)


async def test_entries_survive_chance_failures_once_each(location: str, tmp_path: Path) -> None:
    faults, chance = Faults(), random.Random(7)
    fallback = AuditFallback(tmp_path / "fallback", KEY)
    async with faulty(await opened(location), faults) as store:
        audit = logged(store, attempts=2, fallback=fallback)
        for number in range(120):
            for _ in range(chance.randrange(4)):
                faults.fail(chance.choice(["append", "acknowledge"]), 1)
            await audit.record(audit.entry(AuditAction.UPDATE, f"files/{number}"))
            if chance.random() < 0.1:
                try:
                    await audit.recover()
                except StorageError:
                    continue
        faults.heal()
        while await audit.recover() is not None:
            continue
        found = [e.resource for e in await entries(audit) if e.action is AuditAction.UPDATE]
        assert sorted(found) == sorted(f"files/{number}" for number in range(120))
