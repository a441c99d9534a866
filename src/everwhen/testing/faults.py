"""Failures on demand: which call is to fail next, and how."""

from __future__ import annotations

import threading
from typing import Final, Literal, TypeAlias, get_args

from everwhen.vocabulary.errors import StorageError

Failing: TypeAlias = Literal["append", "acknowledge", "read", "transact"]
_KNOWN: Final = get_args(Failing)


class Faults:
    """What goes wrong next in a store that was made `faulty`. Safe from any thread.

    ``append`` fails before anything is written; ``acknowledge`` fails after it, so that the
    outcome is open for the writer; ``read`` is a page or a commit that can't be read; ``transact``
    a projection's transaction. ``struck`` counts the failures so far.
    """

    def __init__(self) -> None:
        self.struck = 0
        self._lock = threading.Lock()
        self._planned: list[tuple[str, int, Exception]] = []

    def fail(
        self,
        what: Failing,
        times: int = 1,
        *,
        after: int = 0,
        error: Exception | None = None,
    ) -> None:
        """Let the next ``times`` calls fail, with a `StorageError` by default.

        ``after`` of them go well before. Raises ``ValueError`` for an unknown kind.
        """
        if what not in _KNOWN:
            raise ValueError(f"{what!r} can't fail on demand; use one of {', '.join(_KNOWN)}")
        failure = error or StorageError("a failure on demand; nothing is wrong with the store")
        with self._lock:
            for left in [after, *[0] * (times - 1)]:
                self._planned.append((what, left, failure))

    def heal(self) -> None:
        """Forget the failures that have not happened yet."""
        with self._lock:
            self._planned.clear()

    def strike(self, what: Failing) -> None:
        """Raise the next failure of that kind, if it is its turn."""
        with self._lock:
            for index, (kind, after, failure) in enumerate(self._planned):
                if kind != what:
                    continue
                if after:
                    self._planned[index] = (kind, after - 1, failure)
                    return
                del self._planned[index]
                self.struck += 1
                raise failure
