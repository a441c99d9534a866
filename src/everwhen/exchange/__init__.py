"""Files in and out: CloudEvents as JSON Lines, CSV, and IEEE XES."""

from everwhen.exchange.cloudevents import CloudEvents
from everwhen.exchange.errors import (
    ExchangeError,
    ExchangeFileError,
    ImportConflictError,
    ImportedBeforeError,
    ImportFormatError,
    ImportTimesError,
    OutputExistsError,
)
from everwhen.exchange.flights import Flights
from everwhen.exchange.formats import format_named, format_of
from everwhen.exchange.notices import Notice
from everwhen.exchange.records import ExportReport, Format, ImportReport, Invalid, Progress
from everwhen.exchange.tables import Csv
from everwhen.exchange.xes import Xes

__all__ = [
    "CloudEvents",
    "Csv",
    "ExchangeError",
    "ExchangeFileError",
    "ExportReport",
    "Flights",
    "Format",
    "ImportConflictError",
    "ImportFormatError",
    "ImportReport",
    "ImportTimesError",
    "ImportedBeforeError",
    "Invalid",
    "Notice",
    "OutputExistsError",
    "Progress",
    "Xes",
    "format_named",
    "format_of",
]
