# Made from tools/front_door.toml: edit that, then `make sync`.
"""The async flavour: the same names as `everwhen.exchange`, to be awaited."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.exchange._async.archive_importing import import_archive
    from everwhen.exchange._async.copying import copy_store
    from everwhen.exchange._async.exporting import export_events
    from everwhen.exchange._async.importing import import_events
    from everwhen.exchange.cloudevents import CloudEvents
    from everwhen.exchange.csv_files import Csv
    from everwhen.exchange.errors import (
        ExchangeError,
        ExchangeFileError,
        ImportConflictError,
        ImportedBeforeError,
        ImportFormatError,
        ImportTimesError,
        OtherCopyError,
        OtherHistoryError,
        OutputExistsError,
    )
    from everwhen.exchange.formats import format_named, format_of
    from everwhen.exchange.notices import Notice
    from everwhen.exchange.nycflights13 import Flights
    from everwhen.exchange.records import (
        CopyReport,
        ExchangeProgress,
        ExportReport,
        Format,
        ImportReport,
        Invalid,
    )
    from everwhen.exchange.xes import Xes
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.exchange._async.archive_importing": ("import_archive",),
            "everwhen.exchange._async.copying": ("copy_store",),
            "everwhen.exchange._async.exporting": ("export_events",),
            "everwhen.exchange._async.importing": ("import_events",),
            "everwhen.exchange.cloudevents": ("CloudEvents",),
            "everwhen.exchange.csv_files": ("Csv",),
            "everwhen.exchange.errors": (
                "ExchangeError",
                "ExchangeFileError",
                "ImportConflictError",
                "ImportFormatError",
                "ImportTimesError",
                "ImportedBeforeError",
                "OtherCopyError",
                "OtherHistoryError",
                "OutputExistsError",
            ),
            "everwhen.exchange.formats": ("format_named", "format_of"),
            "everwhen.exchange.notices": ("Notice",),
            "everwhen.exchange.nycflights13": ("Flights",),
            "everwhen.exchange.records": (
                "CopyReport",
                "ExchangeProgress",
                "ExportReport",
                "Format",
                "ImportReport",
                "Invalid",
            ),
            "everwhen.exchange.xes": ("Xes",),
        },
    )

__all__ = [
    "CloudEvents",
    "CopyReport",
    "Csv",
    "ExchangeError",
    "ExchangeFileError",
    "ExchangeProgress",
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
    "OtherCopyError",
    "OtherHistoryError",
    "OutputExistsError",
    "Xes",
    "copy_store",
    "export_events",
    "format_named",
    "format_of",
    "import_archive",
    "import_events",
]
