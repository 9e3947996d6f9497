"""Preferences: filters, quiet hours in every time zone and across every clock change, rate limits."""

import datetime
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.notifications.preference_rules import (
    HoldReason,
    Subject,
    Verdict,
    decide,
    limited_until,
    quiet_until,
)
from protocol.events import Priority
from protocol.notifications import Channel, Preferences, QuietHours, RateLimit

MINUTE_MS = 60_000
ZONES = sorted(one for one in available_timezones() if one not in ("localtime", "Factory"))
SUBJECT = Subject(kind="task_blocked", priority=Priority.HIGH)
clock = st.integers(0, 24 * 60 - 1).map(lambda minutes: f"{minutes // 60:02d}:{minutes % 60:02d}")
# Two years hold every yearly change of every zone.
moments = st.integers(1_750_000_000_000 // MINUTE_MS, 1_815_000_000_000 // MINUTE_MS).map(lambda one: one * MINUTE_MS)


def wall_is_quiet(quiet: QuietHours, zone: str, time_ms: int) -> bool:
    """The definition, as plainly as possible."""
    wall = datetime.datetime.fromtimestamp(time_ms / 1000, ZoneInfo(zone)).strftime("%H:%M")
    return quiet.start <= wall < quiet.end if quiet.start < quiet.end else wall >= quiet.start or wall < quiet.end


@st.composite
def near_changes(draw: st.DrawFn) -> tuple[str, int]:
    """Draw a zone, and a moment within a day of one of its clock changes, if it has any."""
    zone = draw(st.sampled_from(ZONES))
    start = draw(moments)
    for hour in range(0, 24 * 370, 12):
        before = datetime.datetime.fromtimestamp(start / 1000 + hour * 3600, ZoneInfo(zone))
        after = datetime.datetime.fromtimestamp(start / 1000 + (hour + 12) * 3600, ZoneInfo(zone))
        if before.utcoffset() != after.utcoffset():
            start += hour * 3_600_000
            break
    return zone, start + draw(st.integers(-1440, 1440)) * MINUTE_MS


@example(QuietHours(start="22:00", end="02:30"), ("Europe/Berlin", 1_774_735_200_000))  # 02:30 is skipped
@example(QuietHours(start="00:30", end="02:30"), ("Europe/Berlin", 1_792_884_600_000))  # 02:30 comes twice
@example(QuietHours(start="00:30", end="02:30"), ("Europe/Berlin", 1_792_890_600_000))  # and this is the second 02:10
@given(
    st.tuples(clock, clock).filter(lambda two: two[0] != two[1]).map(lambda two: QuietHours(start=two[0], end=two[1])),
    st.one_of(st.tuples(st.sampled_from(ZONES), moments), near_changes()),
)
def test_quiet_hours_end_at_the_first_minute_whose_wall_clock_is_not_quiet(
    quiet: QuietHours, where: tuple[str, int]
) -> None:
    zone, now_ms = where
    until = quiet_until(quiet, zone, now_ms)
    if not wall_is_quiet(quiet, zone, now_ms):
        assert until is None
        return
    expected = now_ms + MINUTE_MS
    while wall_is_quiet(quiet, zone, expected):
        expected += MINUTE_MS
    assert until == expected


def test_quiet_hours_have_their_own_zone_else_the_devices_else_utc() -> None:
    noon_utc = 1_790_000_000_000 // 86_400_000 * 86_400_000 + 12 * 3_600_000
    plain = QuietHours(start="11:00", end="13:00")
    assert quiet_until(plain, None, noon_utc) == noon_utc + 3_600_000
    assert quiet_until(plain, "Asia/Tokyo", noon_utc) is None
    own = QuietHours(start="20:00", end="23:00", timezone="Asia/Tokyo")
    assert quiet_until(own, "UTC", noon_utc) == noon_utc + 2 * 3_600_000


@pytest.mark.parametrize(
    ("preferences", "reason"),
    [
        (Preferences(event_types=["task_moved"]), "event_type"),
        (Preferences(channels=[Channel.IN_APP]), "channel"),
        (Preferences(min_priority=Priority.CRITICAL), "min_priority"),
        (Preferences(event_types=["task_blocked"], min_priority=Priority.HIGH), None),
        (Preferences(ai_notifications=False), None),
    ],
)
def test_what_either_client_or_device_does_not_want_is_discarded_with_the_reason(
    preferences: Preferences, reason: str | None
) -> None:
    for client, device in ((preferences, None), (Preferences(), preferences), (preferences, Preferences())):
        verdict = decide(SUBJECT, Channel.WEB_PUSH, client, device, timezone=None, sent_ms=(), now_ms=0)
        assert verdict == Verdict(discard=reason)


def test_ai_notifications_can_be_turned_off() -> None:
    subject = Subject(kind="analysis_done", priority=Priority.MEDIUM)
    off = Preferences(ai_notifications=False)
    verdict = decide(subject, Channel.IN_APP, off, None, timezone=None, sent_ms=(), now_ms=0)
    assert verdict.discard == "ai_notifications"


def test_the_longer_wait_of_client_and_device_holds_and_critical_passes() -> None:
    client = Preferences(quiet_hours=QuietHours(start="00:00", end="01:00"))
    device = Preferences(quiet_hours=QuietHours(start="23:00", end="02:00"))
    verdict = decide(SUBJECT, Channel.APNS, client, device, timezone="UTC", sent_ms=(), now_ms=0)
    assert verdict == Verdict(hold=HoldReason.QUIET_HOURS, until_ms=2 * 3_600_000)
    critical = Subject(kind="build_failure", priority=Priority.CRITICAL)
    assert decide(critical, Channel.APNS, client, device, timezone="UTC", sent_ms=(), now_ms=0) == Verdict()


@given(
    st.lists(st.integers(0, 100_000), max_size=30).map(sorted),
    st.integers(1, 5),
    st.integers(1, 60),
    st.integers(0, 120_000),
)
def test_no_window_ever_holds_more_than_its_rate_limit(sent: list[int], count: int, seconds: int, now_ms: int) -> None:
    limit = RateLimit(count=count, seconds=seconds)
    past = [one for one in sent if one <= now_ms]
    until = limited_until(limit, past, now_ms)
    at = now_ms if until is None else until
    in_window = [one for one in past if at - seconds * 1000 < one <= at]
    assert len(in_window) < count
    if until is not None:
        just_before = [one for one in past if until - 1 - seconds * 1000 < one <= until - 1]
        assert len(just_before) >= count
        assert until > now_ms
