"""Decides from preferences and the time whether and when a notification goes to a device. Pure functions."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from attrs import frozen

from protocol.events import Priority
from protocol.notification_templates import TEMPLATES
from protocol.notifications import Channel, Preferences, QuietHours, RateLimit

__all__ = ["HoldReason", "Subject", "Verdict", "decide", "hold", "limited_until", "quiet_until", "unwanted"]

DAY = datetime.timedelta(days=1)


class HoldReason(enum.Enum):
    """Reasons to hold a delivery."""

    QUIET_HOURS = "quiet_hours"
    RATE_LIMIT = "rate_limit"
    """Deliveries held for this are combined into one digest."""
    SEEN_ELSEWHERE = "seen_elsewhere"
    """A device of the client is active and may show it; the push goes out only if none does."""


@frozen(kw_only=True)
class Subject:
    """Properties of a notification that the rules use."""

    kind: str
    priority: Priority

    @property
    def is_ai(self) -> bool:
        """True for notifications about the assistant."""
        return TEMPLATES[self.kind].is_ai


@frozen(kw_only=True)
class Verdict:
    """Decision on a delivery. With neither field set it goes out now."""

    discard: str | None = None
    """Reason why it is never sent."""
    hold: HoldReason | None = None
    until_ms: int = 0
    """Time at which to judge it again, POSIX milliseconds."""


def decide(
    subject: Subject,
    channel: Channel,
    client: Preferences,
    device: Preferences | None,
    *,
    timezone: str | None,
    sent_ms: Sequence[int],
    now_ms: int,
) -> Verdict:
    """Return the verdict of the client's and the device's preferences.

    ``sent_ms`` are the times at which this way to this device was used, ascending; ``timezone`` is the device's.
    """
    layers = [client] if device is None else [client, device]
    for layer in layers:
        reason = unwanted(layer, subject, channel)
        if reason is not None:
            return Verdict(discard=reason)
    if subject.priority is Priority.CRITICAL:
        return Verdict()
    return hold(layers, timezone=timezone, sent_ms=sent_ms, now_ms=now_ms)


def hold(layers: Sequence[Preferences], *, timezone: str | None, sent_ms: Sequence[int], now_ms: int) -> Verdict:
    """Return a verdict that holds the delivery if quiet hours or a rate limit of any layer apply."""
    quiet = [quiet_until(one.quiet_hours, timezone, now_ms) for one in layers if one.quiet_hours is not None]
    if any(quiet):
        return Verdict(hold=HoldReason.QUIET_HOURS, until_ms=max(one for one in quiet if one is not None))
    limits = [limited_until(one.rate_limit, sent_ms, now_ms) for one in layers if one.rate_limit is not None]
    if any(limits):
        return Verdict(hold=HoldReason.RATE_LIMIT, until_ms=max(one for one in limits if one is not None))
    return Verdict()


def unwanted(preferences: Preferences, subject: Subject, channel: Channel) -> str | None:
    """Return why these preferences exclude the notification, or None."""
    if preferences.event_types is not None and subject.kind not in preferences.event_types:
        return "event_type"
    if preferences.channels is not None and channel not in preferences.channels:
        return "channel"
    if subject.priority.rank > preferences.min_priority.rank:
        return "min_priority"
    if subject.is_ai and not preferences.ai_notifications:
        return "ai_notifications"
    return None


def limited_until(limit: RateLimit, sent_ms: Sequence[int], now_ms: int) -> int | None:
    """Return when the next one may be sent, POSIX milliseconds, or None for now."""
    # What seems to have been sent in a time to come was sent by a clock that ran ahead: nobody knows when.
    window = [one for one in sent_ms if now_ms - limit.seconds * 1000 < one <= now_ms]
    return window[-limit.count] + limit.seconds * 1000 if len(window) >= limit.count else None


def quiet_until(quiet: QuietHours, timezone: str | None, now_ms: int) -> int | None:
    """Return when the current quiet hours end, POSIX milliseconds, or None outside quiet hours.

    Quiet hours last while the wall clock shows a time in `[start, end)`. So an hour skipped by daylight saving is not
    waited for, and a repeated one is quiet twice.
    """
    zone = ZoneInfo(quiet.timezone or timezone or "UTC")
    start, end = _minutes(quiet.start), _minutes(quiet.end)
    now = datetime.datetime.fromtimestamp(now_ms / 1000, datetime.UTC)

    def is_quiet(moment: datetime.datetime) -> bool:
        wall = moment.astimezone(zone)
        minute = wall.hour * 60 + wall.minute
        return start <= minute < end if start < end else minute >= start or minute < end

    if not is_quiet(now):
        return None
    ends = min(
        moment for moment in _moments(now.astimezone(zone).date(), end, zone) if moment > now and not is_quiet(moment)
    )
    changed = _offset_change(now, ends, zone)
    if changed is not None and not is_quiet(changed):
        ends = changed
    return int(ends.timestamp() * 1000)


def _moments(day: datetime.date, minutes: int, zone: ZoneInfo) -> list[datetime.datetime]:
    """Return the moments at which a clock in the zone shows this time, on the day and the two after it; both if it repeats."""
    clock = datetime.time(minutes // 60, minutes % 60)
    return [
        datetime.datetime.combine(day + days * DAY, clock, zone).replace(fold=fold).astimezone(datetime.UTC)
        for days in (0, 1, 2)
        for fold in (0, 1)
    ]


def _offset_change(low: datetime.datetime, high: datetime.datetime, zone: ZoneInfo) -> datetime.datetime | None:
    """Return the first moment of the new offset between two moments at most two days apart, or None if it does not change."""
    before = low.astimezone(zone).utcoffset()
    if before == high.astimezone(zone).utcoffset():
        return None
    # Zones change their clock at whole minutes.
    first, last = int(low.timestamp()) // 60, int(high.timestamp()) // 60
    while last - first > 1:
        middle = (first + last) // 2
        moment = datetime.datetime.fromtimestamp(middle * 60, datetime.UTC)
        if moment.astimezone(zone).utcoffset() == before:
            first = middle
        else:
            last = middle
    return datetime.datetime.fromtimestamp(last * 60, datetime.UTC)


def _minutes(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])
