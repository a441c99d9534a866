"""undo: a plan until it is told to apply it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.everwhen_shell import Outcome, Shell

from everwhen import Commit, NewEvent, Store, UnknownEvent, Write, context, open_store

CODE = """
from everwhen import Event
from everwhen.undo import Compensations

class Deposited(Event):
    type_name = "PaidIn"
    amount: int

class Withdrawn(Event):
    amount: int

class Greeted(Event):
    word: str

events = [Deposited, Withdrawn, Greeted]
compensations = Compensations()
compensations.on(Deposited)(lambda event: Withdrawn(event.amount))
compensations.on(Withdrawn)(lambda event: Deposited(event.amount))
"""


@pytest.fixture
def bank(shell: Shell) -> Path:
    (shell.folder / "bank.py").write_text(CODE)
    path = shell.folder / "bank.db"
    with open_store(path) as store:
        for who, amount in (("ann", 5), ("bob", 60), ("ann", 700)):
            with context(user_id=who, correlation_id=f"talk-{who}"):
                store.append("account-1", [UnknownEvent("PaidIn", {"amount": amount})])
        named = NewEvent(event=UnknownEvent("Greeted", {"word": "\x1b[31mred"}), event_id="hello")
        store.append("account-2", [named])
    return path


def undo(shell: Shell, *words: object) -> Outcome:
    own = ("--compensations", "bank:compensations", "--events", "bank:events")
    return shell("undo", *words, *own)


def opened(path: Path) -> Store:
    return open_store(path)


def test_a_plan_writes_nothing_and_apply_does_it(shell: Shell, bank: Path) -> None:
    done = undo(shell, bank, "2")
    assert (done.code, done.err) == (0, "")
    assert done.rows == [
        ["undone", "2", "account-1", "PaidIn", '{"amount":60}'],
        ["append", "@4", "account-1", "Withdrawn", '{"amount":60}'],
        ["dependent", "3", "account-1", "PaidIn", "later in the same stream"],
    ]
    with opened(bank) as store:
        assert store.head().position == 4
    done = undo(shell, bank, "2", "--apply", "--user", "cid", "--source", "desk")
    assert done.code == 0, done.err
    with opened(bank) as store:
        (last,) = (
            store.read("account-1")
            if store.version("account-1") == 1
            else [*store.read("account-1")][-1:]
        )
        assert (last.type, last.data) == ("Withdrawn", {"amount": 60})
        assert (last.metadata.user_id, last.metadata.source) == ("cid", "desk")
        commit = last.commit_id
    assert ["commit_id", str(commit)] in done.rows
    again = undo(shell, bank, "2", "--apply")
    assert again.code == 1
    assert again.rows == [["already", "2", "account-1", "PaidIn", '{"amount":60}']]
    assert "done before" in again.err
    back = undo(shell, bank, commit, "--json", "--apply")
    plan, receipt = back.records
    assert [e["position"] for e in plan["redone"]] == [2]
    assert receipt["position"] == 6
    assert undo(shell, bank, "2", "--redo").code == 1
    assert undo(shell, bank, "2").code == 0


def test_targets_on_the_command_line(shell: Shell, bank: Path) -> None:
    def undone(*words: object) -> list[str]:
        done = undo(shell, bank, *words)
        assert done.code in {0, 1}, done.err
        return sorted(row[1] for row in done.rows if row[0] == "undone")

    assert undone("1-2") == undone("1..2") == ["1", "2"]
    assert undone("2-") == ["2", "3"]
    assert undone("1-", "--by", "ann") == undone("correlation:talk-ann") == ["1", "3"]
    with opened(bank) as store:
        first = next(iter(store.read()))
    assert undone(first.commit_id) == undone(first.event_id) == ["1"]
    assert undo(shell, bank, "hello").rows[0][:2] == ["cannot", "4"]
    assert undo(shell, bank, "nothing").code == 1
    wrong = undo(shell, bank, "7", "--by", "ann")
    assert (wrong.code, wrong.out) == (2, "")


def test_what_cannot_be_is_left_out_only_when_allowed(shell: Shell, bank: Path) -> None:
    refused = undo(shell, bank, "3-4", "--apply")
    assert refused.code == 1
    assert [row[:2] for row in refused.rows][:3] == [
        ["undone", "3"],
        ["append", "@4"],
        ["cannot", "4"],
    ]
    assert "no compensation is declared for Greeted" in refused.err
    with opened(bank) as store:
        assert store.head().position == 4
    allowed = undo(shell, bank, "3-4", "--apply", "--allow-partial", "--json")
    assert allowed.code == 0
    assert allowed.records[0]["uncompensated"][0]["reason"].startswith("no compensation")
    with opened(bank) as store:
        assert store.head().position == 5


@pytest.mark.parametrize("columns", [60, 100, 160])
def test_a_plan_in_a_terminal(shell: Shell, bank: Path, columns: int) -> None:
    own = ("--compensations", "bank:compensations", "--events", "bank:events")
    look = shell.terminal("undo", bank, "1-4", *own, columns=columns, NO_COLOR="1")
    assert look.code == 1
    for part in (
        "Undo of position 1",
        "3 events to undo",
        "3 events to append",
        "1 event that can't be",
    ):
        assert part in look.out
    assert "\x1b[31mred" not in look.out
    assert max(map(len, look.out.splitlines())) <= columns
    look = shell.terminal("undo", bank, "1", *own, columns=columns, NO_COLOR="1")
    assert look.code == 0, look.err
    assert "2 events since that may depend on it" in look.out
    assert "--apply" in look.out
    done = shell.terminal("undo", bank, "1", *own, "--apply", columns=columns, NO_COLOR="1")
    assert "✓ done, up to position 5" in done.out


def test_wrong_names_and_stores(shell: Shell, bank: Path) -> None:
    for words, code, says in (
        (("none.db", "1", "--compensations", "bank:compensations"), 66, "no such store"),
        ((bank, "1", "--compensations", "bank:events"), 2, "Compensations"),
        ((bank, "1", "--compensations", "bank:nothing"), 2, "nothing"),
        ((bank, "1"), 2, "compensations"),
    ):
        done = shell("undo", *words)
        assert done.code == code, done.err
        assert says in done.err
        assert "Traceback" not in done.err
    unknown = shell("undo", bank, "1", "--compensations", "bank:compensations")
    assert unknown.code == 1
    assert "'PaidIn' is not known" in unknown.err


def test_audit_entries_are_shown_to_stay(shell: Shell, bank: Path) -> None:
    with opened(bank) as store:
        entry = UnknownEvent("AuditEntry", {"action": "Update"})
        paid = UnknownEvent("PaidIn", {"amount": 8})
        writes = [Write("account-3", [paid]), Write("audit-2026-11", [entry])]
        receipt = store.commit(Commit(writes))
    done = undo(shell, bank, receipt.commit_id, "--apply")
    assert done.code == 0, done.err
    assert ["stays", "6", "audit-2026-11", "AuditEntry", '{"action":"Update"}'] in done.rows
    assert undo(shell, bank, "5", "--json").records[0]["audit_entries"] == []
    alone = undo(shell, bank, "6")
    assert alone.code == 1
    assert "which stay" in alone.err
