"""``import`` of an archive: a folder, a file or a URL becomes a store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.cli.everwhen_shell import Shell

AGING = ("--hot-duration", "0", "--small-segments", "--archive", "objects", "--archive-after", "0")


@pytest.fixture
def archived(shell: Shell, shop: Path) -> list[Path]:
    """The objects of two segments."""
    assert shell("tiers", "age", shop, *AGING).code == 0
    assert shell("append", shop, "game-3", "GameLost", "{}").code == 0
    assert shell("tiers", "age", shop, *AGING).code == 0
    found = sorted(Path("objects").iterdir())
    assert len(found) == 2
    return found


def test_a_store_is_made_of_an_archive(shell: Shell, shop: Path, archived: list[Path]) -> None:
    done = shell("import", "new.db", "objects")
    assert (done.code, done.err) == (0, "")
    assert (done.fields["events"], done.fields["written"]) == ("6", "6")
    assert shell("read", "new.db", "--json").records == shell("read", shop, "--json").records
    assert shell("check", "new.db").code == 0
    again = shell("import", "new.db", Path("objects").resolve().as_uri(), "--json").records[0]
    assert (again["written"], again["repeated"]) == (0, 6)
    assert "Imported 6 events" in shell.terminal("import", "other.db", "objects").out
    aged = ("--hot-duration", "0", "--small-segments", "--archive", "more", "--archive-after", "0")
    assert shell("tiers", "age", "new.db", *aged).code == 0
    assert shell("import", "third.db", "more").code == 0
    assert shell("read", "third.db", "--json").records == shell("read", shop, "--json").records


def test_what_fails_leaves_no_store(shell: Shell, shop: Path, archived: list[Path]) -> None:
    Path("empty").mkdir()
    Path("foreign.parquet").write_text("hello")
    whole = archived[0].read_bytes()
    for location, code, why in (
        ("missing/", 66, "no such file"),
        ("missing.parquet", 66, "no such folder or file"),
        ("file:///missing", 66, "no such folder or file"),
        ("empty", 66, "no archived object"),
        ("ftp://host/archive", 2, "unknown kind of URL"),
        ("s3://name:secret@bucket/shop", 2, "leave credentials"),
        ("foreign.parquet", 65, "it isn't a Parquet file"),
        (archived[1], 65, "it begins at position 6, and positions 1 to 5"),
    ):
        done = shell("import", "new.db", location)
        assert (done.code, why in done.err) == (code, True), done.err
        assert "secret" not in done.err
        assert list(Path().glob("new.db*")) == []
    archived[0].write_bytes(whole[:30] + bytes(30) + whole[60:])
    done = shell("import", "new.db", "objects")
    assert (done.code, archived[0].name in done.err, "positions 1 to 5" in done.err) == (
        65,
        True,
        True,
    )
    assert list(Path().glob("new.db*")) == []


def test_options_of_other_files_are_refused(shell: Shell, archived: list[Path]) -> None:
    for words in (
        ("--format", "csv"),
        ("--again",),
        ("--times", "occurred"),
        ("--every-type", "T"),
        ("--branch", "b"),
    ):
        done = shell("import", "new.db", "objects", *words)
        assert (done.code, f"{words[0]}: not for an archive" in done.err) == (2, True), done.err


def test_a_store_with_other_history_is_left_alone(
    shell: Shell, shop: Path, archived: list[Path]
) -> None:
    assert shell("append", "--create", "mine.db", "a", "T", "{}").code == 0
    before = shell("read", "mine.db").out
    done = shell("import", "mine.db", "objects")
    assert (done.code, "other history from position 1 on" in done.err) == (1, True)
    assert shell("read", "mine.db").out == before


def test_what_was_passed_over_is_said(shell: Shell, archived: list[Path]) -> None:
    from pyarrow import parquet, table

    parquet.write_table(table({"a": [1]}), "objects/theirs.parquet")
    shutil.copy(archived[0], "objects/copy.parquet")
    Path("objects/notes.txt").write_text("hello")
    done = shell("import", "new.db", "objects")
    assert done.fields["written"] == "6"
    assert "theirs.parquet" in done.err
    assert "files that aren't Parquet, passed over: 1" in done.err
