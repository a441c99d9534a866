"""A server of objects that speaks enough of S3, and fails when it is told to."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

Fault = Callable[["_Handler"], bool]
"""Called with each request before it is heeded; whether it has answered it."""


class ObjectServer:
    """Objects at ``url``, in memory, by name.

    ``fault`` may answer requests in its own way. ``asked`` counts what was asked for, by method and
    name of the object.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.fault: Fault | None = None
        self.hides: set[str] = set()
        """Objects that a list doesn't have as yet."""
        self.latency_seconds = 0.0
        self.asked: Counter[tuple[str, str]] = Counter()
        self.under_way = 0
        self.lock = threading.Lock()
        self.released = threading.Event()
        handler = type("Handler", (_Handler,), {"objects": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.url = "s3://bucket/store"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def count(self, method: str) -> int:
        """How many requests of a method there were."""
        return sum(n for (one, _), n in self.asked.items() if one == method)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def object_server(patches: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    """A server that obstore finds by the environment."""
    server = ObjectServer()
    for name, value in (
        ("AWS_ENDPOINT_URL", server.endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_SKIP_SIGNATURE", "true"),
        ("AWS_REGION", "us-east-1"),
        ("NO_PROXY", "127.0.0.1"),
    ):
        patches.setenv(name, value)
    try:
        yield server
    finally:
        server.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    objects: ObjectServer

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def parse(self) -> None:
        server = self.objects
        size = int(self.headers.get("content-length") or 0)
        self.body = self.rfile.read(size)
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query, keep_blank_values=True)
        self.name = unquote(parts.path).removeprefix("/bucket/").removeprefix("store/")
        with server.lock:
            server.asked[self.command, self.name] += 1
            server.under_way += 1
        try:
            if server.latency_seconds:
                time.sleep(server.latency_seconds)
            fault = server.fault
            if fault is None or not fault(self):
                self.heed()
        finally:
            with server.lock:
                server.under_way -= 1

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = parse  # noqa: N815

    def heed(self) -> None:
        """Do what is asked for, and answer."""
        self.answer(*self.result())

    def result(self) -> tuple[int, bytes, dict[str, str]]:
        """What is to be answered: status, body and headers, once it is done."""
        objects = self.objects.objects
        with self.objects.lock:
            if self.command == "PUT":
                if self.headers.get("if-none-match") == "*" and self.name in objects:
                    return 412, _error("PreconditionFailed"), {}
                objects[self.name] = self.body
                return 200, b"", {"ETag": '"1"'}
            if self.command == "POST" and "delete" in self.query:
                return self._deleted()
            if self.command == "DELETE":
                objects.pop(self.name, None)
                return 204, b"", {}
            if self.command == "GET" and "list-type" in self.query:
                return self._listed()
            found = objects.get(self.name)
        if found is None:
            return 404, _error("NoSuchKey"), {}
        return self._got(found)

    def _got(self, found: bytes) -> tuple[int, bytes, dict[str, str]]:
        headers = {"ETag": '"1"', "Last-Modified": "Sat, 28 Nov 2026 00:00:00 GMT"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range") or "")
        if wanted is None:
            return 200, found, headers
        start, end = int(wanted[1]), int(wanted[2])
        if start >= len(found):
            return 416, _error("InvalidRange"), {}
        part = found[start : end + 1]
        headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(found)}"
        return 206, part, headers

    def _listed(self) -> tuple[int, bytes, dict[str, str]]:
        prefix = self.query.get("prefix", [""])[0]
        entries = [
            f"<Contents><Key>store/{escape(name)}</Key>"
            f"<LastModified>2026-11-28T00:00:00.000Z</LastModified><ETag>1</ETag>"
            f"<Size>{len(data)}</Size></Contents>"
            for name, data in sorted(self.objects.objects.items())
            if f"store/{name}".startswith(prefix) and name not in self.objects.hides
        ]
        body = (
            '<?xml version="1.0"?><ListBucketResult><Name>bucket</Name>'
            f"<IsTruncated>false</IsTruncated>{''.join(entries)}</ListBucketResult>"
        )
        return 200, body.encode(), {"Content-Type": "application/xml"}

    def _deleted(self) -> tuple[int, bytes, dict[str, str]]:
        keys = re.findall(r"<Key>(.*?)</Key>", self.body.decode())
        for key in keys:
            self.objects.objects.pop(key.removeprefix("store/"), None)
        gone = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        body = f'<?xml version="1.0"?><DeleteResult>{gone}</DeleteResult>'
        return 200, body.encode(), {"Content-Type": "application/xml"}

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def cut(self, *, announces: int = 100, sends: bytes = b"") -> None:
        """Answer with less than is announced, and close the connection."""
        self.send_response(200)
        self.send_header("Content-Length", str(announces))
        self.end_headers()
        self.wfile.write(sends)
        self.close_connection = True

    def hang(self) -> None:
        """Never answer, as long as the server lives or until it is ``released``."""
        self.objects.released.wait()
        self.close_connection = True


def _error(code: str) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code></Error>'.encode()
