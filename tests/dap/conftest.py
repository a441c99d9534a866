from __future__ import annotations

from pathlib import Path

import pytest

from everwhen import Event, open_store
from everwhen.vocabulary import CommitMetadata

pytest.importorskip("typer", reason="the command line needs the extra 'cli'")


class Deposited(Event):
    owner: str
    amount: int


class Withdrawn(Event):
    owner: str
    amount: int


CODE = """
from everwhen import Event, Fold

class Deposited(Event):
    owner: str
    amount: int

class Withdrawn(Event):
    owner: str
    amount: int

events = [Deposited, Withdrawn]
bank = Fold("bank", dict)
BIG = list(range(5000))

def _with(state, owner, amount):
    owners = {**state.get("owners", {}), owner: state.get("owners", {}).get(owner, 0) + amount}
    return {"owners": owners, "total": state.get("total", 0) + amount, "big": BIG}

@bank.on(Deposited)
def _(state, event):
    print("a fold that prints is no reason to break the protocol")
    return _with(state, event.owner, event.amount)

@bank.on(Withdrawn)
def _(state, event):
    if event.amount > 1000:
        raise ValueError("the till is empty")
    return _with(state, event.owner, -event.amount)
"""
OWN = {"fold": "bank:bank", "events": "bank:events"}


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """A store with 2,600 events; the last one can't be folded by the bank's own fold."""
    (tmp_path / "bank.py").write_text(CODE)
    path = tmp_path / "bank.db"
    with open_store(path, events=[Deposited, Withdrawn], durable=False) as store:
        store.append("account-ada", [Deposited("ada", 10)])
        cause = next(iter(store.read())).event_id
        caused = CommitMetadata(causation_id=cause, user_id="ada")
        store.append("account-bob", [Deposited("bob", 5)], metadata=caused)
        store.append("account-ada", [Withdrawn("ada", 4)])
        store.append("account-eve", [Deposited("eve", 1)] * 2_596)
        store.append("account-ada", [Withdrawn("ada", 5_000)])
    return path
