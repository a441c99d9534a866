"""checkpoint, prove and verify: trust in history from the command line."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest
from tests.cli.everwhen_shell import Outcome, Shell, in_terminal
from tests.trust.attacks import sign_as_retired, tidy
from tests.trust.timestamping import serving

from everwhen.witness import WitnessServer, WitnessService
from everwhen_verify.notes import Kind, Signer, Verifier

ORIGIN = "example.org/shop"


@pytest.fixture
def sealed(shell: Shell, shop: Path) -> tuple[Path, str]:
    """A store with four signed commits, and the log's public key."""
    (signed,) = shell("sign", shop, "--new-key", ORIGIN, "--json").records
    return shop, signed["key"]


def policy_of(shop: Path, key: str) -> Path:
    policy = shop.with_name("policy")
    policy.write_text(f"log {key}\nquorum none\n")
    return policy


def change(shop: Path) -> None:
    with sqlite3.connect(shop) as connection:
        connection.execute("UPDATE slices SET recorded_at = recorded_at + 1 WHERE position = 3")
    connection.close()


def shown(outcome: Outcome) -> str:
    """What a terminal shows, without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", outcome.out)


def test_a_checkpoint_is_signed_and_everything_verifies(shell: Shell, shop: Path) -> None:
    first = shell("sign", shop, "--new-key", ORIGIN)
    assert (first.code, first.err) == (0, "")
    origin, size, _root, blank, signature = first.out.splitlines()
    assert (origin, size, blank) == (ORIGIN, "4", "")
    assert signature.startswith(f"— {ORIGIN} ")
    assert Path(f"{shop}-signer").stat().st_mode & 0o777 == 0o600
    assert shell("sign", shop).out == first.out
    found = shell("verify", shop)
    assert found.code == 0
    fields = found.fields
    assert (fields["sound"], fields["commits"], fields["verified"]) == ("true", "4", "4")
    assert (fields["unsigned"], fields["fault"]) == ("0", "null")


def test_as_json(shell: Shell, shop: Path) -> None:
    (signed,) = shell("sign", shop, "--new-key", ORIGIN, "--json").records
    assert (signed["origin"], signed["size"]) == (ORIGIN, 4)
    assert signed["key"].startswith(f"{ORIGIN}+")
    assert signed["checkpoint"] == shell("sign", shop).out
    (proof,) = shell("prove", shop, 2, "--json").records
    assert (proof["position"], proof["index"], proof["hashes"]) == (2, 0, 2)
    assert proof["proof"] == shell("prove", shop, 2).out
    (report,) = shell("verify", shop, "--key", signed["key"], "--json").records
    since = datetime.fromisoformat(report.pop("remembers_since"))
    assert abs(datetime.now(UTC) - since) < timedelta(hours=1)
    assert report == {
        "sound": True,
        "commits": 4,
        "verified": 4,
        "unsigned": 0,
        "retired": 0,
        "retired_up_to": None,
        "retired_at": None,
        "retired_by": None,
        "retirement_signed": None,
        "key_from": "given",
        "remembered_commits": 4,
        "signed_by": [signed["key"]],
        "handed_over": [],
        "fault": None,
    }


def test_the_stand_alone_verifier_takes_the_proof(shell: Shell, sealed: tuple[Path, str]) -> None:
    shop, key = sealed
    proof = shop.with_name("third.tlog-proof")
    written = shell("prove", shop, 3, "--output", proof)
    assert (written.code, written.fields["index"]) == (0, "1")
    command = [sys.executable, "-m", "everwhen_verify", str(proof), str(policy_of(shop, key))]
    taken = in_terminal(command, shop.parent)
    assert taken.code == 0, taken.out
    assert taken.out.startswith("yes: ")
    assert "game-2 version 1" in taken.out
    proof.write_bytes(proof.read_bytes().replace(b"index 1\n", b"index 2\n"))
    refused = in_terminal(command, shop.parent)
    assert (refused.code, refused.out[:4]) == (1, "no: ")


def test_a_proof_replaces_a_file_only_when_asked_and_as_a_whole(
    shell: Shell, sealed: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, _ = sealed
    proof = shop.with_name("kept.tlog-proof")
    proof.write_text("the old one")
    refused = shell("prove", shop, 3, "--output", proof)
    assert (refused.code, "--overwrite" in refused.err) == (73, True)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        broken = shell("prove", shop, 3, "--output", proof, "--overwrite")
        assert (broken.code, "No space left" in broken.err) == (74, True)
    assert proof.read_text() == "the old one"
    assert not list(shop.parent.glob(".*"))
    assert shell("prove", shop, 3, "--output", proof, "--overwrite").code == 0
    assert shell("prove", shop, 3, "--output", "-").out == proof.read_text()


def test_what_signs_and_what_was_signed_is_never_written_over(
    shell: Shell, sealed: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, _ = sealed
    key, secret, log = (shop.with_name(name) for name in ("a-key", "b-key", "elsewhere"))
    made = ("sign", shop, "--log", log, "--key-file", key, "--new-key", ORIGIN)
    assert shell(*made).code == 0
    monkeypatch.setenv("EVERWHEN_SIGNER_PASSPHRASE", "open sesame")
    assert shell("sign", shop, "--log", "x", "--key-file", secret, "--new-key", "b").code == 0
    tiles = [log / "checkpoint", log / "vkey", log / "tile" / "new"]
    for path in (key, secret, Path(f"{shop}-log") / "checkpoint", *tiles):
        before = path.read_bytes() if path.exists() else None
        done = shell("prove", shop, 1, "--log", log, "-o", path, "--overwrite")
        assert (done.code, "name another" in done.err) == (2, True), done.err
        assert (path.read_bytes() if path.exists() else None) == before
    for command in (("export",), ("audit", "export")):
        done = shell(*command, shop, key, "--overwrite", "--format", "csv")
        assert (done.code, "signing key" in done.err) == (2, True), done.err


def test_a_change_is_named(shell: Shell, sealed: tuple[Path, str]) -> None:
    shop, key = sealed
    change(shop)
    found = shell("verify", shop, "--key", key, "--json")
    (report,) = found.records
    assert found.code == 1
    assert (report["sound"], report["fault"]) == (False, "back-dated")
    assert (report["index"], report["position"], report["unsigned"]) == (1, 3, 0)
    assert report["what"].startswith("the commit at number 1 ")
    assert report["expected"] != report["found"]
    assert shell("verify", shop).fields["fault"] == "back-dated"
    assert shell("prove", shop, 3).code == 1
    assert shell("prove", shop, 4).code == 0, "the others still are what was signed"
    assert shell("sign", shop).code == 1, "nothing is signed on top of it"


def test_a_remembered_checkpoint_is_kept_to(shell: Shell, sealed: tuple[Path, str]) -> None:
    shop, key = sealed
    kept = shop.with_name("kept")
    kept.write_text(shell("sign", shop).out)
    assert shell("append", shop, "game-3", "Opened", "{}").code == 0
    assert shell("verify", shop).fields["unsigned"] == "1"
    assert shell("sign", shop).out.splitlines()[1] == "5"
    later = shop.with_name("later")
    later.write_text(shell("sign", shop).out)
    found = shell("verify", shop, "--key", key, "--remembered", kept, "--since", kept)
    assert (found.code, found.fields["verified"]) == (0, "5")
    proof = shop.with_name("p")
    assert shell("prove", shop, 1, "--output", proof).code == 0
    for option in ("--remembered", "--since"):
        mistaken = shell("verify", shop, option, proof)
        assert (mistaken.code, "is not a checkpoint" in mistaken.err) == (1, True), mistaken.err
    log = Path(f"{shop}-log")
    (log / "checkpoint").write_text(kept.read_text())
    (log / "checkpoints").write_text(f"{kept.read_text()}\n")
    with sqlite3.connect(shop) as connection:
        connection.execute("DELETE FROM slices WHERE position = 6")
    connection.close()
    tidy(shop)
    new = ("--memory", shop.with_name("new"))
    assert shell("verify", shop, *new).code == 0, "set back together, it shows nowhere here"
    for given in (("--remembered", later, *new), ()):
        cut = shell("verify", shop, *given)
        assert (cut.code, cut.fields["fault"]) == (1, "cut tail")


def memory_files() -> list[Path]:
    return sorted(Path(os.environ["XDG_STATE_HOME"], "everwhen", "remembered").glob("*.json"))


def test_what_was_verified_is_remembered(shell: Shell, sealed: tuple[Path, str]) -> None:
    shop, key = sealed
    (first,) = shell("verify", shop, "--json").records
    assert (first["key_from"], first["remembered_commits"]) == ("log", 4)
    (file,) = memory_files()
    assert file.stat().st_mode & 0o777 == 0o600
    (second,) = shell("verify", shop, "--json").records
    assert second["key_from"] == "remembered"
    assert second["remembers_since"] == first["remembers_since"]
    assert shell("append", shop, "s", "Opened", "{}").code == 0
    old = Path(f"{shop}-log").rename(shop.with_name("old"))
    shutil.copytree(old, f"{shop}-log")
    assert shell("sign", shop).code == 0
    assert shell("verify", shop).fields["remembered_commits"] == "5"
    shutil.rmtree(f"{shop}-log")
    gone = shell("verify", shop)
    assert (gone.code, gone.fields["fault"]) == (1, "no checkpoint")
    old.rename(f"{shop}-log")
    back = shell("verify", shop)
    assert (back.code, back.fields["fault"]) == (1, "log set back"), back.out
    drawn = shown(shell.terminal("verify", shop))
    assert "5 commits, of a log known since" in drawn
    assert "--forget-remembered" in drawn
    assert shell("sign", shop).code == 0
    assert shell("verify", shop, "--key", key).fields["key_from"] == "given"


def test_a_log_that_was_made_anew_is_known_once_the_old_one_is_forgotten(
    shell: Shell, sealed: tuple[Path, str]
) -> None:
    shop, key = sealed
    assert shell("verify", shop).code == 0
    shutil.rmtree(f"{shop}-log")
    Path(f"{shop}-signer").unlink()
    (anew,) = shell("sign", shop, "--new-key", ORIGIN, "--json").records
    for given in ((), ("--key", anew["key"])):
        (found,) = shell("verify", shop, *given, "--json").records
        assert (found["fault"], found["expected"]) == ("foreign signature", key)
    again = shell("verify", shop, "--forget-remembered")
    assert (again.code, again.fields["key_from"]) == (0, "log")
    assert shell("verify", shop).code == 0
    assert "remembered since" in shown(shell.terminal("verify", shop))


def test_nothing_is_forgotten_where_the_evidence_cannot_be_read(
    shell: Shell, sealed: tuple[Path, str]
) -> None:
    shop, _ = sealed
    assert shell("verify", shop).code == 0
    held = [file.read_bytes() for file in memory_files()]
    failed = shell("verify", shop, "--forget-remembered", "--since", shop.with_name("missing"))
    assert (failed.code, failed.out) == (66, "")
    assert [file.read_bytes() for file in memory_files()] == held != []


def test_reads_are_proven(shell: Shell, sealed: tuple[Path, str]) -> None:
    shop, key = sealed
    assert shell("append", shop, "game-1", "Opened", "{}").code == 0
    plain = shell("read", shop, "--stream", "game-1", "--up-to", 5)
    proven = shell("read", shop, "--stream", "game-1", "--proven", "--key", key)
    assert (proven.code, proven.out) == (0, plain.out)
    assert "proven up to position 5, 4 commits signed by the key given" in proven.err
    assert "by the key remembered" in shell("read", shop, "--proven").err
    first = shell("read", shop, "--proven", "--memory", shop.with_name("new"), "--json")
    assert len(first.records) == 5
    assert "the key that the log's folder itself names" in first.err
    misused = shell("read", shop, "--key", key)
    assert (misused.code, "--proven" in misused.err) == (2, True)
    change(shop)
    found = shell("read", shop, "--stream", "game-1", "--proven")
    assert (found.code, found.out) == (1, "")
    assert "back-dated" in found.err
    assert shell("read", shop, "--stream", "game-1").code == 0


def test_a_damaged_memory_is_said(shell: Shell, sealed: tuple[Path, str]) -> None:
    shop, _ = sealed
    assert shell("verify", shop).code == 0
    (file,) = memory_files()
    whole = file.read_text()
    file.write_text(whole[:-9])
    damaged = shell("verify", shop)
    assert (damaged.code, damaged.out) == (65, "")
    assert f"{file}: the file is damaged" in damaged.err
    assert "--forget-remembered" in damaged.err
    assert shell("verify", shop, "--forget-remembered").code == 0
    assert shell("verify", shop).fields["key_from"] == "remembered"


def test_a_reader_without_a_home_is_told(
    shell: Shell, sealed: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, _ = sealed
    barrier = shop.with_name("a-file")
    barrier.touch()
    for variable, value in (("XDG_STATE_HOME", barrier), ("HOME", "relative")):
        monkeypatch.delenv("XDG_STATE_HOME")
        monkeypatch.setenv(variable, str(value))
        found = shell("verify", shop)
        assert (found.code, found.fields["remembers_since"]) == (0, "null")
        assert "could not be remembered" in found.err
        assert "--memory FOLDER" in found.err
        monkeypatch.setenv("XDG_STATE_HOME", "")


def test_what_is_missing_is_said(shell: Shell, shop: Path) -> None:
    unsigned = shell("sign", shop)
    assert unsigned.code == 66
    assert f"{shop}-signer: there is no such key" in unsigned.err
    assert "--new-key" in unsigned.err
    unsealed = shell("prove", shop, 1).err
    assert "nothing is signed yet" in unsealed
    unknown = shell("verify", shop).err
    assert "the log's key is not known" in unknown
    assert all("'everwhen sign'" in said for said in (unsealed, unknown))
    assert shell("sign", shop, "--new-key", ORIGIN).code == 0
    again = shell("sign", shop, "--new-key", ORIGIN)
    assert (again.code, "never overwritten" in again.err) == (1, True)
    assert shell("prove", shop, 0).code == 2
    beyond = shell("prove", shop, 9)
    assert (beyond.code, "position 9 has no event" in beyond.err) == (1, True)
    lost = shell("verify", shop, "--remembered", shop.with_name("lost"))
    assert (lost.code, "No such file" in lost.err) == (66, True)
    assert shell("verify", shop.with_name("no.db")).code == 66


def test_another_key_does_not_sign_for_the_log(shell: Shell, sealed: tuple[Path, str]) -> None:
    shop, key = sealed
    other = shop.with_name("other-signer")
    taken = shell("sign", shop, "--key-file", other, "--new-key", ORIGIN)
    assert (taken.code, f"the log is signed by {key}" in taken.err) == (1, True)
    other.chmod(0o644)
    open_to_all = shell("sign", shop, "--key-file", other)
    assert (open_to_all.code, "chmod 600" in open_to_all.err) == (1, True)
    stranger = shell("sign", shop.with_name("b.db"), "--new-key", "b").code
    assert stranger == 66
    assert shell("append", shop.with_name("b.db"), "s", "Opened", "{}", "--create").code == 0
    (signed,) = shell("sign", shop.with_name("b.db"), "--new-key", ORIGIN, "--json").records
    strange = shell("verify", shop, "--key", signed["key"])
    assert (strange.code, strange.fields["fault"]) == (1, "foreign signature")
    assert (shell("verify", shop, "--key", key[:-4]).code, shell("verify", shop).code) == (2, 0)
    assert shell("sign", shop, "--key-file", "x", "--new-key", "two words").code == 2


def test_the_key_is_handed_on(shell: Shell, sealed: tuple[Path, str]) -> None:
    shop, old = sealed
    new = shop.with_name("new-signer")
    assert shell("append", shop, "s", "Opened", "{}").code == 0
    (rolled,) = shell("sign", shop, "--roll-to", new, "--json").records
    assert (rolled["key"], rolled["size"]) == (old, 5), "the old key signs all that there is"
    assert rolled["next_key"].startswith(f"{ORIGIN}+")
    assert new.stat().st_mode & 0o777 == 0o600
    assert shell("append", shop, "s", "Opened", "{}").code == 0
    refused = shell("sign", shop)
    assert (refused.code, f"signed by {rolled['next_key']}, not by {old}" in refused.err) == (
        1,
        True,
    )
    (signed,) = shell("sign", shop, "--key-file", new, "--json").records
    assert (signed["key"], signed["size"]) == (rolled["next_key"], 6)
    (report,) = shell("verify", shop, "--key", old, "--json").records
    assert (report["sound"], report["signed_by"]) == (True, [rolled["next_key"]])
    (handed,) = report["handed_over"]
    assert (handed["size"], handed["key"]) == (5, rolled["next_key"])
    verified = shown(shell.terminal("verify", shop, "--key", old))
    assert f"handed over after 5 commits to {ORIGIN}+" in " ".join(verified.split())
    for known, code in ((rolled["next_key"], 0), (Signer.generate(ORIGIN).verifier.vkey, 1)):
        assert shell("verify", shop, "--key", known).code == code
        assert shell("prove", shop, 1, "--key", known).code == code
    proof, rollovers = shop.with_name("p"), Path(f"{shop}-log/rollovers")
    assert shell("prove", shop, 1, "--output", proof).code == 0
    command = [sys.executable, "-m", "everwhen_verify", str(proof), str(policy_of(shop, old))]
    assert in_terminal(command, shop.parent).code == 1
    assert in_terminal([*command, "--rollovers", str(rollovers)], shop.parent).code == 0
    drawn = shell.terminal("sign", shop, "--key-file", new, "--roll-to", shop.with_name("k3"))
    assert f"it signs from now on: --key-file {shop.with_name('k3')}" in " ".join(
        shown(drawn).split()
    )


def test_a_retired_key_signs_no_more(shell: Shell, sealed: tuple[Path, str]) -> None:
    shop, old = sealed
    new = shop.with_name("new-signer")
    assert shell("sign", shop, "--roll-to", new).code == 0
    assert shell("append", shop, "s", "Opened", "{}").code == 0
    sign_as_retired(shop, Signer.parse(Path(f"{shop}-signer").read_text()))
    for given in ((), ("--key", old)):
        refused = shell("verify", shop, *given, "--json")
        assert (refused.code, refused.records[0]["fault"]) == (1, "foreign signature")
        assert "was handed over at 4 entries" in refused.records[0]["what"]
        unproven = shell("prove", shop, 1, *given)
        assert (unproven.code, "not the log's own" in unproven.err) == (1, True)
    unsealed = shell("sign", shop, "--key-file", new)
    assert (unsealed.code, "not the log's own" in unsealed.err) == (1, True)


def test_it_goes_on_signing_what_is_new(shell: Shell, sealed: tuple[Path, str]) -> None:
    shop, _ = sealed
    everwhen = [sys.executable, "-m", "everwhen.cli"]
    command = [*everwhen, "sign", str(shop), "--every", "0.1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as signing:
        assert signing.stdout is not None
        assert json.loads(signing.stdout.readline())["size"] == 4
        for size in (5, 6):
            assert shell("append", shop, "shop-9", '{"type": "Closed", "data": {}}').code == 0
            assert json.loads(signing.stdout.readline())["size"] == size
        signing.send_signal(signal.SIGINT)
        assert signing.stdout.read() == b""
    assert signing.returncode == 130
    assert shell("verify", shop).code == 0
    change(shop)
    broken = shell("sign", shop, "--every", "0.1")
    assert (broken.code, broken.out) == (1, "")
    both = shell("sign", shop, "--every", "1", "--roll-to", shop.with_name("next"))
    assert both.code == 2
    assert "--roll-to" in both.err


def test_a_key_is_not_handed_on_to_any(shell: Shell, sealed: tuple[Path, str]) -> None:
    shop, old = sealed
    before = shell("sign", shop).out
    other = shop.with_name("b.db")
    assert shell("append", other, "s", "Opened", "{}", "--create").code == 0
    assert shell("sign", other, "--new-key", "b.example/log").code == 0
    assert shell("append", shop, "s", "Opened", "{}").code == 0
    for key, said in (
        (f"{shop}-signer", "is, or was, the log's key already"),
        (f"{other}-signer", "is not a key of the log"),
    ):
        refused = shell("sign", shop, "--roll-to", key)
        assert (refused.code, said in refused.err) == (1, True), refused.err
    assert not Path(f"{shop}-log/rollovers").exists()
    unsealed = shell("sign", shop, "--key-file", f"{other}-signer", "--roll-to", "x")
    assert (unsealed.code, f"the log is signed by {old}" in unsealed.err) == (1, True)
    assert shell("sign", shop).out != before


@pytest.mark.attack(
    "a branch's history is passed off as the store's",
    about="history",
    answer="the log's name and key",
    needs="a key with a name of its own for each branch's log",
)
def test_a_branch_has_a_log_and_a_key_of_its_own(shell: Shell, sealed: tuple[Path, str]) -> None:
    """The same key under both would have signed two histories of one name."""
    shop, old = sealed
    assert shell("branch", "create", shop, "plan").code == 0
    lacking = shell("sign", shop, "--branch", "plan")
    assert (lacking.code, "db-signer: there is no such key" in lacking.err) == (66, True)
    making = ("sign", shop, "--branch", "plan", "--new-key", f"{ORIGIN}/plan", "--json")
    (signed,) = shell(*making).records
    assert signed["key"] != old
    assert shell("verify", shop, "--branch", "plan", "--key", signed["key"]).code == 0
    assert shell("verify", shop, "--key", old).code == 0


def test_witnesses_are_asked(shell: Shell, shop: Path) -> None:
    (signed,) = shell("sign", shop, "--new-key", ORIGIN, "--json").records
    signer = Signer.generate("witness.example/1", Kind.COSIGNATURE)
    known = [Verifier.parse(signed["key"])]
    policy = shop.with_name("policy")
    with closing(WitnessService(shop.with_name("state"), signer, known)) as service:
        with WitnessServer(service) as server:
            policy.write_text(
                f"log {signed['key']}\nwitness w {signer.verifier.vkey} {server.url}\nquorum w\n"
            )
            lacking = shell("sign", shop, "--policy", policy)
            assert lacking.code == 1, "nothing new, and it was signed without them"
            assert "asks for more" in lacking.err
            assert "witness 'w' has not cosigned it" in lacking.err
            assert shell("append", shop, "s", "Opened", "{}").code == 0
            thread = Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            cosigned = shell("sign", shop, "--policy", policy)
            server.shutdown()
            thread.join()
        assert (cosigned.code, cosigned.err) == (0, "")
        assert [line.split()[1] for line in cosigned.out.splitlines()[4:]] == [ORIGIN, signer.name]
    proof = shop.with_name("p")
    assert shell("prove", shop, 1, "--output", proof).code == 0
    command = [sys.executable, "-m", "everwhen_verify", str(proof), str(policy)]
    assert "cosigned by  w at" in in_terminal(command, shop.parent).out
    new = shop.with_name("new-signer")
    assert shell("sign", shop, "--policy", policy, "--roll-to", new).code == 0
    assert shell("append", shop, "s", "Opened", "{}").code == 0
    away = shell("sign", shop, "--key-file", new, "--policy", policy)
    assert (away.code, "witness 'w' has not cosigned it" in away.err) == (1, True)
    assert server.url in away.err, "and why not"
    policy.write_text(f"log {Signer.generate(ORIGIN).verifier.vkey}\nquorum none\n")
    strange = shell("sign", shop, "--key-file", new, "--policy", policy)
    assert (strange.code, "isn't the log's then or isn't known" in strange.err) == (1, True)
    (signed,) = shell("sign", shop, "--key-file", new, "--json").records
    policy.write_text(f"log {signed['key']}\nquorum none\n")
    assert shell("sign", shop, "--key-file", new, "--policy", policy).code == 0
    policy.write_text("quorum\n")
    wrong = shell("sign", shop, "--key-file", new, "--policy", policy)
    assert (wrong.code, "policy, line 1" in wrong.err) == (65, True)


def test_a_torn_checkpoint_is_bad_data(shell: Shell, sealed: tuple[Path, str]) -> None:
    shop, _ = sealed
    Path(f"{shop}-log/checkpoint").write_text("torn")
    for command in ("sign", "prove"):
        failed = shell(command, shop, *([1] if command == "prove" else []))
        assert (failed.code, failed.err.count("\n")) == (1, 1), "it isn't what was signed"
        assert "the log's folder is damaged" in failed.err
    remembering = shell("verify", shop, "--remembered", Path(f"{shop}-log/checkpoint"))
    assert (remembering.code, "give one of this log" in remembering.err) == (1, True)


def test_the_extra_is_asked_for_in_one_way(shell: Shell, shop: Path) -> None:
    """Each command that signs or checks says what it needs, and how to get it."""
    lacking = shop.with_name("without")
    lacking.mkdir()
    (lacking / "cryptography.py").write_text("raise ModuleNotFoundError(name='cryptography')")
    said = set()
    for words in (
        ["sign", str(shop)],
        ["prove", str(shop), "1"],
        ["verify", str(shop)],
        ["witness", "new-key", "k", "n"],
        ["witness", "serve", "s", "k", "l"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "everwhen.cli", *words],
            env={**os.environ, "PYTHONPATH": str(lacking)},
            cwd=shop.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        said.add(done.stderr)
    assert said == {
        "everwhen: signatures need the library cryptography: pip install 'everwhen[trust]'\n"
    }


def test_at_a_terminal(shell: Shell, sealed: tuple[Path, str]) -> None:
    shop, key = sealed
    assert "4 commits signed as example.org/shop" in shown(shell.terminal("sign", shop))
    assert "4 of 4 commits verified" in shown(shell.terminal("verify", shop, "--key", key))
    again = shown(shell.terminal("verify", shop))
    assert "UTC, as is the key" in again
    assert "give --key to be sure" not in again
    first = shown(shell.terminal("verify", shop, "--memory", shop.with_name("new")))
    assert "the key is the one that the log's folder names; give --key to be sure" in first
    change(shop)
    drawn = shell.terminal("verify", shop)
    assert (drawn.code, "✗ back-dated" in shown(drawn)) == (1, True)


def test_the_key_is_sealed_by_a_passphrase(
    shell: Shell, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERWHEN_SIGNER_PASSPHRASE", "correct horse")
    assert shell("sign", shop, "--new-key", ORIGIN).code == 0
    assert "PRIVATE" not in Path(f"{shop}-signer").read_text()
    assert shell("sign", shop).code == 0
    monkeypatch.setenv("EVERWHEN_SIGNER_PASSPHRASE", "wrong horse")
    wrong = shell("sign", shop)
    assert (wrong.code, "the passphrase is wrong" in wrong.err) == (1, True)
    assert "horse" not in wrong.err
    monkeypatch.delenv("EVERWHEN_SIGNER_PASSPHRASE")
    lacking = shell("sign", shop)
    assert (lacking.code, "is encrypted with a passphrase" in lacking.err) == (1, True)
    assert "EVERWHEN_SIGNER_PASSPHRASE" in lacking.err
    assert shell("verify", shop).code == 0, "no private key is needed for that"


def test_a_checkpoint_is_timestamped(shell: Shell, shop: Path) -> None:
    with serving(shop.with_name("tsa")) as authority:
        signing = ("sign", shop, "--new-key", ORIGIN, "--json", "--timestamp", authority.url)
        (signed,) = shell(*signing).records
        (report,) = shell("verify", shop, "--tsa-cert", authority.root, "--json").records
        assert (report["timestamped"], report["timestamped_size"]) == (1, 4)
        assert report["timestamped_at"] == signed["timestamp"]
        drawn = shell.terminal("verify", shop, "--tsa-cert", authority.root)
        assert "the first 4 by 20" in shown(drawn)
        authority.status = 500
        assert shell("append", shop, "s", "Opened", "{}").code == 0
        failed = shell("sign", shop, "--timestamp", authority.url)
        assert (failed.code, "answers with status 500" in failed.err) == (1, True)
        assert shell("sign", shop).out.splitlines()[1] == "5", "signed it is all the same"
    assert shell("sign", shop, "--timestamp", "nowhere").code == 2
    Path(f"{shop}-log/timestamps/4.tsr").write_bytes(b"")
    wrong = shell("verify", shop, "--tsa-cert", authority.root)
    assert (wrong.code, wrong.fields["fault"]) == (1, "bad timestamp")
    none = shell("verify", shop, "--tsa-cert", shop.with_name("none.pem"))
    assert (none.code, "name a file with certificates" in none.err) == (66, True)


def test_a_private_key_that_is_given_by_mistake_is_shown_nowhere(
    shell: Shell, sealed: tuple[Path, str], tmp_path: Path
) -> None:
    shop, key = sealed
    signer = Path(f"{shop}-signer")
    private = signer.read_text().strip()
    secret = private.split("+", 4)[4]
    policy, given = tmp_path / "policy", tmp_path / "given"
    policy.write_text(f"log {private}\nquorum none\n")
    given.write_text(f"{private}\n")
    for words in (
        ("verify", shop, "--key", private),
        ("verify", shop, "--key", secret),
        ("verify", shop, "--key", key, "--remembered", signer),
        ("verify", shop, "--key", key, "--remembered", given),
        ("verify", shop, "--policy", policy),
        ("verify", shop, "--policy", given),
        ("sign", shop, "--signer", private),
        ("--vault", tmp_path / "people.vault", "--key", private, "keys", "list"),
    ):
        found = shell(*words)
        assert found.code != 0, words
        pieces = [secret[at : at + 8] for at in range(len(secret) - 7)]
        assert not [piece for piece in pieces if piece in found.out + found.err], found.err


def test_a_log_that_is_set_back_alone_shows_at_the_first_look(shell: Shell, shop: Path) -> None:
    log = Path(f"{shop}-log")
    assert shell("sign", shop, "--new-key", "example.org/shop").code == 0
    shutil.copytree(log, shop.with_name("earlier"))
    assert shell("append", shop, "game-9", "New", "{}").code == 0
    assert shell("sign", shop).code == 0
    shutil.rmtree(log)
    shop.with_name("earlier").rename(log)
    found = shell("verify", shop, "--memory", shop.with_name("new"))
    assert (found.code, found.fields["fault"]) == (1, "log set back")
