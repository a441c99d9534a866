"""Disks made of Python: one that remembers every write and sync, one that fails on demand."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import apsw

SECTOR: Final = 512

Keep = Callable[[int], bool]
"""Whether the write or sector of this number reached the disk before the power went."""


@dataclass
class Step:
    """One thing that happened: write, truncate, sync, create or delete; or an acknowledgement."""

    what: str
    file: str = ""
    offset: int = 0
    data: bytes = b""


class Recording(apsw.VFS):
    """Passes everything on to the real disk, and keeps a list of it."""

    def __init__(self, name: str) -> None:
        super().__init__(name, base="")
        self.name = name
        self.steps: list[Step] = []

    def xOpen(  # noqa: N802  SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> _RecordedFile:
        return _RecordedFile(self, name, flags)

    def xDelete(self, name: str, sync_folder: bool) -> None:  # noqa: N802
        super().xDelete(name, sync_folder)
        self.steps.append(Step("delete", Path(name).name))

    def acknowledge(self, what: str) -> None:
        """Note that the caller was told of this commit."""
        self.steps.append(Step("acknowledged", what))


class _RecordedFile(apsw.VFSFile):
    def __init__(
        self, disk: Recording, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        super().__init__("", name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._steps = disk.steps
        self._file = Path(path or "temporary").name

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self._steps.append(Step("write", self._file, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        super().xTruncate(size)
        self._steps.append(Step("truncate", self._file, size))

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self._steps.append(Step("sync", self._file))


@dataclass
class _File:
    """What is on the disk for certain, and what was written since the last sync."""

    certain: bytearray = field(default_factory=bytearray)
    pending: list[Step] = field(default_factory=list)

    def settle(self) -> None:
        for step in self.pending:
            _apply(self.certain, step)
        self.pending.clear()

    def after_loss(self, keep: Keep, *, torn: bool) -> bytes:
        """The content after a power loss that let only what ``keep`` says reach the disk."""
        content = bytearray(self.certain)
        number = 0
        for step in self.pending:
            for part in _sectors(step) if torn else [step]:
                if keep(number):
                    _apply(content, part)
                number += 1
        return bytes(content)


def _sectors(step: Step) -> Iterator[Step]:
    """A write cut where the disk's sectors end; other steps whole."""
    if step.what != "write":
        yield step
        return
    start = step.offset
    end = step.offset + len(step.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield Step("write", step.file, start, step.data[start - step.offset : stop - step.offset])
        start = stop


def _apply(content: bytearray, step: Step) -> None:
    if step.what == "truncate":
        if step.offset < len(content):
            del content[step.offset :]
        else:
            content.extend(bytes(step.offset - len(content)))
        return
    if step.offset > len(content):
        content.extend(bytes(step.offset - len(content)))
    content[step.offset : step.offset + len(step.data)] = step.data


@dataclass
class Loss:
    """The disk after the power went at one moment, and what was acknowledged by then."""

    moment: int
    variant: str
    files: dict[str, bytes]
    acknowledged: list[str]

    def restore(self, folder: Path) -> None:
        """Put the files as they are now into an empty folder."""
        folder.mkdir()
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


_VARIANTS: Final = ("nothing", "everything", "some writes", "some sectors", "most sectors")


def losses(steps: list[Step], chance: random.Random, between: float) -> Iterator[Loss]:
    """A power loss before and after every sync, and at some of the moments in between."""
    files: dict[str, _File] = {}
    acknowledged: list[str] = []
    for moment, step in enumerate(steps):
        if step.what == "sync":
            yield from _variants(moment, files, acknowledged, chance)
            files.setdefault(step.file, _File()).settle()
            yield Loss(moment, "synced", _kept(files, lambda _: False), list(acknowledged))
        elif step.what == "acknowledged":
            acknowledged.append(step.file)
            yield Loss(moment, "told", _kept(files, lambda _: False), list(acknowledged))
        elif step.what == "delete":
            yield from _variants(moment, files, acknowledged, chance)
            files.pop(step.file, None)
        else:
            files.setdefault(step.file, _File()).pending.append(step)
            if chance.random() < between:
                yield from _variants(moment, files, acknowledged, chance)


def _variants(
    moment: int, files: dict[str, _File], acknowledged: list[str], chance: random.Random
) -> Iterator[Loss]:
    for variant in _VARIANTS:
        share = {"nothing": 0.0, "everything": 1.0, "most sectors": 0.9}.get(variant, 0.5)

        def keep(_: int, share: float = share) -> bool:
            return chance.random() < share

        kept = _kept(files, keep, torn="sectors" in variant)
        yield Loss(moment, variant, kept, list(acknowledged))


def _kept(files: dict[str, _File], keep: Keep, torn: bool = False) -> dict[str, bytes]:  # noqa: FBT002
    return {name: file.after_loss(keep, torn=torn) for name, file in files.items()}


class Faulty(apsw.VFS):
    """A disk that fails on demand: ``fault`` is asked before each write, truncate and sync."""

    def __init__(self, name: str) -> None:
        super().__init__(name, base="")
        self.name = name
        self.fault: Callable[[str, str, int], None] | None = None

    def xOpen(  # noqa: N802
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> _FaultyFile:
        return _FaultyFile(self, name, flags)

    def excepthook(self, *failure: Any) -> bool:
        """The failures are ours, and reach SQLite as error codes: nothing to print."""
        return True


class _FaultyFile(apsw.VFSFile):
    def __init__(self, disk: Faulty, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._disk = disk
        self._file = Path(path or "temporary").name

    def excepthook(self, *failure: Any) -> bool:
        """See `Faulty.excepthook`."""
        return True

    def _about_to(self, what: str, size: int) -> None:
        if self._disk.fault is not None:
            self._disk.fault(what, self._file, size)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._about_to("write", len(data))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._about_to("truncate", 0)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._about_to("sync", 0)
        super().xSync(flags)


def no_room(writes: int, *, lasting: bool) -> Callable[[str, str, int], None]:
    """A fault: after so many writes there is no room for the next, or for any more if ``lasting``."""
    left = itertools.count(-writes)

    def fault(what: str, file: str, size: int) -> None:
        del size
        if what == "write" and "-shm" not in file:
            at = next(left)
            if at == 0 or (lasting and at > 0):
                raise apsw.FullError("the disk is full")

    return fault
