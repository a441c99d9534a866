"""CSV, with a mapping from columns to what an event has.

Without any choice the mapping is that of our own export, so what was exported can be imported.
For other files name the columns that hold the stream, the type and the time; all further columns
become the event's data.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import chain
from typing import Any, Final

import msgspec

from everwhen.codec.json_encoding import encode_json
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.exchange.entries import reads_back
from everwhen.exchange.errors import DamagedInputError, FormatOptionError
from everwhen.exchange.lines import MAX_LINE_BYTES, lines
from everwhen.exchange.moments import ZoneMissingError, micros_of, reader_of, text_of, zone_named
from everwhen.exchange.records import UNTIMED, FileItem, FileWriter, ForeignEvent, Invalid
from everwhen.exchange.row_digests import row_of
from everwhen.vocabulary.microseconds import to_micros

CSV_COLUMNS: Final = (
    "position",
    "stream",
    "version",
    "type",
    "schema_version",
    "recorded_at",
    "occurred_at",
    "event_id",
    "tags",
    "data",
)
_DELIMITERS: Final = (",", ";", "\t")
_WITH_COMMA: Final = re.compile(r"\s*([+-]?)(\d{1,3}(?:\.\d{3})+|\d*)(?:,(\d*))?\s*")
_FORMULA: Final = re.compile(r"'*\s*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""What a spreadsheet takes for a formula, as OWASP lists it, after any ``'`` that guard it."""
_PLAIN_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BOOLEANS: Final = {
    "true": True,
    "false": False,
    "yes": True,
    "no": False,
    "1": True,
    "0": False,
}


_ANSWERS: Final = {
    "stream": "name it with --column stream=NAME",
    "type": "name it with --column type=NAME, or give one type for all with --every-type TYPE",
    "time": "name it with --column time=NAME, or use --column time= if there is none",
    "tags": "correct the name, or add the column",
    "data": "correct the name, or add the column",
}


class Csv(msgspec.Struct, frozen=True, kw_only=True):
    """A CSV file and what its columns mean; fields are names of columns.

    ``stream`` and ``type`` are required columns, unless ``constant_type`` gives every event's
    type. ``category`` goes before the stream's cell, with a ``-``. ``time`` is a column with the
    event's time, or None for a log without times; ``time_format`` says how it is written: ``iso``,
    ``s`` or ``ms`` since 1970, or a strptime format. Times without a zone are of ``time_zone``.

    ``occurred_at``, ``event_id``, ``schema_version``, ``tags_json`` and ``data_json`` are columns
    of that role where the file has them. A column in ``tags`` tags its events ``column:cell``.
    ``integers``, ``floats``, ``booleans`` and ``json`` are columns whose cells aren't text; with
    ``decimal_comma``, whole and other numbers are written as ``1.234,5`` or ``1234,5``.
    ``ignored`` are left out, and so are empty cells unless ``empty_as_null``.

    ``delimiter`` stands between cells; where it is None, that is whichever of ``,``, ``;`` and tab
    fits the header. ``encoding`` is a name that Python knows, such as ``latin-1`` or ``utf-16``.

    ``guard_formulas`` puts a ``'`` before exported cells that a spreadsheet would execute; numbers
    stay as they are. A file with the columns of our own export is imported without these ``'``,
    however it was exported, so that it comes back as it was.
    """

    stream: str = "stream"
    type: str | None = "type"
    time: str | None = "recorded_at"
    category: str | None = None
    constant_type: str | None = None
    time_format: str = "iso"
    time_zone: str | None = None
    occurred_at: str | None = "occurred_at"
    event_id: str | None = "event_id"
    schema_version: str | None = "schema_version"
    tags_json: str | None = "tags"
    data_json: str | None = "data"
    ignored: tuple[str, ...] = ("position", "version")
    tags: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    floats: tuple[str, ...] = ()
    booleans: tuple[str, ...] = ()
    json: tuple[str, ...] = ()
    empty_as_null: bool = False
    delimiter: str | None = None
    encoding: str = "utf-8"
    guard_formulas: bool = True
    decimal_comma: bool = False

    @property
    def name(self) -> str:
        """The format's name on the command line."""
        return "csv"

    @property
    def identity(self) -> bytes:
        """The whole mapping: read otherwise, the same file is another log."""
        chosen = msgspec.to_builtins(self)
        chosen["delimiter"] = self.delimiter or _DELIMITERS[0]
        chosen["guard_formulas"] = False  # exporting only; ids rest on how that was written once
        if not self.decimal_comma:  # as it was before that could be chosen: ids rest on it
            del chosen["decimal_comma"]
        return b"csv" + msgspec.json.encode(chosen)

    def settled(self, beginning: bytes) -> Csv:
        """The same, with a delimiter: the one that fits the header at the beginning of a file."""
        if self.delimiter is not None:
            return self
        header = next(iter(_decoded((beginning,), self.encoding)), b"").split(b"\n", 1)[0]
        text = header.decode(errors="replace").strip("\ufeff\r")
        wanted = {self.stream, self.type, self.time}

        def fits(delimiter: str) -> tuple[int, int]:
            cells = text.split(delimiter)
            return len(wanted.intersection(cell.strip('"') for cell in cells)), len(cells)

        return msgspec.structs.replace(self, delimiter=max(_DELIMITERS, key=fits))

    def text(self, *, part: bool) -> FileWriter:
        """Rows; a selection of a commit's events needs no mark."""
        del part
        return CsvText(self)

    def read(self, chunks: Iterator[bytes]) -> Iterator[FileItem]:
        """A record for each row, in the file's order."""
        text = _Text(chunks, self.encoding)
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
        try:
            reader = csv.reader(text, delimiter=self.delimiter or _DELIMITERS[0], strict=True)
        except (TypeError, ValueError) as error:
            raise FormatOptionError(str(self.delimiter), f"no delimiter: {error}") from error
        try:
            header = next(reader, None)
            if header is None:
                return
            try:
                mapping = _Mapping(self, header)
            except ValueError as error:
                raise FormatOptionError("the CSV mapping", str(error)) from error
            ordinal = 0
            while (row := text.row(reader)) is not None:
                line, cells = row
                if not cells:
                    continue
                try:
                    yield mapping.record(cells, ordinal, line)
                    ordinal += 1
                except ValueError as error:
                    yield Invalid(line, str(error))
        except csv.Error as error:
            raise DamagedInputError(f"{error}; fix the quoting", text.number) from error


