"""A bank to be governed over HTTP: what its application declares, and a server on a store of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx2
import msgspec
from starlette.requests import Request
from starlette.types import Receive, Scope, Send
from tests.patience import PATIENCE_SECONDS
from tests.web.serving import patient_app, served

from everwhen import Decisions, Event, EventTypes, Fold, Query, RecordedEvent, Refusal, StateOf
from everwhen.aio import CommandBus, open_store
from everwhen.audit.aio import AuditEntry, AuditFilter, AuditLog
from everwhen.merging import Invariant
from everwhen.merkle.aio import MerkleLog
from everwhen.privacy import PLAINTEXT
from everwhen.projections import OnError, Projection, TableProjection, Tables
from everwhen.projections.aio import ProjectionRunner
from everwhen.undo import Compensations
from everwhen.web.access import SCOPES, Caller
from everwhen.web.governance import Governance
from everwhen.web.guards import Guards
from everwhen_verify.notes import Signer


class Deposited(Event):
    amount: int


class Withdrawn(Event):
    amount: int


class Account(msgspec.Struct, frozen=True):
    balance: int = 0


account = Fold("account", Account)


@account.on(Deposited)
def _deposited(state: Account, event: Deposited) -> Account:
    return Account(state.balance + event.amount)


@account.on(Withdrawn)
def _withdrawn(state: Account, event: Withdrawn) -> Account:
    return Account(state.balance - event.amount)


class Withdraw(msgspec.Struct, frozen=True):
    """Take money from an account."""

    account: str
    amount: Annotated[int, msgspec.Meta(gt=0)]


class InsufficientBalance(Refusal):
    def __init__(self, balance: int, asked: int) -> None:
        super().__init__(f"the balance is {balance}")
        self.balance = balance
        self.asked = asked


decisions = Decisions()


@decisions.on(Withdraw, StateOf(account, lambda command: command.account))
def _withdraw(command: Withdraw, state: Account) -> list[Event]:
    if state.balance < command.amount:
        raise InsufficientBalance(state.balance, command.amount)
    return [Withdrawn(command.amount)]


compensations = Compensations()


@compensations.on(Deposited)
def _taken_back(event: Deposited) -> Withdrawn:
    return Withdrawn(event.amount)


solvent = Invariant(
    "solvent", account, lambda state: state.balance >= 0, Query().stream("account-solvent")
)
balances = TableProjection(
    "balances",
    ["CREATE TABLE {balances} (name TEXT PRIMARY KEY, balance INT)"],
    on_error=OnError("park", retries=0),
)
faulty = {"is": False}
"""Whether the projection fails on deposits of 13."""


@balances.on(Deposited)
def _row(tables: Tables, deposited: RecordedEvent[Deposited]) -> None:
    if faulty["is"] and deposited.event.amount == 13:
        raise ValueError("an unlucky number")
    tables.execute(
        "INSERT INTO {balances} VALUES (?, ?) ON CONFLICT (name) DO UPDATE"
        " SET balance = {balances}.balance + excluded.balance",
        (deposited.stream, deposited.event.amount),
    )


TYPES = EventTypes(Deposited, Withdrawn)


def seen_by(user: str | None) -> list[AuditFilter]:
    """Everybody sees everything, but for one, who sees what they did themselves."""
    return [AuditFilter(user=user)] if user == "nosy" else [AuditFilter()]


class ByHeader:
    """Whoever the header says it is, with every scope that another header names."""

    async def caller(self, request: Request) -> Caller:
        """Who it is."""
        scopes = request.headers.get("x-scopes", " ".join(SCOPES)).split()
        return Caller(request.headers.get("x-user"), frozenset(s for s in SCOPES if s in scopes))


@contextmanager
def governed(path: Path) -> Iterator[httpx2.Client]:
    """A client of a server of that store."""
    made: list[Guards] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if not made:
            store = await open_store(path, events=TYPES)
            runner = ProjectionRunner(store, [balances, Projection(account)])
            log = MerkleLog(store, path.with_name("log"), Signer.generate("example.org/bank"))
            await log.sign()
            given = Governance(
                decisions=decisions,
                invariants=[solvent],
                compensations=compensations,
                runner=await runner.__aenter__(),
                commands=CommandBus(store, decisions),
                log=log,
            )
            entries = await open_store("memory:", events=[AuditEntry], vault=PLAINTEXT)
            made.append(
                patient_app(
                    store,
                    folds={"account": account},
                    governance=given,
                    audit=AuditLog(entries, policy=seen_by),
                    access=ByHeader(),
                )
            )
        await made[0](scope, receive, send)

    with (
        served(app) as url,
        httpx2.Client(base_url=f"{url}/v1", timeout=PATIENCE_SECONDS) as client,
    ):
        yield client
