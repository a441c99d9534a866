"""The endpoints of the HTTP API, a module for each subject."""

from typing import Final

from everwhen.web.api import (
    appending,
    bookmarks,
    debug_sessions,
    events,
    finds,
    overview,
    prints,
    provenance,
    states,
    steps,
    streams,
    what_ifs,
)
from everwhen.web.endpoints import Endpoint

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *overview.ENDPOINTS,
    *events.ENDPOINTS,
    *streams.ENDPOINTS,
    *appending.ENDPOINTS,
    *states.ENDPOINTS,
    *steps.ENDPOINTS,
    *provenance.ENDPOINTS,
    *finds.ENDPOINTS,
    *bookmarks.ENDPOINTS,
    *what_ifs.ENDPOINTS,
    *debug_sessions.ENDPOINTS,
    *prints.ENDPOINTS,
)