class _Text:
    """Decoded lines for the csv reader, with a bound on how long a row may be."""

    def __init__(self, chunks: Iterator[bytes], encoding: str) -> None:
        self._is_utf8 = _is_utf8(encoding)
        self._lines = lines(
            _decoded(chunks, encoding), marked="use --encoding utf-16, or the one that it has"
        )
        self._size = 0
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        self._size += len(line) if line is not None else MAX_LINE_BYTES + 1
        if line is None or self._size > MAX_LINE_BYTES:
            raise DamagedInputError(
                "a row is too long; check whether a quote is missing", self.number
            )
        how = "surrogateescape" if self._is_utf8 else "surrogatepass"
        return line.decode("utf-8", how) + "\n"

    def row(self, reader: Iterator[list[str]]) -> tuple[int, list[str]] | None:
        """The next row and the line on which it begins; None at the end."""
        self._size = 0
        line = self.number + 1
        cells = next(reader, None)
        return None if cells is None else (line, cells)


def _is_utf8(encoding: str) -> bool:
    """Raises `FormatOptionError` for a name that isn't a text encoding."""
    try:
        "".encode(encoding)
        return codecs.lookup(encoding).name in {"utf-8", "utf-8-sig", "ascii"}
    except (LookupError, ValueError) as error:
        raise FormatOptionError(
            encoding, "there is no such encoding; use one such as utf-8, latin-1 or utf-16"
        ) from error


