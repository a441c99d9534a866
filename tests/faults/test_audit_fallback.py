"""The audit log's fallback file: torn, edited, shared by processes, and recoveries that are killed."""

from __future__ import annotations

import errno
import multiprocessing
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.patience import PATIENCE_SECONDS

from everwhen import Commit, EventTypes, open_store
from everwhen.audit import (
    AuditAction,
    AuditEntry,
    AuditFallback,
    AuditFilter,
    AuditLog,
    AuditResult,
)
from everwhen.audit.entries import checked, draft_of, write_of
from everwhen.audit.fallback import payload_of
from everwhen.codec.codec import Codec
from everwhen.codec.commits import encoded, new_commit_id
from everwhen.errors import AuditFallbackError, DeclarationError
from everwhen.privacy import PLAINTEXT
from everwhen.vocabulary.clock import system_clock
from everwhen.vocabulary.contract import EncodedCommit

KEY = bytes(range(32))
CODEC = Codec(EventTypes(AuditEntry))


def commit(number: int, owner: int = 0) -> EncodedCommit:
    entry = checked(draft_of(system_clock(), AuditAction.READ, f"files/{owner}/{number}"))
    return encoded(
        Commit((write_of(entry),), None, UUID(bytes=new_commit_id())), CODEC, new_commit_id
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("fallback") / "fallback"
    for number in range(6):
        AuditFallback(path, KEY).write(commit(number))
    return path, path.read_bytes()


def test_what_is_written_is_for_its_owner_only(written: tuple[Path, bytes]) -> None:
    for path in written[0].parent.iterdir():
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.attack(
    "the audit log's fallback is edited before it is recovered",
    about="people",
    answer="each line's hash and MAC",
    needs="the fallback's key, kept away from the file",
)
@given(st.data())
@settings(max_examples=150)
def test_any_edit_is_found_and_its_line_named(
    written: tuple[Path, bytes], data: st.DataObject
) -> None:
    path, whole = written
    lines = whole.splitlines(keepends=True)
    kind = data.draw(st.sampled_from(["byte", "drop", "swap", "double", "foreign", "blank"]))
    at = data.draw(st.integers(0, len(lines) - 1))
    if kind == "byte":
        place = data.draw(st.integers(0, len(lines[at]) - 2))
        line = bytearray(lines[at])
        line[place] ^= data.draw(st.integers(1, 255))
        lines[at] = bytes(line)
        if b"\n" in lines[at][:-1]:
            return  # it is two lines now, and the first of them is named
    elif kind == "drop":
        at = min(at, len(lines) - 2)  # nobody can tell that the last one is missing
        del lines[at]
    elif kind == "swap":
        at = min(at, len(lines) - 2)
        lines[at : at + 2] = [lines[at + 1], lines[at]]
    elif kind == "double":
        lines.insert(at, lines[at])
        at += 1
    elif kind == "foreign":
        other = path.with_name("other")
        other.unlink(missing_ok=True)
        for number in range(6):
            AuditFallback(other, KEY).write(commit(number))
        at = max(at, 1)
        lines[at] = other.read_bytes().splitlines(keepends=True)[at]
    else:
        lines.insert(at, b"\n")
    edited = path.with_name("edited")
    edited.write_bytes(b"".join(lines))
    with pytest.raises(AuditFallbackError) as raised:
        AuditFallback(edited, KEY).state()
    assert raised.value.line == at + 1
    assert f"line {at + 1}" in str(raised.value)


@given(st.data())
@settings(max_examples=60)
def test_a_torn_end_costs_only_the_line_it_tears(
    written: tuple[Path, bytes], data: st.DataObject
) -> None:
    path, whole = written
    cut = data.draw(st.integers(0, len(whole)))
    torn = path.with_name("torn")
    torn.write_bytes(whole[:cut])
    left = whole[:cut].count(b"\n")
    fallback = AuditFallback(torn, KEY)
    state = fallback.state()
    assert state.count == max(left - 1, 0)
    assert state.torn == cut - (whole[:cut].rfind(b"\n") + 1)
    fallback.write(commit(99))
    again = fallback.state()
    assert (again.count, again.torn) == (max(left - 1, 0) + 1, 0)


def test_another_key_and_files_that_are_none(tmp_path: Path, written: tuple[Path, bytes]) -> None:
    with pytest.raises(AuditFallbackError, match="line 1: was edited, or written with another key"):
        AuditFallback(written[0], KEY[::-1]).state()
    with pytest.raises(AuditFallbackError, match="edited"):
        AuditFallback(written[0], KEY[::-1]).write(commit(1))
    (tmp_path / "notes").write_text("one\ntwo\n")
    with pytest.raises(AuditFallbackError, match="line 1"):
        AuditFallback(tmp_path / "notes", KEY).state()
    with pytest.raises(AuditFallbackError):
        AuditFallback(tmp_path / "notes", KEY).write(commit(1))
    assert (tmp_path / "notes").read_text() == "one\ntwo\n"


def test_keys(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = AuditFallback.key_from(path)
    assert len(key) == 32
    assert AuditFallback.key_from(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("no key")
    with pytest.raises(AuditFallbackError, match="holds no key"):
        AuditFallback.key_from(path)
    path.write_text("00ff")
    with pytest.raises(AuditFallbackError, match="too short"):
        AuditFallback.key_from(path)
    for bad in (b"short", "x" * 32):
        with pytest.raises(DeclarationError, match="key"):
            AuditFallback(path, bad)  # type: ignore[arg-type]


def _writer(path: Path, owner: int) -> None:
    fallback = AuditFallback(path, KEY)
    for number in range(40):
        fallback.write(commit(number, owner))


def test_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "fallback"
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_writer, args=(path, owner)) for owner in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(PATIENCE_SECONDS)
        assert writer.exitcode == 0
    assert AuditFallback(path, KEY).state().count == 120


def test_only_one_recovers_at_a_time(tmp_path: Path) -> None:
    one, two = (AuditFallback(tmp_path / "fallback", KEY) for _ in range(2))
    one.write(commit(1))
    with one.recovering() as commits:
        assert commits is not None
        with pytest.raises(AuditFallbackError, match="somebody else"), two.recovering():
            pass
        two.write(commit(2))  # writers don't wait
    assert two.state().count == 1


@pytest.mark.parametrize("edited", [1, 2, 4, 7])
def test_what_stands_before_an_edit_can_be_salvaged(
    tmp_path: Path, written: tuple[Path, bytes], edited: int
) -> None:
    path = tmp_path / "fallback"
    lines = written[1].splitlines(keepends=True)
    lines[edited - 1] = lines[edited - 1].replace(b'"n"', b'"N"')
    damaged = b"".join(lines)
    path.write_bytes(damaged)
    fallback = AuditFallback(path, KEY)
    with open_store(tmp_path / "s.db", events=[AuditEntry], vault=PLAINTEXT) as store:
        audit = AuditLog(store, policy=lambda user: [AuditFilter()], fallback=fallback)
        with pytest.raises(AuditFallbackError, match=f"line {edited}.*salvage"):
            audit.recover()
        assert store.head().position == 0
        fallback.write(commit(77))  # writers have a file of their own meanwhile
        report = audit.recover(salvage=True)
        assert report is not None
        intact = max(edited - 2, 0)
        assert (report.count, report.known, report.damaged_line) == (intact, 0, edited)
        assert report.kept == f"{path}.damaged"
        assert Path(report.kept).read_bytes() == damaged
        *taken, note = audit.read(by="auditor")
        assert [one.entry.resource for one in taken] == [f"files/0/{n}" for n in range(intact)]
        assert note.entry.result is AuditResult.PARTIAL_SUCCESS
        assert note.entry.details == {
            "recovered": intact,
            "head": report.head,
            "not_trusted_from_line": edited,
            "kept": report.kept,
        }
        later = audit.recover(salvage=True)
        assert later is not None
        assert (later.count, later.damaged_line, later.kept) == (1, None, None)
        path.write_bytes(damaged)
        again = audit.recover(salvage=True)
        assert again is not None
        assert (again.known, again.kept) == (intact, f"{path}.damaged-1")
        assert fallback.is_empty


def test_a_salvage_that_is_broken_off_is_repeated(
    tmp_path: Path, written: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the entries and the note were written, and before the file was put away."""
    path = tmp_path / "fallback"
    path.with_name("fallback.recovering").write_bytes(written[1] + b"forged\n")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with open_store(tmp_path / "s.db", events=[AuditEntry], vault=PLAINTEXT) as store:
        fallback = AuditFallback(path, KEY)
        audit = AuditLog(store, policy=lambda user: [AuditFilter()], fallback=fallback)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", full)
            with pytest.raises(OSError, match="no space"):
                audit.recover(salvage=True)
        assert store.head().position == 7
        report = audit.recover(salvage=True)
        assert report is not None
        assert (report.count, report.known, report.damaged_line) == (6, 6, 8)
        assert audit.recover(salvage=True) is None
        assert store.head().position == 7, "nothing is written twice"


RECOVER = """
import sys
from everwhen import open_store
from everwhen.audit import AuditEntry, AuditFallback, AuditFilter, AuditLog
from everwhen.privacy import PLAINTEXT
fallback = AuditFallback(sys.argv[2], bytes(range(32)))
with open_store(sys.argv[1], events=[AuditEntry], vault=PLAINTEXT) as store:
    print("ready", flush=True)
    AuditLog(store, policy=lambda user: [AuditFilter()], fallback=fallback).recover()
"""


def test_a_recovery_that_is_killed_is_repeated_and_doubles_nothing(tmp_path: Path) -> None:
    path, chance = tmp_path / "fallback", random.Random(11)
    fallback = AuditFallback(path, KEY)
    count = 3_000
    # One file, written the way `write` does but without a sync for each line.
    _, head, text = fallback._line(
        0, b'{"everwhen_audit_fallback":1,"chain":"%b"}' % (b"0" * 32), bytes(32)
    )
    lines = [text]
    for n in range(count):
        _, head, text = fallback._line(n + 1, payload_of(commit(n)), head)
        lines.append(text)
    path.write_bytes(b"".join(lines))
    assert fallback.state().count == count
    store = tmp_path / "s.db"
    open_store(store).close()
    killed = 0
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", RECOVER, store, path], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        if killed:  # the first one has hardly begun, however fast the machine is
            time.sleep(chance.uniform(0.01, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)
        process.stdout.close()
        killed += process.returncode == -signal.SIGKILL
        if fallback.is_empty:
            break
    assert killed
    with open_store(store, events=[AuditEntry], vault=PLAINTEXT) as opened:
        audit = AuditLog(opened, policy=lambda user: [AuditFilter()], fallback=fallback)
        audit.recover()
        found = [record.entry for record in audit.read(by="auditor")]
        assert opened.check() == []
    assert fallback.is_empty
    reads = [entry.resource for entry in found if entry.action is AuditAction.READ]
    assert reads == [f"files/0/{n}" for n in range(count)]
    notes = [entry for entry in found if entry.action is AuditAction.SECURITY_EVENT]
    assert [note.details for note in notes] == [{"recovered": count, "head": head.hex()}]
