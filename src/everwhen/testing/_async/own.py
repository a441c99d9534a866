"""What only this flavour has to promise."""

from __future__ import annotations

from everwhen._async_testing import cancelling

OWN_GROUPS = (cancelling,)
