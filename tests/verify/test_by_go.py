"""Go's own signed notes and tiled logs read ours, and refuse what is forged."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.patience import PATIENCE_SECONDS
from tests.verify.logs import Log

from everwhen_verify.errors import SignatureError
from everwhen_verify.merkle import Frontier, consistency_path, inclusion_path, leaf_hash, root_from
from everwhen_verify.notes import Signer, open_note
from everwhen_verify.tiles import HEIGHT, WIDTH, NodeReader, tile_path, tile_width

MODULES = Path("/usr/share/gocode")
SOURCE = Path(__file__).parent / "go" / "main.go"


class Go:
    """Asks a running program."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def ask(self, ask: str, **question: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"ask": ask, **question}, default=lambda b: base64.b64encode(b).decode())
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def proof(self, ask: str, **question: Any) -> list[bytes]:
        answer = self.ask(ask, **question)
        assert answer["Yes"], answer["Why"]
        return [base64.b64decode(part) for part in answer["Path"] or ()]


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Go]:
    program = shutil.which("go")
    if program is None or not (MODULES / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.skip("needs the Debian packages golang-go and golang-golang-x-mod-dev")
    folder = tmp_path_factory.mktemp("go")
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": str(MODULES),
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "-p=1",
    }
    built = folder / "answers"
    subprocess.run(
        [program, "build", "-o", built, SOURCE],
        env=environment,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    with subprocess.Popen([built], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Go(process)
        assert process.stdin is not None
        process.stdin.close()


def test_go_opens_our_notes_and_we_open_go_s(go: Go) -> None:
    log = Log.of(3)
    vkey, text = log.signer.verifier.vkey, log.checkpoint().text
    opened = go.ask("open", note=log.signed(), key=vkey)
    assert (opened["Yes"], opened["Text"]) == (True, text)
    theirs = base64.b64decode(go.ask("sign", text=text, key=log.signer.skey)["Note"])
    assert theirs == log.signed()
    assert open_note(theirs, [log.signer.verifier]).text == text


def test_go_and_we_refuse_the_same_notes(go: Go) -> None:
    log, stranger = Log.of(3), Signer.generate("stranger.example")
    note, vkey = log.signed(), log.signer.verifier.vkey
    for forged in (
        note.replace(b"\n3\n", b"\n4\n"),
        note.replace(log.signer.name.encode() + b" ", b"stranger.example "),
        log.signed().partition("—".encode())[0],
        note[:-10] + b"AAAAAAAA=\n",
    ):
        assert not go.ask("open", note=forged, key=vkey)["Yes"], forged
        with pytest.raises(ValueError, match=r"note|sign"):
            open_note(forged, [log.signer.verifier])
    assert not go.ask("open", note=note, key=stranger.verifier.vkey)["Yes"]
    with pytest.raises(SignatureError):
        open_note(note, [stranger.verifier])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 13, 70])
def test_go_accepts_our_proofs(go: Go, size: int) -> None:
    log = Log.of(size)
    root = log.checkpoint().root
    for index in range(size):
        asked = {"size": size, "index": index, "leaf": log.leaves[index], "root": root}
        path = inclusion_path(index, size, log.node)
        assert go.ask("inclusion", path=path, **asked)["Yes"]
        assert not go.ask("inclusion", path=[*path, root], **asked)["Yes"]
        assert not go.ask("inclusion", path=path, **{**asked, "leaf": leaf_hash(b"forged")})["Yes"]
    for old in range(1, size + 1):
        asked = {"size": size, "root": root, "old": old, "oldRoot": log.checkpoint(old).root}
        path = log.consistency(old)
        assert go.ask("consistency", path=path, **asked)["Yes"]
        assert not go.ask("consistency", path=path, **{**asked, "root": leaf_hash(b"")})["Yes"]
        if path:
            assert not go.ask("consistency", path=path[1:], **asked)["Yes"]


def test_go_makes_the_same_proofs_from_our_tiles(go: Go, tmp_path: Path) -> None:
    size = 66_000
    rows = [[leaf_hash(str(index).encode()) for index in range(size)]]
    while len(rows[-1]) >= WIDTH:
        full = len(rows[-1]) // WIDTH
        rows.append([_root(rows[-1][i * WIDTH : (i + 1) * WIDTH]) for i in range(full)])
    for level, row in enumerate(rows):
        for index in range(-(-len(row) // WIDTH)):
            width = tile_width(size, level, index)
            path = tmp_path / tile_path(level, index, width)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(row[index * WIDTH : index * WIDTH + width]))
    assert HEIGHT == 8

    def read(level: int, index: int, width: int) -> bytes:
        return (tmp_path / tile_path(level, index, width)).read_bytes()

    reader = NodeReader(size, read)
    root = root_from(size, reader.node)
    asked: dict[str, Any] = {"size": size, "root": root, "folder": str(tmp_path)}
    for index in (0, 255, 256, 40_000, 65_535, 65_536, size - 1):
        theirs = go.proof("prove inclusion", index=index, **asked)
        assert theirs == inclusion_path(index, size, reader.node)
    for old in (1, 256, 300, 65_535, 65_536, 65_999):
        theirs = go.proof("prove consistency", old=old, **asked)
        assert theirs == consistency_path(old, size, reader.node)


def _root(hashes: list[bytes]) -> bytes:
    frontier = Frontier()
    frontier.extend(hashes)
    return frontier.root()
