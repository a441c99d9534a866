"""What a fork must not tear apart: it waits until nobody is inside, and informs the child.

SQLite's connections don't survive a fork, and a lock that another thread holds is held for ever
in the child. So before a fork (`os.fork`, `multiprocessing`) everybody is kept out of what is
registered here, and those inside are waited for, within bounds.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
import weakref
from functools import partial
from typing import Any, Final, Protocol

_PATIENCE_SECONDS: Final = 2.0
"""More than any commit takes; a fork from within a transaction waits for as long."""
_POLL_SECONDS: Final = 0.000_5
"""A fork takes longer than that itself."""


class Forkable(Protocol):
    """Something that a child must not go on with as if it were its own."""

    def hold(self, seconds: float) -> bool:
        """Keep everybody out; whether nobody is inside within ``seconds``."""
        ...

    def resume(self) -> None:
        """Let them in again; in the parent."""
        ...

    def forked(self, *, quiet: bool) -> None:
        """In the child. ``quiet``: nobody was inside."""
        ...


class Inside:
    """Who is inside of something, for a fork to wait for."""

    __slots__ = ("_threads",)

    def __init__(self) -> None:
        self._threads: dict[object, int] = {}

    def __bool__(self) -> bool:
        return bool(self._threads)

    def enter(self, token: object) -> None:
        """Come in, once no fork is under way. In a ``try``, with ``leave`` in its ``finally``."""
        me = threading.get_ident()
        self._threads[token] = me
        while _state.forking and _state.forking != me:
            self._threads.pop(token, None)
            time.sleep(_POLL_SECONDS)
            self._threads[token] = me

    def leave(self, token: object) -> None:
        """Go out; nothing happens to one that isn't inside."""
        self._threads.pop(token, None)

    def is_left(self, seconds: float) -> bool:
        """Whether all have gone out within ``seconds``. This thread itself isn't waited for."""
        until = time.monotonic() + seconds
        while self._threads:
            if time.monotonic() > until or threading.get_ident() in list(self._threads.values()):
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def clear(self) -> None:
        """In a child: they are all gone."""
        self._threads.clear()


class _State:
    forking = 0
    """The thread that forks, or 0."""

    def __init__(self) -> None:
        self.one_fork = threading.Lock()
        self.registered: dict[int, weakref.ref[Forkable]] = {}
        self.held: list[tuple[Forkable, bool]] = []


_state: Final = _State()


def register(one: Forkable) -> None:
    """Have it held at each fork, as long as it lives."""
    key = id(one)
    _state.registered[key] = weakref.ref(one, partial(_state.registered.pop, key))


def keep(things: list[Any]) -> None:
    """In a child: never let go of these, not even at its end. Being freed would do harm."""
    for thing in things:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _before() -> None:
    _state.one_fork.acquire()
    _state.forking = threading.get_ident()
    until = time.monotonic() + _PATIENCE_SECONDS
    for reference in list(_state.registered.values()):
        one = reference()
        if one is not None:
            _state.held.append((one, one.hold(max(0.0, until - time.monotonic()))))


def _in_parent() -> None:
    held, _state.held = _state.held, []
    for one, quiet in held:
        if quiet:
            one.resume()
    _state.forking = 0
    _state.one_fork.release()


def _in_child() -> None:
    held, _state.held = _state.held, []
    for one, quiet in held:
        one.forked(quiet=quiet)
    _state.forking = 0
    _state.one_fork.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
