"""Now and here: the moments that users write, seen from this machine's clock and zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from everwhen.cli.exit_codes import say
from everwhen.travel import Moment, moment_from
from everwhen.vocabulary.written_moments import PointInTime, moment_of, place_of


class LocalZone(tzinfo):
    """This machine's time zone, with its rules for every date, not only today's offset."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """The offset at that local time."""
        if moment is None:
            return None
        return moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, moment: datetime | None) -> timedelta | None:
        """Unknown: the system only tells the offset."""
        del moment
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        """The zone's name at that local time."""
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, moment: datetime) -> datetime:
        """The local time of a moment in UTC."""
        return moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=self)


def given_moment(text: str) -> datetime:
    """The moment that an option says; a zone that was left out is named on stderr."""
    return _announced(moment_of(text, now=datetime.now(UTC), zone=LocalZone()), text)


def given_place(text: str) -> datetime | int:
    """The moment or, for a plain number, the position that an argument says."""
    place = place_of(text, now=datetime.now(UTC), zone=LocalZone())
    return place if isinstance(place, int) else _announced(place, text)


def given_moment_of(text: str) -> Moment:
    """The moment, in any form that travel knows, that an argument says."""
    found = moment_from(text, now=datetime.now(UTC), zone=LocalZone())
    return given_moment(text) if isinstance(found, datetime) else found


def _announced(moment: PointInTime, text: str) -> datetime:
    if moment.zone_assumed:
        meant = moment.time.isoformat(timespec="auto")
        say(f"{text!r} names no time zone, so it is taken as local time: {meant}")
    return moment.time
