"""The judge of histories finds each thing that must not be, and nothing in a history that may."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.operation_histories import Logged, Operation, faults_in_history

LOG = [
    Logged(1, "a", "s", 1, "t1", expected=0),
    Logged(2, "a", "own", 1, "t1"),
    Logged(3, "b", "s", 2, "t2", expected=1),
    Logged(4, "c", "n", 1, "t3", unique="name:1"),
    Logged(5, "d", "n", 2, "t3", unique="name:1", after=4),
]
DONE = [
    Operation("p", "p.1", 0, 2, "written", "a", 2, "t1"),
    Operation("q", "q.1", 1, 4, "written", "b", 3, "t2"),
    Operation("p", "p.2", 3, 5, "written", "c", 4, "t3"),
    Operation("q", "q.2", 5, 6, "written", "d", 5, "t3"),
    Operation("p", "p.1", 2, 3, "read", position=2),
    Operation("q", "q.1", 6.5, 7, "read", position=5, is_fresh=True),
    Operation("p", "p.1", 6.5, 7, "read", position=4),
    Operation("p", "p.1", 8, 9, "conflict", "e", stream="s", expected=1, actual=2),
    Operation("p", "p.1", 9, 10, "condition", "f", match=5),
    Operation("p", "p.1", 10, 11, "open", "g"),
    Operation("p", "p.1", 1, 2, "saved", position=1),
    Operation("q", "q.1", 1, 3, "saved", position=2),
]


def test_a_history_that_may_be_has_no_faults() -> None:
    assert faults_in_history(DONE, LOG) == []


def changed(items: list[Any], index: int, **fields: object) -> list[Any]:
    copy = list(items)
    copy[index] = msgspec.structs.replace(copy[index], **fields)
    return copy


OF_LOG = [
    ("a hole", 4, {"position": 6}, "position 6 comes as number 5"),
    ("a version left out", 2, {"version": 3, "expected": None}, "version 3 of s follows on 1"),
    ("a broken belief", 2, {"expected": 0}, "b demanded version 0 of s, not 1"),
    ("a name taken twice", 4, {"after": 3}, "d is not the first of name:1 after 3"),
    ("a time that steps back", 3, {"recorded": "t0"}, "the time of position 4 steps back"),
    ("a commit that is torn", 4, {"key": "a"}, "a was written twice, or torn"),
    ("what is lost", 2, {"key": "z"}, "b was acknowledged and is lost"),
]
OF_OPERATIONS = [
    ("another position", 1, {"position": 2}, "b was acknowledged at 2, and is at 3"),
    ("another time", 1, {"recorded": "t9"}, "b was acknowledged with another time"),
    ("an order against time", 3, {"began": 0.0, "ended": 0.5}, "b began after d had ended"),
    ("a checkpoint given twice", 11, {"position": 1}, "both given a checkpoint 1"),
    ("a checkpoint against time", 11, {"began": 0, "ended": 0.5}, "a checkpoint before it: 1"),
    ("a fresh read that is old", 5, {"position": 4}, r"\(fresh\) at 6.500 saw 4, and 5 was"),
    ("a client that misses its own", 6, {"position": 3}, r"\(own\) at 6.500 saw 3, and 4 was"),
    ("a read of what isn't there", 5, {"position": 6}, "saw 6, and the log ends at 5"),
    ("a read before its write", 4, {"position": 5}, "saw 5 before it was begun"),
    ("a client that steps back", 6, {"position": 1}, "p.1 saw 1 after p had seen 2"),
    ("a refused commit that is there", 7, {"key": "b"}, "b was refused, and was written"),
    ("a refused belief that held", 7, {"expected": 2}, "e was refused, and its belief held"),
    ("a version that never was", 7, {"actual": 3}, "refused for a version that isn't in the log"),
    ("a version long gone", 7, {"actual": 1, "expected": 0}, "for a version that was long gone"),
    ("a match that never was", 8, {"match": 6}, "for an event that isn't in the log"),
    ("a match not yet begun", 8, {"began": 4, "ended": 4.5}, "for what was not yet begun"),
]


@pytest.mark.parametrize(
    ("index", "fields", "said"), [case[1:] for case in OF_LOG], ids=[case[0] for case in OF_LOG]
)
def test_what_must_not_be_in_a_log_is_found(index: int, fields: dict[str, Any], said: str) -> None:
    found = faults_in_history(DONE, changed(LOG, index, **fields))
    assert any(said in fault for fault in found), found


@pytest.mark.parametrize(
    ("index", "fields", "said"),
    [case[1:] for case in OF_OPERATIONS],
    ids=[case[0] for case in OF_OPERATIONS],
)
def test_what_must_not_be_told_is_found(index: int, fields: dict[str, Any], said: str) -> None:
    found = "\n".join(faults_in_history(changed(DONE, index, **fields), LOG))
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(found)
