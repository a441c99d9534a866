"""check: what is derived is compared with what the given code makes of the events again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.everwhen_shell import Shell

CODE = """
from everwhen import *

class Sold(Event):
    pieces: int

total = Fold("total", lambda: 0)
total.on(Sold)(lambda state, event: state + event.pieces)

sales = TableProjection("sales", "CREATE TABLE {sales} (pieces INTEGER)")

@sales.on(Sold)
def _(tables, sold):
    tables.execute("INSERT INTO {sales} VALUES (?)", [sold.event.pieces])

both = [Projection(total, of=Query().category("till")), sales]
number = 7
"""
FILL = """
from shop_code import *
with open_store("sold.db", events=[Sold]) as store:
    store.append("till-1", [Sold(1), Sold(2)])
    totals = Repository(store, total)
    totals.snapshot(totals.load(both[0].of))
    with ProjectionRunner(store, [sales]) as runner:
        runner.catch_up()
"""
CODE_GIVEN = ("--events", "shop_code:Sold", "--of", "shop_code:both")


def run(folder: Path, program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, cwd=folder)


def sql(folder: Path, statement: str) -> None:
    """As any other program might do it: in a process of its own, with another SQLite."""
    run(
        folder,
        f"import sqlite3; c = sqlite3.connect('sold.db'); c.execute({statement!r}); c.commit()",
    )


@pytest.fixture
def sold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shop_code.py").write_text(CODE)
    monkeypatch.delitem(sys.modules, "shop_code", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    run(tmp_path, FILL)
    return tmp_path / "sold.db"


def test_deep_compares_with_the_code_given(shell: Shell, sold: Path) -> None:
    done = shell("check", sold, "--deep", *CODE_GIVEN)
    assert (done.code, done.out, done.err) == (0, "", "")
    sql(sold.parent, "UPDATE sales__1_1 SET pieces = 20 WHERE pieces = 2")
    assert shell("check", sold).code == 0
    bad = shell("check", sold, "--deep", *CODE_GIVEN, "--json")
    assert bad.code == 1
    (record,) = bad.records
    assert record["where"] == "projection 'sales' version 1, build 1"
    assert "a row is (20,) where the events give (2,)" in record["what"]
    assert record["is_fault"] is True


def test_what_is_not_compared_is_listed_and_no_fault(shell: Shell, sold: Path) -> None:
    done = shell("check", sold, "--deep")
    assert done.code == 0
    assert done.out.splitlines() == [
        "projection 'sales' version 1, build 1\tnot compared: its code was not given",
        "snapshots of fold 'total'\tnot compared: that fold was not given",
    ]
    look = shell.terminal("check", sold, "--deep", columns=120)
    assert "no faults in what could be compared" in look.out
    assert "no faults" in shell.terminal("check", sold, columns=120).out


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("--of", "shop_code:both"), "need --deep"),
        (("--deep", "--of", "shop_code:number"), "or a list of them, got an int"),
        (("--deep", "--of", "nowhere:both"), "there is no module"),
    ],
)
def test_code_that_can_not_be_used(
    shell: Shell, sold: Path, given: tuple[str, ...], why: str
) -> None:
    done = shell("check", sold, *given)
    assert done.code == 2
    assert why in done.err


def test_changed_text_shows_by_a_log_beside_the_store_and_else_not(
    shell: Shell, sold: Path
) -> None:
    pytest.importorskip("cryptography", reason="signing needs the extra 'trust'")
    look = shell.terminal("check", sold, columns=120)
    assert "without a signed log" in look.out
    sealed = shell("sign", sold, "--new-key", "example.org/sold")
    assert sealed.code == 0, sealed.err
    assert shell("check", sold).out == ""
    assert "without a signed log" not in shell.terminal("check", sold, columns=120).out
    sql(sold.parent, "UPDATE slices SET body = CAST(replace(body, '2', '3') AS BLOB)")
    bad = shell("check", sold)
    assert bad.code == 1
    (line,) = bad.out.splitlines()
    assert line.startswith("position 2\tchanged, by the log beside the store: ")
    (sold.parent / "sold.db-log").rename(sold.parent / "elsewhere")
    assert shell("check", sold).code == 0, "nothing knows what it was"
