"""The thread that keeps a replica up with its log."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Final, Protocol

import msgspec
from nats.aio.msg import Msg

from everwhen.backends.jetstream.connection import Connection
from everwhen.backends.jetstream.forwarding import NOBODY, AppendForwarding
from everwhen.backends.jetstream.messages import digest_of
from everwhen.backends.jetstream.registration import (
    ReplicaPlace,
    place_message,
    question_subject,
)
from everwhen.backends.jetstream.subject_log import LogMessage
from everwhen.system.threads import join
from everwhen.vocabulary.errors import EverwhenError

_MOST_BYTES: Final = 64 << 10
"""Of a message that is told whole; a larger one is asked for."""
_MOST_TOLD: Final = 256
"""How many told messages are kept; what was told before is asked for."""
_POLL_SECONDS: Final = 0.5
"""How long a message may go unnoticed whose hint was lost."""


class ToldMessage(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a node says of a message, once it is in the log.

    ``writer`` is the node that others' commits are for, ``previous`` the digest of the message
    before. Whoever may say so may write into the log as well, and the next message shows a lie.
    """

    seq: int
    writer: str
    sender: str
    previous: bytes
    data: bytes | None = None


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(ToldMessage).decode


class KeptReplica(Protocol):
    """What follows a log."""

    def follow(self, hinted: int) -> None:
        """Take in what is new; ``hinted`` is a sequence that there is, or 0."""
        ...

    def replica_place(self) -> ReplicaPlace | None:
        """How far it has come; None for what is no node's replica."""
        ...


class ReplicaFollower:
    """Has an engine follow as long as it lives, from ``start`` on.

    Nodes tell each other what they have written. That spares a question, and is no more than a
    hint: what doesn't follow on the replica's last message is asked for.
    """

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
        self._told: deque[ToldMessage] = deque(maxlen=_MOST_TOLD)
        self._asked: deque[Msg] = deque(maxlen=_MOST_TOLD)
        self._unlisten = (
            connection.listen(self._subject, lambda hint: self._hear(hint.data)),
            connection.listen(question_subject(subject), self._hear_question),
        )
        self._thread = threading.Thread(target=self._work, name="everwhen-follow", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def tell(self, seq: int, previous: bytes, data: bytes, *, writes_for_others: bool) -> None:
        """Tell all nodes of a message that this one has written."""
        node = self._forwarding.node
        writer = node if writes_for_others else NOBODY
        self._forwarding.heard(seq, writer)
        whole = data if len(data) <= _MOST_BYTES else None
        self._connection.say(
            self._subject, _encode(ToldMessage(seq, writer, node, previous, whole))
        )

    def _hear(self, data: bytes) -> None:
        try:
            told = _decode(data)
        except msgspec.DecodeError:  # nothing that a node says
            return
        if told.sender != self._forwarding.node:
            self._forwarding.heard(told.seq, told.writer)
            self._told.append(told)
            self._hinted = max(self._hinted, told.seq)
            self._woken.set()

    def _hear_question(self, question: Msg) -> None:
        self._asked.append(question)
        self._woken.set()

    def _answer(self, engine: KeptReplica) -> None:
        """Say how far this replica has come to all who asked."""
        asked = [self._asked.popleft() for _ in range(len(self._asked))]
        place = engine.replica_place() if asked else None
        if place is not None:
            for question in asked:
                self._connection.answer(question, place_message(place))

    @property
    def is_told(self) -> bool:
        """Whether there may be something to take in."""
        return bool(self._told)

    def told_after(self, seq: int, digest: bytes) -> list[LogMessage]:
        """Told messages that follow directly on the one of that sequence and digest."""
        found: list[LogMessage] = []
        while self._told:
            told = self._told[0]
            if told.seq > seq and (told.data is None or told.previous != digest):
                break
            self._told.popleft()
            if told.seq > seq and told.data is not None:
                seq, digest = told.seq, digest_of(told.data)
                found.append(LogMessage(seq, told.data))
        return found

    def _work(self) -> None:
        while not self._stopped:
            is_hinted = self._woken.wait(_POLL_SECONDS)
            self._woken.clear()
            engine = self._engine()
            if self._stopped or engine is None:
                return
            try:
                self._answer(engine)
                engine.follow(self._hinted if is_hinted else 0)
            except EverwhenError:  # whoever writes, or reads what is fresh, gets it
                continue
            finally:
                del engine

    def stop(self) -> None:
        """End it; nothing is taken in any more when this returns."""
        self._stopped = True
        self._woken.set()
        for unlisten in self._unlisten:
            unlisten()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            join(self._thread)
