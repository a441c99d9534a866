"""Which recorded events are audit entries: they stay when what they tell of is undone."""

from __future__ import annotations

import re
from typing import Any, Final

from everwhen.codec.recorded_events import RecordedEvent

AUDIT_CATEGORY: Final = "audit"
"""The category of the streams that hold the entries."""
ENTRY_TYPE: Final = "AuditEntry"
"""The type that entries are recorded under."""
_STREAM: Final = re.compile(rf"{AUDIT_CATEGORY}-\d{{4}}-\d{{2}}", re.ASCII)


def is_log(stream: str) -> bool:
    """Whether a stream of that name holds the entries of a month."""
    return _STREAM.fullmatch(stream) is not None


def is_entry(event: RecordedEvent[Any]) -> bool:
    """Whether a recorded event is an audit entry, also where its type isn't declared.

    Entries say what was done. So they stay when it is undone, and go along when it is merged.
    """
    return event.type == ENTRY_TYPE and is_log(event.stream)
