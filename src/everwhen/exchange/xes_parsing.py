"""IEEE XES to records, streaming: memory is bound to the size of one event, not of the file.

What an XML file can be made of to hurt its reader is refused: document type declarations (and
with them entities), deep nesting, endless tokens.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC
from typing import Any, Final
from xml.parsers import expat

from everwhen.codec import encode_json
from everwhen.contract import MAX_NAME_BYTES
from everwhen.exchange.errors import DamagedInputError
from everwhen.exchange.moments import micros_of
from everwhen.exchange.records import UNTIMED, Invalid, Record
from everwhen.exchange.xes_values import (
    GROUPS,
    HEADS,
    LEAVES,
    NAME,
    TIME,
    Node,
    XesValueError,
    attributes_of,
)

LOG_TYPE: Final = "XesLog"
TRACE_TYPE: Final = "XesTrace"
EVENT_TYPE: Final = "event"

_MAX_DEPTH: Final = 100
_MAX_TOKEN: Final = 20 << 20
_MAX_ELEMENT: Final = 15 << 20
_NODE_COST: Final = 64
_FED: Final = 1 << 16
_REMEMBERED: Final = 1_000_000
_ATTRIBUTES: Final = LEAVES | GROUPS
_REFUSED: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def records_of(chunks: Iterator[bytes], category: str) -> Iterator[Record | Invalid]:
    """The log's records in document order: each event, and each trace's and the log's own."""
    parsing = _Parsing(category)
    for chunk in chunks:
        for start in range(0, len(chunk), _FED):
            parsing.feed(chunk[start : start + _FED])
            yield from parsing.out
            parsing.out.clear()
    parsing.feed(b"", end=True)
    yield from parsing.out


