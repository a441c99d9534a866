"""Many processes, threads and tasks on one log: what was promised to each holds for all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.faults.faults_hammer import EVENTS, Belief, Ended, Report, seen
from tests.patience import PATIENCE_SECONDS

from everwhen import Query, RecordedEvent, Store, open_store

PROCESSES = 8
ROUNDS = int(os.environ.get("EVERWHEN_HAMMER_ROUNDS", "50"))
PROGRAM = Path(__file__).with_name("faults_hammer.py")


class Aftermath:
    """The log as it stands, what the writers report, and what the readers saw."""

    def __init__(
        self, store: Store, reports: list[Report], sync: list[Any], filtered: list[Any]
    ) -> None:
        self.log: list[RecordedEvent[Any]] = list(store.read())
        self.problems = store.check()
        types, tags = {one.type for one in self.log}, {tag for one in self.log for tag in one.tags}
        self.of_type = {name: list(store.read(Query().types(name))) for name in types}
        self.of_tag = {tag: list(store.read(Query().tags(tag))) for tag in tags}
        self.reports = reports
        self.seen_sync = sync
        self.seen_filtered = filtered

    def commits(self) -> Iterator[list[RecordedEvent[Any]]]:
        commit: list[RecordedEvent[Any]] = []
        for recorded in self.log:
            if commit and recorded.metadata.commit_id != commit[0].metadata.commit_id:
                yield commit
                commit = []
            commit.append(recorded)
        yield commit


def _started(stack: ExitStack, *words: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(PROGRAM), *map(str, words), str(ROUNDS)]
    piped = subprocess.PIPE
    process = stack.enter_context(
        subprocess.Popen(command, stdin=piped, stdout=piped, stderr=piped, bufsize=0)
    )
    stack.callback(process.kill)
    return process


def _said(process: subprocess.Popen[bytes]) -> bytes:
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, err.decode()) == (0, "")
    return out


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def aftermath(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Aftermath:
    with ExitStack() as stack:
        path: str = str(tmp_path_factory.mktemp("hammer") / "store.db")
        if request.param == "postgresql":
            path = stack.enter_context(request.getfixturevalue("postgres").schema())
        store = stack.enter_context(open_store(path, events=EVENTS))
        readers = [_started(stack, "reader", flavour, path, "-") for flavour in ("sync", "aio")]
        writers = [
            _started(stack, "writer", "aio" if number == 0 else "sync", path, number)
            for number in range(PROCESSES)
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.read(1) == b".", writer.communicate()
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write(b".")
        reports = [
            report
            for writer in writers
            for report in msgspec.json.decode(_said(writer), type=list[Report])
        ]
        store.append("end", [Ended()])
        sync, filtered = (msgspec.json.decode(_said(reader)) for reader in readers)
        return Aftermath(store, reports, sync, filtered)


def test_every_writer_got_somewhere(aftermath: Aftermath) -> None:
    writers = {r.who.split(".")[0] for r in aftermath.reports if not r.refused}
    assert writers == {str(number) for number in range(PROCESSES)}
    kinds = {(r.refused or "accepted").split()[0] for r in aftermath.reports}
    assert kinds == {"accepted", "conflict", "condition"}


def test_each_acknowledged_event_is_there_once(aftermath: Aftermath) -> None:
    stored: dict[str, list[RecordedEvent[Any]]] = {}
    for recorded in aftermath.log[:-1]:
        stored.setdefault(recorded.event.who, []).append(recorded)
    for report in aftermath.reports:
        if report.refused:
            assert report.who not in stored
            continue
        found = stored.pop(report.who)
        assert [r.event.index for r in found] == list(range(report.events))
        assert found[-1].position == report.position
        assert {r.stream: r.version for r in found} == report.versions
    assert not stored, "nothing is in the log that no writer was told of"


def test_numbers_and_times_rise_without_holes(aftermath: Aftermath) -> None:
    assert aftermath.problems == []
    versions: dict[str, int] = {}
    for position, recorded in enumerate(aftermath.log, 1):
        assert recorded.position == position
        assert recorded.version == versions.get(recorded.stream, 0) + 1
        versions[recorded.stream] = recorded.version
    times = [recorded.recorded_at for recorded in aftermath.log]
    assert times == sorted(times)


def test_queries_find_all_that_there_is(aftermath: Aftermath) -> None:
    """What one writer notes in an index of what others have begun is missed by none."""
    for name, found in aftermath.of_type.items():
        assert found == [one for one in aftermath.log if one.type == name]
    for tag, found in aftermath.of_tag.items():
        assert found == [one for one in aftermath.log if tag in one.tags]


def test_accepted_beliefs_held_where_they_were_written(aftermath: Aftermath) -> None:
    versions: dict[str, int] = {}
    judged = 0
    for commit in aftermath.commits():
        if commit[0].type == "Ended":
            continue
        belief = msgspec.convert(commit[0].metadata.extras["belief"], Belief)
        for stream, expected in belief.streams.items():
            assert _holds(expected, versions.get(stream, 0)), (stream, expected, commit[0])
            judged += 1
        if belief.after is not None:
            between = aftermath.log[belief.after : commit[0].position - 1]
            assert not [r.position for r in between if _matches(belief, r)], commit[0].position
            judged += 1
        versions.update({r.stream: r.version for r in commit})
    assert judged > 100


def test_refusals_had_their_reason(aftermath: Aftermath) -> None:
    for report in aftermath.reports:
        if report.refused == "condition":
            after = report.belief.after
            assert after is not None
            assert report.blocked_by > after
            assert _matches(report.belief, aftermath.log[report.blocked_by - 1])
        elif report.refused:
            kind, stream = report.refused.split(maxsplit=1)
            assert kind == "conflict", report.refused
            assert not _holds(report.belief.streams[stream], report.actual)


def test_subscribers_elsewhere_saw_everything_in_order(aftermath: Aftermath) -> None:
    assert aftermath.seen_sync == [seen(recorded) for recorded in aftermath.log]
    wanted = [r for r in aftermath.log if "key:3" in r.tags or r.type == "Ended"]
    assert aftermath.seen_filtered == [seen(recorded) for recorded in wanted]


def _holds(expected: int | str, version: int) -> bool:
    if expected == "NO_STREAM":
        return version == 0
    return version > 0 if expected == "EXISTS" else version == expected


def _matches(belief: Belief, recorded: RecordedEvent[Any]) -> bool:
    return (
        set(belief.tags) <= set(recorded.tags)
        and (not belief.types or recorded.type in belief.types)
        and (belief.category is None or recorded.stream.startswith(f"{belief.category}-"))
    )
