"""The endpoints of the HTTP API, a module for each subject."""

from typing import Final

from everwhen.web.api import (
    appending,
    branches,
    events,
    health,
    merges,
    overview,
    projections,
    provenance,
    queries,
    states,
    steps,
    streams,
    undos,
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
    *branches.ENDPOINTS,
    *merges.ENDPOINTS,
    *undos.ENDPOINTS,
    *queries.ENDPOINTS,
    *projections.ENDPOINTS,
    *health.ENDPOINTS,
)
