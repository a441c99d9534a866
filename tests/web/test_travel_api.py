"""Travel over HTTP: every answer is what the library says of the same store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from tests.web.serving import served_store

from everwhen import Commit, Event, Fold, NewEvent, Query, Store, TimeMachine, Write, open_store
from everwhen.codec.json_encoding import decode_json, encode_json
from everwhen.debugging import Session, Stop, break_of, watch_of
from everwhen.debugging.command_parsing import condition_of
from everwhen.exchange.json_forms import event_form, utc_text
from everwhen.exchange.travel_forms import (
    BlameEntry,
    blame_form,
    change_form,
    written_form,
)
from everwhen.expressions import Expression
from everwhen.state import diff, document, documents, plain
from everwhen.state.paths import MISSING, value_at
from everwhen.travel import HEAD, EventFilter
from everwhen.vocabulary import CommitMetadata
from everwhen.web.access import OpenAccess


class BetPlaced(Event):
    player: str
    amount: int


class BetWon(Event):
    player: str
    amount: int


class Table(msgspec.Struct):
    bets: int = 0
    balances: dict[str, int] = msgspec.field(default_factory=dict)


table = Fold("table", Table)


@table.on(BetPlaced)
def _(state: Table, event: BetPlaced) -> Table:
    state.bets += 1
    state.balances[event.player] = state.balances.get(event.player, 100) - event.amount
    return state


@table.on(BetWon)
def _(state: Table, event: BetWon) -> Table:
    state.balances[event.player] += event.amount
    return state


def deep(levels: int) -> dict[str, Any]:
    """A state that no encoder can take whole."""
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"in": found}
    return found


nested = Fold("nested", lambda: deep(3_000), copy=lambda state: state)
gated = Fold("gated", lambda: 0)
GATE = threading.Event()


@gated.otherwise
def _(state: int, event: object) -> int:
    del event
    GATE.wait()
    return state + 1


EVENTS = [BetPlaced, BetWon]
FOLDS: dict[str, Fold[Any]] = {"table": table, "nested": nested, "gated": gated}
PLAYERS = ("hedy", "george", "J. R.")


class Casino:
    """A store in a file, its server, and a client of that."""

    def __init__(self, store: Store, client: httpx2.Client) -> None:
        self.store = store
        self.client = client
        self.machine = TimeMachine(store, table, keep=False)

    def get(self, place: str, /, **asked: Any) -> Any:
        """What is answered; it must go well. A parameter may end with an underscore."""
        answer = self.client.get(f"/v1{place}", params=named(asked))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def problem(self, place: str, /, **asked: Any) -> tuple[int, str]:
        """The status of a refusal, and what it says."""
        answer = self.client.get(f"/v1{place}", params=named(asked))
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        return answer.status_code, answer.json()["detail"]


def named(asked: dict[str, Any]) -> dict[str, Any]:
    return {name.removesuffix("_"): value for name, value in asked.items()}


def as_json(value: Any) -> Any:
    """A form as a reader of JSON has it."""
    return decode_json(encode_json(value))


@pytest.fixture(scope="module")
def casino(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Casino]:
    path: Path = tmp_path_factory.mktemp("travel") / "casino.db"
    made = {"folds": FOLDS, "access": OpenAccess({"read", "append", "operate"})}
    with open_store(path, events=EVENTS) as store:
        fill(store)
        with served_store(path, opened={"events": EVENTS}, **made) as client:
            yield Casino(store, client)


def fill(store: Store) -> None:
    for number in range(40):
        player = PLAYERS[number % 3]
        metadata = CommitMetadata(user_id=player, correlation_id=f"night-{number % 4}")
        store.append(
            f"game-{number % 2}", [BetPlaced(player=player, amount=number)], metadata=metadata
        )
        if number % 5 == 4:
            store.append(f"game-{number % 2}", [BetWon(player=player, amount=number * 2)])
    cause = next(iter(store.read(Query().after(2))))
    store.append(
        "note-1",
        [NewEvent(event=BetPlaced(player="hedy", amount=1))],
        metadata=CommitMetadata(
            causation_id=cause.event_id, correlation_id=cause.metadata.correlation_id
        ),
    )


@pytest.mark.parametrize("at", [0, 1, 20, "head", "3 back"])
def test_a_step_is_the_event_its_changes_and_its_neighbours(casino: Casino, at: Any) -> None:
    given = casino.get("/states/table/step", at=at)
    machine = casino.machine
    head = casino.store.head().position
    position = {"head": head, "3 back": machine.moved(head, -3)}.get(at, at)
    step = machine.step_at(position) if position else None
    assert given == as_json(
        {
            "position": position,
            "event": None if step is None else event_form(step.event),
            "changes": [] if step is None else [change_form(one) for one in step.changes],
            "more_changes": 0,
            "previous": position - 1 if position > 1 else None,
            "next": position + 1 if position < head else None,
        }
    )


def test_the_neighbours_are_those_of_the_streams_own_state(casino: Casino) -> None:
    machine = TimeMachine(casino.store, table, "game-1", keep=False)
    seen, position = [], 0
    while (given := casino.get("/states/table/step", stream="game-1", at=position))["next"]:
        seen.append(given["position"])
        position = given["next"]
    assert seen[1:] == [step.position for step in machine.replay()][:-1]
    assert given["previous"] == seen[-1]
    between = casino.get("/states/table/step", stream="game-1", at=casino.store.head().position)
    assert between["position"] == position


def test_a_machine_that_is_kept_sees_what_came_since(casino: Casino) -> None:
    before = casino.get("/states/table", stream="game-0")
    assert casino.get("/states/table/step", stream="game-0")["next"] is None
    receipt = casino.store.append("game-0", [BetPlaced(player="new", amount=3)])
    after = casino.get("/states/table", stream="game-0")
    assert after["position"] == receipt.position > before["position"]
    assert after["state"]["balances"]["new"] == 97
    step = casino.get("/states/table/step", stream="game-0", at=before["position"])
    assert step["next"] == receipt.position


def test_a_difference_is_that_of_two_moments_and_of_two_branches(casino: Casino) -> None:
    given = casino.get("/states/table/diff", from_=5, to="10 on")
    ends = casino.machine.travel_to(5), casino.machine.travel_to(15)
    assert given == as_json(
        {
            "before": {"position": 5, "recorded_at": utc_text(ends[0].recorded_at)},  # type: ignore[arg-type]
            "after": {"position": 15, "recorded_at": utc_text(ends[1].recorded_at)},  # type: ignore[arg-type]
            "changes": [change_form(one) for one in diff(ends[0].state, ends[1].state)],
            "more_changes": 0,
        }
    )
    with casino.store.create_branch("other", 5) as branch:
        branch.append("game-0", [BetPlaced(player="only here", amount=0)])
    given = casino.get("/states/table/diff", from_=5, other_branch="other", limit=1)
    assert given["after"]["position"] == 6
    assert (len(given["changes"]), given["more_changes"]) == (1, 1)


def test_blame_names_the_event_of_each_leaf(casino: Casino) -> None:
    moment = casino.machine.travel_to(30)
    wanted = [
        blame_form(BlameEntry(path, value_at(moment.state, path), event))
        for path, event in casino.machine.blame((), 30).items()
    ]
    assert casino.get("/states/table/blame", at=30) == as_json({"entries": wanted, "more": 0})
    few = casino.get("/states/table/blame", at=30, limit=1)
    assert few == as_json({"entries": wanted[:1], "more": 3})
    one = casino.get("/states/table/blame", at=30, path='balances["J. R."]')
    assert one["entries"] == [entry for entry in as_json(wanted) if "J. R." in entry["path"]]


def test_history_and_single_writes_are_those_of_the_machine(casino: Casino) -> None:
    path = "balances.hedy"
    writes = list(casino.machine.history(path, end=40))
    forms = as_json([written_form(one) for one in writes])
    assert casino.get("/states/table/history", path=path, to=40) == {"writes": forms, "more": False}
    few = casino.get("/states/table/history", path=path, to=40, limit=2)
    assert few == {"writes": forms[:2], "more": True}
    second = writes[1].position
    following = casino.get("/states/table/writes/next", path=path, after=writes[0].position)
    assert following["write"] == forms[1]
    last = casino.get("/states/table/writes/last", path=f"state.{path}", until=second)
    assert last["write"] == forms[1]
    none = casino.get("/states/table/writes/last", path=path, until=writes[0].position - 1)
    assert none == {"write": None}


def test_a_watch_has_each_value_or_as_many_as_fit(casino: Casino) -> None:
    path = "balances.george"
    values = list(casino.machine.values(path, end=40))
    assert [one.after for one in casino.machine.history(path, end=40)] == [v for _, v in values[1:]]
    given = casino.get("/states/table/watch", path=path, to=40)
    assert given["positions"] == [position for position, _ in values]
    assert given["values"] == [None if v is MISSING else v for _, v in values]
    few = casino.get("/states/table/watch", path=path, to=40, points=3)
    assert len(few["positions"]) == 3
    assert (few["positions"][-1], few["values"][-1]) == values[-1]


def test_an_explanation_has_the_causes_and_the_conversation(casino: Casino) -> None:
    caused = next(iter(casino.store.read(Query().stream("note-1"))))
    found = casino.machine.explain(caused)
    given = casino.get(f"/events/{caused.position}/explanation")
    assert given["event"] == as_json(event_form(caused))
    assert given["causes"] == as_json(
        [{"id": one.id, "event": event_form(one.event)} for one in found.causes if one.event]
    )
    assert given["correlated"] == as_json([event_form(one) for one in found.correlated])
    assert given["is_whole"]
    assert len(given["causes"]) == 1


def test_a_large_state_is_cut_and_a_path_leads_deeper(casino: Casino) -> None:
    given = casino.get("/states/table", at=30, max_entries=2)
    state = casino.machine.travel_to(30).state
    assert given["cut"] == [{"path": "balances", "entries": 3}]
    assert list(given["state"]["balances"].items()) == list(state.balances.items())[:2]
    part = casino.get("/states/table", at=30, path="balances", max_entries=3)
    assert (part["state"], part["cut"]) == (state.balances, [])


def test_a_state_that_is_too_deep_is_cut_where_it_is(casino: Casino) -> None:
    given = casino.get("/states/nested")
    (cut,) = given["cut"]
    assert cut["entries"] == 1
    below = casino.get("/states/nested", path=cut["path"])
    assert below["state"]["in"]["in"]


def test_states_of_documents_are_those_of_the_folds(casino: Casino) -> None:
    given = casino.get("/states/document", stream="game-1", at="v3")
    wanted = TimeMachine(casino.store, document, "game-1", keep=False)
    assert given["state"] == as_json(plain(wanted.step_at(given["position"]).after))
    every = TimeMachine(casino.store, documents, keep=False).travel_to(9)
    assert casino.get("/states/documents", at=9)["state"] == as_json(plain(every.state))


@pytest.mark.parametrize(
    ("path", "asked", "status", "says"),
    [
        ("/states/tabel", {}, 404, "there are: document, documents, gated, nested, table"),
        ("/states/table", {"stream": "game-9"}, 404, "there is no stream 'game-9'"),
        ("/states/table/step", {"category": "gone"}, 404, "there is no category 'gone'"),
        ("/states/table", {"stream": "game-1", "category": "game"}, 400, "only one"),
        ("/states/table", {"path": "balance"}, 400, "did you mean balances"),
        ("/states/table", {"path": "balances[["}, 400, "can't be read"),
        ("/states/table", {"path": "/" * 500}, 400, "more than 100 steps"),
        ("/states/table", {"max_entries": 10**30}, 400, "max_entries"),
        ("/states/table", {"at": "9" * 5_000}, 400, ""),
        ("/states/table", {"at": "v99999"}, 400, ""),
        ("/states/table", {"at": "@nowhere"}, 400, "no bookmark"),
        ("/states/table/step", {"at": "of 2013-05-01"}, 200, ""),
        ("/states/table/diff", {"from": 10, "to": 10**18}, 400, "after the store's newest"),
        ("/states/table/diff", {"other_branch": "gone"}, 404, "gone"),
        ("/states/table/blame", {"path": "balances.nobody"}, 400, "balances has no 'nobody'"),
        ("/states/table/history", {"path": "balances.hedi"}, 404, "did you mean balances.hedy"),
        ("/states/table/history", {}, 400, "path"),
        ("/states/table/history", {"path": "bets", "from": 9, "to": 3}, 400, "after the end"),
        ("/states/table/writes/next", {"path": "bet"}, 404, "did you mean bets"),
        ("/states/table/watch", {"path": "bet"}, 404, "did you mean bets"),
        ("/states/nested/blame", {}, 200, ""),
        ("/events/99999/explanation", {}, 404, "no event at position 99999"),
        ("/events/-1/explanation", {}, 400, "no position"),
    ],
)
def test_what_can_not_be_is_refused_with_what_there_is(
    casino: Casino, path: str, asked: dict[str, Any], status: int, says: str
) -> None:
    answer = casino.client.get(f"/v1{path}", params=asked)
    assert answer.status_code == status, answer.text
    assert says in answer.json().get("detail", "")


def test_folds_are_listed_with_words(casino: Casino) -> None:
    found = {one["name"]: one["words"] for one in casino.get("/folds")["folds"]}
    assert found["table"] == "fold table, version 1"
    assert set(found) == set(FOLDS) | {"document", "documents"}


def found(casino: Casino, **asked: Any) -> Any:
    """A search that was started and has ended."""
    given = named({"fold": "table", "to": "40", **asked})
    started = casino.client.post("/v1/finds", json=given)
    assert started.status_code == 202, started.text
    id_ = started.json()["id"]
    with casino.client.stream("GET", f"/v1/finds/{id_}/live") as live:
        lines = [line for line in live.iter_lines() if line.startswith("data: ")]
    last = decode_json(lines[-1].removeprefix("data: "))
    assert casino.get(f"/finds/{id_}") == last
    return last


@pytest.mark.parametrize("which", ["first", "last", "all", "transitions"])
def test_a_find_has_the_moments_of_the_machine(casino: Casino, which: str) -> None:
    text = "balances.hedy > 60"
    machine, holds = casino.machine, Expression(text).holds_for
    wanted: list[tuple[int, bool | None]]
    match which:
        case "all":
            wanted = [(at.position, None) for at in machine.find_all(holds, end=40)]
        case "transitions":
            wanted = [(t.at.position, t.holds) for t in machine.transitions(holds, end=40)]
        case _:
            at = machine.find_when(holds, last=which == "last", end=40)
            assert at is not None
            wanted = [(at.position, None)]
    form = found(casino, expression=text, which=which)
    assert [(hit["position"], hit["holds"]) for hit in form["hits"]] == wanted
    assert (form["status"], form["more"], form["error"]) == ("done", False, None)
    for hit in form["hits"]:
        assert hit["event"] == (
            casino.get(f"/events/{hit['position']}") if hit["position"] else None
        )
    few = found(casino, expression=text, which=which, limit=1)
    assert few["hits"] == form["hits"][:1]
    assert few["more"] is (which in ("all", "transitions"))


def test_a_find_in_vain_says_what_no_state_ever_had(casino: Casino) -> None:
    form = found(casino, expression="balances.hedi > 1000")
    assert (form["status"], form["hits"]) == ("done", [])
    assert "did you mean balances.hedy" in form["unknown"][0]
    failed = found(casino, expression='bets > "x"')
    assert failed["status"] == "failed"
    assert failed["error"]


def test_a_caller_has_one_find_at_a_time_and_may_cancel_it(casino: Casino) -> None:
    asked = {"fold": "gated", "expression": "state > 3"}
    GATE.clear()
    try:
        running = casino.client.post("/v1/finds", json=asked).json()
        second = casino.client.post("/v1/finds", json=asked)
        assert (second.status_code, second.json()["id"]) == (429, running["id"])
        cancelled = casino.client.delete(f"/v1/finds/{running['id']}").json()
        assert cancelled["status"] == "cancelled"
    finally:
        GATE.set()
    assert found(casino, **asked)["hits"][0]["position"] == 4
    assert casino.get(f"/finds/{running['id']}")["hits"] == []


@pytest.mark.parametrize(
    ("given", "status", "says"),
    [
        ({"expression": "bets >"}, 400, "column"),
        ({"expression": "event.amount > 3"}, 400, "has no event"),
        ({"expression": "(" * 5_000}, 400, ""),
        ({"expression": "bets > 1", "fold": "no"}, 404, "there are: "),
        ({"expression": "bets > 1", "stream": "no"}, 404, "no stream"),
        ({"expression": "bets > 1", "which": "some"}, 422, "which"),
        ({"expression": "bets > 1", "from": "9", "to": "3"}, 400, "after the end"),
        ({"expression": "bets > 1", "limit": 10**9}, 422, "limit"),
        ({"expression": "bets > 1", "at": "1"}, 422, "at"),
        ({}, 422, "expression"),
    ],
)
def test_a_find_that_can_not_be_is_refused(
    casino: Casino, given: dict[str, Any], status: int, says: str
) -> None:
    answer = casino.client.post("/v1/finds", json={"fold": "table", **given})
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]
    assert casino.problem("/finds/no")[0] == 404


def test_a_what_if_is_that_of_the_machine(casino: Casino) -> None:
    given = {"fold": "table", "at": "2", "without": {"users": ["hedy"], "types": ["BetPlaced"]}}
    altered = casino.machine.altered(
        without=EventFilter(users=frozenset({"hedy"}), types=frozenset({"BetPlaced"}))
    )
    supposed = altered.travel_to(2)
    answer = casino.client.post("/v1/what-ifs", json=given).json()
    assert answer == as_json(
        {
            "position": 2,
            "real": plain(casino.machine.travel_to(2).state),
            "altered": plain(supposed.state),
            "changes": [change_form(one) for one in altered.diff(2)],
            "more_changes": 0,
            "left_out": supposed.left_out,
            "edited": 0,
            "inserted": 0,
            "cut": [],
            "branch": None,
        }
    )
    assert answer["left_out"] == {"BetPlaced": 1}
    bet = {"type": "BetPlaced", "data": {"player": "new", "amount": 7}}
    more = {"fold": "table", "at": "5", "inserted": {"3": [bet]}}
    form = casino.client.post("/v1/what-ifs", json=more).json()
    assert form["altered"]["bets"] == form["real"]["bets"] + 1 == 6
    assert form["inserted"] == 1


def test_a_what_if_is_kept_as_a_branch_on_which_it_is_so(casino: Casino) -> None:
    casino.store.commit(
        Commit(
            [
                Write("game-0", [BetPlaced(player="hedy", amount=1)]),
                Write("game-1", [BetPlaced(player="george", amount=2)]),
            ]
        )
    )
    last = casino.store.head().position
    plain_bet = {"type": "BetPlaced", "data": {"player": "new", "amount": 7}}
    given = {
        "fold": "table",
        "without": {"positions": [last]},
        "edited": {"30": [plain_bet]},
        "inserted": {"31": [plain_bet, {**plain_bet, "stream": "game-9"}]},
        "keep_as": "supposed",
    }
    answer = casino.client.post("/v1/what-ifs", json=given)
    assert answer.status_code == 200, answer.text
    form = answer.json()
    assert (form["left_out"], form["edited"], form["inserted"]) == ({"BetPlaced": 1}, 1, 2)
    with casino.store.branch("supposed") as branch:
        info = branch.branch_info
        assert info is not None
        assert info.position == 29
        kept = TimeMachine(branch, table, keep=False).travel_to(HEAD)
        assert as_json(plain(kept.state)) == form["altered"]
        real = {e.position: e for e in casino.store.read(Query())}
        events = list(branch.read(Query().after(29)))
        assert len(events) == last - 29 + 2 - 1
        assert events[1].stream == real[31].stream
        assert events[1].metadata.correlation_id == real[31].metadata.correlation_id
        assert [e.stream for e in events[2:4]] == [real[31].stream, "game-9"]
    on_it = casino.get("/branches/supposed/states/table")
    assert on_it["state"] == form["altered"]
    again = casino.client.post("/v1/what-ifs", json=given)
    assert (again.status_code, again.json()["title"]) == (
        409,
        "The branch can't be made or changed",
    )


@pytest.mark.parametrize(
    ("given", "status", "says"),
    [
        ({}, 400, "nothing is altered"),
        ({"without": {"positions": [10**30]}}, 422, ""),
        ({"edited": {"3": [{"type": "BetPlaced", "data": {}}]}}, 422, "BetPlaced"),
        ({"edited": {"9999": [{"type": "X", "data": {}}]}}, 400, "position 9999 has no event"),
        ({"edited": {"-3": [{"type": "X", "data": {}}]}}, 422, ""),
        ({"inserted": {"-3": [{"type": "X", "data": {}, "stream": "a"}]}}, 422, ""),
        ({"inserted": {"0": [{"type": "X", "data": {}}]}}, 400, "name the stream"),
        ({"inserted": {"3": [{"type": "", "data": {}, "stream": "a"}]}}, 422, ""),
        ({"without": {"users": ["x"]}, "keep_as": "main"}, 409, ""),
        ({"without": {"users": ["x"]}, "at": "v3"}, 400, "version"),
    ],
)
def test_a_what_if_that_can_not_be_is_refused(
    casino: Casino, given: dict[str, Any], status: int, says: str
) -> None:
    answer = casino.client.post("/v1/what-ifs", json={"fold": "table", **given})
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]


def test_bookmarks_are_set_moved_used_and_deleted(casino: Casino) -> None:
    client = casino.client
    made = client.post("/v1/bookmarks", json={"name": "lunch", "at": "7"})
    assert (made.status_code, made.json()) == (201, {"name": "lunch", "position": 7})
    client.post("/v1/bookmarks", json={"name": "lunch", "at": "6"})
    assert casino.get("/bookmarks") == {"bookmarks": [{"name": "lunch", "position": 6}]}
    assert casino.get("/states/table/step", at="@lunch")["position"] == 6
    assert client.delete("/v1/bookmarks/lunch").status_code == 204
    assert client.delete("/v1/bookmarks/lunch").status_code == 404
    assert casino.machine.bookmarks() == {}
    assert client.post("/v1/bookmarks", json={"name": "x" * 500}).status_code == 422
    assert client.post("/v1/bookmarks", json={"name": "x", "at": "9999"}).status_code == 400


def test_a_debug_session_walks_as_the_librarys_does(casino: Casino) -> None:
    client = casino.client
    opened = client.post("/v1/debug-sessions", json={"fold": "table", "at": "10"}).json()
    own = Session(TimeMachine(casino.store, table, keep=False))
    assert opened["stop"]["position"] == own.start(10).position
    place = f"/v1/debug-sessions/{opened['id']}"
    broken = [
        {"when": "bets == 20"},
        {"path": "balances.hedy", "message": "hedy has {balances.hedy}"},
        {"event": "BetWon"},
    ]
    made = client.post(f"{place}/breakpoints", json={"breakpoints": broken}).json()["breakpoints"]
    own.breakpoints.add(condition_of(Expression("bets == 20"), own.machine))
    own.breakpoints.add(watch_of("balances.hedy"), "hedy has {balances.hedy}")
    own.breakpoints.add(break_of("BetWon", own.machine))
    assert [(one["number"], one["text"]) for one in made] == [
        (one.number, str(one)) for one in own.breakpoints
    ]
    moves: list[tuple[dict[str, Any], Callable[[], Stop | None]]] = [
        ({"move": "continue"}, own.resume),
        ({"move": "continue"}, own.resume),
        ({"move": "reverse"}, own.reverse),
        ({"move": "step", "events": 3}, lambda: own.step(3)),
        ({"move": "back"}, own.back),
        (
            {"move": "next-write", "path": "balances.george"},
            lambda: own.next_write("balances.george"),
        ),
        ({"move": "last-write", "path": "balances.hedy"}, lambda: own.last_write("balances.hedy")),
        (
            {"move": "find", "expression": "bets == 30"},
            lambda: own.find(Expression("bets == 30"), "next"),
        ),
        ({"move": "find", "expression": "bets == 9999"}, lambda: None),
        ({"move": "goto", "at": "4"}, lambda: own.goto(4)),
    ]
    for move, wanted in moves:
        answer, stop = client.post(f"{place}/moves", json=move).json(), wanted()
        if stop is None:
            assert answer == {"stop": None, "output": []}
            continue
        assert answer["stop"]["position"] == stop.position
        assert answer["stop"]["reason"] == stop.reason
        assert answer["stop"]["hits"] == [one.number for one in stop.hits]
        assert answer["output"] == as_json(stop.logs)
        assert answer["stop"]["event"]["position"] == stop.position
    value = client.post(f"{place}/evaluations", json={"expression": "before.bets + bets"})
    assert value.json() == {"value": own.evaluate("before.bets + bets"), "cut": []}
    assert client.delete(place).status_code == 204
    assert client.post(f"{place}/moves", json={"move": "step"}).status_code == 404


def test_debug_sessions_have_limits_and_refuse_nonsense(casino: Casino) -> None:
    client, made = casino.client, []
    while (opened := client.post("/v1/debug-sessions", json={"fold": "table"})).status_code == 200:
        made.append(opened.json()["id"])
    assert (opened.status_code, len(made)) == (429, 4)
    place = f"/v1/debug-sessions/{made[0]}"
    for move, status in (
        ({"move": "fly"}, 422),
        ({"move": "goto"}, 400),
        ({"move": "find", "expression": "("}, 400),
        ({"move": "next-write", "path": "[["}, 400),
        ({"move": "step", "events": 10**20}, 422),
    ):
        assert client.post(f"{place}/moves", json=move).status_code == status
    many = {"breakpoints": [{"when": "bets > 1", "path": "bets"}]}
    assert client.post(f"{place}/breakpoints", json=many).status_code == 400
    nothing = client.post(f"{place}/evaluations", json={"expression": "balances.hedi"})
    assert nothing.status_code == 400
    assert "hedy" in nothing.json()["detail"]
    for one in made:
        assert client.delete(f"/v1/debug-sessions/{one}").status_code == 204


def test_a_print_is_what_it_would_have_printed(casino: Casino) -> None:
    given = {
        "fold": "table",
        "expression": "before.bets * 100 + bets",
        "to": "40",
        "types": ["BetPlaced"],
    }
    wanted = [
        (step.position, str(step.before.bets * 100 + step.after.bets))
        for step in casino.machine.replay(0, 40)
        if step.event.type == "BetPlaced"
    ]
    answer = casino.client.post("/v1/prints", json=given).json()
    assert [(line["position"], line["text"]) for line in answer["lines"]] == wanted
    assert (answer["until"], answer["more"]) == (40, False)
    few = casino.client.post("/v1/prints", json={**given, "limit": 3}).json()
    assert few["lines"] == answer["lines"][:3]
    assert few["more"]
    rest = casino.client.post("/v1/prints", json={**given, "from": str(few["until"])}).json()
    assert few["lines"] + rest["lines"] == answer["lines"]
    wrong = casino.client.post("/v1/prints", json={**given, "expression": "nothing.here"}).json()
    assert wrong["lines"][0]["text"].startswith("(")
    assert casino.client.post("/v1/prints", json={**given, "expression": ")"}).status_code == 400
