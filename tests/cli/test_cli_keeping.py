"""keys and forget: people's keys from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.everwhen_shell import Shell


@pytest.fixture
def vault(tmp_path: Path) -> tuple[str, str]:
    return "--vault", str(tmp_path / "people.vault")


def test_a_person_is_forgotten_from_the_command_line(
    shell: Shell, tmp_path: Path, vault: tuple[str, str]
) -> None:
    store, key = tmp_path / "s.db", tmp_path / "people.vault.key"
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


def test_without_a_vault_or_its_key_it_says_what_is_missing(
    shell: Shell, tmp_path: Path, vault: tuple[str, str]
) -> None:
    assert shell("keys", "list").code == 2
    lacking = shell(*vault, "keys", "list")
    assert (lacking.code, "everwhen keys new" in lacking.err) == (66, True)
