"""A proxy before a NATS server, which loses a request or its answer, or holds it up."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Literal, NamedTuple

from tests.patience import PATIENCE_SECONDS

What = Literal["request", "answer"]
Way = Literal["lose", "cut"]


class _Rule(NamedTuple):
    what: What
    subject: re.Pattern[str]
    treat: Callable[[], bool]
    """Whether the message is passed on. An error ends the connection."""


class Held:
    """A message that is kept back; ``come`` once it is there."""

    def __init__(self) -> None:
        self._came, self._go = threading.Event(), threading.Event()

    def wait(self) -> bool:
        self._came.set()
        return self._go.wait(PATIENCE_SECONDS)

    def come(self) -> None:
        assert self._came.wait(PATIENCE_SECONDS)

    def release(self) -> None:
        self._go.set()


class NatsProxy:
    """Passes messages on, whole ones only, and those that a rule is about as the rule says.

    A rule is about requests whose subject matches a pattern, or about their answers.
    """

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._lock = threading.Lock()
        self._rule: _Rule | None = None
        self._inboxes: set[str] = set()
        self._gate: Held | None = None
        self.struck = 0
        """How many messages a rule was about."""
        self.accepted = 0
        """How many connections there have been."""
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self, what: What, subject: str, times: int, way: Way = "lose") -> None:
        """Lose the next messages of a kind; ``cut`` loses the connection with each."""
        left = iter(range(times))

        def treat() -> bool:
            if next(left, None) is None:
                return True
            self.struck += 1
            if way == "cut":
                raise ConnectionError
            return False

        self._begin(_Rule(what, re.compile(subject), treat))

    def hold(self, what: What, subject: str) -> Held:
        """Hold the next message of a kind up, all behind it on its connection, and new connections.

        So a client that gives its connection up is no further.
        """
        held = Held()
        first = iter([True])

        def treat() -> bool:
            if next(first, False):
                self.struck += 1
                self._gate = held
                held.wait()
            return True

        self._begin(_Rule(what, re.compile(subject), treat))
        return held

    def _begin(self, rule: _Rule) -> None:
        with self._lock:
            self._rule, self._inboxes, self.struck = rule, set(), 0

    def let_be(self) -> None:
        """Pass all on from now on."""
        with self._lock:
            self._rule = None

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # or who accepts would wait for ever
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                self.accepted += 1
                if self._gate is not None:
                    self._gate.wait()
                try:
                    server = socket.create_connection(self._server)
                except ConnectionRefusedError:  # it is down, which the client is to notice
                    client.close()
                    continue
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for way in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=way, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with source, suppress(OSError), source.makefile("rb") as messages:
            while line := messages.readline():
                message = line + _payload(line, messages)
                if self._passes(line.decode().split()):
                    target.sendall(message)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)  # its own thread closes it

    def _passes(self, words: list[str]) -> bool:
        with self._lock:
            rule = self._rule
            if rule is None or words[0] not in {"PUB", "HPUB", "MSG", "HMSG"}:
                return True
            is_request = words[0].endswith("PUB")
            if is_request and rule.subject.fullmatch(words[1]):
                # a publish has a reply subject unless its words are too few
                self._inboxes.update(words[2:3])
                is_due = rule.what == "request"
            else:
                is_due = rule.what == "answer" and not is_request and words[1] in self._inboxes
        return rule.treat() if is_due else True


def _payload(line: bytes, messages: BinaryIO) -> bytes:
    words = line.split()
    if not words or words[0] not in {b"PUB", b"HPUB", b"MSG", b"HMSG"}:
        return b""
    return messages.read(int(words[-1]) + 2)


@contextmanager
def nats_proxy(port: int) -> Iterator[NatsProxy]:
    """One before the server at a port of this machine."""
    proxy = NatsProxy(port)
    try:
        yield proxy
    finally:
        proxy.let_be()
        proxy.close()
