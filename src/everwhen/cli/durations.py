"""Durations as options say them: ``90s``, ``15m``, ``12h``, ``30d``, ``8w`` or ``0``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from everwhen.cli.exit_codes import USAGE, CommandStop

_DURATION: Final = re.compile(r"([0-9]{1,6})([smhdw])|0")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def given_duration(text: str, option: str) -> timedelta:
    """The duration that an option says. Raises `CommandStop` for what isn't one."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise CommandStop(
            f"{option}: {text!r} is not a duration; write it as 90s, 15m, 12h, 30d, 8w or 0", USAGE
        )
    number, unit = match.groups()
    return timedelta() if unit is None else timedelta(**{_UNITS[unit]: int(number)})
