"""Parses due times as people write them: `tomorrow`, `friday 9:30`, `in 3 days`, `2026-12-01`. Pure functions."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta

__all__ = ["EXAMPLES", "BadTime", "due_time"]

EXAMPLES = "tomorrow, friday 9:30, in 3 days, 18:00, 2026-12-01, 2026-12-01 14:00"
END_OF_DAY = time(23, 59)
"""What is due on a day is due by its end."""
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
SHORTEST_WEEKDAY = 3
DAYS = {"today": 0, "tonight": 0, "tomorrow": 1, "day after tomorrow": 2, "next week": 7}
UNITS = {"min": 60, "minute": 60, "hour": 3600, "h": 3600, "day": 86400, "d": 86400, "week": 604800}
"""Seconds of each."""
NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "ten": 10}
_CLOCK = re.compile(
    r"(?:^|[ t])(?:at )?(?:(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::\d{2})?|(?P<full>\d{1,2})(?= ?[ap]m))"
    r" ?(?P<half>am|pm)?$"
)
_AMOUNT = re.compile(r"in (?P<number>\d{1,5}|[a-z]+) (?P<unit>[a-z]+?)s?$")


class BadTime(ValueError):
    """The text is not a recognisable time. The message gives examples."""


def due_time(text: str, now: datetime) -> str:
    """RFC 3339 of what ``text`` says, as seen at ``now``, which knows its zone.

    A day alone means its end, a clock time alone the next time it comes, a weekday the next day of that name. Where no
    zone is named it is the one of ``now``: a `ZoneInfo`, or the machine's where ``now`` has but an offset, so that a day
    behind a change of the clocks gets that day's own. Raises `BadTime`.
    """
    try:
        return _moment(text.strip(), now).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        raise BadTime(f"{text[:40]!r} is no time that can be read; try {EXAMPLES}") from None


def _moment(text: str, now: datetime) -> datetime:
    if re.match(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}", text):
        exact = datetime.fromisoformat(text.upper())
        return exact if exact.tzinfo is not None else _in_zone(exact, now)
    said = " ".join(text.lower().replace(",", " ").split())
    if amount := _AMOUNT.fullmatch(said):
        return _later(amount, now)
    clock, rest = _clock(said)
    if not rest:
        if clock is None:
            raise ValueError(text)
        today = _in_zone(datetime.combine(now.date(), clock), now)
        return today if today > now else _in_zone(datetime.combine(now.date() + timedelta(1), clock), now)
    return _in_zone(datetime.combine(_day(rest, now.date()), clock or END_OF_DAY), now)


def _later(amount: re.Match[str], now: datetime) -> datetime:
    number, unit = amount["number"], UNITS.get(amount["unit"])
    count = int(number) if number.isdigit() else NUMBERS.get(number)
    if unit is None or count is None:
        raise ValueError(amount[0])
    if unit < UNITS["day"]:
        return (now + timedelta(seconds=count * unit)).replace(microsecond=0)
    # Days are counted on the calendar: the same time of day also behind a change of the clocks.
    wall = now.replace(tzinfo=None, microsecond=0) + timedelta(seconds=count * unit)
    return _in_zone(wall, now)


def _clock(said: str) -> tuple[time | None, str]:
    """The time of day at the end, and what stands before it."""
    for word, hour in (("noon", 12), ("midday", 12)):
        if said == word or said.endswith(" " + word):
            return time(hour), said.removesuffix(word).removesuffix(" at ").strip()
    found = _CLOCK.search(said)
    if found is None:
        return None, said
    hour, minute = int(found["hour"] or found["full"]), int(found["minute"] or 0)
    if found["half"]:
        if not 1 <= hour <= 12:
            raise ValueError(said)
        hour = hour % 12 + (12 if found["half"] == "pm" else 0)
    return time(hour, minute), said[: found.start()].strip()


def _day(said: str, today: date) -> date:
    said = said.removeprefix("on ").removeprefix("by ")
    if said in DAYS:
        return today + timedelta(DAYS[said])
    name = said.removeprefix("next ").removeprefix("this ")
    if len(name) >= SHORTEST_WEEKDAY:
        for number, weekday in enumerate(WEEKDAYS):
            if weekday.startswith(name):
                return today + timedelta((number - today.weekday() - 1) % 7 + 1)
    return date.fromisoformat(said)


def _in_zone(wall: datetime, now: datetime) -> datetime:
    """A time on the wall of where ``now`` is."""
    zone = now.tzinfo
    # An offset alone, as `astimezone()` gives, holds for its own day; the machine knows those of other days.
    return wall.astimezone() if zone is None or zone.utcoffset(None) is not None else wall.replace(tzinfo=zone)
