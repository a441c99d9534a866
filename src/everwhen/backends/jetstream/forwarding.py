"""Handing commits over to the node that wrote last, so that nodes don't race for the next place.

It only saves work: whoever is believed to write, the log's guard keeps it right. Each node tells
the others what it wrote, so they come to agree on who wrote last; there is no lease, and no clock
that has to be right. A node that doesn't answer is left out, and the sender writes by itself.
"""

from __future__ import annotations

import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
from nats.aio.msg import Msg

from everwhen.backends.jetstream.connection import Connection, UnansweredError
from everwhen.backends.jetstream.messages import LoggedSlice, encoded_slices, logged_slices
from everwhen.backends.outcome_messages import OutcomeMessage, error_of, outcome_message
from everwhen.system.compression import Compressor, DecompressionError
from everwhen.system.gathering import Gathering
from everwhen.system.threads import join
from everwhen.vocabulary.contract import (
    MAX_STORED_BYTES,
    Condition,
    EncodedCommit,
    Outcome,
)
from everwhen.vocabulary.errors import EverwhenError
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.streams import Expected

_ANSWER_SECONDS: Final = 2.0
"""How long a node is waited for that wrote a moment ago."""
_RECENT_SECONDS: Final = 2.0
"""For how long a node counts as the one that writes after it wrote."""
_MOST_COMMITS: Final = 2_048
"""How many commits of others are written together."""

NOBODY: Final = "0" * 16
"""Stands for a node that writes for itself alone: with each append it runs something of its own."""


