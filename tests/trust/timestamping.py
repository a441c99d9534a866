"""An authority of time for the tests: openssl's own, behind a small server."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

_CONFIG = """
[here]
serial = serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
"""
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass
class Authority:
    folder: Path
    url: str = ""
    asked: list[bytes] = field(default_factory=list)
    answer: bytes | None = None
    status: int = 200

    @property
    def root(self) -> Path:
        return self.folder / "root.pem"

    def openssl(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["openssl", *arguments], cwd=self.folder, capture_output=True, check=False
        )

    def reply(self, query: bytes) -> bytes:
        self.asked.append(query)
        if self.answer is not None:
            return self.answer
        (self.folder / "query").write_bytes(query)
        self._made("ts", "-reply", "-config", "tsa.cnf", "-section", "here", "-queryfile", "query",
                   "-signer", "tsa.pem", "-inkey", "tsa.key", "-out", "reply")  # fmt: skip
        return (self.folder / "reply").read_bytes()

    def found(self) -> Authority:
        self.folder.mkdir()
        (self.folder / "tsa.cnf").write_text(_CONFIG)
        (self.folder / "serial").write_text("01")
        (self.folder / "uses").write_text(
            "extendedKeyUsage=critical,timeStamping\nkeyUsage=critical,digitalSignature\n"
        )
        self._made("req", "-x509", *_KEY, "-keyout", "root.key", "-out", "root.pem",
                   "-days", "30", "-subj", "/CN=Root")  # fmt: skip
        self._made("req", *_KEY, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=Clock")
        self._made("x509", "-req", "-in", "tsa.csr", "-CA", "root.pem", "-CAkey", "root.key",
                   "-CAcreateserial", "-days", "30", "-extfile", "uses", "-out", "tsa.pem")  # fmt: skip
        return self

    def _made(self, *arguments: str) -> None:
        done = self.openssl(*arguments)
        assert done.returncode == 0, done.stderr.decode()


@contextmanager
def serving(folder: Path) -> Iterator[Authority]:
    pytest.importorskip("rfc3161_client", reason="timestamps need the extra 'timestamps'")
    if shutil.which("openssl") is None:
        pytest.skip("the authority of time is openssl's, which isn't installed")
    authority = Authority(folder).found()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/timestamp-query"
            reply = authority.reply(query)
            self.send_response(authority.status)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        authority.url = f"http://127.0.0.1:{server.server_port}/tsr"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield authority
        server.shutdown()
        thread.join()
