"""audit: write, search, export and recover."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.everwhen_shell import Shell

from everwhen import KeyFile, Vault, open_store
from everwhen.audit import AuditAction, AuditEntry, AuditFallback, AuditFilter, AuditLog
from everwhen.privacy import PLAINTEXT
from everwhen.testing import Faults, faulty


@pytest.fixture
def audited(shell: Shell) -> Path:
    path = shell.folder / "shop.db"
    open_store(path).close()
    for words in (
        (
            "login",
            "web",
            "-u",
            "ann",
            "--ip",
            "192.0.2.7",
            "--session",
            "s1",
            "--user-agent",
            "x/1",
        ),
        ("Update", "accounts/7/limit", "-u", "ann", "-d", "from=5", "-d", "to=many", "-d", "x={}"),
        ("permission-grant", "accounts/7", "--user", "bob", "--reason", "not his to give"),
    ):
        done = shell("audit", "log", path, *words)
        assert done.code == 0, done.err
    return path


def test_search(shell: Shell, audited: Path) -> None:
    done = shell("audit", "query", audited)
    assert done.code == 0, done.err
    assert [row[2:6] for row in done.rows] == [
        ["bob", "PermissionGrant", "accounts/7", "Failure"],
        ["ann", "Update", "accounts/7/limit", "Success"],
        ["ann", "Login", "web", "Success"],
    ]
    assert done.rows[0][6] == "not his to give"
    assert done.rows[1][8] == '{"from":5,"to":"many","x":"{}"}'
    for words, positions in (
        (("--user", "ann"), [2, 1]),
        (("--resource", "accounts"), [3, 2]),
        (("--resource", "accounts/"), [3, 2]),
        (("--result", "failure"), [3]),
        (("--action", "LOGIN"), [1]),
        (("--text", "MANY"), [2]),
        (("--until", "2001-01-01Z"), []),
        (("--limit", "1", "--cursor", "3"), [2]),
        (("--oldest-first", "--since", "1h ago"), [1, 2, 3]),
    ):
        found = shell("audit", "query", audited, *words, "--json")
        assert [record["position"] for record in found.records] == positions
    (record,) = shell("audit", "query", audited, "--action", "login", "--json").records
    assert (record["ip_address"], record["session"]) == ("192.0.2.7", "s1")
    assert record["user_agent"] == "x/1"


def test_a_terminal_shows_a_table(
    shell: Shell, audited: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    done = shell("audit", "query", audited, "--limit", "2")
    assert "RESOURCE" in done.out
    assert "accounts/7/limit" in done.out
    assert "There are more: --cursor 2" in done.out
    assert "logged at position 4" in shell("audit", "log", audited, "logout", "web").out


def test_what_is_wrong_is_said(shell: Shell, audited: Path) -> None:
    for words, code, said in (
        (("query", audited, "--action", "dance"), 2, "use one of Create"),
        (("query", "nowhere.db"), 66, "nowhere.db"),
        (("log", audited, "login", "web", "--ip", "here"), 1, "ip_address"),
        (("log", audited, "login", "web", "-d", "x"), 2, "NAME=VALUE"),
        (("log", audited, "login", "web", "-d", "x=1", "-d", "x=2"), 2, "is given twice"),
        (("log", audited, "login", "web", "--partial", "--reason", "no"), 2, "give only one"),
        (("export", audited, audited, "--overwrite"), 2, "name another"),
        (("export", audited, f"{audited}-wal", "--overwrite"), 2, "name another"),
        (("export", audited, "-", "--format", "xml"), 2, "use ocsf or csv"),
        (("recover", audited, "fallback", "--key-file", "missing"), 66, "missing"),
    ):
        done = shell("audit", *words)
        assert (done.code, said in done.err) == (code, True), done.err
    assert len(shell("audit", "query", audited).rows) == 3


def test_export(shell: Shell, audited: Path) -> None:
    done = shell("audit", "export", audited, "-")
    assert [event["class_uid"] for event in done.records] == [3002, 3004, 3005]
    target = shell.folder / "log.csv"
    assert shell("audit", "export", audited, target, "-f", "csv", "--user", "ann").code == 0
    assert len(target.read_text().splitlines()) == 3
    assert "--overwrite" in shell("audit", "export", audited, target).err
    assert shell("audit", "export", audited, target, "--overwrite").code == 0


def test_an_export_that_is_cut_off_leaves_the_old_file(
    shell: Shell, audited: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = shell.folder / "log.csv"
    target.write_text("the old one")

    def cut_off(*_: object) -> Iterator[str]:
        yield "a line\n"
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "export", cut_off)
        assert shell("audit", "export", audited, target, "--overwrite").code == 74
    assert target.read_text() == "the old one"
    assert not list(shell.folder.glob(".*"))


def test_recover(shell: Shell, audited: Path) -> None:
    key, path, faults = shell.folder / "key", shell.folder / "fallback", Faults()
    fallback = AuditFallback(path, AuditFallback.key_from(key))
    with faulty(open_store(audited, events=[AuditEntry], vault=PLAINTEXT), faults) as store:
        audit = AuditLog(store, policy=lambda user: [AuditFilter()], fallback=fallback, attempts=1)
        faults.fail("append", 2)
        for name in ("cid", "dan"):
            audit.record(audit.entry(AuditAction.LOGIN, "web", user=name))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"dan"', b'"eve"'))
    done = shell("audit", "recover", audited, path, "--key-file", key)
    assert (done.code, "line 3" in done.err) == (65, True), done.err
    assert "recover with salvage" in done.err
    salvage = ("audit", "recover", audited, path, "--key-file", key, "--salvage")
    saved = shell(*salvage).fields
    assert (saved["recovered"], saved["not_trusted_from_line"]) == ("1", "3")
    assert saved["kept"] == f"{path}.damaged"
    assert b'"eve"' in Path(saved["kept"]).read_bytes()
    (shell.folder / "fallback.recovering").write_bytes(whole.replace(b'"dan"', b'"eve"'))
    assert "nothing is trusted from line 3 on" in " ".join(shell.terminal(*salvage).out.split())
    (shell.folder / "fallback.recovering").write_bytes(whole)
    done = shell("audit", "recover", audited, path, "--key-file", key, "--json")
    assert (done.code, done.records[0]["recovered"], done.records[0]["known"]) == (0, 2, 1)
    assert shell("audit", "recover", audited, path, "--key-file", key).fields["recovered"] == "0"
    found = shell("audit", "query", audited, "--limit", "5")
    assert [row[2] for row in found.rows] == ["", "dan", "", "", "cid"]


def test_only_a_fallback_is_recovered(shell: Shell, audited: Path) -> None:
    key = shell.folder / "key"
    AuditFallback.key_from(key)
    for name, content in (
        ("letter", b"Dear Ann,\n\nthe cheque is in the post.\n"),
        ("no newline", b"\x00\x01\x02"),
        ("log.jsonl", b'{"n": 0}\n{"n": 1}\n'),
    ):
        path = shell.folder / name
        path.write_bytes(content)
        for words in ((), ("--salvage",)):
            done = shell("audit", "recover", audited, path, "--key-file", key, *words)
            assert (done.code, "not a fallback file" in done.err) == (65, True), done.err
            assert path.read_bytes() == content
            assert not list(shell.folder.glob(f"{name}.*"))
    before = sorted(shell.folder.iterdir())
    done = shell("audit", "recover", audited, "fallbakc", "--key-file", key)
    assert (done.code, "fallbakc: there is no such" in done.err) == (66, True), done.err
    assert sorted(shell.folder.iterdir()) == before
    assert len(shell("audit", "query", audited).rows) == 3


def test_with_a_vault(shell: Shell) -> None:
    path, vault, keys = (shell.folder / name for name in ("s.db", "vault", "vault.key"))
    open_store(path).close()
    Vault(vault, KeyFile.create(keys)).close()
    audit = ("--vault", vault, "audit")
    done = shell(*audit, "log", path, "login", "web", "-u", "ann", "--session", "s9")
    assert done.code == 0, done.err
    (record,) = shell(*audit, "query", path, "--json").records
    assert record["session"] == "s9"
    with Vault(vault, KeyFile(keys)) as opened:
        opened.forget("ann")
    (record,) = shell(*audit, "query", path, "--json").records
    assert record["session"] == {"$erased": "ann/audit/" + record["timestamp"][:7]}
    assert shell("audit", "query", path).code != 0
