"""The debugger's face for editors, spoken to over its real wire."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.everwhen_shell import PROGRAM, environment
from tests.dap.client import Client
from tests.dap.conftest import OWN
from tests.patience import PATIENCE_SECONDS

from everwhen import UnknownEvent, open_store


@pytest.fixture
def client(tmp_path: Path, bank: Path) -> Iterator[Client]:
    found = Client(tmp_path)
    yield found
    found.end()


def named(variables: list[dict[str, Any]]) -> dict[str, str]:
    return {v["name"]: v["value"] for v in variables}


def test_walking(client: Client, bank: Path) -> None:
    stopped = client.launched(store=str(bank), at="3", **OWN)
    assert (stopped["reason"], stopped["threadId"]) == ("entry", 1)
    assert client.body("threads")["threads"] == [{"id": 1, "name": "main"}]
    assert client.position() == 3
    assert "Withdrawn" in client.here()["name"]
    assert client.moved("next")["reason"] == "step"
    assert client.position() == 4
    client.moved("stepIn")
    client.moved("stepOut")
    assert client.position() == 6
    client.moved("stepBack")
    assert client.position() == 5
    (target,) = client.body("gotoTargets", source={"sourceReference": 2}, line=7)["targets"]
    assert client.moved("goto", targetId=target["id"])["reason"] == "goto"
    assert client.position() == 1_007
    assert client.moved("reverseContinue")["reason"] == "pause"
    assert client.here()["name"] == "before the first event"
    assert named(client.scope("State")) == {}
    stopped = client.moved("continue")
    assert stopped["reason"] == "exception"
    assert "the till is empty" in stopped["text"]
    assert client.position() == 2_600
    told = client.body("exceptionInfo", threadId=1)
    assert told["exceptionId"] == "ValueError"
    assert "bank.py" in told["details"]["stackTrace"]
    assert named(client.scope("State"))["total"] == str(10 + 5 - 4 + 2_596)


def test_seeing(client: Client, bank: Path) -> None:
    client.launched(store=str(bank), at="2", **OWN)
    trace = client.body("stackTrace", threadId=1)
    assert trace["totalFrames"] == 2
    assert [frame["name"] for frame in trace["stackFrames"]] == [
        "Deposited  account-bob@1",
        "Deposited  account-ada@1",
    ], "the causes are the callers"
    assert (
        client.body("stackTrace", threadId=1, startFrame=1, levels=1)["stackFrames"][0]["line"] == 1
    )
    state = {v["name"]: v for v in client.scope("State")}
    assert state["total"]["value"] == "15"
    inside = client.body("variables", variablesReference=state["owners"]["variablesReference"])
    assert named(inside["variables"]) == {"ada": "10", "bob": "5"}
    assert inside["variables"][0]["evaluateName"] == "owners.ada"
    assert named(client.scope("State", 2))["total"] == "10", "as it was when that happened"
    assert named(client.scope("Diff")) == {"owners.bob": "+ 5", "total": "10 → 15"}
    assert named(client.scope("Event")) == {"owner": "bob", "amount": "5"}
    assert named(client.scope("Metadata"))["user_id"] == "ada"
    big = state["big"]
    assert big["indexedVariables"] == 5_000
    some = client.body(
        "variables",
        variablesReference=big["variablesReference"],
        filter="indexed",
        start=4_990,
        count=100,
    )["variables"]
    assert [v["value"] for v in some] == [str(n) for n in range(4_990, 5_000)]
    groups = client.body("variables", variablesReference=big["variablesReference"])["variables"]
    assert [g["name"] for g in groups][:2] == ["[0 … 999]", "[1,000 … 1,999]"]
    last = client.body("variables", variablesReference=groups[-1]["variablesReference"])
    assert last["variables"][-1]["value"] == "4999"
    assert client.body("evaluate", expression="owners.bob + 1")["result"] == "6"
    assert client.body("evaluate", expression="before.total")["result"] == "10"
    opened = client.body("evaluate", expression="owners", context="watch")
    assert opened["variablesReference"]
    assert not client.ask("evaluate", expression="owners.")["success"]
    old = state["owners"]["variablesReference"]
    client.moved("next")
    assert not client.ask("variables", variablesReference=old + 50)["success"]


def test_sources_are_pages_of_events(client: Client, bank: Path) -> None:
    client.launched(store=str(bank))
    source = client.here()["source"]
    assert source["name"] == "main 2,001 - 3,000.events"
    lines = client.body("source", sourceReference=3, source=source)["content"].split("\n")
    assert len(lines) == 600
    assert "2600" in lines[-1]
    assert "Withdrawn" in lines[-1]
    first = client.body("source", sourceReference=1)["content"].split("\n")
    assert len(first) == 1_000
    assert "account-ada@1" in first[0]
    assert not client.ask("source", sourceReference=4)["success"]
    assert not client.ask("source", sourceReference=0)["success"]
    assert client.body("gotoTargets", source=source, line=601)["targets"] == []


def test_breakpoints_of_every_kind(client: Client, bank: Path) -> None:
    client.launched(store=str(bank), at="start", **OWN)
    source = {"sourceReference": 1}
    answers = client.body(
        "setBreakpoints",
        source=source,
        breakpoints=[{"line": 2}, {"line": 1, "condition": "event.owner == 'eve'"}],
    )["breakpoints"]
    assert [a["verified"] for a in answers] == [True, True]
    functions = [{"name": "Withdrawn"}, {"name": "Deposited", "condition": "event.amount > 8"}]
    client.body("setFunctionBreakpoints", breakpoints=[*functions, {"name": "Nothing"}])
    info = client.body("dataBreakpointInfo", name="owners.ada")
    assert (info["dataId"], info["accessTypes"]) == ("owners.ada", ["write"])
    client.body("setDataBreakpoints", breakpoints=[{"dataId": "owners.ada"}])
    stopped = client.moved("continue")
    assert (stopped["reason"], client.position()) == ("data breakpoint", 1)
    assert len(stopped["hitBreakpointIds"]) == 2
    stopped = client.moved("continue")
    assert (stopped["reason"], stopped["hitBreakpointIds"]) == ("breakpoint", [answers[0]["id"]])
    assert (client.moved("continue")["reason"], client.position()) == ("data breakpoint", 3)
    assert (client.moved("continue")["reason"], client.position()) == ("breakpoint", 4)
    client.body("setBreakpoints", source=source, breakpoints=[])
    client.body("setDataBreakpoints", breakpoints=[])
    stopped = client.moved("reverseContinue")
    assert (stopped["reason"], client.position()) == ("function breakpoint", 3)
    client.body("setFunctionBreakpoints", breakpoints=[])
    wrong = client.body(
        "setBreakpoints", source={"sourceReference": 90}, breakpoints=[{"line": 1}]
    )["breakpoints"]
    assert not wrong[0]["verified"]
    assert "position" in wrong[0]["message"]
    (wrong,) = client.body("setFunctionBreakpoints", breakpoints=[{"name": "Deposite"}])[
        "breakpoints"
    ]
    assert "did you mean Deposited" in wrong["message"]
    owners = next(v for v in client.scope("State") if v["name"] == "owners")
    info = client.body(
        "dataBreakpointInfo", name="bob", variablesReference=owners["variablesReference"]
    )
    assert info["dataId"] == "owners.bob"
    assert client.body("dataBreakpointInfo", name="event.x + 1")["dataId"] is None
    assert client.body("dataBreakpointInfo", name="state.owners.bob")["dataId"]
    never = client.body("dataBreakpointInfo", name="owners.bub")
    assert never["dataId"] is None
    assert "owners never had 'bub'; did you mean owners.bob?" in never["description"]
    for name, verified in (("if owners.bub > 1", False), ("if owners.bob > 1", True)):
        (answer,) = client.body("setFunctionBreakpoints", breakpoints=[{"name": name}])[
            "breakpoints"
        ]
        assert answer["verified"] is verified
        assert ("unknown" in answer["message"]) is not verified


def test_logpoints_tell_of_what_has_long_happened(client: Client, bank: Path) -> None:
    client.launched(store=str(bank), at="start", **OWN)
    client.body(
        "setBreakpoints",
        source={"sourceReference": 1},
        breakpoints=[
            {
                "line": 1,
                "condition": "event.owner != 'eve'",
                "logMessage": "{event.owner} has {owners[event.owner]}",
            }
        ],
    )
    client.body("setFunctionBreakpoints", breakpoints=[{"name": "Withdrawn"}])
    client.moved("continue")
    said = [e["body"] for e in client.events if e.get("event") == "output"]
    assert [one["output"] for one in said] == ["1  ada has 10\n", "2  bob has 5\n"]
    assert [one["line"] for one in said] == [1, 2]


def test_invariants(client: Client, bank: Path) -> None:
    client.launched(store=str(bank), at="start", **OWN)
    answer = client.body(
        "setExceptionBreakpoints",
        filters=["fold"],
        filterOptions=[{"filterId": "invariant", "condition": "total < 15"}],
    )
    assert [b["verified"] for b in answer["breakpoints"]] == [True, True]
    stopped = client.moved("continue")
    assert (stopped["reason"], client.position()) == ("exception", 2)
    assert "unless total < 15" in stopped["text"]
    assert client.body("exceptionInfo", threadId=1)["exceptionId"] == "invariant"
    answer = client.body("setExceptionBreakpoints", filters=["invariant", "nothing"])
    assert [b["verified"] for b in answer["breakpoints"]] == [False, False]


@pytest.mark.slow
def test_a_search_is_paused(tmp_path: Path) -> None:
    path = tmp_path / "long.db"
    with open_store(path, durable=False) as store:
        for start in range(30):
            store.append(f"s-{start}", [UnknownEvent("Counted", {"n": 1})] * 10_000)
    client = Client(tmp_path, path)
    try:
        client.launched()
        client.body("setFunctionBreakpoints", breakpoints=[{"name": "if event.n == 2"}])
        client.body("reverseContinue", threadId=1)
        assert client.body("pause", threadId=1) == {}
        assert client.event("stopped")["reason"] == "pause"
        assert client.position() == 300_000
        client.post("reverseContinue", threadId=1)
        client.post("pause", threadId=1)
        assert client.event("stopped")["reason"] == "pause"
        assert client.moved("stepBack")["reason"] == "step"
        assert client.position() == 299_999
        client.post("reverseContinue", threadId=1)
        assert client.ask("disconnect")["success"]
    finally:
        assert client.end() == 0


HOSTILE = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    b"Content-Length: 99999999999999\r\n\r\n",
    b"Content-Length: 9999999999\r\n\r\n{}",
    b"Content-Length: -5\r\n\r\n",
    b"Content-Length: x\r\n\r\n",
    b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    b"\r\n\r\n\r\n",
    b"A" * 100_000,
    b"\xff\xfe\x00\x00" * 100 + b"\n",
    b"Content-Type: x\r\n" * 20,
]


@pytest.mark.slow
@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:24]))
def test_what_is_no_message_ends_it_cleanly(client: Client, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # it has had enough already
        client.send(data)
    assert client.read()["event"] == "output"
    with pytest.raises(EOFError):
        client.read()
    assert client.process.wait(PATIENCE_SECONDS) == 65
    assert "Traceback" not in client.said()


def test_a_message_that_ends_early_is_the_end(client: Client) -> None:
    client.send(b"Content-Length: 100\r\n\r\n{")
    assert client.end() == 0


BODIES = [
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff",
    b"[" * 50_000,
    b'{"seq": "one", "type": "request", "command": "threads"}',
    b'{"seq": 1, "type": "request"}',
    b'{"seq": 1, "type": "request", "command": 7}',
    b'{"seq": 1, "type": "response", "command": "threads"}',
    b'{"seq": -1, "type": "request", "command": "threads"}',
    b'{"seq": 1, "type": "request", "command": "frobnicate"}',
    b'{"seq": 1, "type": "request", "command": "next"}',
    b'{"seq": 1, "type": "request", "command": "launch", "arguments": []}',
    b'{"seq": 1, "type": "request", "command": "launch", "arguments": {"store": 7}}',
    b'{"seq": 1, "type": "request", "command": "launch", "arguments": {"store": "no.db"}}',
    b'{"seq": 1, "type": "request", "command": "launch", "arguments": {"store": "bank.py"}}',
    b'{"seq": 1, "type": "request", "command": "launch", "arguments": {"fold": "os:nothing"}}',
]


def test_bodies_that_are_wrong_are_answered(client: Client, bank: Path) -> None:
    for body in BODIES:
        client.send(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        answer = client.read()
        assert answer["type"] == "response", body
        assert answer["success"] is False, body
        assert answer["message"], body
    assert client.launched(store=str(bank))["reason"] == "entry", "it lives on"


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("setBreakpoints", {}),
    ("setBreakpoints", {"source": {"path": "/etc/passwd"}, "breakpoints": []}),
    ("setBreakpoints", {"source": {"sourceReference": 1}, "breakpoints": [{"line": "x"}]}),
    ("setFunctionBreakpoints", {"breakpoints": 5}),
    ("source", {"sourceReference": 1 << 60}),
    ("source", {"sourceReference": -1}),
    ("scopes", {"frameId": 99}),
    ("variables", {"variablesReference": 12345}),
    ("variables", {"variablesReference": 1, "start": -1}),
    ("goto", {"threadId": 1, "targetId": 10**12}),
    ("gotoTargets", {"source": {"sourceReference": 0}, "line": 1}),
    ("evaluate", {"expression": "(" * 5_000}),
    ("evaluate", {"expression": "x" * 200_000}),
    ("evaluate", {"expression": "[1,2,3].map(a, [1,2,3].map(b, 1/0))"}),
    ("evaluate", {}),
    ("launch", {"store": "bank.db"}),
]


def test_arguments_that_are_wrong_are_answered(client: Client, bank: Path) -> None:
    client.launched(store=str(bank))
    for command, arguments in WRONG:
        answer = client.ask(command, **arguments)
        assert answer["success"] is False, command
        assert answer["message"], command
    assert client.position() == 2_600
    assert client.ask("terminate")["success"]
    client.event("terminated")
    assert client.process.wait(PATIENCE_SECONDS) == 0


def test_over_a_port_code_and_files_are_named_by_who_started_it(tmp_path: Path, bank: Path) -> None:
    with subprocess.Popen(
        [sys.executable, *PROGRAM[1:], "debug", str(bank), "--dap", "--port", "0"],
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment(),
    ) as process:
        assert process.stderr is not None
        port = int(process.stderr.readline().rpartition(b":")[2])
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            stream = connection.makefile("rwb")

            def ask(command: str, **arguments: Any) -> dict[str, Any]:
                request = {"seq": 1, "type": "request", "command": command}
                body = json.dumps(request | {"arguments": arguments}).encode()
                stream.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
                stream.flush()
                while True:
                    length = int(stream.readline().partition(b":")[2])
                    stream.readline()
                    message = dict(json.loads(stream.read(length)))
                    if message["type"] == "response":
                        return message

            assert ask("initialize")["success"]
            for refused in ({"fold": "bank:bank"}, {"store": "x.db"}, {"events": "bank:events"}):
                assert "over a port" in ask("launch", **refused)["message"]
            assert ask("launch", at="3", stream="account-ada")["success"]
            assert ask("disconnect")["success"]
        assert process.wait(PATIENCE_SECONDS) == 0


def test_what_goes_with_what(tmp_path: Path, bank: Path) -> None:
    for words in (["--port", "0"], ["--dap", "--port", "0"], []):
        done = subprocess.run(
            [sys.executable, *PROGRAM[1:], "debug", *words],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 2, words
