"""The endpoints of the HTTP API, a module for each subject."""

from typing import Final

from everwhen.web.api import (
    appending,
    branches,
    commits,
    density,
    events,
    health,
    live,
    merges,
    names,
    overview,
    provenance,
    states,
    steps,
    streams,
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
    *health.ENDPOINTS,
)
