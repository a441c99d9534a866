"""A process that sends commands: python -m tests.faults.faults_commands FILE PROCESS COMMANDS.

Every process sends the same transfers, under the same ids, and some of its own, from many tasks,
to few accounts. It says as JSON what it was told: how often its own word was the one that counted.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from uuid import UUID

import msgspec

from everwhen import Decisions, Event, Fold, Refusal, StateOf, Write
from everwhen.aio import CommandBus, open_store

ACCOUNTS = 4
TASKS = 16
OPENING = 1_000


class Moved(Event):
    amount: int


class Transfer(msgspec.Struct, frozen=True):
    source: int
    target: int
    amount: int


class Overdrawn(Refusal):
    pass


class Account(msgspec.Struct, frozen=True):
    balance: int = OPENING
    lowest: int = OPENING


account = Fold("account", Account)


@account.on(Moved)
def _moved(state: Account, event: Moved) -> Account:
    balance = state.balance + event.amount
    return Account(balance, min(balance, state.lowest))


decisions = Decisions()


@decisions.on(
    Transfer,
    StateOf(account, lambda command: f"account-{command.source}"),
    StateOf(account, lambda command: f"account-{command.target}"),
)
def _transfer(command: Transfer, source: Account, target: Account) -> list[Write]:
    if source.balance < command.amount:
        raise Overdrawn(str(source.balance))
    return [
        Write(f"account-{command.source}", [Moved(-command.amount)]),
        Write(f"account-{command.target}", [Moved(command.amount)]),
    ]


def transfer(number: int) -> Transfer:
    source = number % ACCOUNTS
    return Transfer(source, (source + 1 + number % (ACCOUNTS - 1)) % ACCOUNTS, 1 + number % 90)


async def main(path: Path, process: int, commands: int) -> None:
    wrote = repeated = refused = attempts = 0

    async with open_store(path, events=[Moved], durable=False) as store:
        bus = CommandBus(store, decisions)

        async def send(number: int, command_id: UUID) -> None:
            nonlocal wrote, repeated, refused, attempts
            try:
                result = await bus.send(transfer(number), command_id=command_id)
            except Overdrawn:
                refused += 1
                return
            attempts = max(attempts, result.attempts)
            wrote += not result.repeated
            repeated += result.repeated

        async def work(task: int) -> None:
            for number in range(task, commands, TASKS):
                await send(number, UUID(int=number + 1))  # everybody sends this one
                await send(number, UUID(int=(process + 1) << 64 | number))

        await asyncio.gather(*(work(task) for task in range(TASKS)))
    said = {"wrote": wrote, "repeated": repeated, "refused": refused, "attempts": attempts}
    print(json.dumps(said))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