def stored_name(text: str) -> str:
    """The text as a stream or type name: changed only where a store would refuse it."""
    name = _REFUSED.sub("_", text)
    if name != text or len(name.encode(errors="replace")) > MAX_NAME_BYTES // 2:
        mark = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]
        short = name.encode(errors="replace")[: MAX_NAME_BYTES // 2].decode(errors="ignore")
        return f"{short}~{mark}"
    return name


class _Element:
    """A log, trace or event under construction."""

    __slots__ = ("events", "fault", "line", "nodes", "ordinal", "size")

    def __init__(self, line: int, ordinal: int) -> None:
        self.line = line
        self.ordinal = ordinal
        self.nodes: list[Node] = []
        self.fault: str | None = None
        self.size = 0
        self.events = 0


class _Trace(_Element):
    """A trace under construction."""

    __slots__ = ("earliest", "latest", "name", "number", "stream")

    def __init__(self, line: int, ordinal: int, number: int) -> None:
        super().__init__(line, ordinal)
        self.number = number
        self.name: str | None = None
        self.stream: str | None = None
        self.latest = self.earliest = UNTIMED


class _Parsing:
    """What the parser calls, and what comes out of it."""

    def __init__(self, category: str) -> None:
        self.out: list[Record | Invalid] = []
        self._category = category
        self._fed = 0
        self._open: list[Node | _Element] = []
        self._log: _Element | None = None
        self._trace: _Trace | None = None
        self._event: _Element | None = None
        self._root: dict[str, str] = {}
        self._ordinal = 1  # 0 is the log's
        self._traces = 0
        self._names: set[int] = set()
        parser = expat.ParserCreate()
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        self._parser = parser

    def feed(self, text: bytes, *, end: bool = False) -> None:
        """Parse more. Raises `DamagedInputError` for what is no XML, or is hostile."""
        self._fed += len(text)
        try:
            self._parser.Parse(text, end)
        except expat.ExpatError as error:
            what = expat.errors.messages.get(error.code, "syntax error")
            raise DamagedInputError(
                f"this is no well-formed XML: {what} at column {error.offset + 1}; mend the file",
                error.lineno,
            ) from error
        except (ValueError, LookupError) as error:  # an encoding that expat doesn't know
            raise DamagedInputError(
                f"the file can't be decoded ({error}); convert it to UTF-8",
                self._parser.CurrentLineNumber,
            ) from error
        if self._fed - self._parser.CurrentByteIndex > _MAX_TOKEN and not end:
            raise DamagedInputError(
                f"a single tag or text goes on for more than {_MAX_TOKEN >> 20} MiB; mend the file",
                self._parser.CurrentLineNumber,
            )

    def _doctype(self, *_: object) -> None:
        raise DamagedInputError(
            "document type declarations are refused, for they can be used to attack readers; XES "
            "needs none: remove it",
            self._parser.CurrentLineNumber,
        )

    def _start(self, given: str, attributes: dict[str, str]) -> None:
        tag = given.rpartition(":")[2] if ":" in given else given
        opened = self._open
        if tag in _ATTRIBUTES and opened:
            parent = opened[-1]
            node: Node = [tag, attributes.get("key"), attributes.get("value")]
            if tag in GROUPS:
                node[2] = None
            element = self._event or self._trace or self._log
            if element is not None:
                self._attach(node, parent, element)
            opened.append(node)
        else:
            self._start_element(tag, attributes)
        if len(opened) > _MAX_DEPTH:
            raise DamagedInputError(
                f"elements are nested more than {_MAX_DEPTH} deep; mend the file",
                self._parser.CurrentLineNumber,
            )

    def _attach(self, node: Node, parent: Node | _Element, element: _Element) -> None:
        tag, key, value = node
        element.size += _NODE_COST + len(key or "") + len(value or "")
        if element.size > _MAX_ELEMENT:
            element.nodes.clear()
            self._fault("its attributes are larger than a store takes; shorten them")
            return
        if key is None:
            self._fault(f"a <{tag}> attribute has no key; add one")
            return
        if value is None and tag in LEAVES:
            self._fault(f"the attribute {key!r} has no value; add one, or remove it")
            return
        if isinstance(parent, _Element):
            parent.nodes.append(node)
            if isinstance(parent, _Trace) and key == NAME and tag == "string" and not parent.events:
                parent.name = value
        elif len(parent) > 3:
            parent[3].append(node)
        else:
            parent.append([node])

    def _start_element(self, tag: str, attributes: dict[str, str]) -> None:
        opened = self._open
        parent = opened[-1] if opened else None
        line = self._parser.CurrentLineNumber
        if tag == "event" and (parent is self._log or parent is self._trace) and parent is not None:
            self._event = _Element(line, self._next())
            opened.append(self._event)
        elif tag == "trace" and parent is self._log and parent is not None:
            self._traces += 1
            self._trace = _Trace(line, self._next(), self._traces)
            opened.append(self._trace)
        elif tag == "log" and parent is None and self._log is None:
            self._root = dict(attributes)
            self._log = _Element(line, 0)
            opened.append(self._log)
        elif tag == "values" and isinstance(parent, list) and parent[0] == "list":
            element = self._event or self._trace or self._log
            if element is not None:
                element.size += _NODE_COST
                if element.size > _MAX_ELEMENT:
                    raise DamagedInputError("the lists of an element are too large", line)
            self._nest(["values", None, None, []], parent)
        elif tag in HEADS and parent is self._log and self._log is not None:
            node: Node = [tag, attributes, None, []]
            self._log.nodes.append(node)
            self._log.size += _NODE_COST + sum(len(k) + len(v) for k, v in attributes.items())
            if self._log.size > _MAX_ELEMENT:
                raise DamagedInputError("the log's header is too large; shorten it", line)
            opened.append(node)
        elif self._log is None:
            raise DamagedInputError(
                f"the file begins with <{tag}> and not with <log>; is it an XES log?", line
            )
        else:
            self._fault(f"<{tag}> doesn't belong here; remove it")
            opened.append([tag, tag, None, []])

    def _nest(self, node: Node, parent: Node) -> None:
        if len(parent) > 3:
            parent[3].append(node)
        else:
            parent.append([node])
        self._open.append(node)

    def _next(self) -> int:
        ordinal = self._ordinal
        self._ordinal += 1
        return ordinal

    def _fault(self, reason: str) -> None:
        element = self._event or self._trace or self._log
        if element is not None and element.fault is None:
            element.fault = reason
            element.line = self._parser.CurrentLineNumber

    def _end(self, _: str) -> None:
        closed = self._open.pop()
        if isinstance(closed, _Element):
            try:
                if closed is self._event:
                    self._event = None
                    self._end_event(closed)
                elif closed is self._trace:
                    trace, self._trace = self._trace, None
                    self._end_trace(trace)
                else:
                    self._end_log(closed)
            except (XesValueError, UnicodeEncodeError) as error:
                self.out.append(Invalid(closed.line, str(error)))

    def _end_event(self, event: _Element) -> None:
        trace = self._trace
        index = 0
        if trace is not None:
            index = trace.events
            trace.events += 1
        if event.fault is not None:
            self.out.append(Invalid(event.line, f"event: {event.fault}"))
            return
        data, notes = attributes_of(event.nodes)
        text, name = data.get(TIME), data.get(NAME)
        if not isinstance(text, str):
            self.out.append(
                Invalid(event.line, f"the event has no {TIME}; add one, or leave the event out")
            )
            return
        try:
            time = micros_of(text, UTC)
        except ValueError as error:
            raise XesValueError(f"{TIME!r}: {error}; mend the value") from error
        if trace is None:
            stream = f"{self._category}-events"
            notes["trace"] = 0
        else:
            stream = self._stream_of(trace)
            if self._note_order(trace, time):
                notes["index"] = index
            if trace.number < 0:
                notes["trace"] = -trace.number
        self.out.append(
            Record(
                time,
                event.ordinal,
                event.line,
                stream,
                stored_name(name) if isinstance(name, str) and name else EVENT_TYPE,
                encode_json(data),
                extras=encode_json({"xes": notes}) if notes else None,
            )
        )

    @staticmethod
    def _note_order(trace: _Trace, time: int) -> bool:
        """Whether sorting by time will take the event away from its place in the trace."""
        if time < trace.latest:
            trace.earliest = min(trace.earliest, time)
            return True
        if trace.earliest == UNTIMED:
            trace.earliest = time
        trace.latest = time
        return False

    def _stream_of(self, trace: _Trace) -> str:
        if trace.stream is None:
            trace.stream = f"{self._category}-{stored_name(trace.name or str(trace.number))}"
            key = hash(trace.stream)
            if key in self._names or len(self._names) >= _REMEMBERED:
                trace.number = -trace.number  # another trace has this name: tell them apart
            else:
                self._names.add(key)
        return trace.stream

    def _end_trace(self, trace: _Trace) -> None:
        stream = self._stream_of(trace)
        if trace.fault is not None:
            self.out.append(Invalid(trace.line, f"trace: {trace.fault}"))
            return
        data, notes = attributes_of(trace.nodes, "case:")
        notes["trace"] = abs(trace.number)
        self.out.append(
            Record(
                trace.earliest,
                trace.ordinal,
                trace.line,
                stream,
                TRACE_TYPE,
                encode_json(data),
                extras=encode_json({"xes": notes}),
            )
        )

    def _end_log(self, log: _Element) -> None:
        if log.fault is not None or log.size > _MAX_ELEMENT:
            self.out.append(Invalid(log.line, f"log: {log.fault or 'its header is too large'}"))
            return
        attributes, _ = attributes_of([node for node in log.nodes if node[0] not in HEADS])
        data: dict[str, Any] = {
            "category": self._category,
            "attributes": attributes,
            "extensions": [node[1] for node in log.nodes if node[0] == "extension"],
            "globals": [
                {**node[1], "attributes": attributes_of(node[3])[0]}
                for node in log.nodes
                if node[0] == "global"
            ],
            "classifiers": [node[1] for node in log.nodes if node[0] == "classifier"],
        }
        notes = {"log": self._root, "nodes": log.nodes}
        self.out.append(
            Record(
                UNTIMED,
                0,
                log.line,
                stored_name(f"log-{self._category}"),
                LOG_TYPE,
                encode_json(data),
                extras=encode_json({"xes": notes}),
            )
        )
