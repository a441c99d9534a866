"""What only this flavour has to promise."""

from __future__ import annotations

from everwhen.testing._async import cancelling

OWN_GROUPS = (cancelling,)
