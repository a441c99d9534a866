"""Waiting for threads that may not have begun."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from everwhen.system.threads import join


class _Interrupted(threading.Thread):
    """A thread whose start is interrupted while it begins, as Ctrl-C does."""

    begins = threading.Event()

    def _bootstrap(self) -> None:
        self.begins.wait()
        super()._bootstrap()  # type: ignore[misc]


def test_a_thread_that_only_begins_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    thread = _Interrupted(target=done.set)

    def interrupted(*_: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(thread._started, "wait", interrupted)  # type: ignore[attr-defined]
        with pytest.raises(KeyboardInterrupt):
            thread.start()
    with pytest.raises(RuntimeError, match="before it is started"):
        thread.join()
    threading.Timer(0.05, thread.begins.set).start()
    join(thread)
    assert done.is_set()
    join(thread, seconds=1)


def test_one_that_never_begins_is_not() -> None:
    join(threading.Thread(target=lambda: None))
