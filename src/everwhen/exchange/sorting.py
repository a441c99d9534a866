"""Any number of records in the order of their times, in bounded memory.

Records are collected up to a limit, sorted, and put into a temporary file; the files are merged
at the end. Records of one time are in the order that they have in the file.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from operator import attrgetter
from typing import IO, Final

import msgspec

from everwhen.exchange.records import UNTIMED, ForeignEvent

_RUN_RECORDS: Final = 100_000
"""Records that are sorted in memory; more go to a temporary file, as a sorted run."""

_RUN_BYTES: Final = 64 << 20
"""The same bound for large records, by the size of their data."""

_FRAME_RECORDS: Final = 500
"""Records that are read back together: each run holds one frame in memory."""

_FRAME_BYTES: Final = 256 << 10
"""The same bound for large records, by the size of their data."""

_MAX_RUNS: Final = 16
"""Temporary files that are open at once; then they are merged into one."""

_place: Final = attrgetter("time", "ordinal")
_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(list[ForeignEvent]).decode


class Sorter:
    """Takes records in, gives them out in time order. Close it to remove its files."""

    def __init__(self, run_records: int = _RUN_RECORDS) -> None:
        self.count = 0
        self.earliest: int | None = None
        self._run_records = run_records
        self._records: list[ForeignEvent] = []
        self._size = 0
        self._runs: list[IO[bytes]] = []

    def add(self, record: ForeignEvent) -> None:
        """Take one record."""
        self.count += 1
        time = record.time
        if time != UNTIMED and (self.earliest is None or time < self.earliest):
            self.earliest = time
        self._records.append(record)
        self._size += len(record.data)
        if len(self._records) >= self._run_records or self._size > _RUN_BYTES:
            self._records.sort(key=_place)
            self._spill(self._records)
            self._records, self._size = [], 0

    def _spill(self, records: Iterable[ForeignEvent]) -> None:
        if len(self._runs) == _MAX_RUNS:
            merged = heapq.merge(*map(_read_back, self._runs), key=_place)
            runs, self._runs = self._runs, []
            try:
                self._spill(merged)
            finally:
                for run in runs:
                    run.close()
        run = tempfile.TemporaryFile(prefix="everwhen-import-")  # noqa: SIM115 (closed by close)
        self._runs.append(run)
        for frame in _frames(records):
            packed = _pack(frame)
            run.write(len(packed).to_bytes(4, "big"))
            run.write(packed)
        run.flush()

    def sorted(self) -> Iterator[ForeignEvent]:
        """All records, the untimed first. Add no more after this."""
        self._records.sort(key=_place)
        if not self._runs:
            return iter(self._records)
        return heapq.merge(*map(_read_back, self._runs), self._records, key=_place)

    def close(self) -> None:
        """Let everything go."""
        self._records = []
        for run in self._runs:
            with suppress(OSError):
                run.close()
        self._runs = []


def _frames(records: Iterable[ForeignEvent]) -> Iterator[list[ForeignEvent]]:
    frame: list[ForeignEvent] = []
    size = 0
    for record in records:
        frame.append(record)
        size += len(record.data)
        if len(frame) >= _FRAME_RECORDS or size > _FRAME_BYTES:
            yield frame
            frame, size = [], 0
    if frame:
        yield frame


def _read_back(run: IO[bytes]) -> Iterator[ForeignEvent]:
    run.seek(0)
    while head := run.read(4):
        yield from _unpack(run.read(int.from_bytes(head, "big")))
