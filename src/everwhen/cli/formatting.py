"""How types, times and data look in a terminal, and how times read in a pipe."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import msgspec
from rich.table import Table
from rich.text import Text

from everwhen.vocabulary.written_moments import age_of

_KILO: Final = 1000
_IN_LINE: Final = 40
_FIELDS: Final = 500
_LONGEST: Final = 4_000
"""So much of it is drawn at once; the rest is counted: nobody reads 200,000 fields."""
_ERASED: Final = re.compile(r'\{"\$erased":"(?:[^"\\]|\\.)*"\}')
_PALETTE: Final = (
    "cyan",
    "green",
    "yellow",
    "magenta",
    "bright_blue",
    "bright_cyan",
    "bright_green",
    "bright_yellow",
    "bright_magenta",
)


def type_look(name: str) -> Text:
    """A type's name, in the same colour wherever it appears."""
    return Text(name, _PALETTE[zlib.crc32(name.encode()) % len(_PALETTE)])


def stream_look(name: str) -> Text:
    """A stream's name, its category in bold."""
    category, dash, rest = name.partition("-")
    return Text.assemble((category, "bold"), (dash + rest, ""))


def number_look(number: int) -> Text:
    """A number, with its thousands set apart."""
    return Text(f"{number:,}")


def stamp_look(moment: datetime) -> Text:
    """A local time to the second."""
    text = local(moment)
    return Text.assemble((text[:11], "dim"), text[11:])


def age_look(moment: datetime) -> Text:
    """How long ago that was."""
    return Text(age_of(moment, datetime.now(UTC)), "dim")


def time_look(moment: datetime) -> Text:
    """A local time to the second, and how long ago that was."""
    return Text.assemble(stamp_look(moment), "  ", age_look(moment))


def data_look(data: Mapping[str, Any]) -> Text:
    """Fields as ``name=value``, in one line; those beyond the first few are counted."""
    line = Text()
    for number, (name, value) in enumerate(data.items()):
        if number == _IN_LINE:
            return line.append(f" … {len(data) - number:,} more", "dim")
        if line:
            line.append(" ")
        line.append(f"{shown_name(name)}=", "dim")
        line.append_text(value_look(value))
    return line


def value_look(value: object) -> Text:
    """A value: text bare where that is clear, numbers and the like coloured, the rest as JSON.

    Whatever was erased is shown as ``(erased)``, also within. Of a long value only the beginning
    is shown, and how much is left out.
    """
    match value:
        case str() if value and value.isprintable() and " " not in value:
            return Text(beginning(value))
        case bool() | None:
            return Text(_json(value), "italic magenta")
        case int() | float():
            return Text(_json(value), "cyan")
        case str():
            return Text(beginning(_json(value)))
        case _:
            return Text(beginning(_json(value)), "dim")


def beginning(text: str) -> str:
    """A text, or its beginning and how much follows."""
    left_out = len(text) - _LONGEST
    return text if left_out <= 0 else f"{text[:_LONGEST]}… {left_out:,} more characters"


def shown_name(name: str) -> str:
    """A field's name, safe to print."""
    return name if name.isprintable() else _json(name)


def _json(value: object) -> str:
    text = _ERASED.sub("(erased)", msgspec.json.encode(value, enc_hook=str).decode())
    return text if text.isprintable() else ascii(text)


def local(moment: datetime) -> str:
    """A local time for people, to the second: always 19 characters."""
    return moment.astimezone().replace(tzinfo=None).isoformat(" ", "seconds")


def bytes_look(size: float) -> str:
    """A size in the largest unit that leaves a number from 1 to 999."""
    if size < _KILO:
        return f"{size:.0f} bytes"
    for unit in ("KB", "MB", "GB"):
        size /= _KILO
        if size < _KILO:
            return f"{size:.1f} {unit}"
    return f"{size / _KILO:,.1f} TB"


def fields_look(data: Mapping[str, Any], most: int = _FIELDS) -> Table:
    """Fields one under another, names in one column and values in the next.

    Those beyond ``most`` are counted.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in islice(data.items(), most):
        table.add_row(f"  {shown_name(name)}", value_look(value))
    if len(data) > most:
        table.add_row(f"  … {len(data) - most:,} more", Text("--json has all of them", "dim"))
    return table


def counts_look(counts: Mapping[str, int], look: Callable[[str], Text], *, most: int = 15) -> Table:
    """Counts by name as bars, the biggest first; those beyond ``most`` in one line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=40)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    biggest = max(counts.values())
    shown = list(counts.items())[:most]
    for name, count in shown:
        label = look(name)
        table.add_row(label, number_look(count), Text(bar(count / biggest), label.style))
    if len(counts) > most:
        rest = sum(counts.values()) - sum(count for _, count in shown)
        table.add_row(Text(f"{len(counts) - most:,} more", "dim"), number_look(rest), "")
    return table


def bar(share: float, width: int = 24) -> str:
    """A bar of at most that many cells, to an eighth of one."""
    eighths = max(1, round(share * width * 8))
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