def _decoded(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The text in UTF-8, so that its lines can be found whatever encoding it has.

    What isn't valid in its encoding stays as surrogates, to be refused with its row.
    """
    if _is_utf8(encoding):
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
    number = 1
    try:
        for chunk in chain(chunks, (None,)):
            text = decoder.decode(chunk or b"", chunk is None)
            number += text.count("\n")
            yield text.encode("utf-8", "surrogatepass")
    except UnicodeError as error:
        raise DamagedInputError(
            f"the text is not {encoding} from here on ({error}); give --encoding", number
        ) from error


class _Mapping:
    """The format's mapping, applied to one file's header."""

    def __init__(self, chosen: Csv, header: list[str]) -> None:
        self._chosen = chosen
        self._header = header
        self._is_own = tuple(header) == CSV_COLUMNS
        if len(set(header)) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise DamagedInputError(f"two columns have the name {twice!r}; rename one", 1)
        self._stream = self._required(chosen.stream, "stream")
        self._type = None
        if chosen.constant_type is None:
            self._type = self._required(chosen.type, "type")
        self._time = None if chosen.time is None else self._required(chosen.time, "time")
        self._zone = None if chosen.time_zone is None else zone_named(chosen.time_zone)
        self._micros = reader_of(chosen.time_format, self._zone)
        self._occurred_at = self._optional(chosen.occurred_at)
        self._event_id = self._optional(chosen.event_id)
        self._schema_version = self._optional(chosen.schema_version)
        self._tags_json = self._optional(chosen.tags_json)
        self._data_json = self._optional(chosen.data_json)
        self._tags = [(name, self._required(name, "tags")) for name in chosen.tags]
        self._data = self._data_columns()
        self._ignored = {i for i, name in enumerate(header) if name in chosen.ignored}

    def _required(self, column: str | None, role: str) -> int:
        if column not in self._header:
            lacks = f"there is no column {column!r} for" if column else "no column is given for"
            raise DamagedInputError(
                f"{lacks} the {role}; the file has "
                f"{', '.join(map(repr, self._header))}: {_ANSWERS[role]}",
                1,
            )
        return self._header.index(column)

    def _optional(self, column: str | None) -> int | None:
        return self._header.index(column) if column in self._header else None

    def _data_columns(self) -> list[tuple[int, str, Callable[[str], Any]]]:
        chosen = self._chosen
        readers: dict[str, Callable[[str], Any]] = {}
        for names, reader in (
            (chosen.integers, _integer_with_comma if chosen.decimal_comma else _integer),
            (chosen.floats, _number_with_comma if chosen.decimal_comma else _number),
            (chosen.booleans, _boolean),
            (chosen.json, _json),
        ):
            for name in names:
                self._required(name, "data")
                readers[name] = reader
        roles = {
            self._stream,
            self._type,
            self._time,
            self._occurred_at,
            self._event_id,
            self._schema_version,
            self._tags_json,
            self._data_json,
        }
        return [
            (i, name, readers.get(name, str))
            for i, name in enumerate(self._header)
            if i not in roles and name not in chosen.ignored
        ]

    def record(self, cells: list[str], ordinal: int, line: int) -> ForeignEvent:
        """The row's record. Raises ``ValueError`` saying what is wrong with it."""
        if len(cells) != len(self._header):
            raise ValueError(
                f"the row has {len(cells)} cells and the header {len(self._header)}; fix the row"
            )
        if self._is_own:
            cells = [_unguarded(cell) for cell in cells]
        chosen = self._chosen
        stream = cells[self._stream]
        if chosen.category is not None:
            stream = f"{chosen.category}-{stream}"
        return ForeignEvent(
            time=UNTIMED if self._time is None else self._time_of(cells[self._time]),
            ordinal=ordinal,
            line=line,
            stream=stream,
            type=(chosen.constant_type or "") if self._type is None else cells[self._type],
            data=self._data_of(cells),
            tags=self._tags_of(cells),
            event_id=self._cell(cells, self._event_id),
            schema_version=_integer(self._cell(cells, self._schema_version) or "1"),
            occurred_at=self._occurred(cells),
            row=row_of(self._shown(cells)),
        )

    def _shown(self, cells: list[str]) -> Iterable[str]:
        """What a row says that is taken in: what is left out must leave no trace."""
        if not self._ignored:
            return cells
        return (cell for i, cell in enumerate(cells) if i not in self._ignored)

    @staticmethod
    def _cell(cells: list[str], column: int | None) -> str | None:
        """An optional column's cell; None where it is empty."""
        return (cells[column] or None) if column is not None else None

    def _time_of(self, cell: str) -> int:
        try:
            return self._micros(cell)
        except ZoneMissingError as error:
            raise ValueError(f"column {self._chosen.time!r}: {error}, with --time-zone") from error
        except ValueError as error:
            raise ValueError(
                f"column {self._chosen.time!r}: {error}; give the format with --time-format"
            ) from error

    def _occurred(self, cells: list[str]) -> str | None:
        cell = self._cell(cells, self._occurred_at)
        if cell is None or reads_back(cell):
            return cell
        try:
            micros_of(cell, self._zone)
        except ZoneMissingError as error:
            raise ValueError(
                f"column {self._chosen.occurred_at!r}: {error}, with --time-zone"
            ) from error
        moment = datetime.fromisoformat(cell)
        return (moment if moment.tzinfo else moment.replace(tzinfo=self._zone)).isoformat()

    def _tags_of(self, cells: list[str]) -> tuple[str, ...]:
        tags: list[str] = []
        text = self._cell(cells, self._tags_json)
        if text is not None:
            try:
                tags = msgspec.json.decode(text.encode(), type=list[str])
            except (msgspec.DecodeError, UnicodeEncodeError) as error:
                raise ValueError(f"the tags {text[:60]!r} are not a JSON list of texts") from error
        tags += [f"{name}:{cells[i]}" for name, i in self._tags if cells[i]]
        return tuple(dict.fromkeys(tags))

    def _data_of(self, cells: list[str]) -> bytes:
        data: dict[str, Any] = {}
        text = self._cell(cells, self._data_json)
        if text is not None:
            if not self._data:
                return _checked_object(text)
            data = _object(text)
        for i, name, reader in self._data:
            cell = cells[i]
            if cell:
                try:
                    data[name] = reader(cell)
                except ValueError as error:
                    raise ValueError(f"column {name!r}: {error}") from error
            elif self._chosen.empty_as_null:
                data[name] = None
        try:
            return encode_json(data)
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text is not {self._chosen.encoding}; give its encoding with --encoding"
            ) from error


