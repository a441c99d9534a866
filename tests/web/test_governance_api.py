"""Governing a store over HTTP: what it answers is what the library says, and nothing breaks it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import msgspec
import pytest
from tests.patience import PATIENCE_SECONDS
from tests.web.governed import (
    TYPES,
    Deposited,
    Withdraw,
    Withdrawn,
    compensations,
    decisions,
    faulty,
    governed,
)

from everwhen import CommandBus, Query, Store, Undo, open_store
from everwhen.exchange.json_forms import event_form
from everwhen.exchange.undo_forms import undo_plan_form
from everwhen.merging import Merging
from everwhen.merkle import MerkleLog
from everwhen.undo import Positions
from everwhen.web.api import ENDPOINTS


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("governed") / "bank.db"


@pytest.fixture(scope="module")
def client(path: Path) -> Iterator[httpx2.Client]:
    with open_store(path, events=TYPES) as store:
        for amount in (100, 20):
            store.append("account-first", [Deposited(amount)])
    with governed(path) as found:
        yield found


@pytest.fixture(scope="module")
def store(client: httpx2.Client, path: Path) -> Iterator[Store]:
    with open_store(path, events=TYPES) as opened:
        yield opened


def as_json(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def patiently(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def problem(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].partition("#")[2]


def test_a_branch_is_made_listed_and_deleted(client: httpx2.Client, store: Store) -> None:
    made = client.post("/branches", json={"name": "made", "at": "1"})
    assert (made.status_code, made.json()["fork_position"]) == (201, 1)
    below = client.post("/branches/made/branches", json={"name": "below"})
    assert below.json()["parent"] == "made"
    listed = client.get("/branches").json()
    infos = {info.name: info for info in store.branches()}
    assert listed["head"] == store.head().position
    for form in listed["branches"]:
        info = infos.pop(form["name"])
        assert (form["parent"], form["fork_position"]) == (info.parent, info.position)
        assert (form["head"], form["id"]) == (info.head, info.id)
    assert not infos
    assert problem(client.delete("/branches/made")) == (409, "branch-refused")
    gone = client.delete("/branches/made", params={"with_children": True}).json()["deleted"]
    assert {form["name"] for form in gone} == {"made", "below"}
    assert problem(client.get("/branches/made/events")) == (404, "unknown")


def test_a_name_that_is_another_branch_by_now_is_that_one(
    client: httpx2.Client, store: Store
) -> None:
    with store.create_branch("again", 1) as branch:
        branch.append("account-old", [Deposited(1)])
    assert client.get("/branches/again").json()["head"] == 2
    store.delete_branch("again")
    assert problem(client.get("/branches/again")) == (404, "unknown")
    store.create_branch("again", 1).close()
    assert client.get("/branches/again").json()["head"] == 1
    store.delete_branch("again")


def test_two_branches_are_compared_and_part_where_their_stories_do(
    client: httpx2.Client, store: Store
) -> None:
    with store.create_branch("left") as left, store.create_branch("right") as right:
        for branch, last in ((left, 7), (right, 8)):
            branch.append("account-a", [Deposited(5), Deposited(6)])
            branch.append("account-a", [Deposited(last), Deposited(9)])
        found = client.get("/branches/left/compare", params={"with": "right", "limit": 3}).json()
        shared = left.shared_with(right)
        assert found["shared_until"] == shared
        assert found["first_divergence"] == {"here": shared + 3, "there": shared + 3}
        assert (found["more_here"], found["more_there"]) == (1, 1)
        for side, branch in (("only_here", left), ("only_there", right)):
            events = branch.read(Query().after(shared).limit(3))
            assert found[side] == as_json([event_form(event) for event in events])
    with_main = client.get("/branches/left/compare", params={"with": "main"}).json()
    assert with_main["first_divergence"] == {"here": shared + 1, "there": None}
    backwards = client.get("/compare", params={"with": "left"}).json()
    assert backwards["only_there"] == with_main["only_here"]


def test_a_merge_is_done_as_it_was_planned_and_once(client: httpx2.Client, store: Store) -> None:
    store.append("account-m", [Deposited(50)])
    with store.create_branch("work") as work:
        CommandBus(work, decisions).send(Withdraw("account-m", 30))
        expected = Merging(store, decisions).plan(work)
    plan = client.post("/branches/work/merges", json={"dry_run": True}).json()
    assert (plan["source"], plan["target"], plan["on"]) == ("work", "main", expected.on)
    (item,) = plan["items"]
    assert (item["outcome"], item["command"]) == ("same", "Withdraw")
    assert item["writes"] == [{"stream": "account-m", "type": "Withdrawn", "data": {"amount": 30}}]
    store.append("account-else", [Deposited(1)])  # concerns nothing that was planned
    asked = {"plan": plan["id"]}
    done = client.post("/branches/work/merges", json=asked, headers={"x-user": "ann"})
    assert done.status_code == 201, done.text
    assert done.json()["versions"]["account-m"] == 2
    (written,) = store.read(Query().stream("account-m").after(done.json()["position"] - 1))
    assert (written.event, written.metadata.user_id) == (Withdrawn(30), "ann")
    again = client.post("/branches/work/merges", json=asked)
    assert (again.status_code, again.json()["repeated"]) == (200, True)
    merged = client.get("/merges").json()
    (told,) = [one for one in merged["merges"] if one["source"] == "work"]
    assert (told["into"], told["position"]) == ("main", done.json()["position"])
    assert (told["up_to"], told["commits"], merged["is_whole"]) == (plan["up_to"], 0, True)


def test_a_merge_that_would_come_out_otherwise_is_not_done(
    client: httpx2.Client, store: Store
) -> None:
    store.append("account-n", [Deposited(50)])
    with store.create_branch("risky") as risky:
        CommandBus(risky, decisions).send(Withdraw("account-n", 30))
    where = "/branches/risky/merges"
    settled = {"strategy": "redecide"}
    plan = client.post(where, json={**settled, "dry_run": True}).json()
    store.append("account-n", [Withdrawn(40)])
    head = store.head().position
    refused = client.post(where, json={**settled, "plan": plan["id"]})
    assert problem(refused) == (409, "plan-changed")
    now = client.post(where, json={**settled, "dry_run": True}).json()
    assert refused.json()["plan"] == now["id"]
    assert [item["outcome"] for item in now["items"]] == ["rejected"]
    unsettled = client.post(where, json={"dry_run": True}).json()
    assert unsettled["unsettled"] == 1
    conflict = client.post(where, json={"plan": unsettled["id"]})
    assert problem(conflict) == (409, "merge-conflict")
    assert client.post(where, json={**settled, "plan": now["id"]}).status_code == 204
    assert store.head().position == head


def test_sql_is_answered_as_the_library_does(client: httpx2.Client, store: Store) -> None:
    asked = {
        "statement": "SELECT position, stream, data, recorded_at, sum(position) OVER () AS s "
        "FROM events WHERE stream = $name ORDER BY position",
        "parameters": {"name": "account-first"},
    }
    answer = client.post("/queries/sql", json=asked).json()
    assert [column["name"] for column in answer["columns"]] == [
        "position",
        "stream",
        "data",
        "recorded_at",
        "s",
    ]
    assert (answer["columns"][0]["type"], answer["more"]) == ("int64", False)
    first = next(iter(store.read("account-first")))
    assert answer["rows"][0] == [
        1,
        "account-first",
        {"amount": 100},
        as_json(event_form(first))["recorded_at"],
        3,
    ]
    some = {"statement": "SELECT position FROM events ORDER BY 1", "max_rows": 1}
    less = client.post("/queries/sql", json=some).json()
    assert (less["rows"], less["more"]) == ([[1]], True)
    large = {"statement": "SELECT ? FROM range(40)", "parameters": ["x" * 1_000_000]}
    bounded = client.post("/queries/sql", json=large).json()
    assert (len(bounded["rows"]), bounded["more"]) == (16, True)


def test_an_expression_is_asked_of_a_state(client: httpx2.Client) -> None:
    asked = {"expression": "balance", "fold": "account", "stream": "account-first"}
    assert client.post("/queries/cel", json=asked).json() == {"value": 120, "position": 2}
    earlier = {**asked, "at": "v1", "expression": "balance < 120"}
    assert client.post("/queries/cel", json=earlier).json() == {"value": True, "position": 1}


def test_an_undo_is_done_as_it_was_planned_and_can_be_redone(
    client: httpx2.Client, store: Store
) -> None:
    position = store.append("account-u", [Deposited(70)]).position
    target = {"events": {"first": position, "last": position}}
    plan = client.post("/undos", json={**target, "dry_run": True}).json()
    expected = Undo(store, compensations).plan(Positions(position, position), dependents=10)
    form = as_json(undo_plan_form(expected, store.event_types))
    assert {name: plan[name] for name in form} == form
    assert plan["appended"][0]["events"][0]["data"] == {"amount": 70}
    asked = {**target, "plan": plan["id"]}
    done = client.post("/undos", json=asked, headers={"x-user": "ann"})
    assert done.status_code == 201, done.text
    last = next(iter(store.read(Query().stream("account-u").backwards())))
    assert (last.event, last.metadata.user_id) == (Withdrawn(70), "ann")
    assert problem(client.post("/undos", json=asked)) == (409, "plan-changed")
    again = {"commit": done.json()["commit_id"], "redo": False, "dry_run": True}
    redone = client.post("/undos", json=again).json()
    assert [event["position"] for event in redone["redone"]] == [position]
    redo = {**target, "redo": True}
    named = client.post("/undos", json={**redo, "dry_run": True}).json()["id"]
    assert client.post("/undos", json={**redo, "plan": named}).status_code == 201
    assert store.version("account-u") == 3


def test_an_undo_of_a_stream_that_has_moved_on_is_planned_again(
    client: httpx2.Client, store: Store
) -> None:
    receipt = store.append("account-v", [Deposited(70)])
    target = {"commit": str(receipt.commit_id)}
    plan = client.post("/undos", json={**target, "dry_run": True}).json()
    store.append("account-v", [Deposited(1)])
    head = store.head()
    stale = client.post("/undos", json={**target, "plan": plan["id"]})
    assert problem(stale) == (409, "plan-changed")
    assert store.head() == head
    assert client.post("/undos", json={**target, "plan": stale.json()["plan"]}).status_code == 201


def test_projections_are_told_of_retried_and_rebuilt(client: httpx2.Client, store: Store) -> None:
    def row() -> dict[str, Any]:
        found = client.get("/projections").json()["projections"]
        return next(r for r in found if r["name"] == "balances" and r["state"] == "live")

    def caught_up() -> bool:
        return bool(row()["position"] == store.head().position)

    faulty["is"] = True
    position = store.append("account-p", [Deposited(13)]).position
    patiently(caught_up)
    assert (row()["parked"], row()["on_error"]["then"]) == (1, "park")
    (memory,) = [r for r in client.get("/projections").json()["projections"] if r["build"] == 0]
    assert (memory["name"], memory["state"]) == ("account", "memory")
    assert client.get("/projections/account/parked").json() == {"parked": []}
    (parked,) = client.get("/projections/balances/parked").json()["parked"]
    assert (parked["position"], parked["stream"]) == (position, "account-p")
    assert "unlucky" in parked["error"]
    assert client.post("/projections/balances/retries").json() == {"parked": 1}
    faulty["is"] = False
    assert client.post("/projections/balances/retries").json() == {"parked": 0}
    faulty["is"] = True
    store.append("account-p", [Deposited(13)])
    patiently(caught_up)
    assert client.post("/projections/balances/skips").json() == {"skipped": 1}
    assert (row()["parked"], row()["skipped"]) == (0, 1)
    faulty["is"] = False
    before = row()["build"]
    assert client.post("/projections/balances/rebuilds").status_code == 202
    patiently(lambda: row()["build"] > before and not row()["is_rebuilding"])
    assert problem(client.post("/projections/account/rebuilds")) == (422, "invalid")


def test_a_command_takes_effect_once_and_is_refused_with_its_fields(
    client: httpx2.Client, store: Store
) -> None:
    (form,) = client.get("/commands").json()["commands"]
    assert (form["name"], form["words"]) == ("Withdraw", "Take money from an account.")
    assert form["schema"] == as_json(msgspec.json.schema(Withdraw))
    store.append("account-c", [Deposited(50)])
    asked = {"account": "account-c", "amount": 30}
    headers = {"Idempotency-Key": str(uuid4()), "x-user": "ann"}
    done = client.post("/commands/Withdraw", json=asked, headers=headers)
    assert (done.status_code, done.json()["events"]) == (
        201,
        [{"type": "Withdrawn", "data": {"amount": 30}}],
    )
    again = client.post("/commands/Withdraw", json=asked, headers=headers)
    assert (again.status_code, again.json()["receipt"]["repeated"]) == (200, True)
    last = next(iter(store.read(Query().stream("account-c").backwards())))
    assert (last.version, last.metadata.user_id) == (2, "ann")
    refused = client.post("/commands/Withdraw", json=asked)
    assert problem(refused) == (409, "refused")
    assert refused.json()["refusal"] == "InsufficientBalance"
    assert refused.json()["fields"] == {"balance": 20, "asked": 30}
    wrong = client.post("/commands/Withdraw", json={**asked, "amount": 0})
    assert (problem(wrong), wrong.json()["pointer"]) == ((422, "invalid"), "/amount")


def test_a_proof_is_the_text_that_the_verifier_takes(
    client: httpx2.Client, store: Store, path: Path
) -> None:
    with open_store(path, events=TYPES) as opened:
        log = MerkleLog(opened, path.with_name("log"))
        newest = log.checkpoint()
        assert newest is not None
        assert client.get("/checkpoint").content == newest.note
        assert client.get("/proofs/1").content == log.prove(1).encode()
    unsigned = client.get(f"/proofs/{store.head().position}")
    assert problem(unsigned) == (409, "merkle-log")


def test_the_signed_log_has_its_size_and_its_keys(
    client: httpx2.Client, store: Store, path: Path
) -> None:
    log = MerkleLog(store, path.with_name("log"))
    newest, (key,) = log.checkpoint(), log.keys()
    found = client.get("/signed-log").json()
    assert newest is not None
    assert datetime.fromisoformat(found.pop("signed_at")) <= datetime.now(UTC)
    assert found == {
        "origin": "example.org/bank",
        "size": newest.checkpoint.size,
        "root": newest.checkpoint.root.hex(),
        "keys": [{"name": "example.org/bank", "vkey": key.verifier.vkey, "first": 0, "last": None}],
    }


def test_the_overview_says_what_there_is_to_govern_by(client: httpx2.Client) -> None:
    assert client.get(str(client.base_url).rstrip("/")).json()["governance"] == [
        "audit",
        "commands",
        "compensations",
        "decisions",
        "invariants",
        "log",
        "runner",
    ]


def test_audit_entries_are_shown_to_those_who_may_see_them(client: httpx2.Client) -> None:
    ann, nosy = {"x-user": "ann-of-audits"}, {"x-user": "nosy"}
    for at in ("0", "999999"):
        client.post("/branches", json={"name": "audited", "at": at}, headers=ann)
    client.delete("/branches/audited", headers=ann)

    def asked(**parameters: Any) -> Any:
        answer = client.get("/audit", params={"user": "ann-of-audits", **parameters})
        assert answer.status_code == 200, answer.text
        return answer.json()

    gone, refused, made = asked()["entries"]
    assert (gone["action"], gone["resource"]) == ("Delete", "v1/branches/audited")
    assert (refused["result"], refused["details"]["outcome"]) == ("Failure", "refused")
    assert (made["result"], made["details"]["operation"]) == ("Success", "create_branch")
    entries = [gone, refused, made]
    for order, expected in (("backwards", entries), ("forwards", entries[::-1])):
        pages: list[list[Any]] = []
        cursor: int | None = None
        while cursor is not None or not pages:
            page = asked(limit=2, order=order, **({} if cursor is None else {"cursor": cursor}))
            pages.append(page["entries"])
            cursor = page["next"]
        assert pages == [expected[:2], expected[2:]]
    assert asked(action="Delete", resource="v1/branches")["entries"] == [gone]
    assert asked(result="Failure")["entries"] == [refused]
    assert asked(**{"from": refused["timestamp"]})["entries"] == [gone, refused]
    assert asked(to=refused["timestamp"])["entries"] == [made]
    assert problem(client.get("/audit", headers=nosy)) == (403, "forbidden")
    own = client.get("/audit", params={"user": "nosy"}, headers=nosy).json()["entries"]
    assert [entry["reason"] for entry in own] == ["the policy doesn't allow it"]


def test_whatever_asks_for_more_than_reading_has_its_audit_entry(client: httpx2.Client) -> None:
    for endpoint in ENDPOINTS:
        if endpoint.scope == "read":
            continue
        who = f"caller-of-{endpoint.name}"
        path = re.sub(r"\{\w+\}", "none", endpoint.path)
        client.request(endpoint.method, path, json={}, headers={"x-user": who})
        (entry,) = client.get("/audit", params={"user": who}).json()["entries"]
        assert (entry["details"]["operation"], entry["result"]) == (endpoint.name, "Failure")


def test_a_branch_kept_of_a_what_if_has_its_audit_entry(
    client: httpx2.Client, store: Store
) -> None:
    asked = {"fold": "account", "stream": "account-first", "without": {"positions": [2]}}
    for kept in ({}, {"keep_as": "supposed"}):
        answer = client.post("/what-ifs", json={**asked, **kept}, headers={"x-user": "supposing"})
        assert answer.status_code == 200, answer.text
    (entry,) = client.get("/audit", params={"user": "supposing"}).json()["entries"]
    assert (entry["details"]["operation"], entry["result"]) == ("suppose", "Success")
    store.delete_branch("supposed")


REFUSED: list[tuple[str, str, Any, tuple[int, str]]] = [
    ("POST", "/branches", {"name": "main"}, (409, "branch-refused")),
    ("POST", "/branches", {"name": ""}, (409, "branch-refused")),
    ("POST", "/branches", {"name": "../up"}, (409, "branch-refused")),
    ("POST", "/branches", {"name": "a" * 300}, (409, "branch-refused")),
    ("POST", "/branches", {"name": "far", "at": "999999"}, (400, "bad-request")),
    ("POST", "/branches", {"name": "far", "at": "one fine day"}, (400, "bad-request")),
    ("POST", "/branches", {"name": "far", "at": "@nowhere"}, (400, "bad-request")),
    ("POST", "/branches", {"name": 7}, (422, "invalid")),
    ("POST", "/branches", {"name": "x", "of": "main"}, (422, "invalid")),
    ("POST", "/branches", {}, (422, "invalid")),
    ("DELETE", "/branches/none", None, (404, "unknown")),
    ("DELETE", "/branches/main", None, (404, "unknown")),
    ("DELETE", "/branches/%ff", None, (400, "bad-request")),
    ("GET", "/compare?with=none", None, (404, "unknown")),
    ("GET", "/compare?with=main", None, (409, "branch-refused")),
    ("GET", "/compare", None, (400, "bad-request")),
    ("GET", "/compare?with=none&limit=-1", None, (400, "bad-request")),
    ("GET", "/branches/a%2Fb/compare?with=main", None, (404, "unknown")),
    ("POST", "/merges", {"into": "none", "dry_run": True}, (404, "unknown")),
    ("POST", "/merges", {"into": "main", "dry_run": True}, (409, "branch-refused")),
    ("POST", "/merges", {"strategy": "hope", "dry_run": True}, (422, "invalid")),
    ("POST", "/merges", {"commits": ["7"], "dry_run": True}, (422, "invalid")),
    ("POST", "/merges", {"into": "stable"}, (422, "invalid")),
    ("GET", "/projections/none/parked", None, (404, "unknown")),
    ("POST", "/projections/none/retries", None, (404, "unknown")),
    ("POST", "/projections/none/skips", None, (404, "unknown")),
    ("POST", "/projections/none/rebuilds", None, (404, "unknown")),
    ("POST", "/commands/None", {}, (404, "unknown")),
    ("POST", "/commands/Withdraw", [], (422, "invalid")),
    ("POST", "/commands/Withdraw", {"account": "", "amount": 1}, (400, "bad-request")),
    ("GET", "/audit?action=Deleted", None, (400, "bad-request")),
    ("GET", "/audit?limit=0", None, (400, "bad-request")),
    ("GET", "/audit?order=sideways", None, (400, "bad-request")),
    ("GET", "/audit?user=", None, (400, "bad-request")),
    ("GET", "/audit?from=one%20fine%20day", None, (400, "bad-request")),
    ("GET", "/proofs/0", None, (400, "bad-request")),
    ("GET", "/proofs/999999", None, (409, "merkle-log")),
    ("POST", "/undos", {"dry_run": True}, (422, "invalid")),
    ("POST", "/undos", {"events": {"first": 0}, "dry_run": True}, (422, "invalid")),
    ("POST", "/undos", {"events": {"first": 1}, "event": "x"}, (422, "invalid")),
    ("POST", "/undos", {"events": {"first": 1, "last": 1}}, (422, "invalid")),
    ("POST", "/undos", {"event": "none", "plan": "none"}, (409, "plan-changed")),
    ("POST", "/undos", {"commit": "7", "dry_run": True}, (422, "invalid")),
    ("POST", "/queries/sql", {"statement": "DELETE FROM events"}, (400, "statement")),
    ("POST", "/queries/sql", {"statement": "SELECT * FROM '/etc/passwd'"}, (400, "statement")),
    ("POST", "/queries/sql", {"statement": "SELECT 1; SELECT 2"}, (400, "statement")),
    ("POST", "/queries/sql", {"statement": "SELECT ?", "parameters": []}, (400, "statement")),
    ("POST", "/queries/sql", {"statement": "SELECT $a", "parameters": [[]]}, (400, "statement")),
    ("POST", "/queries/sql", {"statement": "\x00"}, (400, "statement")),
    ("POST", "/queries/sql", {"statement": "SELECT 1", "max_rows": 0}, (422, "invalid")),
    ("POST", "/queries/sql", {"statement": "(" * 5_000}, (400, "statement")),
    (
        "POST",
        "/queries/sql",
        {"statement": "SELECT list(a.range) FROM range(100000000) a"},
        (422, "statement-limit"),
    ),
    ("POST", "/queries/cel", {"expression": "1 +"}, (400, "expression")),
    ("POST", "/queries/cel", {"expression": "(" * 5_000}, (400, "expression")),
    ("POST", "/queries/cel", {"expression": "state.none"}, (400, "expression")),
    ("POST", "/queries/cel", {"expression": "1", "fold": "none"}, (404, "unknown")),
    ("POST", "/queries/cel", {"expression": "1", "stream": "none"}, (404, "unknown")),
    ("POST", "/queries/cel", {"expression": "1", "at": "v9"}, (400, "bad-request")),
    (
        "POST",
        "/queries/cel",
        {"expression": "1", "stream": "a", "category": "b"},
        (400, "bad-request"),
    ),
    ("POST", "/queries/cel", {}, (422, "invalid")),
]


@pytest.mark.parametrize(("method", "place", "body", "expected"), REFUSED)
def test_what_cannot_be_is_said_to_be_so(
    client: httpx2.Client,
    store: Store,
    method: str,
    place: str,
    body: Any,
    expected: tuple[int, str],
) -> None:
    if all(info.name != "stable" for info in store.branches()):
        store.create_branch("stable").close()
    head, branches = store.head(), store.branches()
    assert problem(client.request(method, place, json=body)) == expected
    assert (store.head(), store.branches()) == (head, branches)


@pytest.mark.parametrize(
    ("method", "place", "scope"),
    [
        ("POST", "/branches", "operate"),
        ("DELETE", "/branches/x", "operate"),
        ("POST", "/merges", "operate"),
        ("POST", "/undos", "operate"),
        ("POST", "/commands/Withdraw", "append"),
        ("POST", "/projections/x/retries", "operate"),
        ("POST", "/projections/x/skips", "operate"),
        ("POST", "/projections/x/rebuilds", "operate"),
        ("POST", "/queries/sql", "sql"),
        ("POST", "/queries/cel", "sql"),
    ],
)
def test_who_lacks_the_scope_may_not(
    client: httpx2.Client, method: str, place: str, scope: str
) -> None:
    others = " ".join({"read", "append", "operate", "sql"} - {scope})
    answer = client.request(method, place, json={}, headers={"x-scopes": others})
    assert (problem(answer), answer.json()["scope"]) == ((403, "forbidden"), scope)
