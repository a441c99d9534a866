"""What ``/v1/openapi.json`` says is true: requests made from it get only answers that it declares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import (
    GenerationConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.web.governed import governed
from tests.web.serving import served_store

from everwhen.web.access import SCOPES, OpenAccess

_CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
_KNOWN: Final = {
    "branch": ("main", "trial"),
    "commit": ("00000000-0000-4000-8000-000000000001",),
    "fold": ("account", "document", "documents"),
    "name": ("balances", "Withdraw", "payday"),
    "position": ("1", "4"),
    "stream": ("account-ann", "account-bob"),
    "category": ("account",),
    "type": ("Deposited",),
    "where": ("event.amount > 5",),
    "with": ("trial", "main"),
    "path": ("balance", "account-ann"),
    "expression": ("state.balance > 5",),
}
_MOMENTS: Final = ("head", "start", "2", "1h ago")
_MAX_EXAMPLES: Final = 8
_TWIN_EXAMPLES: Final = 2
"""Requests of each operation, well-formed or not. What is below a branch has the same handler."""


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A server with everything that there is to ask for."""
    with governed(tmp_path_factory.mktemp("bank") / "bank.db") as served:
        for number in range(3):
            for name in ("ann", "bob"):
                told = {"events": [{"type": "Deposited", "data": {"amount": 10 + number}}]}
                served.post(f"/streams/account-{name}/events", json=told).raise_for_status()
        served.post("/branches", json={"name": "trial", "at": "4"}).raise_for_status()
        served.post("/bookmarks", json={"name": "payday", "at": "2"}).raise_for_status()
        yield served


def _schema(document: dict[str, Any]) -> Any:
    generation = GenerationConfig(
        modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE],
        max_examples=_MAX_EXAMPLES,
        deterministic=True,
        database="none",
    )
    projects = ProjectsConfig(default=ProjectConfig(generation=generation))
    return schemathesis.openapi.from_dict(document, config=SchemathesisConfig(projects=projects))


def test_answers_are_as_declared(bank: httpx2.Client) -> None:
    """Whatever is sent, well-formed or not."""
    done, declared = _checked(bank, _MAX_EXAMPLES)
    assert len(done) > declared / 4, f"hardly any operation came as far as an answer: {done}"


def test_what_the_server_was_not_given_is_declared_too(tmp_path: Path) -> None:
    """A store alone, without projections, commands, a signed log and the like."""
    access = OpenAccess(frozenset(SCOPES))
    with served_store(tmp_path / "empty.db", access=access) as client:
        _checked(client, _TWIN_EXAMPLES)


def _checked(client: httpx2.Client, examples: int) -> tuple[Counter[str], int]:
    """Ask for everything; the operations that gave content, and how many are declared."""
    base = str(client.base_url).split("/v1", maxsplit=1)[0].rstrip("/")
    document = client.get(f"{base}/v1/openapi.json").json()
    done: Counter[str] = Counter()
    for found in _schema(document).get_all_operations():
        operation = found.ok()
        answers = operation.definition.raw["responses"].values()
        if any("text/event-stream" in one.get("content", {}) for one in answers):
            continue  # an answer without an end: tests/web/test_live.py
        is_twin = operation.label.split()[1].startswith("/v1/branches/{branch}/")
        done += _check(operation, base, _TWIN_EXAMPLES if is_twin else examples)
    return done, sum(len(methods) for methods in document["paths"].values())


def _check(operation: Any, base: str, examples: int) -> Counter[str]:
    """Ask for an operation in many ways; how often it was done."""
    done: Counter[str] = Counter()
    cases = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases, st.data())
    def check(case: Any, data: st.DataObject) -> None:
        for part in (case.path_parameters, case.query, case.body):
            if isinstance(part, dict):
                _make_known(part, data)
        response = case.call(base_url=base)
        done[operation.label] += response.status_code < 300
        expected = {"excluded_checks": [not_a_server_error]} if response.status_code == 501 else {}
        case.validate_response(response, checks=_CHECKS, **expected)

    check()
    return +done


def _make_known(part: dict[str, Any], data: st.DataObject) -> None:
    """Names that there are in the place of made-up ones, now and then."""
    for name in sorted(part):
        known = _MOMENTS if name in ("at", "from", "to") else _KNOWN.get(name, ())
        if known and isinstance(part[name], str) and data.draw(st.booleans()):
            part[name] = data.draw(st.sampled_from(known))
