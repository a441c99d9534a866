"""What only this flavour has to promise: nothing, for a thread can't be cancelled."""

from __future__ import annotations

from types import ModuleType

OWN_GROUPS: tuple[ModuleType, ...] = ()
