"""Posts to a server, with an end to the time and the length of its answer."""

from __future__ import annotations

import http.client
import socket
import threading
from urllib.parse import urlsplit


class PostError(Exception):
    """There is no answer, or none to go on with."""


class Poster:
    """Posts to an address, ``http://`` or ``https://``; raises `ValueError` where it isn't one.

    No answer may take longer than ``timeout`` seconds, all in all, or be longer than ``most``.
    """

    def __init__(self, url: str, *, timeout: float, most: int) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is not an address such as https://example.org/path")
        self._timeout = timeout
        self._most = most
        self._secure = parts.scheme == "https"
        self._address = parts.netloc.rpartition("@")[2]
        self._path = parts.path.rstrip("/")
        self._query = parts.query and f"?{parts.query}"

    def post(self, body: bytes, kind: str, path: str = "") -> tuple[int, bytes]:
        """The answer's status and body. Raises `PostError`."""
        connect = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = connect(self._address, timeout=self._timeout)
        late = threading.Timer(self._timeout, _hang_up, [connection])
        late.daemon = True
        late.start()
        try:
            target = f"{self._path}{path}" or "/"
            connection.request("POST", target + self._query, body, {"Content-Type": kind})
            with connection.getresponse() as response:
                answer = response.read(self._most + 1)
                if len(answer) > self._most or response.length:
                    raise PostError("its answer is too long, or was cut off")
                return response.status, answer
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise PostError(str(error) or type(error).__name__) from error
        finally:
            late.cancel()
            connection.close()


def _hang_up(connection: http.client.HTTPConnection) -> None:
    """Ends an answer that comes too slowly: its reader gets an error, or the end."""
    if connection.sock is not None:
        try:
            connection.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended by itself
