"""Formats by their names, and by those of files."""

from __future__ import annotations

import os
from typing import Final

from everwhen.exchange.cloudevents import CloudEvents
from everwhen.exchange.csv_files import Csv
from everwhen.exchange.errors import FormatOptionError
from everwhen.exchange.records import Format
from everwhen.exchange.sources import STANDARD, Location
from everwhen.exchange.xes import Xes

_BY_NAME: Final[dict[str, Format]] = {
    "cloudevents": CloudEvents(),
    "jsonl": CloudEvents(),
    "csv": Csv(),
    "tsv": Csv(delimiter="\t"),
    "xes": Xes(),
}
_BY_SUFFIX: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".xes": "xes",
}


def format_named(name: str) -> Format:
    """The format ``cloudevents`` (or ``jsonl``), ``csv``, ``tsv`` or ``xes``, as it is by default.

    Raises `FormatOptionError` for other names.
    """
    found = _BY_NAME.get(name.lower())
    if found is None:
        raise FormatOptionError(name, f"no such format; use one of {', '.join(_BY_NAME)}")
    return found


def format_of(location: Location) -> Format:
    """The format that a file's name tells. Raises `FormatOptionError` where it doesn't."""
    name = location if isinstance(location, str | os.PathLike) else getattr(location, "name", "")
    text = os.fspath(name) if isinstance(name, str | os.PathLike) else ""
    suffix = os.path.splitext(text.lower().removesuffix(".gz").removesuffix(".zip"))[1]  # noqa: PTH122 (of a text)
    if text == STANDARD or suffix not in _BY_SUFFIX:
        shown = "-" if text == STANDARD else text or "<file>"
        raise FormatOptionError(
            shown,
            f"the name doesn't tell the format; name one of {', '.join(_BY_NAME)} (--format NAME)",
        )
    return format_named(_BY_SUFFIX[suffix])
