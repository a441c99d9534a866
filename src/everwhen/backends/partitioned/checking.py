"""What `check` says of partitions: each for itself, and what joins them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator

from everwhen.backends.commit_checks import LONG_AGO, version_problem
from everwhen.backends.partitioned.layout import Layout
from everwhen.backends.partitioned.merged_pages import slices_of
from everwhen.backends.partitioned.parallel_partitions import ParallelPartitions
from everwhen.backends.partitioned.partition_files import PartitionFiles
from everwhen.backends.partitioned.successive_partitions import SuccessivePartitions
from everwhen.vocabulary.contract import Problem, StoredSlice
from everwhen.vocabulary.errors import StorageError
from everwhen.vocabulary.query import Query


def partition_problems(files: PartitionFiles, number: int) -> Iterator[Problem]:
    """Every fault of one partition's file."""
    name = files.path(number).name
    try:
        for problem in files.engine(number).check():
            yield Problem(f"partition {name}, {problem.where}", problem.what)
    except StorageError as error:
        yield Problem(f"partition {name}", str(error))


def joint_problems(
    files: PartitionFiles, partitions: ParallelPartitions | SuccessivePartitions
) -> Iterator[Problem]:
    """Every fault in how the partitions go together: all slices are read once, in order."""
    try:
        logs = [
            zip(itertools.repeat(number), slices_of(files.engine(number), Query()), strict=False)
            for number in partitions.numbers
        ]
        merged = heapq.merge(*logs, key=lambda one: one[1].position)
        yield from _walk(files, partitions, merged)
    except StorageError as error:
        yield Problem("partitions", f"they can't be read together: {error}")


def _walk(
    files: PartitionFiles,
    partitions: ParallelPartitions | SuccessivePartitions,
    merged: Iterator[tuple[int, StoredSlice]],
) -> Iterator[Problem]:
    newest = 0
    recorded_at = LONG_AGO
    begun: list[set[str]] = [set() for _ in partitions.numbers]
    for number, stored in merged:
        where = f"partition {files.path(number).name}, position {stored.position}"
        if stored.position - stored.count < newest:
            yield Problem(where, f"its events begin before position {newest}, where others stand")
        if stored.recorded_at < recorded_at:
            yield Problem(where, "recorded_at is earlier than that of the position before")
        newest, recorded_at = stored.position, stored.recorded_at
        if not _belongs(partitions, number, stored):
            yield Problem(where, f"stream {stored.stream!r} doesn't belong in this partition")
        elif stored.stream not in begun[number]:
            begun[number].add(stored.stream)
            before = partitions.version_before(number, stored.stream)
            if stored.version - stored.count != before:
                yield version_problem(stored.stream, stored.version, before)


def _belongs(
    partitions: ParallelPartitions | SuccessivePartitions, number: int, stored: StoredSlice
) -> bool:
    if isinstance(partitions, ParallelPartitions):
        return partitions.place_of(stored.stream) == number
    return _is_within(partitions.layout, number, stored)


def _is_within(layout: Layout, number: int, stored: StoredSlice) -> bool:
    starts = layout.starts
    after = starts[number + 1] if number + 1 < len(starts) else None
    first = stored.position - stored.count + 1
    return first >= starts[number] and (after is None or stored.position < after)
