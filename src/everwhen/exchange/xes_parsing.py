"""IEEE XES to records, streaming: memory is bound to the size of one event, not of the file.

What an XML file can be made of to hurt its reader is refused: document type declarations (and
with them entities), deep nesting, endless tokens. What merely breaks the standard is passed over
and counted; an event or a trace is left out only where that was asked for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final
from xml.parsers import expat

from everwhen.codec.json_encoding import encode_json
from everwhen.exchange.errors import DamagedInputError
from everwhen.exchange.log_times import Untimed, time_of
from everwhen.exchange.notices import Notice, Notices
from everwhen.exchange.records import UNTIMED, ForeignEvent, Invalid
from everwhen.exchange.row_digests import row_of
from everwhen.exchange.xes_values import (
    HEADS,
    LEAVES,
    NAME,
    TIME,
    XES_GROUPS,
    XesNode,
    attributes_of,
    noted,
)
from everwhen.vocabulary.contract import MAX_DEPTH, MAX_NAME_BYTES

LOG_TYPE: Final = "XesLog"
TRACE_TYPE: Final = "XesTrace"
EVENT_TYPE: Final = "event"
OURS: Final = "~"
"""What names that aren't the file's begin with: no trace of its own has such a one."""

LOOSE: Final = f"{OURS}events"
"""Stands for the name of a trace with the events that are in none."""

_MAX_DEPTH: Final = 2 * MAX_DEPTH + 10
"""Of open elements: a level of an event's data takes at most two, and the event lies in others."""

_MAX_TOKEN_BYTES: Final = 20 << 20
"""The parser holds a tag or text in memory until it ends; this is more than any event's."""

_MAX_ELEMENT_BYTES: Final = 15 << 20
"""Of an element with all that it contains, in memory; a larger one is left out."""

_NODE_BYTES: Final = 64
"""What an element takes in memory beside its texts, about."""

_FED_BYTES: Final = 1 << 16
"""Given to the parser at once: it gives its events back only between such parts."""

_REMEMBERED_NAMES: Final = 1_000_000
"""Traces' names that are kept in memory to tell traces of one name apart."""

_ATTRIBUTES: Final = LEAVES | XES_GROUPS
_PASSED_OVER: Final[XesNode] = ["", None, None]
"""Stands for an open element that is left out, with all that is in it."""

_EVENTS: Final = frozenset({"log", "trace", "event"})
_NAMELESS: Final = "traces without a name before their events, each imported as its own case"
_SAME_NAME: Final = "traces with the name of an earlier trace, added to its case"
_ZONELESS: Final = "times without a zone, read as UTC"
_REFUSED: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def records_of(
    chunks: Iterator[bytes], category: str, time: datetime | None = None
) -> Iterator[ForeignEvent | Invalid | Notice]:
    """The log's records in document order: each event, and each trace's and the log's own.

    ``time`` is for events without one.
    """
    parsing = _Parsing(category, time)
    for chunk in chunks:
        for start in range(0, len(chunk), _FED_BYTES):
            parsing.feed(chunk[start : start + _FED_BYTES])
            yield from parsing.out
            parsing.out.clear()
    parsing.feed(b"", end=True)
    yield from parsing.out
    yield from parsing.notices()


def stored_name(text: str) -> str:
    """The text as a stream or type name: changed only where a store would refuse it."""
    name = _REFUSED.sub("_", text)
    if name != text or len(name.encode(errors="replace")) > MAX_NAME_BYTES // 2:
        return marked(name, text)
    return name


