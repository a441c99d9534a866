"""Files of our own: whole or not there at all, and there after a power loss."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from everwhen import KeyFile, UnknownEvent, open_store
from everwhen.audit.fallback import AuditFallback
from everwhen.cli.exit_codes import MEDIUM, NO_INPUT, NOT_ALLOWED, code_of
from everwhen.errors import VaultError
from everwhen.exchange import ExchangeFileError, ExchangeProgress, export_events
from everwhen.merkle.tile_stores import TileFolder
from everwhen.system import durable_files
from everwhen.system.durable_files import NewFile, write_secret


@pytest.fixture(params=["unnamed", "named"])
def way(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to write a file: without a name until it is complete, and beside its place."""
    if request.param == "named":
        monkeypatch.setattr(durable_files, "_unnamed", lambda _folder, _mode: None)
    else:
        descriptor = durable_files._unnamed(tmp_path, 0o600)
        if descriptor is None:
            pytest.skip("files without names need Linux, and a file system that has them")
        os.close(descriptor)
    return str(request.param)


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were synced, in order."""
    paths: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        paths.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", fsync)
    return paths


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def filled(events: int = 1) -> Any:
    store = open_store("memory:")
    store.append("a-1", [UnknownEvent("Noted", {"text": "x" * 1_000})] * events)
    return store


@pytest.mark.usefixtures("way")
def test_an_export_that_finds_no_room_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    store, path = filled(100), tmp_path / "out.jsonl"
    path.write_text("before")
    with full_after(20_000), pytest.raises(ExchangeFileError, match="make room") as caught:
        export_events(store, path, overwrite=True)
    assert code_of(caught.value) == MEDIUM
    assert names_in(tmp_path) == ["out.jsonl"]
    assert path.read_text() == "before"
    export_events(store, path, overwrite=True)
    assert path.read_bytes().count(b"\n") == 100
    assert names_in(tmp_path) == ["out.jsonl"]


def test_an_export_under_way_has_no_name(way: str, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def look(_: ExchangeProgress) -> None:
        seen.append(names_in(tmp_path))

    export_events(filled(), tmp_path / "out.jsonl", progress=look)
    assert names_in(tmp_path) == ["out.jsonl"]
    for names in seen:
        if way == "unnamed":
            assert names == []  # a process that is killed here leaves nothing behind
        else:
            assert all(name.endswith(".partial") for name in names)
    assert seen


@pytest.mark.usefixtures("way")
def test_an_export_never_replaces_what_was_made_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"

    def make(_: ExchangeProgress) -> None:
        path.write_text("theirs")

    with pytest.raises(ExchangeFileError, match="has created it meanwhile"):
        export_events(filled(), path, progress=make)
    assert path.read_text() == "theirs"
    assert names_in(tmp_path) == ["out.jsonl"]


@pytest.mark.usefixtures("way")
def test_an_export_keeps_to_the_mask_and_is_synced_with_its_folder(
    tmp_path: Path, synced: list[str]
) -> None:
    before = os.umask(0o027)
    try:
        export_events(filled(), tmp_path / "out.jsonl")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.jsonl").stat().st_mode) == 0o640
    assert len(synced) == 2
    assert synced[-1] == str(tmp_path)


def test_a_device_that_is_full(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with pytest.raises(ExchangeFileError) as caught:
        export_events(filled(), tmp_path / "out.jsonl.gz" / "none.jsonl")
    assert code_of(caught.value) == NO_INPUT
    link = tmp_path / "full.jsonl"
    link.symlink_to("/dev/full")
    with pytest.raises(ExchangeFileError, match="No space left") as caught:
        export_events(filled(100), link, overwrite=True)
    assert code_of(caught.value) == MEDIUM


@pytest.mark.usefixtures("way")
def test_a_key_that_was_cut_off_while_being_made_can_be_made_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with full_after(10), pytest.raises(VaultError, match="no key can be made there") as caught:
        KeyFile.create(path)
    assert code_of(caught.value) == MEDIUM
    assert names_in(tmp_path) == []
    (made,) = KeyFile.create(path).keys()
    with pytest.raises(VaultError, match="never overwritten"):
        KeyFile.create(path)
    with full_after(10), pytest.raises(VaultError, match="can't be written") as caught:
        KeyFile(path).add()
    assert code_of(caught.value) == MEDIUM
    (kept,) = KeyFile(path).keys()
    assert kept.id == made.id
    KeyFile(path).add()
    assert len(KeyFile(path).keys()) == 2
    assert names_in(tmp_path) == ["key"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.usefixtures("way")
def test_so_can_one_that_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch()  # what a disk that was full has left before
    assert len(KeyFile.create(path).keys()) == 1
    (tmp_path / "fallback").touch()
    assert len(AuditFallback.key_from(tmp_path / "fallback")) == 32


@pytest.mark.usefixtures("way")
def test_secrets_are_synced_with_their_folder(tmp_path: Path, synced: list[str]) -> None:
    write_secret(tmp_path / "key", b"secret")
    assert len(synced) == 2
    assert synced[-1] == str(tmp_path)


def test_a_folder_that_may_not_be_written_to_is_no_missing_file(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        error = ExchangeFileError("x", "not allowed")
        error.__cause__ = PermissionError(13, "Permission denied")
        assert code_of(error) == NOT_ALLOWED
        return
    tmp_path.chmod(0o500)
    with pytest.raises(ExchangeFileError, match="Permission denied") as caught:
        export_events(filled(), tmp_path / "out.jsonl")
    assert code_of(caught.value) == NOT_ALLOWED


@pytest.mark.usefixtures("way")
def test_an_abandoned_file_leaves_nothing(tmp_path: Path) -> None:
    new = NewFile(tmp_path / "x")
    new.file.write(b"half")
    new.abandon()
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("first", ["write", "write_at", "replace", "lock"])
def test_the_folders_of_a_log_are_synced_with_their_parents(
    first: str, tmp_path: Path, synced: list[str]
) -> None:
    tiles = TileFolder(tmp_path / "new" / "log")
    if first == "write":
        tiles.write({"tile/0/000": b"x"})
    elif first == "write_at":
        tiles.write_at("entries", 0, b"x")
    elif first == "replace":
        tiles.replace("key", b"x")
    else:
        with tiles.lock():
            pass
    assert {str(tmp_path), str(tmp_path / "new")} <= set(synced)
    if first == "write":
        assert {str(tmp_path / "new" / "log"), str(tmp_path / "new/log/tile/0")} <= set(synced)
