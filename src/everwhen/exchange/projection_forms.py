"""What projections and their parked events are in JSON: on the command line and over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec

from everwhen.exchange.json_forms import utc_text
from everwhen.store.projection_records import ParkedEvent, ProjectionStatus


def status_form(status: ProjectionStatus) -> dict[str, Any]:
    """Everything that is known of a projection; ``updated_at`` is empty for one not heard of."""
    heard = "" if status.updated_at is None else utc_text(status.updated_at)
    return {**msgspec.structs.asdict(status), "updated_at": heard}


def parked_form(parked: ParkedEvent) -> dict[str, Any]:
    """Everything that is known of a parked event."""
    return {**msgspec.structs.asdict(parked), "at": utc_text(parked.at)}