def marked(name: str, text: str) -> str:
    """The name, cut and with a mark of the text that it stands for."""
    mark = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]
    short = name.encode(errors="replace")[: MAX_NAME_BYTES // 2].decode(errors="ignore")
    return f"{short}~{mark}"


class _Element:
    """A log, trace or event under construction."""

    __slots__ = ("events", "fault", "line", "nodes", "ordinal", "size")

    def __init__(self, line: int, ordinal: int) -> None:
        self.line = line
        self.ordinal = ordinal
        self.nodes: list[XesNode] = []
        self.fault: str | None = None
        self.size = 0
        self.events = 0

    def grow(self, cost: int, why: str, line: int) -> None:
        """Count what is held of it. Raises `DamagedInputError` where that is too much."""
        self.size += cost
        if self.size > _MAX_ELEMENT_BYTES:
            raise DamagedInputError(why, line)


class _Trace(_Element):
    """A trace under construction."""

    __slots__ = ("earliest", "latest", "name", "number", "stream")

    def __init__(self, line: int, ordinal: int, number: int) -> None:
        super().__init__(line, ordinal)
        self.number = number
        self.name: str | None = None
        self.stream: str | None = None
        self.latest = UNTIMED
        self.earliest: int | None = None


class _Parsing:
    """What the parser calls, and what comes out of it."""

    def __init__(self, category: str, time: datetime | None) -> None:
        self.out: list[ForeignEvent | Invalid] = []
        self._category = category
        self._untimed = Untimed(time)
        self._notices = Notices()
        self._fed = 0
        self._open: list[XesNode | _Element] = []
        self._log: _Element | None = None
        self._trace: _Trace | None = None
        self._event: _Element | None = None
        self._root: dict[str, str] = {}
        self._ordinal = 1  # 0 is the log's
        self._loose_before = UNTIMED
        self._traces = 0
        self._names: set[int] = set()
        parser = expat.ParserCreate()
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        self._parser = parser

    def notices(self) -> Notices:
        """The notices on the file, once it was read to its end."""
        self._untimed.tell(self._notices)
        return self._notices

    def _tell(self, what: str) -> None:
        self._notices.add(what, self._parser.CurrentLineNumber)

    def feed(self, text: bytes, *, end: bool = False) -> None:
        """Parse more. Raises `DamagedInputError` for what isn't XML, or is hostile."""
        self._fed += len(text)
        try:
            self._parser.Parse(text, end)
        except expat.ExpatError as error:
            what = expat.errors.messages.get(error.code, "syntax error")
            raise DamagedInputError(
                f"this is not well-formed XML: {what} at column {error.offset + 1}; fix the file",
                error.lineno,
            ) from error
        except (ValueError, LookupError) as error:  # an encoding that expat doesn't know
            raise DamagedInputError(
                f"the file can't be decoded ({error}); convert it to UTF-8",
                self._parser.CurrentLineNumber,
            ) from error
        if self._fed - self._parser.CurrentByteIndex > _MAX_TOKEN_BYTES and not end:
            raise DamagedInputError(
                f"a single tag or text goes on for more than {_MAX_TOKEN_BYTES >> 20} MiB; "
                "fix the file",
                self._parser.CurrentLineNumber,
            )

    def _doctype(self, *_: object) -> None:
        raise DamagedInputError(
            "document type declarations are not allowed, because they can be used to attack "
            "readers; remove it: XES needs none",
            self._parser.CurrentLineNumber,
        )

    def _start(self, given: str, attributes: dict[str, str]) -> None:
        tag = given.rpartition(":")[2] if ":" in given else given
        opened = self._open
        parent = opened[-1] if opened else None
        if parent is _PASSED_OVER and tag not in _EVENTS:
            opened.append(_PASSED_OVER)
        elif tag in _ATTRIBUTES and parent is not None:
            node: XesNode = [tag, attributes.get("key"), attributes.get("value")]
            if tag in XES_GROUPS:
                node[2] = None
            element = self._event or self._trace or self._log
            taken = element is not None and self._attach(node, parent, element)
            opened.append(node if taken else _PASSED_OVER)
        else:
            self._start_element(tag, attributes)
        if len(opened) > _MAX_DEPTH:
            raise DamagedInputError(
                f"elements are nested more than {_MAX_DEPTH} deep; fix the file",
                self._parser.CurrentLineNumber,
            )

    def _attach(self, node: XesNode, parent: XesNode | _Element, element: _Element) -> bool:
        """Add an attribute to what it belongs to; whether it was taken."""
        tag, key, value = node
        if key is None and isinstance(parent, list) and parent[0] == "values":
            key = node[1] = ""  # a list's items are named by their places
        element.size += _NODE_BYTES + len(key or "") + len(value or "")
        if element.size > _MAX_ELEMENT_BYTES:
            element.nodes.clear()
            self._fault("its attributes are too large for a store; shorten them")
            return False
        if key is None:
            self._tell("attributes without a key, left out")
            return False
        if value is None and tag in LEAVES:
            self._tell("attributes without a value, left out")
            return False
        if isinstance(parent, _Element):
            parent.nodes.append(node)
            if isinstance(parent, _Trace) and key == NAME and tag in LEAVES and not parent.events:
                parent.name = value
        elif len(parent) > 3:
            parent[3].append(node)
        else:
            parent.append([node])
        return True

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
                element.grow(_NODE_BYTES, "the lists of an element are too large", line)
            self._nest(["values", None, None, []], parent)
        elif tag in HEADS and parent is self._log and self._log is not None:
            node: XesNode = [tag, attributes, None, []]
            self._log.nodes.append(node)
            cost = _NODE_BYTES + sum(len(k) + len(v) for k, v in attributes.items())
            self._log.grow(cost, "the log's header is too large; shorten it", line)
            opened.append(node)
        elif self._log is None:
            raise DamagedInputError(
                f"the file begins with <{tag}>, expected <log>; check that it is an XES log", line
            )
        else:
            if tag in _EVENTS:
                self._fault(f"<{tag}> doesn't belong here; remove it")
            else:
                self._tell(f"<{tag[:60]}> elements that don't belong where they are, left out")
            opened.append(_PASSED_OVER)

    def _nest(self, node: XesNode, parent: XesNode) -> None:
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
            except ValueError as error:
                self.out.append(Invalid(closed.line, str(error)))

    def _attributes_of(
        self, element: _Element, nodes: list[XesNode], prefix: str = ""
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The nodes as data and notes; what isn't of its type is counted."""
        odd: list[tuple[str, str]] = []
        data, notes = attributes_of(nodes, prefix, odd)
        for key, what in odd:
            if key != TIME:  # an event's has to be one
                self._notices.add(f"{key!r} {what}", element.line)
        return data, notes

    def _end_event(self, event: _Element) -> None:
        trace = self._trace
        index = 0
        if trace is not None:
            index = trace.events
            trace.events += 1
        if event.fault is not None:
            self.out.append(Invalid(event.line, f"event: {event.fault}"))
            return
        data, notes = self._attributes_of(event, event.nodes)
        time = self._time_of(event, data, notes)
        if trace is None:
            stream = f"{self._category}-{LOOSE}"
            notes["trace"] = 0
            self._loose_before = time
        else:
            stream = self._stream_of(trace)
            if self._note_order(trace, time):
                notes["index"] = index
            if trace.number < 0:
                notes["trace"] = -trace.number
        name = next((node[2] for node in event.nodes if node[1] == NAME and node[0] in LEAVES), "")
        self.out.append(
            ForeignEvent(
                time,
                event.ordinal,
                event.line,
                stream,
                stored_name(name) if name else EVENT_TYPE,
                encode_json(data),
                extras=encode_json({"xes": notes}) if notes else None,
                row=row_of(((trace and trace.name) or "", encode_json(event.nodes).decode())),
            )
        )

    def _time_of(self, event: _Element, data: dict[str, Any], notes: dict[str, Any]) -> int:
        """When it happened, else what stands for that. Raises ``ValueError`` for no time."""
        text = data.get(TIME)
        if text is None:
            if not self._untimed.is_given:
                notes["untimed"] = True
            before = self._loose_before if self._trace is None else self._trace.latest
            return self._untimed.time_after(before, event.line)
        try:
            try:
                time, notice = time_of(str(text))
            except ValueError:
                time, notice = time_of(str(text), UTC)
                self._notices.add(_ZONELESS, event.line)
        except ValueError as error:
            raise ValueError(f"{TIME!r}: {error}; fix the value") from error
        if notice is not None:
            self._notices.add(notice, event.line)
        self._untimed.seen()
        return time

    @staticmethod
    def _note_order(trace: _Trace, time: int) -> bool:
        """Whether sorting by time will take the event away from its place in the trace."""
        if trace.earliest is None or time < trace.earliest:
            trace.earliest = time
        if time < trace.latest:
            return True
        trace.latest = time
        return False

    def _stream_of(self, trace: _Trace) -> str:
        if trace.stream is None:
            trace.stream = f"{self._category}-{self._case_of(trace)}"
            key = hash(trace.stream)
            if key in self._names or len(self._names) >= _REMEMBERED_NAMES:
                trace.number = -trace.number  # another trace has this name: tell them apart
                if key in self._names:
                    self._notices.add(_SAME_NAME, trace.line)
            else:
                self._names.add(key)
        return trace.stream

    def _case_of(self, trace: _Trace) -> str:
        """The trace's name as a store takes it; one of ours where it has none."""
        if not trace.name:
            self._notices.add(_NAMELESS, trace.line)
            return f"{OURS}{trace.number}"
        name = stored_name(trace.name)
        return marked(name, trace.name) if name.startswith(OURS) else name

    def _end_trace(self, trace: _Trace) -> None:
        stream = self._stream_of(trace)
        if trace.fault is not None:
            self.out.append(Invalid(trace.line, f"trace: {trace.fault}"))
            return
        data, notes = self._attributes_of(trace, trace.nodes, "case:")
        notes["trace"] = abs(trace.number)
        self.out.append(
            ForeignEvent(
                UNTIMED if trace.earliest is None else trace.earliest,
                trace.ordinal,
                trace.line,
                stream,
                TRACE_TYPE,
                encode_json(data),
                extras=encode_json({"xes": notes}),
            )
        )

    def _end_log(self, log: _Element) -> None:
        if log.fault is not None or log.size > _MAX_ELEMENT_BYTES:
            self.out.append(Invalid(log.line, f"log: {log.fault or 'its header is too large'}"))
            return
        own = [node for node in log.nodes if node[0] not in HEADS]
        attributes, _ = self._attributes_of(log, own)
        data: dict[str, Any] = {
            "category": self._category,
            "attributes": attributes,
            "extensions": [node[1] for node in log.nodes if node[0] == "extension"],
            "globals": [
                {**node[1], "attributes": self._attributes_of(log, node[3])[0]}
                for node in log.nodes
                if node[0] == "global"
            ],
            "classifiers": [node[1] for node in log.nodes if node[0] == "classifier"],
        }
        notes = {"log": self._root, "nodes": noted(log.nodes)}
        self.out.append(
            ForeignEvent(
                UNTIMED,
                0,
                log.line,
                stored_name(f"log-{self._category}"),
                LOG_TYPE,
                encode_json(data),
                extras=encode_json({"xes": notes}),
            )
        )
