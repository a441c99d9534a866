"""Commands: which there are, and one sent to its decision."""

from __future__ import annotations

import inspect
import re
from typing import Any, Final

import msgspec
from starlette.responses import Response

from everwhen.codec.json_encoding import encode_json
from everwhen.commands.decisions import RecordedCommand
from everwhen.errors import InvalidCommandError, Refusal
from everwhen.exchange.json_forms import NewEventForm, ReceiptForm, new_event_form, receipt_form
from everwhen.state import plain
from everwhen.vocabulary import CommitMetadata
from everwhen.web.answers import json_answer
from everwhen.web.api.given_events import key_of
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.problems import FORBIDDEN, INVALID, REFUSED, UNKNOWN, ProblemError

_PLACE: Final = re.compile(r" - at `\$((?:\.\w+|\[\d+\])*)`")


class CommandForm(msgspec.Struct, frozen=True):
    """A command by its name: what it is, and the JSON schema of its content."""

    name: str
    words: str
    schema: dict[str, Any]


class CommandList(msgspec.Struct, frozen=True):
    """The commands that something decides on here."""

    commands: list[CommandForm]


async def read_commands(call: ApiCall[NoParameters]) -> Response:
    """The commands that can be sent, with their JSON schemas."""
    bus = call.hosting.governance.commands
    known = {} if bus is None else bus.decisions.classes
    forms = [
        CommandForm(name, inspect.cleandoc(kind.__doc__ or ""), msgspec.json.schema(kind))
        for name, kind in sorted(known.items())
    ]
    return json_answer(CommandList(forms))


class CommandDone(msgspec.Struct, frozen=True):
    """The events that were decided on; no receipt where nothing needed to happen."""

    events: list[NewEventForm]
    receipt: ReceiptForm | None


async def send_command(call: ApiCall[NoParameters]) -> Response:
    """Send a command: its content is the body.

    With an ``Idempotency-Key``, a UUID, it takes effect once, however often it is sent. A refusal
    is 409, with the ``refusal`` by name and its ``fields``; content that breaks a rule is 422.
    """
    bus, name = call.hosting.governance.commands, call.segment("name")
    known = {} if bus is None else bus.decisions.classes
    if bus is None or name not in known:
        raise ProblemError(UNKNOWN, f"there is no command {name!r}; there are: {', '.join(known)}")
    try:
        command = bus.decisions.restored(RecordedCommand(name, await call.json()))
        result = await bus.send(
            command,
            command_id=key_of(call),
            metadata=CommitMetadata(user_id=call.by.name),
        )
    except InvalidCommandError as error:
        place = _PLACE.search(str(error))
        pointer = "" if place is None else _pointer(place[1])
        raise ProblemError(INVALID, str(error), pointer=pointer) from error
    except Refusal as error:
        raise ProblemError(
            REFUSED,
            str(error) or type(error).__name__,
            refusal=type(error).__name__,
            fields=_fields(error),
        ) from error
    types = bus.store.event_types
    receipt = None if result.receipt is None else receipt_form(result.receipt)
    events = [new_event_form(event, types) for event in result.events]
    is_new = receipt is not None and not result.repeated
    return json_answer(CommandDone(events, receipt), 201 if is_new else 200)


def _pointer(place: str) -> str:
    """Msgspec's path as a JSON pointer (RFC 6901)."""
    return "".join(f"/{part}" for part in re.findall(r"\w+", place))


def _fields(refusal: Refusal) -> Any:
    """What a refusal knows, as far as JSON has words for it."""
    try:
        found = plain(vars(refusal))
        encode_json(found)
    except Exception:  # noqa: BLE001 (an application's own values)
        return {}
    return found


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/commands",
        handle=read_commands,
        scope="read",
        answers={200: CommandList},
        of_branch=False,
    ),
    Endpoint(
        method="POST",
        path="/commands/{name}",
        handle=send_command,
        scope="append",
        headers={"Idempotency-Key": "A UUID, the command's id: repeating it changes nothing."},
        body=dict[str, Any],
        answers={200: CommandDone, 201: CommandDone},
        problems=(REFUSED, INVALID, FORBIDDEN),
        of_branch=False,
    ),
)
