"""``check()`` tells of the same damage in the same words, in memory and on disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from everwhen import Store, UnknownEvent, open_store
from everwhen.backends.memory import MemoryEngine
from everwhen.testing import ManualClock
from everwhen.vocabulary import Problem

DAMAGE: list[tuple[str, Any, str]] = [
    ("recorded_at", -(1 << 62), "recorded_at is not between the years 1 and 9999"),
    ("recorded_at", 1 << 60, "recorded_at is not between the years 1 and 9999"),
    ("recorded_at", 0, "recorded_at is earlier than that of the position before"),
    ("first_index", 3, "first_index is 3 and should be 0"),
    ("version", 3, "doesn't follow on version 2"),
    ("body", b"[", "its body can't be read"),
    ("body", b"[]", "its body holds 0 events instead of 2"),
]


def filled(store: Store) -> Store:
    for number in range(3):
        store.append("a", [UnknownEvent("Noted", {"n": number})] * 2)
    return store


def in_memory(column: str, value: Any) -> list[Problem]:
    with filled(open_store("memory:", clock=ManualClock())) as store:
        engine = store.kernel.backend._engine  # type: ignore[attr-defined]
        assert isinstance(engine, MemoryEngine)
        engine._slices[1] = msgspec.structs.replace(engine._slices[1], **{column: value})
        return store.check()


def on_disk(path: Path, column: str, value: Any) -> list[Problem]:
    filled(open_store(path, clock=ManualClock())).close()
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE slices SET {column} = ? WHERE position = 4", (value,))
    connection.commit()
    connection.close()
    with open_store(path, read_only=True) as store:
        return store.check()


@pytest.mark.parametrize(("column", "value", "what"), DAMAGE)
def test_both_backends_say_the_same(tmp_path: Path, column: str, value: Any, what: str) -> None:
    found = in_memory(column, value)
    assert any(what in problem.what for problem in found)
    disk = on_disk(tmp_path / "store.db", column, value)
    assert sorted(map(str, disk)) == sorted(map(str, found))


def test_a_sound_store_has_no_problems() -> None:
    with filled(open_store("memory:")) as store:
        assert store.check() == []
