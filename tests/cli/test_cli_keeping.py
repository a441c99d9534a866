"""keys and forget: people's keys from the command line."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import msgspec
import pytest
from tests.cli.everwhen_shell import Shell

from everwhen.privacy.keys import keys_in


@pytest.fixture
def vault(tmp_path: Path) -> tuple[str, str]:
    return "--vault", str(tmp_path / "people.vault")


def test_a_person_is_forgotten_from_the_command_line(
    shell: Shell, tmp_path: Path, vault: tuple[str, str], location: str
) -> None:
    store, key = location, tmp_path / "people.vault.key"
    assert shell("keys", "new", key).code == 0
    data = '{"name": {"$personal": "Ada Lovelace", "subject": "ada"}}'
    assert shell(*vault, "append", store, "p-ada", "Joined", data, "--create").code == 0
    assert "Ada Lovelace" in shell(*vault, "read", store).out
    assert "Lovelace" not in shell("read", store).out
    assert shell(*vault, "keys", "list").out.split("\t")[:2] == ["ada", "1"]
    assert json.loads(shell(*vault, "keys", "rotate", "--json").out)["wrapped"] == 2
    assert shell(*vault, "keys", "rotate", "ada").code == 0
    plan = json.loads(shell(*vault, "forget", store, "ada", "--json").out)
    assert plan == {"subject": "ada", "keys_of": ["ada"], "forgotten": False}
    assert "Ada Lovelace" in shell(*vault, "read", store).out
    done = json.loads(shell(*vault, "forget", store, "ada", "--apply", "--json").out)
    assert (done["keys_of"], done["repeated"]) == (["ada"], False)
    assert '{"name":{"$erased":"ada"}}' in shell(*vault, "read", store).out
    assert shell(*vault, "append", store, "p-ada", "Joined", data).code == 1


def test_an_older_vault_is_refused_and_brought_up_to_date(
    shell: Shell, tmp_path: Path, vault: tuple[str, str], location: str
) -> None:
    store, key, old = location, tmp_path / "people.vault.key", tmp_path / "old.vault"
    assert shell("keys", "new", key).code == 0
    data = '{"name": {"$personal": "Ada Lovelace", "subject": "ada"}}'
    assert shell(*vault, "append", store, "p-ada", "Joined", data, "--create").code == 0
    shutil.copy(tmp_path / "people.vault", old)
    assert shell(*vault, "forget", store, "ada", "--apply").code == 0
    older = ("--vault", old, "--key", key)
    for words in (("read", store), ("append", store, "p-bob", "Left"), ("forget", store, "ada")):
        refused = shell(*older, *words)
        assert (refused.code, "forget STORE --recorded --apply" in refused.err) == (77, True)
        assert "Lovelace" not in refused.out
    plan = json.loads(shell(*older, "forget", store, "--recorded", "--json").out)
    assert plan == {"subjects": ["ada"], "applied": False}
    assert shell(*older, "read", store).code == 77
    done = json.loads(shell(*older, "forget", store, "--recorded", "--apply", "--json").out)
    assert done == {"subjects": ["ada"], "applied": True}
    assert '{"name":{"$erased":"ada"}}' in shell(*older, "read", store).out
    nobody = json.loads(shell(*older, "forget", store, "--recorded", "--json").out)
    assert nobody == {"subjects": [], "applied": False}
    for words in (("forget", store), ("forget", store, "ada", "--recorded")):
        assert shell(*older, *words).code == 2


def test_a_key_beside_a_tombstone_is_listed_as_one(
    shell: Shell, tmp_path: Path, vault: tuple[str, str]
) -> None:
    store, people = tmp_path / "s.db", tmp_path / "people.vault"
    assert shell("keys", "new", tmp_path / "people.vault.key").code == 0
    data = '{"name": {"$personal": "Ada Lovelace", "subject": "ada"}}'
    assert shell(*vault, "append", store, "p-ada", "Joined", data, "--create").code == 0
    with contextlib.closing(sqlite3.connect(people, isolation_level=None)) as connection:
        connection.execute("INSERT INTO stones VALUES ('ada', 1, 1)")
    assert "Lovelace" not in shell(*vault, "read", store).out
    assert shell(*vault, "keys", "list").out.rstrip().endswith("\tforgotten")
    assert json.loads(shell(*vault, "keys", "list", "--json").out)["forgotten"] is True
    checked = shell(*vault, "check", store)
    assert (checked.code, "beside its tombstone" in checked.out) == (1, True)
    plan = json.loads(shell(*vault, "forget", store, "ada", "--json").out)
    assert plan == {"subject": "ada", "keys_of": ["ada"], "forgotten": True}
    assert shell(*vault, "forget", store, "ada", "--apply").code == 0
    assert shell(*vault, "keys", "list").out == ""
    assert shell(*vault, "check", store).code == 0


def test_what_was_erased_is_shown_to_people_as_that(
    shell: Shell, tmp_path: Path, vault: tuple[str, str]
) -> None:
    store = tmp_path / "s.db"
    assert shell("keys", "new", tmp_path / "people.vault.key").code == 0
    value = {"$personal": "Ada", "subject": "ada"}
    data = json.dumps({"name": value, "more": [value]})
    assert shell(*vault, "append", store, "p-ada", "Joined", data, "--create").code == 0
    assert shell(*vault, "append", store, "p-ada", "Left", '{"name": "gone"}').code == 0
    assert shell(*vault, "forget", store, "ada", "--apply").code == 0
    for command in (
        ["read", store],
        ["tail", store, "--limit", "1"],
        ["at", store, "1", "p-ada"],
        ["at", store, "1"],
        ["diff", store, "start", "1", "p-ada"],
        ["history", store, "data.name", "p-ada"],
        ["blame", store, "data.more", "p-ada"],
        ["replay", store, "p-ada"],
    ):
        shown = shell(*vault, *command, FORCE_COLOR="1", COLUMNS="200", NO_COLOR="1")
        assert shown.code == 0, shown.err
        assert "(erased)" in shown.out, command
        assert "$erased" not in shown.out, command
        piped = shell(*vault, *command)
        assert "$erased" in piped.out, command
        assert "(erased)" not in piped.out, command


def test_without_a_vault_or_its_key_it_says_what_is_missing(
    shell: Shell, tmp_path: Path, vault: tuple[str, str]
) -> None:
    store = tmp_path / "s.db"
    assert shell("keys", "list").code == 2
    lacking = shell(*vault, "append", store, "p-ada", "Joined", "--create")
    assert (lacking.code, "everwhen keys new" in lacking.err) == (66, True)


def test_a_key_that_does_not_open_the_vault_is_no_input(
    shell: Shell, tmp_path: Path, vault: tuple[str, str]
) -> None:
    store, key, other = tmp_path / "s.db", tmp_path / "people.vault.key", tmp_path / "other.key"
    for path in (key, other):
        assert shell("keys", "new", path).code == 0
    data = '{"name": {"$personal": "Ada Lovelace", "subject": "ada"}}'
    assert shell(*vault, "append", store, "p-ada", "Joined", data, "--create").code == 0
    missing = shell(*vault, "--key", other, "read", store)
    assert (missing.code, "doesn't have key" in missing.err) == (66, True), missing.err
    (right,) = keys_in(key.read_text(), "key")
    (wrong,) = keys_in(other.read_text(), "key")
    other.write_text(msgspec.structs.replace(wrong, id=right.id).line)
    forged = shell(*vault, "--key", other, "read", store)
    assert forged.code == 66, forged.err
    assert shell(*vault, "read", store).code == 0


def test_a_mistyped_vault_is_never_made_by_what_only_asks_or_destroys(
    shell: Shell, tmp_path: Path, vault: tuple[str, str]
) -> None:
    store, key = tmp_path / "s.db", tmp_path / "people.vault.key"
    assert shell("keys", "new", key).code == 0
    data = '{"name": {"$personal": "Ada Lovelace", "subject": "ada"}}'
    assert shell(*vault, "append", store, "p-ada", "Joined", data, "--create").code == 0
    wrong = ("--vault", tmp_path / "poeple.vault", "--key", key)
    for words in (
        ("keys", "list"),
        ("keys", "rotate"),
        ("read", store),
        ("audit", "query", store),
        ("forget", store, "ada"),
        ("forget", store, "ada", "--apply"),
    ):
        done = shell(*wrong, *words)
        assert (done.code, "the vault is missing" in done.err) == (66, True), words
    assert not (tmp_path / "poeple.vault").exists()
    assert len(shell(*vault, "read", store).rows) == 1, "no erasure is recorded"


def test_what_the_store_rests_on_is_never_written_over(
    shell: Shell, tmp_path: Path, vault: tuple[str, str]
) -> None:
    store, key = tmp_path / "s.db", tmp_path / "people.vault.key"
    assert shell("keys", "new", key).code == 0
    again = shell("keys", "new", key)
    assert (again.code, "never overwritten" in again.err) == (77, True), again.err
    assert shell(*vault, "append", store, "p-ada", "Joined", "--create").code == 0
    for path in (store, key, tmp_path / "people.vault"):
        before = path.read_bytes()
        for words in (
            ("export", store, path, "--format", "jsonl", "--overwrite"),
            ("audit", "export", store, path, "--overwrite"),
            ("prove", store, 1, "--output", path),
        ):
            done = shell(*vault, *words)
            assert (done.code, "name another" in done.err) == (2, True), done.err
        assert path.read_bytes() == before
    assert shell(*vault, "forget", store, "").code != 0
