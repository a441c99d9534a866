"""A cheap HTTP client for measuring servers: prebuilt requests over many connections.

It is a process of its own on a core of its own, and does nothing with an answer but find its end,
so that what is measured is the server.
"""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Sequence

_RECEIVED_BYTES = 1 << 18


class _Client:
    """One connection, with one request open at a time."""

    def __init__(self, port: int, request: bytes, times: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.content = b""
        self._request = request
        self._left = times
        self._received = bytearray()

    def ask(self) -> None:
        """Send the request once more."""
        self._left -= 1
        self.socket.sendall(self._request)

    def is_done(self) -> bool:
        """Take what has come, and ask again after a whole answer; True after the last one."""
        received = self._received
        received += self.socket.recv(_RECEIVED_BYTES)
        head_end = received.find(b"\r\n\r\n") + 4
        if head_end < 4:
            return False
        head = bytes(received[:head_end]).lower()
        if not head.startswith((b"http/1.1 200", b"http/1.1 201")):
            raise RuntimeError(bytes(received))
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(received) < head_end + length:
            return False
        if self._left:
            received.clear()
            self.ask()
            return False
        self.content = bytes(received[head_end:])
        return True


def load(port: int, requests: Sequence[bytes], times: int, core: int) -> bytes:
    """Send each request over a connection of its own, so many times; the last content."""
    os.sched_setaffinity(0, {core})
    clients = [_Client(port, request, times) for request in requests]
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.ask()
        left = len(clients)
        while left:
            for key, _ in selector.select():
                if key.data.is_done():
                    selector.unregister(key.fileobj)
                    left -= 1
    for client in clients:
        client.socket.close()
    return clients[-1].content