class ForwardedCommit(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A commit as its sender wants it judged."""

    id: bytes
    slices: tuple[LoggedSlice, ...]
    expected: tuple[tuple[str, int | Expected], ...]
    condition: tuple[Query, int] | None
    metadata: bytes | None
    recorded_at: int | None
    is_fresh: bool

    def encoded(self) -> EncodedCommit:
        """What an engine judges."""
        condition = Condition(*self.condition) if self.condition is not None else None
        return EncodedCommit(
            self.id,
            encoded_slices(self.slices),
            self.expected,
            condition,
            self.metadata,
            self.recorded_at,
            self.is_fresh,
        )


class ForwardedOutcomes(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What became of the commits; ``seq`` is the message that shows it, or one after it."""

    seq: int
    outcomes: list[OutcomeMessage]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_commits: Final = msgspec.msgpack.Decoder(list[ForwardedCommit]).decode
_decode_outcomes: Final = msgspec.msgpack.Decoder(ForwardedOutcomes).decode


class HandedOver(msgspec.Struct, frozen=True):
    """What others asked for: each request with its number of commits, and all of these."""

    asked: list[tuple[Msg, int]]
    commits: list[EncodedCommit]


class WritingHere(Protocol):
    """What writes others' commits."""

    def write_for_others(self) -> None:
        """Write what was handed over, by this node itself, and answer it."""
        ...


class AppendForwarding:
    """One log's forwarding on one node; ``node`` is its name while it is open."""

    def __init__(self, engine: WritingHere, connection: Connection, subject: str) -> None:
        self.node = secrets.token_hex(8)
        self._engine = weakref.ref(engine)
        self._connection = connection
        self._subject = subject
        self._compressor = Compressor()
        self._seq = 0
        self._writer = self.node
        self._heard_at = 0.0
        self._asked: deque[Msg] = deque()
        self._gathering = Gathering()
        self._woken = threading.Event()
        self._stopped = False
        self._unlisten = connection.listen(f"{subject}.append.{self.node}", self._hear)
        self._thread = threading.Thread(target=self._work, name="everwhen-forwarded", daemon=True)
        self._thread.start()

    def heard(self, seq: int, node: str) -> None:
        """A node has written a message: this one, another one, or one that is `NOBODY` to others.

        What is heard late of an older message says nothing: so two nodes never hand their commits
        over to each other for long.
        """
        if seq > self._seq:
            self._seq, self._writer, self._heard_at = seq, node, time.monotonic()

    def other_writer(self) -> str | None:
        """The node that commits are to be handed over to; None where this one is to write."""
        is_recent = time.monotonic() - self._heard_at < _RECENT_SECONDS
        return self._writer if is_recent and self._writer not in {self.node, NOBODY} else None

    def ask(self, node: str, commits: Sequence[EncodedCommit]) -> tuple[int, list[Outcome]] | None:
        """What a node has made of the commits, and the newest message by which it shows.

        None where it gave no answer: then they may be written all the same.
        """
        data = self._compressor.compress(_encode([_forwarded(commit) for commit in commits]))
        if len(data) < self._connection.max_payload:
            try:
                answer = self._connection.request(
                    f"{self._subject}.append.{node}", data, _ANSWER_SECONDS
                )
                found = _decode_outcomes(answer.data)
                return found.seq, _outcomes(commits, found.outcomes)
            except (UnansweredError, msgspec.DecodeError, ValueError):
                self._writer = self.node
        return None

    def _hear(self, message: Msg) -> None:
        self._asked.append(message)
        self._woken.set()

    def _work(self) -> None:
        while True:
            self._woken.wait()
            self._woken.clear()
            engine = self._engine()
            if self._stopped or engine is None:
                return
            try:
                if self._asked:
                    engine.write_for_others()
            except EverwhenError:  # no answer: the senders find out for themselves
                continue
            finally:
                del engine

    @property
    def is_asked(self) -> bool:
        """Whether something was handed over that nobody has taken yet."""
        return bool(self._asked)

    def taken(self) -> HandedOver:
        """What was handed over and nobody has taken yet; to be answered, or given back."""
        self._gathering.wait(self._asked.__len__)
        handed = HandedOver([], [])
        while self._asked and len(handed.commits) < _MOST_COMMITS:
            message = self._asked.popleft()
            commits = self._received(message)
            if commits:
                handed.asked.append((message, len(commits)))
                handed.commits.extend(commits)
        return handed

    def give_back(self, handed: HandedOver) -> None:
        """Leave it to the next who takes it."""
        self._asked.extendleft(message for message, _ in reversed(handed.asked))
        self._woken.set()

    def answer(self, handed: HandedOver, seq: int, outcomes: Sequence[Outcome]) -> None:
        """Say what became of the commits; nothing of them, where none was written or judged."""
        self._gathering.ended(len(handed.asked) + len(self._asked))
        start = 0
        for message, count in handed.asked:
            told = [outcome_message(one) for one in outcomes[start : start + count]]
            start += count
            self._connection.answer(message, _encode(ForwardedOutcomes(seq, told)))

    def _received(self, message: Msg) -> list[EncodedCommit]:
        """The commits of a request; none of one that can't be read."""
        try:
            data = self._compressor.decompress(message.data, 2 * MAX_STORED_BYTES)
            return [commit.encoded() for commit in _decode_commits(data)]
        except (DecompressionError, msgspec.DecodeError):
            return []

    def stop(self) -> None:
        """End it; nothing is written for others any more when this returns."""
        self._stopped = True
        self._unlisten()
        self._woken.set()
        if self._thread is not threading.current_thread():
            join(self._thread)


def _forwarded(commit: EncodedCommit) -> ForwardedCommit:
    condition = commit.condition
    return ForwardedCommit(
        commit.id,
        logged_slices(commit),
        commit.expected,
        (condition.query, condition.after) if condition is not None else None,
        commit.metadata,
        commit.recorded_at,
        commit.is_fresh,
    )


def _outcomes(
    commits: Sequence[EncodedCommit], messages: Sequence[OutcomeMessage]
) -> list[Outcome]:
    """The commits' outcomes. Raises `ValueError` where they are those of others."""
    outcomes: list[Outcome] = []
    for commit, told in zip(commits, messages, strict=True):
        if told.receipt is not None and told.receipt.commit_id.bytes == commit.id:
            outcomes.append(told.receipt)
        elif told.error is not None:
            outcomes.append(error_of(told.error))
        else:
            raise ValueError("the outcome of another commit")
    return outcomes
