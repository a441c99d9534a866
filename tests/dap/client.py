"""A client of the protocol, written from its specification alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cli.everwhen_shell import PROGRAM, environment
from tests.patience import PATIENCE_SECONDS

Message = dict[str, Any]


class Client:
    """Talks to an adapter in a process of its own, on its standard streams."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self._said = (folder / "said.txt").open("wb")
        words = [*PROGRAM[1:], "debug", "--dap", *map(str, arguments)]
        self.process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            cwd=folder,
            env=environment(),
        )
        self._seq = 0
        self.events: list[Message] = []

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def post(self, command: str, **arguments: Any) -> int:
        """Send a request and don't wait."""
        self._seq += 1
        message = {"seq": self._seq, "type": "request", "command": command}
        body = json.dumps(message | {"arguments": arguments}).encode()
        self.send(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        return self._seq

    def read(self) -> Message:
        """The next message. Everything on the stream has to be one."""
        assert self.process.stdout is not None
        length = 0
        while line := self.process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            assert name == b"Content-Length", line
            length = int(value)
        if not length:
            raise EOFError
        return dict(json.loads(self.process.stdout.read(length)))

    def until(self, wanted: Callable[[Message], bool]) -> Message:
        while True:
            message = self.read()
            if wanted(message):
                return message
            self.events.append(message)

    def ask(self, command: str, **arguments: Any) -> Message:
        """The response to a request."""
        seq = self.post(command, **arguments)
        return self.until(lambda m: m["type"] == "response" and m["request_seq"] == seq)

    def body(self, command: str, **arguments: Any) -> Message:
        """The body of a response that has to succeed."""
        response = self.ask(command, **arguments)
        assert response["success"], response
        return dict(response.get("body", {}))

    def event(self, name: str) -> Message:
        """The next event of that name."""
        known = [e for e in self.events if e.get("event") == name]
        if known:
            self.events.remove(known[0])
            return dict(known[0]["body"])
        found = self.until(lambda m: m["type"] == "event" and m["event"] == name)
        return dict(found["body"])

    def moved(self, command: str, **arguments: Any) -> Message:
        """Where a movement stops."""
        self.body(command, threadId=1, **arguments)
        return self.event("stopped")

    def launched(self, **arguments: Any) -> Message:
        """Open something, and be where it begins."""
        self.body("initialize", adapterID="everwhen", linesStartAt1=True)
        self.body("launch", **arguments)
        self.event("initialized")
        self.body("configurationDone")
        return self.event("stopped")

    def here(self) -> Message:
        """The frame on top."""
        return dict(self.body("stackTrace", threadId=1)["stackFrames"][0])

    def position(self) -> int:
        frame = self.here()
        if "source" not in frame:
            return 0
        return int((frame["source"]["sourceReference"] - 1) * 1_000 + frame["line"])

    def scope(self, name: str, frame: int = 1) -> list[Message]:
        """The variables of a scope."""
        scopes = self.body("scopes", frameId=frame)["scopes"]
        (reference,) = [s["variablesReference"] for s in scopes if s["name"] == name]
        return list(self.body("variables", variablesReference=reference)["variables"])

    def said(self) -> str:
        """What it wrote to standard error."""
        return Path(self._said.name).read_text()

    def end(self) -> int:
        """Close its input, and wait for its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            return self.process.wait(PATIENCE_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self._said.close()