def _checked_object(text: str) -> bytes:
    """The text of a JSON object, left as it is but for its spaces."""
    encoded = _encoded(text)
    try:
        msgspec.json.decode(encoded, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ValueError(f"the data {text[:60]!r} is not a JSON object: {error}") from error
    return msgspec.json.format(encoded, indent=-1)


def _object(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(_encoded(text), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ValueError(f"the data {text[:60]!r} is not a JSON object: {error}") from error


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("the text is not valid in its encoding; give the right one") from error


def _integer(cell: str) -> int:
    if len(cell) > 100:
        raise ValueError(f"{cell[:20]!r}… is too long for a whole number")
    try:
        return int(cell)
    except ValueError as error:
        raise ValueError(f"{cell[:60]!r} is not a whole number") from error


def _number(cell: str) -> float:
    try:
        number = float(cell)
    except ValueError as error:
        raise ValueError(f"{cell[:60]!r} is not a number") from error
    if not math.isfinite(number):
        raise ValueError(f"{cell[:60]!r} is not finite; leave the cell empty")
    return number


def _integer_with_comma(cell: str) -> int:
    number = _number_with_comma(cell)
    if not number.is_integer() or "," in cell:
        raise ValueError(f"{cell[:60]!r} is not a whole number")
    return _integer(cell.replace(".", ""))


def _number_with_comma(cell: str) -> float:
    match = _WITH_COMMA.fullmatch(cell)
    if match is None or not (match[2] or match[3]):
        raise ValueError(f"{cell[:60]!r} is not a number with a decimal comma, such as 1.234,5")
    return _number(f"{match[1]}{match[2].replace('.', '') or 0}.{match[3] or 0}")


def _boolean(cell: str) -> bool:
    try:
        return _BOOLEANS[cell.strip().lower()]
    except KeyError as error:
        raise ValueError(f"{cell[:60]!r} is neither true nor false") from error


def _json(cell: str) -> Any:
    try:
        return msgspec.json.decode(_encoded(cell))
    except msgspec.DecodeError as error:
        raise ValueError(f"{cell[:60]!r} is not JSON: {error}") from error


class CsvText:
    """Events, as stored, to rows with the columns of `CSV_COLUMNS`."""

    def __init__(self, format_: Csv) -> None:
        self._format = format_
        self._begun = False

    def of(self, events: Iterable[RecordedEvent[Any]]) -> bytes:
        """The text of events that follow on those before."""
        out = io.StringIO()
        writer = csv.writer(
            out, delimiter=self._format.delimiter or _DELIMITERS[0], lineterminator="\n"
        )
        if not self._begun:
            self._begun = True
            writer.writerow(CSV_COLUMNS)
        guard = _guarded if self._format.guard_formulas else _marked
        for event in events:
            recorded_at, occurred_at = event.recorded_at, event.occurred_at
            writer.writerow(
                guard(cell)
                for cell in (
                    event.position,
                    event.stream,
                    event.version,
                    event.type,
                    event.schema_version,
                    text_of(to_micros(recorded_at)),
                    "" if occurred_at == recorded_at else occurred_at.isoformat(),
                    event.event_id,
                    json.dumps(event.tags, ensure_ascii=False) if event.tags else "",
                    event.json.decode(),
                )
            )
        return out.getvalue().encode()

    def rest(self) -> bytes:
        """A header at least, also where there were no events."""
        return self.of(()) if not self._begun else b""


def _guarded(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and _is_formula(cell) else cell


def _marked(cell: object) -> object:
    """Only a cell that would be taken for a guarded one is guarded, to come back as it is."""
    return _guarded(cell) if isinstance(cell, str) and cell.startswith("'") else cell


def _unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def _is_formula(cell: str) -> bool:
    """Whether it is one but for the ``'`` before it, so that guarding can be taken back."""
    return _FORMULA.match(cell) is not None and _PLAIN_NUMBER.fullmatch(cell.lstrip("'")) is None
