"""One log: the messages of one subject, each written only directly behind the one before.

The server's guard ("the subject's last sequence is S") makes a message's place certain however
often it is sent: it is written once, directly behind S, or never.
"""

from __future__ import annotations

import base64
import contextlib
import time
from typing import Any, Final

import msgspec

from everwhen.backends.jetstream.connection import Connection, UnansweredError
from everwhen.backends.jetstream.messages import message_id as id_of
from everwhen.backends.jetstream.stream_setup import NO_STREAM, ApiError, LogStream, decode_stream
from everwhen.vocabulary.errors import (
    CorruptStoreError,
    NotAStoreError,
    StorageError,
    StorageFullError,
)

_ANSWER_SECONDS: Final = 1.0
"""How long one question waits for its answer, before it is asked again."""
_BETWEEN_TRIES: Final = 0.05
_BETWEEN_LOOKS: Final = 0.02
"""Where something is in flight behind the newest message."""
_CONFIRMED_SECONDS: Final = 15.0
"""For how long the log has to be shorter than a replica to be believed: longer than a server that
was cut off goes on taking itself for the leader."""

_LED_SECONDS: Final = 2.0
"""How recently a leader has to have heard from a majority: no other is elected before 4 s without
it, and what it says as late as that after this holds."""

_WRONG_LAST_SEQUENCE: Final = 10071
_IN_FLIGHT: Final = 10164
_NO_MESSAGE: Final = 10037
FULL: Final = {10077, 10047, 10023}
"""The stream, the account, or the server takes no more."""
_TOO_LARGE: Final = 10054


class _StoredMessage(msgspec.Struct):
    seq: int
    data: str = ""


class _Answer(msgspec.Struct):
    error: ApiError | None = None
    seq: int = 0
    message: _StoredMessage | None = None
    purged: int = 0


_decode: Final = msgspec.json.Decoder(_Answer).decode


class LogMessage(msgspec.Struct, frozen=True):
    """A message and its sequence in the stream."""

    seq: int
    data: bytes


class OvertakenError(Exception):
    """Another message was written directly behind: at ``seq``, or later."""

    def __init__(self, seq: int) -> None:
        super().__init__(f"overtaken at {seq}")
        self.seq = seq


