"""From requests to a session, and back: the adapter, without a wire.

An event is a line of a source, the call stack is the chain of its causes, and the scopes are the
state, what the event changed, the event, and its metadata.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.dap import messages, sources
from everwhen.dap.messages import LaunchArguments, Request
from everwhen.dap.variables import Changes, Handles, Later, VariableNode
from everwhen.debugging import (
    Breakpoint,
    EventTrigger,
    InterruptedSearchError,
    Session,
    Stop,
    Trigger,
    break_of,
    watch_of,
)
from everwhen.debugging.command_parsing import condition_of
from everwhen.expressions.expression import Expression
from everwhen.state.paths import text_of
from everwhen.vocabulary.errors import ExpressionError, InvalidQueryError
from everwhen.vocabulary.moments import Moment

A = TypeVar("A", bound=messages.Arguments)

Opener: TypeAlias = Callable[[LaunchArguments], AbstractContextManager[tuple[Session, Moment]]]
"""Opens what is to be debugged, as a context manager: the session, and where it begins."""
Send: TypeAlias = Callable[[dict[str, Any]], None]

_THREAD_ID: Final = 1
"""The protocol wants a thread: history has one."""

_MAX_FRAMES: Final = 100
"""Causes of an event that are sent at once, as a call stack; a client asks for more."""

_CAPABILITIES: Final[dict[str, Any]] = {
    "supportsConfigurationDoneRequest": True,
    "supportsFunctionBreakpoints": True,
    "supportsConditionalBreakpoints": True,
    "supportsEvaluateForHovers": True,
    "supportsStepBack": True,
    "supportsGotoTargetsRequest": True,
    "supportsExceptionInfoRequest": True,
    "supportsExceptionFilterOptions": True,
    "supportsLogPoints": True,
    "supportsDataBreakpoints": True,
    "supportsTerminateRequest": True,
    "supportsCancelRequest": True,
    "supportsDelayedStackTraceLoading": True,
    "exceptionBreakpointFilters": [
        {
            "filter": "fold",
            "label": "The fold raises",
            "description": "Stops at an event that the fold can't take. Nothing goes on past it.",
            "default": True,
        },
        {
            "filter": "invariant",
            "label": "An invariant is broken",
            "description": "Stops where the condition stops being true.",
            "supportsCondition": True,
            "conditionDescription": "A condition that is always true, such as total >= 0",
        },
    ],
}


class RefusedRequestError(Exception):
    """A request that can't be answered, and why."""


