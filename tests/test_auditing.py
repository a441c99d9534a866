"""Audit entries and their exports: what is refused, and what other tools get."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from everwhen import context
from everwhen.audit import (
    AuditAction,
    AuditEntry,
    AuditFilter,
    AuditRecord,
    AuditResult,
    AuditRules,
    origin,
)
from everwhen.audit.entries import checked, draft_of, spoken, stream_of, tags_of
from everwhen.audit.escaping import escaped, escaped_text
from everwhen.audit.exports import CSV_COLUMNS, OCSF_VERSION, head_of, line_of, ocsf_event
from everwhen.errors import DeclarationError, InvalidAuditEntryError
from everwhen.privacy import Erased

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
GOOD: dict[str, Any] = {
    "timestamp": NOON,
    "user": "ann",
    "action": AuditAction.UPDATE,
    "resource": "accounts/7",
}


def entry(**given: Any) -> AuditEntry:
    return checked(AuditEntry(**{**GOOD, **given}))


def record(made: AuditEntry) -> AuditRecord:
    commit = UUID(int=7)
    return AuditRecord(f"{commit}/0", 3, NOON + timedelta(seconds=1), commit, made)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timestamp", datetime(2026, 1, 1)),
        ("timestamp", "2026-01-01"),
        ("user", ""),
        ("user", "a\nb"),
        ("user", "ü" * 129),
        ("user", 7),
        ("user", "ann//x"),
        ("action", "Update"),
        ("resource", ""),
        ("resource", None),
        ("resource", "x" * 257),
        ("resource", "\ud800"),
        ("result", "Success"),
        ("ip_address", "256.1.1.1"),
        ("ip_address", "192.0.2.7:80"),
        ("ip_address", "192.0.2.0/24"),
        ("ip_address", 3221225991),
        ("ip_address", ""),
        ("user_agent", "x" * 2049),
        ("user_agent", "a\x00b"),
        ("session", "s\u2028t"),
        ("correlation", ""),
        ("details", {"at": NOON}),
        ("details", {7: "x"}),
        ("details", {"a": {"b": 1}}),
        ("details", {"a": "x" * 20_000}),
        ("details", {"a": float("nan")}),
        ("details", ["a"]),
        ("reason", "no failure"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_its_field(field: str, value: object) -> None:
    with pytest.raises(InvalidAuditEntryError, match=field) as raised:
        entry(**{field: value})
    assert raised.value.field == field


def test_results_say_why() -> None:
    with pytest.raises(InvalidAuditEntryError, match="reason"):
        entry(result=AuditResult.FAILURE)
    with pytest.raises(InvalidAuditEntryError, match="details"):
        entry(result=AuditResult.PARTIAL_SUCCESS)
    with pytest.raises(InvalidAuditEntryError, match="reason"):
        entry(result=AuditResult.PARTIAL_SUCCESS, reason="x", details={"a": 1})
    entry(result=AuditResult.FAILURE, reason="no such account")
    entry(result=AuditResult.PARTIAL_SUCCESS, details={"done": ["a"], "left": ["b"]})
    with pytest.raises(InvalidAuditEntryError, match="expected an AuditEntry"):
        checked("entry")  # type: ignore[arg-type]


def test_an_entry_takes_what_it_lacks_from_the_context() -> None:
    with (
        context(user_id="ann", correlation_id="c"),
        origin(ip_address="2001:0DB8::1", session="s"),
        origin(user_agent="curl"),
    ):
        made = checked(draft_of(NOON, AuditAction.READ, "files"))
        other = draft_of(NOON, AuditAction.READ, "files", user="bob", session="t")
    assert (made.user, made.correlation, made.ip_address) == ("ann", "c", "2001:db8::1")
    assert (made.session, made.user_agent) == ("s", "curl")
    assert (other.user, other.session) == ("bob", "t")
    with pytest.raises(InvalidAuditEntryError, match="ip_address"), origin(ip_address="here"):
        pass


def test_month_subject_and_tags() -> None:
    late = datetime(2026, 12, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    made = entry(timestamp=late, resource="a/b", correlation="c")
    assert stream_of(made.timestamp) == "audit-2026-11"
    assert made.subject == "ann/audit/2026-11"
    assert entry(user=None).subject == "nobody/audit/2026-11"
    assert set(tags_of(made)) == {
        "action:Update",
        "result:Success",
        "user:ann",
        "correlation:c",
        "resource:a",
        "resource:a/b",
    }


def test_any_error_can_be_a_reason() -> None:
    said = spoken(ValueError("a\x00b\r\nc" + "ü" * 3000))
    assert said.startswith("ValueError: a b cüü")
    entry(result=AuditResult.FAILURE, reason=said)
    entry(result=AuditResult.FAILURE, reason=spoken(KeyError()))
    entry(result=AuditResult.FAILURE, reason=spoken(ValueError("\ud800")))

    class Mute(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise ValueError

    assert spoken(Mute()) == "Mute"
    assert spoken(type("\n", (Exception,), {})()) == "an error without a name"


@given(
    draft=st.builds(
        AuditEntry,
        timestamp=st.just(NOON),
        user=st.none() | st.text(st.characters(), max_size=400) | st.integers(),
        action=st.sampled_from(AuditAction),
        resource=st.text(st.characters(), max_size=400) | st.none(),
        result=st.just(AuditResult.FAILURE),
        reason=st.text(st.characters()),
        details=st.dictionaries(
            st.text(st.characters()) | st.integers(),
            st.text(st.characters(), max_size=9_000) | st.floats() | st.datetimes() | st.just({}),
        ),
        ip_address=st.none() | st.just("192.0.2.7") | st.text(st.characters()),
        user_agent=st.none() | st.text(st.characters()),
        session=st.none() | st.integers(),
        correlation=st.none() | st.text(st.characters()),
    )
)
@settings(max_examples=150, deadline=None)
def test_anything_can_be_recorded_escaped(draft: AuditEntry) -> None:
    made = escaped(draft)
    assert escaped(made) == made
    marked = made.details.get("escaped", [])
    assert isinstance(marked, list)
    odd = None
    try:
        proper = checked(draft)
    except InvalidAuditEntryError as error:
        odd = error.field
    if odd is None:
        assert made == proper
    else:
        assert odd in marked
    for field in {"user", "session", "correlation", "user_agent", "reason"}.difference(marked):
        assert getattr(made, field) == getattr(draft, field)


def test_escaped_text_reads_back_unless_it_was_cut() -> None:
    for text in ("", "a\nb", 'say "hi"\\', "\ud800", "\x9b\x7f\u2028", "ü€😀"):
        assert json.loads(escaped_text(text, 256)) == text
    cut = escaped_text("\n" * 300, 256)
    assert cut == '"' + "\\n" * 125 + '"…'
    assert len(escaped_text("😀" * 300, 256).encode()) <= 256
    assert escaped_text(object, 40) == "\"<class 'object'>\""


def test_large_details_are_cut_to_what_fits() -> None:
    many = {f"n{number}": "x" * 300 for number in range(500)}
    draft = AuditEntry(**{**GOOD, "details": many})
    kept = escaped(draft).details
    assert kept["n0"] == '"' + "x" * 251 + '"…'
    assert 40 < len(kept) < 100
    assert kept["escaped"] == ["details"]


def test_dots_and_empty_parts_are_parts_like_any_other() -> None:
    """Nothing resolves them: a policy for accounts shows what lies below that as it is written."""
    for resource, path, below in (
        ("accounts/../secrets", "accounts", True),
        ("accounts/../secrets", "secrets", False),
        ("accounts//7", "accounts", True),
        ("accounts//7", "accounts/7", False),
        ("accounts/7", "accounts//7", False),
        ("./accounts", "accounts", False),
        ("/accounts", "accounts", False),
    ):
        assert AuditFilter(resource=path).matches(entry(resource=resource)) is below
        assert AuditFilter(resource=resource).is_within(AuditFilter(resource=path)) is below


@pytest.mark.parametrize(
    ("asked", "granted", "within"),
    [
        ({}, {}, True),
        ({"user": "ann"}, {}, True),
        ({}, {"user": "ann"}, False),
        ({"user": "ann", "resource": "a/b"}, {"user": "ann", "resource": "a"}, True),
        ({"resource": "ab"}, {"resource": "a"}, False),
        ({"resource": "a/b"}, {"resource": "a/"}, True),
        ({"resource": "a/"}, {"resource": "a"}, True),
        ({"resource": "a"}, {"resource": "a/"}, False),
        ({"resource": "ab"}, {"resource": "a/"}, False),
        ({"resource": "a"}, {"resource": "a/b"}, False),
        ({"since": NOON}, {"since": NOON}, True),
        ({}, {"since": NOON}, False),
        ({"since": NOON - timedelta(1)}, {"since": NOON}, False),
        ({"until": NOON}, {"until": NOON}, True),
        ({"until": NOON + timedelta(1)}, {"until": NOON}, False),
        ({"action": AuditAction.READ}, {"action": AuditAction.LOGIN}, False),
    ],
)
def test_whether_a_filter_is_within_another(
    asked: dict[str, Any], granted: dict[str, Any], within: bool
) -> None:
    assert AuditFilter(**asked).is_within(AuditFilter(**granted)) is within


def test_rules() -> None:
    class Named(msgspec.Struct):
        pass

    rules = AuditRules()
    rules.on(int, AuditAction.READ, lambda number: f"numbers/{number}")
    deed = rules.deed(7, AuditAction.UPDATE, "commands")
    assert deed is not None
    assert (deed.action, deed.resource) == (AuditAction.READ, "numbers/7")
    unspoken = rules.deed(Named(), AuditAction.UPDATE, "commands")
    assert unspoken is not None
    assert (unspoken.action, unspoken.resource) == (AuditAction.UPDATE, "commands/Named")
    rules.leave_out(Named)
    assert rules.deed(Named(), AuditAction.UPDATE, "commands") is None
    with pytest.raises(DeclarationError, match="two audit rules"):
        rules.leave_out(int)
    with pytest.raises(DeclarationError, match="AuditAction"):
        rules.on(str, "Read", str)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="expected a class"):
        rules.leave_out("int")  # type: ignore[arg-type]


NAMES: Callable[..., st.SearchStrategy[str]] = lambda: st.text(  # noqa: E731
    st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=40
)
DETAILS = st.dictionaries(
    st.sampled_from(["grantee", "privileges", "other"]),
    st.none() | st.booleans() | st.integers(-5, 5) | NAMES() | st.lists(NAMES(), max_size=3),
)


@st.composite
def entries(draw: Any) -> AuditEntry:
    result = draw(st.sampled_from(AuditResult))
    details = draw(DETAILS)
    if result is AuditResult.PARTIAL_SUCCESS and not details:
        details = {"left": ["b"]}
    return entry(
        timestamp=draw(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1))).replace(
            tzinfo=UTC
        ),
        user=draw(st.none() | NAMES().map(lambda name: name.replace("/", "-"))),
        action=draw(st.sampled_from(AuditAction)),
        resource=draw(NAMES()),
        result=result,
        reason=draw(NAMES()) if result is AuditResult.FAILURE else None,
        details=details,
        ip_address=draw(st.none() | st.ip_addresses().map(str)),
        user_agent=draw(st.none() | NAMES()),
        session=draw(st.none() | NAMES()),
        correlation=draw(st.none() | NAMES()),
    )


@cache
def published() -> OcsfJsonSchemaEmbedded:
    return OcsfJsonSchemaEmbedded(get_ocsf_schema(OCSF_VERSION))


@cache
def validator(class_uid: int) -> Draft202012Validator:
    schema = published()
    found = schema.get_class_schema(schema.lookup_class_name_from_uid(class_uid))
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


def enum_caption(class_uid: int, field: str, number: int) -> str:
    schema = published()
    name = schema.lookup_class_name_from_uid(class_uid)
    attribute = schema.schema.schema["classes"][name]["attributes"][field]
    return str(attribute["enum"][str(number)]["caption"])


def test_a_security_event_with_nothing_but_a_user_agent_is_valid_too() -> None:
    made = AuditEntry(NOON, None, AuditAction.SECURITY_EVENT, "door", user_agent="curl")
    event = json.loads(line_of(record(made), "ocsf"))
    assert [e.message for e in validator(event["class_uid"]).iter_errors(event)] == []
    assert event["evidences"][0]["http_request"] == {"user_agent": "curl"}


@pytest.mark.slow
@given(entries())
@settings(max_examples=60)
def test_every_export_is_valid_by_the_published_schema(made: AuditEntry) -> None:
    event = json.loads(line_of(record(made), "ocsf"))
    uid = event["class_uid"]
    faults = [f"{list(e.path)}: {e.message}" for e in validator(uid).iter_errors(event)]
    assert faults == []
    assert enum_caption(uid, "activity_id", event["activity_id"]) == event["activity_name"]
    assert enum_caption(uid, "type_uid", event["type_uid"]) == event["type_name"]
    assert enum_caption(uid, "category_uid", event["category_uid"]) == event["category_name"]
    assert event["metadata"]["uid"] == record(made).id
    assert made.user is None or json.dumps(made.user) in json.dumps(event)


@pytest.mark.parametrize(
    ("action", "address", "class_uid", "activity"),
    [
        (AuditAction.LOGIN, None, 3002, 1),
        (AuditAction.LOGOUT, None, 3002, 2),
        (AuditAction.PERMISSION_GRANT, None, 3005, 1),
        (AuditAction.PERMISSION_REVOKE, None, 3005, 2),
        (AuditAction.CREATE, None, 3004, 1),
        (AuditAction.READ, None, 3004, 2),
        (AuditAction.UPDATE, "192.0.2.7", 6003, 3),
        (AuditAction.DELETE, "192.0.2.7", 6003, 4),
        (AuditAction.CONFIG_CHANGE, "192.0.2.7", 3004, 3),
        (AuditAction.SECURITY_EVENT, "192.0.2.7", 2004, 1),
    ],
)
def test_actions_have_the_classes_that_tools_look_for(
    action: AuditAction, address: str | None, class_uid: int, activity: int
) -> None:
    event = ocsf_event(record(entry(action=action, ip_address=address)))
    assert (event["class_uid"], event["activity_id"]) == (class_uid, activity)


def test_a_grant_says_who_was_given_what() -> None:
    details = {"grantee": "bob", "privileges": ["read", "write"]}
    event = ocsf_event(record(entry(action=AuditAction.PERMISSION_GRANT, details=details)))
    assert event["user"] == {"uid": "bob"}
    assert event["privileges"] == ["read", "write"]
    assert event["actor"] == {"user": {"uid": "ann"}}


@given(st.lists(entries(), max_size=5))
@settings(max_examples=60)
def test_csv_reads_back_and_holds_no_formula(made: list[AuditEntry]) -> None:
    text = head_of("csv") + "".join(line_of(record(one), "csv") for one in made)
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert tuple(header) == CSV_COLUMNS
    assert len(rows) == len(made)
    for row, one in zip(rows, made, strict=True):
        cells = dict(zip(header, row, strict=True))
        assert cells["user"].removeprefix("'") == (one.user or "").removeprefix("'")
        assert cells["action"] == one.action.value
        assert not any(cell.lstrip()[:1] in tuple("=+-@\t\r\n") and cell for cell in row)


def test_what_was_erased_is_valid_and_says_so() -> None:
    gone = Erased("ann/audit/2026-11")
    made = msgspec.structs.replace(
        entry(action=AuditAction.UPDATE, user=None),
        result=AuditResult.FAILURE,
        reason=gone,
        details={"privileges": gone, "n": 1},
        ip_address=gone,
        user_agent=gone,
        session=gone,
    )
    for action in AuditAction:
        kept = record(msgspec.structs.replace(made, action=action))
        event = json.loads(line_of(kept, "ocsf"))
        assert list(validator(event["class_uid"]).iter_errors(event)) == []
        assert event["status_detail"] == "(erased)"
    (row,) = csv.reader(io.StringIO(line_of(record(made), "csv")))
    assert row[7:12] == ["(erased)", '{"privileges":"(erased)","n":1}', *["(erased)"] * 3]
    assert not AuditFilter(text="erased").matches(made)
    with pytest.raises(InvalidAuditEntryError, match="Erased"):
        checked(made)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\uff1d"])
def test_formulas_are_made_harmless(start: str) -> None:
    line = line_of(record(entry(resource=f"{start}cmd|' /C calc'!A0")), "csv")
    (row,) = csv.reader(io.StringIO(line))
    assert row[5].startswith("'" + start)
