"""branch, and --branch: alternative histories from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.everwhen_shell import Shell

from everwhen import UnknownEvent, open_store


@pytest.fixture
def forked(tmp_path: Path) -> Path:
    """A store with two branches, the second forked off the first."""
    path = tmp_path / "shop.db"
    with open_store(path) as store:
        store.append("a-1", [UnknownEvent("Noted", {"n": 1})])
        store.append("a-1", [UnknownEvent("Noted", {"n": 2})])
        with store.create_branch("one", 1) as one:
            one.append("a-1", [UnknownEvent("Noted", {"n": 3})])
            one.create_branch("two").close()
    return path


def test_what_is_written_with_branch_shows_there_only(shell: Shell, forked: Path) -> None:
    before = shell("read", forked).out
    done = shell(
        "append", forked, "a-1", "Noted", '{"n": 4}', "--expected", 2, "--branch", "two", "--json"
    )
    assert (done.code, json.loads(done.out)["version"]) == (0, 3)
    assert shell("read", forked).out == before == shell("read", forked, "--branch", "main").out
    numbers = [
        line.rsplit("\t", 1)[1]
        for line in shell("read", forked, "--branch", "two").out.splitlines()
    ]
    assert numbers == ['{"n":1}', '{"n":3}', '{"n":4}']
    assert shell("streams", forked, "--branch", "two").out.split("\t")[:3] == ["a-1", "3", "3"]
    assert '"n":4' in shell("at", forked, "now", "a-1", "--branch", "two", "--json").out
    assert shell("tail", forked, "--limit", 1, "-n", 1, "--branch", "one").out.endswith('{"n":3}\n')
    info = json.loads(shell("info", forked, "--branch", "two", "--json").out)
    assert (info["events"], info["branch"]["parent"], info["bytes"]) == (3, "one", None)
    assert shell("check", forked, "--branch", "two").code == 0
    exported = shell("export", forked, "-", "--format", "jsonl", "--branch", "two").out
    assert len(exported.splitlines()) >= 3


def test_listing(shell: Shell, forked: Path) -> None:
    lines = [line.split("\t") for line in shell("branch", "list", forked).out.splitlines()]
    assert [line[:4] for line in lines] == [["one", "main", "1", "2"], ["two", "one", "2", "2"]]
    records = [
        json.loads(line) for line in shell("branch", "list", forked, "--json").out.splitlines()
    ]
    assert [record["name"] for record in records] == ["one", "two"]
    assert records[0]["created_at"] == lines[0][4]
    drawn = shell.terminal("branch", "list", forked, NO_COLOR="1").out.splitlines()
    assert drawn[0].startswith("main")
    assert drawn[1].startswith("└── one  after 1  +1")
    assert drawn[2].startswith("    └── two  after 2  +0")


def test_creating(shell: Shell, forked: Path) -> None:
    for name, options, place in (
        ("now", (), ("main", 2)),
        ("place", ("--at", 1), ("main", 1)),
        ("dawn", ("--at", "2001-01-01T00:00Z"), ("main", 0)),
        ("off", ("--from", "one"), ("one", 2)),
    ):
        done = shell("branch", "create", forked, name, *options, "--json")
        record = json.loads(done.out)
        assert (record["parent"], record["fork_position"]) == place
    again = shell("branch", "create", forked, "now")
    assert (again.code, again.out) == (1, "")
    assert "'now'" in again.err
    assert shell("branch", "create", forked, "far", "--at", 7).code == 1
    assert shell("branch", "create", forked, "../far").code == 1
    assert shell("branch", "create", forked, "x", "--from", "none").code == 1
    assert shell("branch", "create", forked.with_name("none.db"), "x").code == 66
    drawn = shell.terminal("branch", "create", forked, "[b]", NO_COLOR="1").out
    assert drawn == "✓ branch [b] begins after position 2 of main\n"


def test_renaming_and_deleting(shell: Shell, forked: Path) -> None:
    assert shell("branch", "rename", forked, "one", "eins").out == ""
    (new,) = shell("branch", "rename", forked, "eins", "uno", "--json").records
    assert (new["name"], new["parent"]) == ("uno", "main")
    refused = shell("branch", "delete", forked, "uno")
    assert refused.code == 1
    assert "(two)" in refused.err
    told = shell("branch", "delete", forked, "uno", "--with-children", "--json")
    assert sorted(record["name"] for record in told.records) == ["two", "uno"]
    assert shell("branch", "list", forked).out == ""
    gone = shell("read", forked, "--branch", "uno")
    assert (gone.code, gone.out) == (1, "")
    assert "none at all" in gone.err


def test_what_branches_have_that_others_have_not(shell: Shell, forked: Path) -> None:
    shell("append", forked, "b-1", "Noted", '{"n": 9}', "--branch", "two")
    assert [(row[0], row[1], row[6]) for row in shell("branch", "diff", forked, "two").rows] == [
        ("main", "2", '{"n":2}'),
        ("two", "2", '{"n":3}'),
        ("two", "3", '{"n":9}'),
    ]
    (only,) = shell("branch", "diff", forked, "two", "one", "--json").records
    assert (only["branch"], only["position"], only["data"]) == ("two", 3, {"n": 9})
    states = shell("branch", "diff", forked, "two", "main", "--state").rows
    assert ["a-1.data.n", "changed", "2", "3"] in states
    assert ["b-1", "added"] in [row[:2] for row in states]
    shell("branch", "create", forked, "three")
    same = shell("branch", "diff", forked, "three")
    assert (same.code, same.out) == (1, "")
    assert "the same branch" in shell("branch", "diff", forked, "one", "one").err
    assert shell("branch", "diff", forked, "four").code != 0
    assert "two" in shell.terminal("branch", "diff", forked, "two").out