class Adapter:
    """Answers requests, one after another, by calling ``send`` with responses and events.

    `interrupt` may be called from any thread meanwhile. Whatever a client sends, the answer is a
    response; only `disconnect` and `terminate` make it ``is_over``.
    """

    def __init__(self, opener: Opener, send: Send) -> None:
        self.is_over = False
        self._opener = opener
        self._send = send
        self._sent = 0
        self._stack = ExitStack()
        self._session: Session | None = None
        self._begin: Moment = 0
        self._handles = Handles()
        self._frames: list[RecordedEvent[Any] | str] | None = None
        self._set: dict[str, list[Breakpoint]] = {}
        self._then: Callable[[], None] | None = None

    def interrupt(self) -> None:
        """End a search that is going on."""
        if self._session is not None:
            self._session.interrupt()

    def close(self) -> None:
        """Close what was opened."""
        self._stack.close()

    def handle(self, body: bytes) -> None:
        """Answer a message."""
        try:
            request = msgspec.json.decode(body, type=Request)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            self._respond(0, "", error=f"this is not a request: {error}")
            return
        self._then = None
        try:
            answer = self._answer(request)
        except (RefusedRequestError, msgspec.ValidationError, RecursionError) as error:
            self._respond(request.seq, request.command, error=str(error))
        except Exception as error:  # noqa: BLE001 (a fold, a store, an expression: all are reported)
            message = str(error) or type(error).__name__
            self._respond(request.seq, request.command, error=message)
        else:
            self._respond(request.seq, request.command, answer)
            self._after()

    def refuse(self, why: str) -> None:
        """Tell the client that what it sent is not a message of the protocol."""
        self._event("output", {"category": "stderr", "output": f"everwhen: {why}\n"})

    def _after(self) -> None:
        """Do what follows the response, such as a movement."""
        then, self._then = self._then, None
        if then is None:
            return
        try:
            then()
        except InterruptedSearchError:
            self._stopped("pause", "interrupted")
        except Exception as error:  # noqa: BLE001 (the response is given; this is what is left)
            self._event("output", {"category": "stderr", "output": f"{error}\n"})
            self._stopped("pause", str(error))

    def _answer(self, request: Request) -> dict[str, Any] | None:
        handler = _HANDLERS.get(request.command)
        if handler is None:
            raise RefusedRequestError(f"there is no command {request.command[:100]!r} here")
        arguments_type, function = handler
        given = {} if request.arguments is None else request.arguments
        return function(self, msgspec.convert(given, arguments_type))

    def _respond(
        self,
        seq: int,
        command: str,
        body: dict[str, Any] | None = None,
        *,
        error: str | None = None,
    ) -> None:
        message: dict[str, Any] = {
            "type": "response",
            "request_seq": seq,
            "command": command,
            "success": error is None,
        }
        if error is not None:
            message["message"] = error
            shown = {
                "id": 1,
                "format": "{message}",
                "variables": {"message": error},
                "showUser": True,
            }
            message["body"] = {"error": shown}
        elif body is not None:
            message["body"] = body
        self._number(message)

    def _event(self, name: str, body: dict[str, Any] | None = None) -> None:
        self._number({"type": "event", "event": name, "body": body or {}})

    def _number(self, message: dict[str, Any]) -> None:
        self._sent += 1
        self._send({"seq": self._sent, **message})

    @property
    def _open(self) -> Session:
        if self._session is None:
            raise RefusedRequestError("no store is open yet; send launch first")
        return self._session

    # Beginning and end

    def _initialize(self, _: messages.Arguments) -> dict[str, Any]:
        return _CAPABILITIES

    def _launch(self, arguments: LaunchArguments) -> None:
        if self._session is not None:
            raise RefusedRequestError("a store is already being debugged; end that session first")
        self._session, self._begin = self._stack.enter_context(self._opener(arguments))
        self._then = lambda: self._event("initialized")

    def _configured(self, _: messages.Arguments) -> None:
        session, begin = self._open, self._begin
        self._then = lambda: self._arrived(session.start(begin))

    def _end(self, _: messages.Arguments) -> None:
        self.is_over = True
        self._then = lambda: self._event("terminated")

    def _nothing(self, _: messages.Arguments) -> None:
        if self._session is not None:
            self._session.forget_interrupt()

    # Movements

    def _move(self, movement: Callable[[Session], Stop]) -> None:
        session = self._open
        self._then = lambda: self._arrived(movement(session))

    def _step(self, _: messages.Arguments) -> None:
        self._move(Session.step)

    def _back(self, _: messages.Arguments) -> None:
        self._move(Session.back)

    def _continue(self, _: messages.Arguments) -> dict[str, Any]:
        self._move(Session.resume)
        return {"allThreadsContinued": True}

    def _reverse(self, _: messages.Arguments) -> None:
        self._move(Session.reverse)

    def _goto(self, arguments: messages.Goto) -> None:
        if arguments.target_id > self._open.head:
            raise RefusedRequestError(f"there is no position {arguments.target_id}")
        self._move(lambda session: session.goto(arguments.target_id))

    def _goto_targets(self, arguments: messages.GotoTargets) -> dict[str, Any]:
        position = sources.position_of(_reference(arguments.source), arguments.line)
        if not 0 < position <= self._open.head:
            return {"targets": []}
        label = f"position {position:,}"
        return {"targets": [{"id": position, "label": label, "line": arguments.line}]}

    def _arrived(self, stop: Stop) -> None:
        for line in stop.logs:
            place = self._placed(line.position)
            body = {"category": "console", "output": f"{line.position}  {line.text}\n"}
            self._event("output", body | place)
        self._stopped(*self._reason(stop), [one.number for one in stop.hits])

    def _reason(self, stop: Stop) -> tuple[str, str]:
        if stop.error is not None:
            return "exception", f"the fold raised {type(stop.error).__name__}: {stop.error}"
        for group, reason in (
            ("exception", "exception"),
            ("data", "data breakpoint"),
            ("function", "function breakpoint"),
        ):
            hits = [one for one in stop.hits if one in self._set.get(group, ())]
            if hits:
                return reason, "; ".join(map(str, hits))
        reasons = {"end": "the newest event", "start": "before the first event"}
        if stop.reason in reasons:
            return "pause", reasons[stop.reason]
        return stop.reason, "; ".join(map(str, stop.hits))

    def _stopped(self, reason: str, text: str, hits: list[int] | None = None) -> None:
        self._handles.clear()
        self._frames = None
        body: dict[str, Any] = {"reason": reason, "threadId": _THREAD_ID, "allThreadsStopped": True}
        if text:
            body["description"] = body["text"] = text
        if hits:
            body["hitBreakpointIds"] = hits
        self._event("stopped", body)

    # Breakpoints

    def _set_breakpoints(self, arguments: messages.SetBreakpoints) -> dict[str, Any]:
        reference = _reference(arguments.source)
        wanted = arguments.breakpoints

        def trigger(index: int) -> Trigger:
            one = wanted[index]
            return self._on_line(sources.position_of(reference, one.line), one)

        texts = [one.log_message or None for one in wanted]
        found = self._replace(f"line {reference}", len(wanted), trigger, texts)
        for answer, one in zip(found, wanted, strict=True):
            answer["line"] = one.line
        return {"breakpoints": found}

    def _on_line(self, position: int, asked: messages.SourceBreakpoint) -> Trigger:
        """A line alone stands for its event; with a condition or message for all of its type."""
        session = self._open
        query = session.machine.of.after(max(0, position - 1)).up_to(position)
        event = next(iter(session.store.read(query)), None)
        if event is None:
            raise InvalidQueryError(f"this history has no event at position {position}")
        if not asked.condition and not asked.log_message:
            return EventTrigger(position=position)
        condition = Expression(asked.condition) if asked.condition else None
        return EventTrigger(types=frozenset({event.type}), condition=condition)

    def _set_functions(self, arguments: messages.SetFunctionBreakpoints) -> dict[str, Any]:
        wanted = arguments.breakpoints

        def trigger(index: int) -> Trigger:
            one = wanted[index]
            text = f"{one.name} if {one.condition}" if one.condition else one.name
            return break_of(text, self._open.machine)

        return {"breakpoints": self._replace("function", len(wanted), trigger)}

    def _set_data(self, arguments: messages.SetDataBreakpoints) -> dict[str, Any]:
        wanted = arguments.breakpoints
        found = self._replace("data", len(wanted), lambda index: watch_of(wanted[index].data_id))
        return {"breakpoints": found}

    def _data_info(self, arguments: messages.DataBreakpointInfo) -> dict[str, Any]:
        text = arguments.name
        if arguments.variables_reference:
            item = self._handles.get(arguments.variables_reference)
            if not isinstance(item, VariableNode) or item.path is None:
                return {"dataId": None, "description": "only parts of the state can be watched"}
            inside = text_of(item.path)
            text = f"{inside}{'' if text.startswith('[') or not inside else '.'}{text}"
        try:
            trigger = watch_of(text)
        except ExpressionError as error:
            return {"dataId": None, "description": str(error).partition("\n")[0]}
        unknown = self._unknown(trigger)
        if unknown is not None:
            return {"dataId": None, "description": unknown}
        known = {"accessTypes": ["write"], "canPersist": True}
        return {"dataId": text, "description": str(trigger), **known}

    def _set_exceptions(self, arguments: messages.SetExceptionBreakpoints) -> dict[str, Any]:
        options = [messages.FilterOption(name) for name in arguments.filters]
        options += arguments.filter_options

        def trigger(index: int) -> Trigger:
            option = options[index]
            if option.filter_id != "invariant":
                raise InvalidQueryError(f"there is no filter {option.filter_id!r}")
            if not option.condition:
                raise InvalidQueryError(
                    "the filter has no condition; give one that is always true, such as total >= 0"
                )
            return condition_of(Expression(option.condition), self._open.machine, holds=False)

        is_fold = [option.filter_id == "fold" for option in options]
        options = [option for option in options if option.filter_id != "fold"]
        answers = iter(self._replace("exception", len(options), trigger))
        return {"breakpoints": [{"verified": True} if one else next(answers) for one in is_fold]}

    def _unknown(self, trigger: Trigger) -> str | None:
        """What a trigger names that never was; None also where nobody waited to find out."""
        try:
            unknown = self._open.unknown(trigger)
        except InterruptedSearchError:
            return None
        return str(unknown[0]) if unknown else None

    def _replace(
        self,
        group: str,
        count: int,
        trigger: Callable[[int], Trigger],
        texts: list[str | None] | None = None,
    ) -> list[dict[str, Any]]:
        """Replace a group's breakpoints. Returns what the protocol wants of each."""
        breakpoints = self._open.breakpoints
        for old in self._set.pop(group, ()):
            breakpoints.delete(old.number)
        answers: list[dict[str, Any]] = []
        added = self._set[group] = []
        for index in range(count):
            try:
                one = breakpoints.add(trigger(index), texts[index] if texts else None)
            except (InvalidQueryError, ExpressionError) as error:
                answers.append({"verified": False, "message": str(error).partition("\n")[0]})
            else:
                added.append(one)
                unknown = self._unknown(one.trigger)
                answer = {"id": one.number, "verified": unknown is None}
                answers.append(answer | {"message": unknown or str(one)})
        return answers

    # Looking

    def _threads(self, _: messages.Arguments) -> dict[str, Any]:
        name = self._session.store.name if self._session is not None else "history"
        return {"threads": [{"id": _THREAD_ID, "name": name}]}

    def _stack_trace(self, arguments: messages.StackTrace) -> dict[str, Any]:
        frames = self._causes()
        start = arguments.start_frame
        stop = start + min(arguments.levels or _MAX_FRAMES, _MAX_FRAMES)
        shown = [self._frame(i, frames[i]) for i in range(start, min(stop, len(frames)))]
        return {"stackFrames": shown, "totalFrames": len(frames)}

    def _causes(self) -> list[RecordedEvent[Any] | str]:
        """The event here, and the chain of its causes; a text for what isn't in the store."""
        if self._frames is None:
            explanation = self._open.explain()
            if explanation is None:
                self._frames = ["before the first event"]
            else:
                causes = [one.event or f"{one.id} (not here)" for one in explanation.causes]
                self._frames = [explanation.event, *causes]
        return self._frames

    def _frame(self, index: int, what: RecordedEvent[Any] | str) -> dict[str, Any]:
        if isinstance(what, str):
            return {
                "id": index + 1,
                "name": what,
                "line": 0,
                "column": 0,
                "presentationHint": "subtle" if index else "label",
            }
        name = f"{what.type}  {what.stream}@{what.version}"
        return {"id": index + 1, "name": name, "column": 1, **self._placed(what.position)}

    def _placed(self, position: int) -> dict[str, Any]:
        _, line = sources.place_of(position)
        return {"source": sources.source_of(self._open.store, position), "line": line}

    def _source(self, arguments: messages.SourceArguments) -> dict[str, Any]:
        reference = arguments.source_reference
        if arguments.source is not None and arguments.source.source_reference:
            reference = arguments.source.source_reference
        session = self._open
        if not 0 < reference <= sources.place_of(session.head)[0]:
            raise RefusedRequestError(f"there is no source {reference}")
        text = sources.text_of(session.store, session.machine.of, reference)
        return {"content": text, "mimeType": "text/x-everwhen"}

    def _scopes(self, arguments: messages.OfFrame) -> dict[str, Any]:
        frames = self._causes()
        if not 0 < arguments.frame_id <= len(frames):
            raise RefusedRequestError(f"there is no frame {arguments.frame_id}")
        event = frames[arguments.frame_id - 1]
        scopes = [self._scope("State", lambda: self._state_of(event, arguments.frame_id))]
        if not isinstance(event, str):
            scopes += [
                self._scope("Diff", lambda: self._changes_of(event)),
                self._scope("Event", lambda: VariableNode(event.data)),
                self._scope("Metadata", lambda: VariableNode(_metadata(event))),
            ]
        return {"scopes": scopes}

    def _scope(self, name: str, find: Callable[[], VariableNode | Changes]) -> dict[str, Any]:
        reference = self._handles.add(Later(find))
        return {"name": name, "variablesReference": reference, "expensive": False}

    def _state_of(self, event: RecordedEvent[Any] | str, frame_id: int) -> VariableNode:
        session = self._open
        if frame_id == 1 or isinstance(event, str):
            return VariableNode(session.state, ())
        return VariableNode(session.machine.travel_to(event.position).state)

    def _changes_of(self, event: RecordedEvent[Any]) -> Changes:
        session = self._open
        query = session.machine.of.after(event.position - 1).up_to(event.position)
        if next(iter(session.store.read(query)), None) is None:
            return Changes(())  # a cause that this history doesn't have
        if session.error is not None and event.position == session.position:
            return Changes(())
        return Changes(session.machine.step_at(event.position).changes)

    def _variables(self, arguments: messages.VariablesArguments) -> dict[str, Any]:
        reference, start, count = arguments.variables_reference, arguments.start, arguments.count
        found = self._handles.parts(reference, start, count)
        if found is None:
            raise RefusedRequestError(f"there is no variable {reference} here any more")
        return {"variables": found}

    def _evaluate(self, arguments: messages.Evaluate) -> dict[str, Any]:
        value = self._open.evaluate(arguments.expression)
        shown = self._handles.shown("", value, None)
        return {"result": shown.pop("value"), **{k: v for k, v in shown.items() if k != "name"}}

    def _exception(self, _: messages.Arguments) -> dict[str, Any]:
        error = self._open.error
        if error is None:
            hits = "; ".join(map(str, self._set.get("exception", ())))
            return {"exceptionId": "invariant", "description": hits, "breakMode": "always"}
        trace = "".join(traceback.format_exception(error))
        name = type(error).__name__
        details = {"message": str(error), "typeName": name, "stackTrace": trace}
        known = {"exceptionId": name, "description": str(error), "breakMode": "always"}
        return known | {"details": details}