class SubjectLog:
    """The messages of one subject. Safe from any thread.

    Each call goes on asking for ``patience`` seconds, then raises `UnansweredError`. ``next`` may
    be old for some seconds where the leader was cut off and doesn't know it yet; ``newest`` isn't.
    """

    def __init__(self, connection: Connection, stream: str, subject: str, patience: float) -> None:
        self.subject = subject
        self._connection = connection
        self._stream = stream
        self._patience = patience

    def place_of(self, seq: int) -> str:
        """A message, as errors have it."""
        return f"message {seq} of {self.subject}"

    def append(self, message_id: bytes, data: bytes, after: int) -> int:
        """Write the message directly behind a sequence; its own.

        Raises `OvertakenError` where another one is there, and `StorageFullError` where the stream
        takes no more: then nothing was written. Raises `NotAStoreError` where there is no stream.
        Raises `UnansweredError` where nobody has answered: then it is written, or still will be,
        directly behind or never.
        """
        guard = {"Nats-Expected-Last-Subject-Sequence": str(after)}
        until = time.monotonic() + self._patience
        is_certain = True
        while True:
            answer = self._asked(self.subject, data, guard)
            error = answer.error if answer is not None else None
            if answer is not None and error is None:
                self._connection.trust()
                return answer.seq
            if error is not None and error.err_code in FULL and is_certain:
                raise StorageFullError(
                    f"{self.subject}: the stream {self._stream} takes no more "
                    f"({error.description}); nothing was written, give it room"
                )
            if error is not None and error.err_code == _TOO_LARGE and is_certain:
                raise StorageError(
                    f"{self.subject}: a message of {len(data):,} bytes is too large for the "
                    f"server ({error.description}); nothing was written, raise max_payload"
                )
            is_certain = is_certain and error is not None
            found = self._behind(after)
            if found is not None:
                if id_of(found.data, self.place_of(found.seq)) == message_id:
                    return found.seq
                raise OvertakenError(found.seq)
            if time.monotonic() > until:
                why = f" (it said: {error.description})" if error is not None else ""
                raise UnansweredError(
                    f"{self.subject}: the cluster gave no answer within {self._patience:g} s{why}; "
                    f"the outcome is open, repeat the commit with the same commit id"
                )
            in_flight = error is not None and error.err_code in {_IN_FLIGHT, _WRONG_LAST_SEQUENCE}
            if error is not None and error.err_code == _WRONG_LAST_SEQUENCE:
                with contextlib.suppress(UnansweredError):
                    self._check_length(after)
            self._pause(until, _BETWEEN_LOOKS if in_flight else _BETWEEN_TRIES)

    def _behind(self, after: int) -> LogMessage | None:
        """The message directly behind, by the leader's word; None where nothing is known of one."""
        question = msgspec.json.encode({"seq": after + 1, "next_by_subj": self.subject})
        answer = self._asked(f"$JS.API.STREAM.MSG.GET.{self._stream}", question)
        self._check_stream(answer)
        return None if answer is None or answer.message is None else _message(answer.message)

    def _check_stream(self, answer: _Answer | LogStream | None) -> None:
        """Raises `NotAStoreError` where the answer is that there is none."""
        error = answer.error if answer is not None else None
        if error is not None and error.err_code == NO_STREAM:
            raise NotAStoreError(
                f"{self.subject}: the cluster has no stream {self._stream} any more, nor what was "
                f"written into it; find out who deleted it, and make a new log from a replica"
            )

    def next(self, after: int) -> LogMessage | None:
        """The message directly behind, by the leader's word. None: there is none."""
        return self._found({"seq": after + 1, "next_by_subj": self.subject})

    def last(self) -> int:
        """The newest message's sequence, by a leader that still leads; 0 where there is none."""
        newest = self.newest()
        return 0 if newest is None else newest.seq

    def newest(self) -> LogMessage | None:
        """The newest message, by a leader that still leads; None where there is none."""
        until = time.monotonic() + self._patience
        while True:
            # in this order, and by one server's way: what a leader of before says could else be
            # taken for the word of the one that leads
            since, taken = time.monotonic(), self._connection.servers_taken
            if self._is_led():
                found = self._found({"last_by_subj": self.subject})
                is_soon = time.monotonic() - since < _LED_SECONDS
                if is_soon and self._connection.servers_taken == taken:
                    return found
            if time.monotonic() > until:
                raise UnansweredError(
                    f"{self.subject}: the server that leads hears of no majority within "
                    f"{self._patience:g} s; see that a majority of the cluster runs, and can be "
                    f"reached from here"
                )
            self._pause(until)

    def _is_led(self) -> bool:
        subject = f"$JS.API.STREAM.INFO.{self._stream}"
        try:
            answer = self._connection.request(subject, b"", _ANSWER_SECONDS)
            stream = decode_stream(answer.data)
        except (UnansweredError, msgspec.DecodeError):
            return False
        self._check_stream(stream)
        is_led = stream.is_led(_LED_SECONDS)
        if is_led:
            self._connection.trust()
        return is_led

    def _found(self, question: dict[str, Any]) -> LogMessage | None:
        asked = msgspec.json.encode(question)
        until = time.monotonic() + self._patience
        while True:
            answer = self._asked(f"$JS.API.STREAM.MSG.GET.{self._stream}", asked)
            if answer is not None and answer.message is not None:
                return _message(answer.message)
            error = answer.error if answer is not None else None
            if error is not None and error.err_code == _NO_MESSAGE:
                return None
            self._check_stream(answer)
            if time.monotonic() > until:
                why = f" (it said: {error.description})" if error is not None else ""
                raise UnansweredError(
                    f"{self.subject}: no server that leads has answered within "
                    f"{self._patience:g} s{why}; see that a majority of the cluster runs"
                )
            self._pause(until)

    def page(self, after: int, count: int) -> list[LogMessage]:
        """Messages behind a sequence, from any server: perhaps not the newest, never wrong.

        Where it has none, it is seen now and then that it isn't parted from the others.
        """
        began = time.monotonic()
        question = {"seq": after + 1, "batch": count, "next_by_subj": self.subject}
        asked = msgspec.json.encode(question)
        subject = f"$JS.API.DIRECT.GET.{self._stream}"
        try:
            answers = self._connection.requests(subject, asked, _ANSWER_SECONDS)
        except UnansweredError:
            found = self.next(after)
            return [] if found is None else [found]
        page = []
        for answer in answers:
            headers = answer.headers or {}
            if not headers.get("Status"):
                page.append(LogMessage(int(headers["Nats-Sequence"]), answer.data))
        if not page and not self._connection.is_trusted and not self._is_led():
            self._connection.pause(0, began)
        return page

    def certain_page(self, after: int, count: int) -> list[LogMessage]:
        """The same, by the leader's word where whoever was asked has none."""
        page = self.page(after, count)
        if not page and (found := self.next(after)) is not None:
            page = [found]
        return page

    def purge(self, before: int = 0) -> int:
        """Delete all of its messages, or those before a sequence, for good; how many these were.

        Where it had to be asked again, some aren't counted.
        """
        which = {"filter": self.subject} | ({"seq": before} if before else {})
        asked = msgspec.json.encode(which)
        until = time.monotonic() + self._patience
        while True:
            answer = self._asked(f"$JS.API.STREAM.PURGE.{self._stream}", asked)
            if answer is not None and answer.error is None:
                return answer.purged
            if time.monotonic() > until:
                said = answer.error if answer is not None else None
                why = "no answer" if said is None else said.description
                raise StorageError(f"{self.subject}: its messages can't be deleted ({why})")
            self._pause(until)

    def check_length(self, seq: int) -> None:
        """Raises `CorruptStoreError` where the log ends before a message that was read from it."""
        if seq and self.last() < seq:
            self._check_length(seq)

    def _check_length(self, seq: int) -> None:
        until = time.monotonic() + _CONFIRMED_SECONDS
        while (last := self.last()) < seq:
            if time.monotonic() > until:
                raise CorruptStoreError(
                    f"{self.subject}: the log ends at message {last}, and this replica has read "
                    f"message {seq}: the stream was made anew or restored to an earlier moment. "
                    f"Nothing is written; find out which history is the true one, and delete the "
                    f"replica to follow the stream's, or make a new log from the replica"
                )
            time.sleep(_BETWEEN_TRIES)

    def _pause(self, until: float, seconds: float = _BETWEEN_TRIES) -> None:
        """Between two tries of what has ``patience`` until then."""
        self._connection.pause(seconds, until - self._patience)

    def _asked(
        self, subject: str, data: bytes, headers: dict[str, str] | None = None
    ) -> _Answer | None:
        """The answer; None where none comes, or one that isn't the server's."""
        try:
            answer = self._connection.request(subject, data, _ANSWER_SECONDS, headers)
            return _decode(answer.data)
        except (UnansweredError, msgspec.DecodeError):
            return None


def _message(stored: _StoredMessage) -> LogMessage:
    return LogMessage(stored.seq, base64.b64decode(stored.data))
