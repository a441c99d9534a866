"""``backup`` and ``restore``: what they make, what they say, and how they end."""

from __future__ import annotations

from pathlib import Path

from tests.cli.everwhen_shell import Shell

from everwhen import open_store


def test_there_and_back(shell: Shell, shop: Path, tmp_path: Path) -> None:
    with open_store(shop) as store, store.create_branch("try") as branch:
        branch.append("game-1", [event.event for event in store.read("game-2")])
    made = shell("backup", shop, "copy.db")
    assert made.code == 0
    assert made.fields["position"] == "5"
    assert made.fields["branches"] == "1"
    assert made.fields["path"] == str(tmp_path / "copy.db")
    again = shell("backup", shop, "copy.db")
    assert (again.code, again.out) == (73, "")
    assert "copy.db: it already exists" in again.err
    assert shell("append", shop, "late", "Late", "{}").code == 0
    refused = shell("restore", "copy.db", shop)
    assert (refused.code, "already exists" in refused.err) == (73, True)
    assert shell("info", shop).fields["position"] == "6"
    (back,) = shell("restore", "copy.db", shop, "--overwrite", "--json").records
    assert (back["position"], back["branches"]) == (5, 1)
    assert shell("info", shop).fields["position"] == "5"
    assert shell("check", shop).code == 0
    assert shell("info", shop, "--branch", "try").fields["position"] == "6"


def test_in_a_terminal_it_says_what_it_did(shell: Shell, shop: Path) -> None:
    shown = shell.terminal("backup", shop, "copy.db")
    assert shown.code == 0
    assert "Backed up" in shown.out
    assert "up to position 5" in shown.out


def test_how_they_end(shell: Shell, shop: Path, tmp_path: Path) -> None:
    assert shell("backup", "none.db", "copy.db").code == 66
    assert shell("restore", "none.db", "copy.db").code == 66
    (tmp_path / "text").write_text("no store")
    assert shell("restore", "text", "copy.db").code == 66
    assert shell("backup", shop, shop, "--overwrite").code == 2
    assert shell("restore", shop, shop, "--overwrite").code == 2
    assert shell("backup", shop, "missing/copy.db").code == 73
    asked = shell("backup", shop, "copy.db", "--vault-to", "kept")
    assert (asked.code, "--vault FILE" in asked.err) == (2, True)
    with open_store(shop):
        assert shell("backup", shop, "copy.db").code == 0
        assert shell("restore", "copy.db", shop, "--overwrite").code == 75
    assert shell("check", shop).code == 0


def test_what_goes_along(shell: Shell, shop: Path, tmp_path: Path) -> None:
    vault = ("--vault", tmp_path / "people.vault")
    assert shell("keys", "new", tmp_path / "people.vault.key").code == 0
    assert shell(*vault, "append", shop, "new", "New", "{}").code == 0
    assert shell("sign", shop, "--new-key", "example.org/shop").code == 0
    assert shell("backup", shop, "bare.db").fields["logs"] == "0"
    assert not (tmp_path / "bare.db-log").exists()
    made = shell(*vault, "backup", shop, "copy.db", "--with-log", "--vault-to", "kept.vault")
    assert (made.code, made.fields["logs"], made.err) == (0, "1", "")
    assert shell("verify", "copy.db").code == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert {"copy.db", "copy.db-log", "kept.vault"} <= names
    assert not names & {"copy.db-signer", "kept.vault.key", "copy.db-branches"}
    kept = ("--vault", tmp_path / "kept.vault", "--key", tmp_path / "people.vault.key")
    assert shell(*kept, "keys", "list").code == 0


def test_a_log_that_is_not_there_is_missed(shell: Shell, shop: Path) -> None:
    made = shell("backup", shop, "copy.db", "--with-log")
    assert (made.code, made.fields["logs"]) == (0, "0")
    assert f"{shop}-log: there is no signed log beside the store" in made.err