def _reference(source: messages.SourcePage) -> int:
    if not source.source_reference:
        raise RefusedRequestError("this is not a source; only pages of events are")
    return source.source_reference


def _metadata(event: RecordedEvent[Any]) -> dict[str, Any]:
    known = msgspec.structs.asdict(event.metadata)
    return {
        "position": event.position,
        "stream": event.stream,
        "version": event.version,
        "type": event.type,
        "recorded_at": event.recorded_at,
        "tags": event.tags,
        **{name: value for name, value in known.items() if value is not None},
    }


_Handler: TypeAlias = tuple[type[Any], Callable[[Adapter, Any], dict[str, Any] | None]]
_HANDLERS: Final[dict[str, _Handler]] = {
    "initialize": (messages.Arguments, Adapter._initialize),
    "launch": (LaunchArguments, Adapter._launch),
    "attach": (LaunchArguments, Adapter._launch),
    "configurationDone": (messages.Arguments, Adapter._configured),
    "disconnect": (messages.Arguments, Adapter._end),
    "terminate": (messages.Arguments, Adapter._end),
    "pause": (messages.Arguments, Adapter._nothing),
    "cancel": (messages.Arguments, Adapter._nothing),
    "threads": (messages.Arguments, Adapter._threads),
    "next": (messages.Arguments, Adapter._step),
    "stepIn": (messages.Arguments, Adapter._step),
    "stepOut": (messages.Arguments, Adapter._step),
    "stepBack": (messages.Arguments, Adapter._back),
    "continue": (messages.Arguments, Adapter._continue),
    "reverseContinue": (messages.Arguments, Adapter._reverse),
    "gotoTargets": (messages.GotoTargets, Adapter._goto_targets),
    "goto": (messages.Goto, Adapter._goto),
    "setBreakpoints": (messages.SetBreakpoints, Adapter._set_breakpoints),
    "setFunctionBreakpoints": (messages.SetFunctionBreakpoints, Adapter._set_functions),
    "setDataBreakpoints": (messages.SetDataBreakpoints, Adapter._set_data),
    "dataBreakpointInfo": (messages.DataBreakpointInfo, Adapter._data_info),
    "setExceptionBreakpoints": (messages.SetExceptionBreakpoints, Adapter._set_exceptions),
    "exceptionInfo": (messages.Arguments, Adapter._exception),
    "stackTrace": (messages.StackTrace, Adapter._stack_trace),
    "source": (messages.SourceArguments, Adapter._source),
    "scopes": (messages.OfFrame, Adapter._scopes),
    "variables": (messages.VariablesArguments, Adapter._variables),
    "evaluate": (messages.Evaluate, Adapter._evaluate),
}
