"""The endpoints of the HTTP API, a module for each subject."""

from typing import Final

from everwhen.web.api import (
    appending,
    bookmarks,
    branches,
    commits,
    debug_sessions,
    density,
    events,
    finds,
    health,
    live,
    merges,
    names,
    overview,
    prints,
    projections,
    provenance,
    queries,
    states,
    steps,
    streams,
    undos,
    what_ifs,
)
from everwhen.web.endpoints import Endpoint

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *overview.ENDPOINTS,
    *events.ENDPOINTS,
    *live.ENDPOINTS,
    *streams.ENDPOINTS,
    *appending.ENDPOINTS,
    *commits.ENDPOINTS,
    *density.ENDPOINTS,
    *names.ENDPOINTS,
    *states.ENDPOINTS,
    *steps.ENDPOINTS,
    *provenance.ENDPOINTS,
    *branches.ENDPOINTS,
    *merges.ENDPOINTS,
    *undos.ENDPOINTS,
    *queries.ENDPOINTS,
    *projections.ENDPOINTS,
    *health.ENDPOINTS,
    *finds.ENDPOINTS,
    *bookmarks.ENDPOINTS,
    *what_ifs.ENDPOINTS,
    *debug_sessions.ENDPOINTS,
    *prints.ENDPOINTS,
)
