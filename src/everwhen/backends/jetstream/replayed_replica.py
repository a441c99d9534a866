"""A replica that is brought up to a message of its log, and doesn't follow after that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.connection import Connection
from everwhen.backends.jetstream.engine import JetStreamEngine
from everwhen.backends.jetstream.replica_state import ReplicaState, state_of

ReplayListener: TypeAlias = Callable[[int, int], None]
"""Called with the newest message that was taken in, and the one that it goes on to."""

_PAGE: Final = 200


class ReplayedReplica(JetStreamEngine):
    """Made where there is none, and then as far as ``reach`` was asked for. Writes no log."""

    def __init__(
        self,
        address: ClusterAddress,
        *,
        patience: float,
        listener: ReplayListener | None = None,
        connection: Connection | None = None,
    ) -> None:
        self._listener = listener
        super().__init__(
            msgspec.structs.replace(address, consistency="own"),
            read_only=True,
            busy_timeout=patience,
            connection=connection,
        )

    def follow(self, hinted: int) -> None:
        """Nothing: it goes on when it is told to."""

    def replica_place(self) -> None:
        """It is no node's, and nobody waits for it."""

    def _catch_up_to_newest(self) -> None:
        pass

    def newest(self) -> int:
        """The newest message of the log, by the leader's word."""
        return self._log.last()

    def state(self) -> ReplicaState:
        """How far it has come."""
        found = self._reader.run(state_of)
        return found if found is not None else ReplicaState(0, b"", "")

    def reach(self, seq: int) -> int:
        """Take in the log's messages up to that one; the newest that there was."""
        with self.lock.turn(), self.lock.mutex:
            while (seen := self._seen()) < seq:
                found = self._log.certain_page(seen, _PAGE)
                page = [message for message in found if message.seq <= seq]
                if not page:
                    return seen
                self._take_in(page)
                if self._listener is not None:
                    self._listener(page[-1].seq, seq)
        return seen
