# Generated from src/everwhen/projections/_async/log_following.py by tools/unasync.py: edit that, then run `make sync`.
"""Following the log: one reader, and the followers that share its pages."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from everwhen.backends._sync.concurrency import Background, Lock, sleep
from everwhen.codec.commits import stored_query
from everwhen.privacy.failure_texts import shown_failure
from everwhen.projections._sync.followers import Follower
from everwhen.store._sync.store import Store, check_store
from everwhen.system.limits import LOOK_SECONDS, NEWS_SECONDS
from everwhen.vocabulary.contract import Page
from everwhen.vocabulary.errors import (
    BeyondEndError,
    CorruptStoreError,
    DeclarationError,
    EverwhenError,
    ReadOnlyError,
    RetiredError,
    StatementError,
    StorageError,
    StoreClosedError,
)
from everwhen.vocabulary.paging import PAGE_EVENTS
from everwhen.vocabulary.query import Query

_LOG: Final = logging.getLogger("everwhen")
_MAX_LEASE_SECONDS: Final = 86_400.0
"""A day: a longer lease would keep others out long after its holder's death."""
_FOR_GOOD: Final = (StatementError, ReadOnlyError, CorruptStoreError)


class Following:
    """Runs followers: as a context manager in the background, or with ``run`` or ``catch_up``.

    The log is read once for all that stand at the same place.
    """

    def __init__(self, store: Store, lease: float) -> None:
        if type(lease) not in (int, float) or not 0 < lease < _MAX_LEASE_SECONDS:
            raise DeclarationError(
                f"lease={lease!r}: use a number of seconds above 0, such as 5; a day at most"
            )
        self.store = check_store(store)
        self._lease = lease
        self._lock = Lock()
        self._closed = False
        self._background: Background | None = None
        self._looked = 0.0

    def __repr__(self) -> str:
        state = "at rest" if self._background is None else "in the background"
        shown = ", ".join(
            f"{f.name} at {f.position:,}{' (halted)' if f.error else ''}" for f in self._all()
        )
        state = "closed" if self._closed else state
        return f"<{type(self).__name__} on {self.store!r}, {state}: {shown}>"

    def _all(self) -> Iterable[Follower]:
        """Who follows, or has followed."""
        return self._everyone()

    def _everyone(self) -> Sequence[Follower]:
        """Who follows."""
        raise NotImplementedError

    def _settle(self) -> None:
        """What there is to do after each step."""

    def _lag_behind(self, goal: int) -> bool:
        """Whether something of what was asked to follow has not come to the goal yet."""
        return any(follower.position < goal for follower in self._everyone())

    def run(self) -> None:
        """Follow until closed.

        Raises `ProjectionError` once everything has halted, and what goes wrong for good.
        While the store is busy or can't be read, it tries again.
        """
        pause = 0.0
        try:
            while not self._closed:
                try:
                    with self._lock:
                        moved = self._step()
                    pause = 0.0
                    if not moved:
                        self._wait()
                except StoreClosedError:
                    return
                except _FOR_GOOD:
                    raise
                except StorageError as error:
                    pause = min(pause * 2 or 0.05, 2.0)
                    _LOG.warning("what follows the log waits for the store: %s", error)
                    sleep(pause)
        except Exception as error:
            _LOG.error("following the log has ended: %s", shown_failure(error, self.store.vault))
            raise
        finally:
            self._stop()

    def catch_up(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Follow until everything that is in the store now has been taken.

        ``progress`` is called with the position that the last one has come to, and the goal. What
        another runner works on is waited for. What had halted is tried again, unless
        this runs in the background. Raises `ProjectionError` where one halts, `InlineError` where
        one that is inline can't take what another process wrote, and `LeaseError` where readers see
        a newer version already.
        """
        goal = (self.store.head()).position
        if self._background is None:
            self._looked = 0.0
            for follower in self._everyone():
                follower.error = None
        while True:
            with self._lock:
                moved = self._step()
            lags = self._lag_behind(goal)
            if not lags and any(f.is_active and f.position > goal for f in self._everyone()):
                self._wait_for_news(0)
            for follower in self._everyone():
                if follower.error is not None:
                    raise follower.error
            if progress is not None:
                progress(min([goal, *(f.position for f in self._everyone())]), goal)
            if not lags:
                return
            if not moved:
                sleep(LOOK_SECONDS)

    def _step(self) -> bool:
        """Start who may start, let those who are furthest behind take a page; False at the end."""
        self._start()
        active = [follower for follower in self._everyone() if follower.is_active]
        if not active:
            halted = [follower.error for follower in self._everyone() if follower.error]
            if halted and len(halted) == len(self._everyone()):
                raise halted[0]
            self._settle()
            return False
        low = min(follower.position for follower in active)
        behind = [follower for follower in active if follower.position == low]
        ahead = min((f.position for f in active if f.position > low), default=None)
        page = self._page(behind, low, ahead)
        for follower in behind:
            follower.take(page)
        at_end = page.end and (ahead is None or page.cursor < ahead)
        for follower in active:
            if follower.is_active:
                follower.stay(at_end=at_end)
        self._settle()
        return not at_end or page.cursor > low

    def _page(self, behind: Sequence[Follower], low: int, ahead: int | None) -> Page:
        selectors = {selector for follower in behind for selector in follower.of.selectors}
        whole = Query().selectors[0]
        query = Query((whole,) if whole in selectors else tuple(selectors)).after(low)
        if ahead is not None:
            query = query.up_to(ahead)
        needy = [follower.name for follower in behind if not follower.of.skips_retired]
        if not needy:
            query = query.skipping_retired()
        asked = stored_query(query, self.store.kernel.codec)
        try:
            return self.store.kernel.backend.read(asked, PAGE_EVENTS)
        except RetiredError as error:
            error.add_note(
                f"needed for {', '.join(sorted(needy))}; a table projection or a reaction that can "
                f"do without them is declared with of=Query().skipping_retired()"
            )
            raise

    def _start(self) -> None:
        """Start those who wait for a lease, every now and then."""
        if time.monotonic() - self._looked < self._lease / 4:
            return
        self._looked = time.monotonic()
        for follower in self._everyone():
            if not follower.is_active and follower.error is None:
                follower.start()

    def _wait(self) -> None:
        seconds = min(NEWS_SECONDS, self._lease / 4)
        if any(follower.is_active for follower in self._everyone()):
            self._wait_for_news(seconds)
        else:
            sleep(seconds)

    def _wait_for_news(self, seconds: float) -> None:
        """For so long at most. Halts whoever stands after the end of the log."""
        standing = [(one, one.position) for one in self._everyone() if one.is_active]
        furthest = max([place for _, place in standing], default=0)
        try:
            self.store.kernel.backend.wait(furthest, seconds)
        except BeyondEndError as error:
            with self._lock:
                for one, place in standing:
                    if one.is_active and place == one.position and place > error.end:
                        one.halt_beyond(BeyondEndError(error.place, place, error.end))

    def close(self) -> None:
        """Stop following, and give way to others."""
        self._closed = True
        if self._background is not None:
            background, self._background = self._background, None
            background.join()
        self._stop()

    def _stop(self) -> None:
        for follower in self._everyone():
            try:
                follower.stop()
            except EverwhenError as error:
                _LOG.warning("%s did not stop properly: %s", follower.name, error)

    def _begin(self) -> None:
        """Go on in the background."""
        try:
            with self._lock:
                self._start()
        except _FOR_GOOD:
            raise
        except StorageError as error:
            _LOG.warning("what follows the log waits for the store: %s", error)
        self._background = Background(self.run)

    def __exit__(self, *failure: object) -> None:
        self.close()
