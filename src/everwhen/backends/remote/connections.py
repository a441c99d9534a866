"""Connections to a server, and what is done where one fails.

The standard library's client does: one host, requests that are bytes, answers of a known length.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import ssl
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Final, NamedTuple

from everwhen.backends.outcome_messages import error_of
from everwhen.backends.remote.address import TOKEN_VARIABLE, ServerAddress
from everwhen.backends.remote.messages import MEDIA, UNREADABLE, decode_error
from everwhen.vocabulary.errors import (
    EverwhenError,
    InvalidCommitError,
    NotAStoreError,
    ReadOnlyError,
    StorageError,
    StoreClosedError,
)

CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 30.0
"""How long a server may take beyond what it was told to wait for."""
_FIRST_PAUSE_SECONDS: Final = 0.02
_LONGEST_PAUSE_SECONDS: Final = 1.0
_READ_BYTES: Final = 1 << 20
_LATER: Final = {429, 502, 503, 504}
"""What a server, or a proxy before it, answers where it is worth trying again."""
_MAX_PROBLEM_BYTES: Final = 1 << 20


class NoAnswerError(Exception):
    """There is none. Unless it ``was_sent``, the server never saw the request."""

    def __init__(self, why: str, *, was_sent: bool) -> None:
        super().__init__(why)
        self.was_sent = was_sent


class _Answer(NamedTuple):
    status: int
    media: str
    body: bytes


class Connections:
    """Those to one server, kept open between requests. Safe from any thread."""

    def __init__(self, address: ServerAddress) -> None:
        self._address = address
        self._tls = ssl.create_default_context() if address.is_secure else None
        self._headers = {"Content-Type": MEDIA, "Accept": MEDIA}
        if address.token is not None:
            self._headers["Authorization"] = f"Bearer {address.token}"
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._used: set[http.client.HTTPConnection] = set()
        self._guard = threading.Lock()
        self._process = os.getpid()
        self._is_closed = threading.Event()

    @property
    def is_foreign(self) -> bool:
        """Whether another process made them, of which this one is a fork."""
        return os.getpid() != self._process

    def check_open(self) -> None:
        """Raises `StoreClosedError`, or `StorageError` in a fork."""
        if self.is_foreign:
            raise StorageError(
                f"{self._address.place}: it was opened by process {self._process}; a connection "
                f"doesn't survive a fork, open the store again in the child"
            )
        if self._is_closed.is_set():
            raise StoreClosedError

    def post(
        self,
        path: str,
        body: bytes,
        most: int,
        *,
        patience: float,
        seconds: float = ANSWER_SECONDS,
        repeats: bool = True,
    ) -> bytes:
        """The answer to a request to a path, which is at most that many bytes.

        Where none comes, it is tried again for ``patience`` seconds; unless it ``repeats``, only
        where the server never saw it. Raises what the server answers as an error, and
        `StorageError`.
        """
        deadline = time.monotonic() + patience
        pause = 0.0
        while True:
            try:
                return self._believed(self._once(path, body, most, seconds))
            except NoAnswerError as error:
                self.check_open()
                is_over = time.monotonic() + pause > deadline
                if is_over or (error.was_sent and not repeats):
                    raise self._given_up(error) from error
            self._is_closed.wait(pause)
            pause = min(max(2 * pause, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)

    def _given_up(self, error: NoAnswerError) -> StorageError:
        """The first failure in words."""
        outcome = (
            " Whether an append that was under way is written isn't known: append it again with "
            "the same commit id"
            if error.was_sent
            else ""
        )
        return StorageError(
            f"{self._address.place}: no answer ({error}); see that the server runs and can be "
            f"reached.{outcome}"
        )

    def _once(self, path: str, body: bytes, most: int, seconds: float) -> _Answer:
        was_sent = False
        try:
            connection = self._taken()
            try:
                if connection.sock is None:
                    connection.timeout = CONNECT_SECONDS
                    connection.connect()
                was_sent = True
                connection.sock.settimeout(seconds)
                connection.request("POST", path, body, self._headers)
                answer = _read(connection.getresponse(), most, time.monotonic() + seconds)
            except BaseException:
                self._dropped(connection)
                raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NoAnswerError(str(error) or type(error).__name__, was_sent=was_sent) from error
        self._given_back(connection)
        return answer

    def _taken(self) -> http.client.HTTPConnection:
        self.check_open()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._made()
                break
            if not _has_ended(connection):
                break
            connection.close()
        with self._guard:
            self._used.add(connection)
        return connection

    def _made(self) -> http.client.HTTPConnection:
        address = self._address
        if self._tls is None:
            return http.client.HTTPConnection(address.host, address.port)
        return http.client.HTTPSConnection(address.host, address.port, context=self._tls)

    def _given_back(self, connection: http.client.HTTPConnection) -> None:
        with self._guard:
            self._used.discard(connection)
            if not self._is_closed.is_set():
                self._idle.append(connection)
                return
        connection.close()

    def _dropped(self, connection: http.client.HTTPConnection) -> None:
        with self._guard:
            self._used.discard(connection)
        connection.close()

    def _believed(self, answer: _Answer) -> bytes:
        """The body of an answer that is one; raises what any other says, and `NoAnswerError`."""
        if answer.status in _LATER and answer.media != MEDIA:
            raise NoAnswerError(_detail(answer), was_sent=True)
        if answer.media == MEDIA and answer.status == 200:
            return answer.body
        if answer.media == MEDIA:
            try:
                raise error_of(decode_error(answer.body))
            except UNREADABLE as error:
                raise self._strange(answer) from error
        raise self._problem(answer)

    def _problem(self, answer: _Answer) -> EverwhenError:
        place, said = self._address.place, _detail(answer)
        match answer.status:
            case 401:
                return StorageError(
                    f"{place}: it wants a token, or another one ({said}); put it in the variable "
                    f"{TOKEN_VARIABLE}, or in the URL before the host: https://token@host"
                )
            case 403:
                return ReadOnlyError(f"{place}: {said}")
            case 404:
                return NotAStoreError(
                    f"{place}: no store answers there ({said}); give the address of a server that "
                    f"everwhen serve runs, or where one is mounted"
                )
            case 413:
                return InvalidCommitError(f"{place}: {said}; write less at a time")
            case _:
                return self._strange(answer)

    def _strange(self, answer: _Answer) -> StorageError:
        return StorageError(
            f"{self._address.place}: status {answer.status} ({_detail(answer)}), which is no "
            f"answer of a log; see that it is an Everwhen server of this version, and its log"
        )

    def close(self) -> None:
        """End them all; who waits for an answer gets `StoreClosedError`."""
        self._is_closed.set()
        with self._guard:
            used, idle = [*self._used], [*self._idle]
            self._idle.clear()
        for connection in idle:
            connection.close()
        for connection in used:
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)


def _has_ended(connection: http.client.HTTPConnection) -> bool:
    """Whether an idle connection was closed by the server: there is something to read."""
    if connection.sock is None:
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _read(response: http.client.HTTPResponse, most: int, deadline: float) -> _Answer:
    media = response.headers.get_content_type()
    most = most if response.status == 200 else _MAX_PROBLEM_BYTES
    parts: list[bytes] = []
    size = 0
    while part := response.read(_READ_BYTES):
        parts.append(part)
        size += len(part)
        if size > most:
            raise StorageError(f"the server's answer is longer than {most:,} bytes; ask for less")
        if time.monotonic() > deadline:
            raise TimeoutError("the answer came too slowly")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return _Answer(response.status, media, b"".join(parts))


def _detail(answer: _Answer) -> str:
    """What a problem says of itself (RFC 9457), in a few words."""
    try:
        said = json.loads(answer.body)["detail"]
    except (ValueError, KeyError, TypeError, RecursionError):
        said = f"{answer.media}, {len(answer.body):,} bytes"
    return f"{said!s:.500}"
