"""The thread that keeps a replica up with its log."""

from __future__ import annotations

import re
import threading
import weakref
from typing import Final, Protocol

from everwhen.backends.jetstream.connection import Connection
from everwhen.backends.jetstream.forwarding import NOBODY, AppendForwarding
from everwhen.system.threads import join
from everwhen.vocabulary.errors import EverwhenError

_HINT: Final = re.compile(rb"(\d{1,19}) ([0-9a-f]{16}) ([0-9a-f]{16})")
_POLL_SECONDS: Final = 0.5
"""How long a message may go unnoticed whose hint was lost."""


class KeptReplica(Protocol):
    """What follows a log."""

    def follow(self, hinted: int) -> None:
        """Take in what is new; ``hinted`` is a sequence that there is, or 0."""
        ...


class ReplicaFollower:
    """Has an engine follow as long as it lives. A hint says that there is something to take in."""

    def __init__(
        self,
        engine: KeptReplica,
        connection: Connection,
        subject: str,
        forwarding: AppendForwarding,
    ) -> None:
        self._engine = weakref.ref(engine)
        self._woken = threading.Event()
        self._hinted = 0
        self._stopped = False
        self._connection = connection
        self._subject = f"{subject}.news"
        self._forwarding = forwarding
        self._unlisten = connection.listen(self._subject, lambda hint: self._hear(hint.data))
        self._thread = threading.Thread(target=self._work, name="everwhen-follow", daemon=True)
        self._thread.start()

    def tell(self, seq: int, *, writes_for_others: bool) -> None:
        """Tell all nodes of a message that this one has written."""
        node = self._forwarding.node if writes_for_others else NOBODY
        self._forwarding.heard(seq, node)
        self._connection.say(self._subject, f"{seq} {node} {self._forwarding.node}".encode())

    def _hear(self, hint: bytes) -> None:
        match = _HINT.fullmatch(hint)
        if match is None:
            return
        seq, writer, sender = int(match[1]), match[2].decode(), match[3].decode()
        if sender != self._forwarding.node:
            self._forwarding.heard(seq, writer)
            self._hinted = max(self._hinted, seq)
            self._woken.set()

    def _work(self) -> None:
        while not self._stopped:
            self._woken.wait(_POLL_SECONDS)
            self._woken.clear()
            engine = self._engine()
            if self._stopped or engine is None:
                return
            try:
                engine.follow(self._hinted)
            except EverwhenError:  # whoever writes, or reads what is fresh, gets it
                continue
            finally:
                del engine

    def stop(self) -> None:
        """End it; nothing is taken in any more when this returns."""
        self._stopped = True
        self._woken.set()
        self._unlisten()
        if self._thread is not threading.current_thread():
            join(self._thread)
