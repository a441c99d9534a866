"""A witness on the network, in so far as one machine's witness needs one: threads and HTTP/1.1."""

from __future__ import annotations

import re
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Timer
from typing import Any, Final

from everwhen.vocabulary.errors import EverwhenError
from everwhen.witness.cosigning import Reply, WitnessService
from everwhen.witness.messages import MAX_REQUEST_BYTES

_MAX_CONNECTIONS: Final = 64
"""Served at once, each by a thread; others wait."""

_READ_SECONDS: Final = 10.0
"""How long a client may take to send the next part."""

_CONNECTION_SECONDS: Final = 60.0
"""How long a connection may last: a client that sends a byte now and then keeps no thread."""

_CHECKPOINT: Final = re.compile(r"/([0-9a-f]{64})/checkpoint")
_LENGTH: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


class WitnessServer(ThreadingHTTPServer):
    """Serves a witness; ``url`` is where. Without a ``port`` it takes a free one.

    It listens on this machine only, unless ``host`` says otherwise: put it behind a server that
    speaks TLS. At most 64 connections are served at once; one that is silent for ten seconds, or
    lasts a minute, is closed. ``serve_forever()`` serves; ``shutdown()`` from another thread ends
    that.
    """

    daemon_threads = True

    def __init__(self, service: WitnessService, host: str = "127.0.0.1", port: int = 0) -> None:
        self.service = service
        self._slots = BoundedSemaphore(_MAX_CONNECTIONS)
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Exchange)

    @property
    def url(self) -> str:
        """The address that clients are given."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread, once fewer than the limit are served."""
        self._slots.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, in its thread."""
        late = Timer(_CONNECTION_SECONDS, _hang_up, [request])
        late.daemon = True
        late.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            late.cancel()
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nothing to speak of."""


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended by itself


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "everwhen-witness"
    sys_version = ""
    timeout = _READ_SECONDS
    server: WitnessServer

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != "/add-checkpoint":
            self._refuse(HTTPStatus.NOT_FOUND)
        elif not _LENGTH.fullmatch(length) or "Transfer-Encoding" in self.headers:
            self._refuse(HTTPStatus.LENGTH_REQUIRED)
        elif int(length) > MAX_REQUEST_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):  # else it was cut off, and nobody listens
                self._answer(lambda: self.server.service.add_checkpoint(body))

    def do_GET(self) -> None:
        asked = _CHECKPOINT.fullmatch(self.path)
        if asked is None:
            self._refuse(HTTPStatus.NOT_FOUND)
        else:
            self._answer(lambda: self.server.service.checkpoint(asked[1]))

    def _answer(self, reply: Any) -> None:
        try:
            self._send(reply())
        except EverwhenError as error:
            self.log_error("%s", error)
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True  # whatever body is still to come isn't read
        self._send(Reply(status, f"{status.phrase}\n".encode()))

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(reply.body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """What goes well is not worth a line."""
