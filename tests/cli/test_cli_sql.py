"""``sql``: rows of a statement in a terminal, in a pipe, as JSON and as CSV, and what it says."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.everwhen_shell import Shell

BY_TYPE = "SELECT type, count(*) AS events FROM events GROUP BY 1 ORDER BY 1"


def test_in_a_pipe(shell: Shell, shop: Path) -> None:
    assert shell("sql", shop, BY_TYPE).out == "BetPlaced\t3\nGameWon\t2\n"
    done = shell(
        "sql",
        shop,
        "SELECT data, tags, null, 1.50::decimal(9,2), true FROM events ORDER BY position",
    )
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert rows[0] == ['{"player":7,"amount":5}', '["player:7"]', "", "1.50", "true"]
    assert "\\u001b" in rows[3][0]
    assert done.code == 0


def test_json(shell: Shell, shop: Path) -> None:
    done = shell(
        "sql", shop, "--json", "SELECT *, 1.50::decimal(9,2) AS d, 1 AS d FROM events LIMIT 1"
    )
    (row,) = map(json.loads, done.out.splitlines())
    assert (row["position"], row["stream"], row["data"]) == (
        1,
        "game-1",
        {"player": 7, "amount": 5},
    )
    assert (row["d"], row["d_2"], row["occurred_at"]) == (1.5, 1, None)
    (read,) = map(json.loads, shell("read", shop, "--json", "-n", "1").out.splitlines())
    same = ("position", "stream", "version", "type", "recorded_at", "commit_id", "tags", "data")
    assert {name: row[name] for name in same} == {name: read[name] for name in same}


def test_csv(shell: Shell, shop: Path) -> None:
    done = shell("sql", shop, "--csv", "SELECT position, data ->> 'note' AS note FROM events")
    rows = list(csv.reader(io.StringIO(done.out)))
    assert rows[0] == ["position", "note"]
    assert rows[4] == ["4", "very\tnice \x1b[31mred"]
    both = shell("sql", shop, "--csv", "--json", "SELECT 1")
    assert (both.code, both.out) == (2, "")


def test_in_a_terminal(shell: Shell, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("NO_COLOR", "1"), ("COLUMNS", "100")):
        monkeypatch.setenv(name, value)
    assert shell("sql", shop, BY_TYPE).out.splitlines() == [
        "TYPE       EVENTS",
        "BetPlaced       3",
        "GameWon         2",
    ]
    wide = (
        "SELECT position, 2026 AS year, 1234567 AS many, tags, data FROM events WHERE position < 2"
    )
    assert shell("sql", shop, wide).out.splitlines() == [
        "POSITION  YEAR       MANY  TAGS       DATA",
        "       1  2026  1,234,567  #player:7  player=7 amount=5",
    ]
    assert shell("sql", shop, "SELECT 1 WHERE false").out == "No rows.\n"
    note = shell("sql", shop, "SELECT data ->> 'note' FROM events WHERE position = 4").out
    assert "\x1b[31m" not in note


def test_a_statement_from_standard_input(shop: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "everwhen.cli", "sql", str(shop), "-"],
        input="SELECT count(*)\nFROM events;\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "5\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("SELECT typ FROM events",), 2, "the columns of events are position"),
        (("COPY events TO 'x'",), 2, "only a SELECT can be asked"),
        (("SELECT * FROM read_text('x')",), 2, "there is one table, events"),
        (("SELECT position FROM events", "--max-rows", "2"), 1, "allow more with --max-rows"),
        (
            ("SELECT count(*) FROM range(99999999999)a, range(999)", "--timeout", "0.2"),
            1,
            "--timeout",
        ),
    ],
)
def test_mistakes_and_limits(
    shell: Shell, shop: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = shell("sql", shop, *arguments)
    assert done.code == code
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_a_branch(shell: Shell, shop: Path) -> None:
    shell("branch", "create", shop, "trial", "--at", "2")
    counted = shell("sql", shop, "SELECT count(*) FROM events", "--branch", "trial")
    assert (counted.out, counted.err) == ("2\n", "")
