"""What the command line says of options, files, moments and names that aren't what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.everwhen_shell import Shell

from everwhen import KeyFile, UnknownEvent, Vault, open_store


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--column", "stream=a"),
        ("--time-zone", "UTC"),
        ("--delimiter", ";"),
        ("--encoding", "latin-1"),
        ("--integer", "a"),
        ("--time-format", "ms"),
        ("--category", "x"),
    ],
)
def test_csv_options_are_refused_for_other_formats(
    shell: Shell, shop: Path, option: str, value: str
) -> None:
    shell("export", shop, "shop.jsonl")
    done = shell("import", "new.db", "shop.jsonl", option, value)
    assert done.code == 2
    assert f"{option}: not for cloudevents" in done.err
    assert not Path("new.db").exists()
    refused = shell("export", shop, "other.jsonl", "--no-guard-formulas")
    assert (refused.code, refused.out) == (2, "")


def test_missing_files_and_folders_are_called_missing(shell: Shell, shop: Path) -> None:
    done = shell("import", "new.db", "nope.txt")
    assert (done.code, done.err) == (
        66,
        "everwhen: nope.txt: there is no such file; check the path\n",
    )
    Path("there.txt").write_text("")
    done = shell("import", "new.db", "there.txt")
    assert done.code == 2
    assert "--format" in done.err
    done = shell("export", shop, "nodir/x.csv")
    assert done.code == 66
    assert "there is no folder nodir" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ("--time-zone", "Nowhere/Land"),
        ("--delimiter", "long"),
        ("--encoding", "nope"),
        ("-f", "foo"),
        ("--time-format", "%Q"),
    ],
)
def test_options_that_make_no_sense_are_usage(shell: Shell, words: tuple[str, str]) -> None:
    Path("a.csv").write_text("stream,type,recorded_at\na,T,2026-01-01T00:00\n")
    done = shell("import", "new.db", "a.csv", *words)
    assert done.code == 2, done
    assert words[1].strip("%") in done.err
    assert not Path("new.db").exists()


def test_a_position_is_taken_as_it_is_printed(shell: Shell, tmp_path: Path) -> None:
    with open_store(tmp_path / "many.db") as store:
        store.append("a-1", [UnknownEvent("T", {"n": n}) for n in range(1_200)])
    assert shell("at", "many.db", "1,100", "a-1").fields["data.n"] == "1099"
    done = shell("debug", "many.db", "-c", "goto 1,150", "-c", "print event.n")
    assert done.out.splitlines()[-1] == "1149"
    assert shell("at", "many.db", "1,10").code == 2


def test_a_bookmark_that_moves_says_where_it_was(shell: Shell, shop: Path) -> None:
    assert shell("bookmark", shop, "here", "2").err == ""
    assert "was position 2 until now" in shell("bookmark", shop, "here", "3").err
    assert shell("bookmark", shop, "here", "3").err == ""
    done = shell("debug", shop, "-c", "goto 4", "-c", "bookmark here")
    assert "it was position 3 before" in done.out


def test_a_mistyped_person_is_not_barred(shell: Shell, tmp_path: Path) -> None:
    vault = Vault(tmp_path / "v.vault", KeyFile.create(tmp_path / "v.vault.key"))
    with vault, open_store(tmp_path / "s.db", vault=vault):
        pass
    words = ("--vault", "v.vault", "forget", "s.db", "nobody")
    assert "nobody called 'nobody' has keys" in shell(*words).err
    done = shell(*words, "--apply")
    assert (done.code, "nothing was done" in done.err) == (1, True)
    assert shell("info", "s.db").fields["position"] == "0"
    barred = shell(*words, "--apply", "--unknown")
    assert (barred.code, barred.fields["position"]) == (0, "1")
    again = shell(*words, "--apply")
    assert (again.code, again.err) == (0, "")


def test_a_moment_outside_of_history_is_called_that(shell: Shell, shop: Path) -> None:
    done = shell("at", shop, "2001-01-01T00:00Z")
    assert (done.code, done.out) == (0, "")
    assert "2001-01-01T00:00Z is before the first event" in done.err
    assert "0 is before the first event" in shell("at", shop, "0").err
    assert "2199-01-01T00:00Z is in the future" in shell("at", shop, "2199-01-01T00:00Z").err
    assert shell("at", shop, "2").err == ""


def test_the_debuggers_help_says_all_of_it_in_a_narrow_terminal(
    shell: Shell, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": "40"}.items():
        monkeypatch.setenv(name, value)
    done = shell("debug", shop, "-c", "help")
    said = " ".join(done.out.split())
    assert "Show what caused the event here, and what it caused." in said
    assert max(map(len, done.out.splitlines())) <= 40


def test_the_head_of_tail_stands_above_its_columns(shell: Shell, shop: Path) -> None:
    look = shell.terminal("tail", shop, "--limit", "5", NO_COLOR="1")
    head, *rows = look.out.splitlines()
    assert len(rows) == 5
    at = head.index("STREAM")
    assert all(row[at:].startswith(("game-", "player-")) for row in rows)


def test_times_in_a_pipe_have_no_quotes(shell: Shell, shop: Path) -> None:
    assert not shell("backup", shop, "copy.db").fields["recorded_at"].startswith('"')
