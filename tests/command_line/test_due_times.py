"""When something is due, as people write it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from actors.command_line.due_times import EXAMPLES, BadTime, due_time
from actors.command_line.main import leanvibe

# A Friday; the clocks of Berlin go back in the night to Sunday.
FRIDAY = datetime(2026, 10, 23, 12, 0, tzinfo=ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("said", "due"),
    [
        ("today", "2026-10-23T23:59:00+02:00"),
        ("tonight", "2026-10-23T23:59:00+02:00"),
        (" Tomorrow ", "2026-10-24T23:59:00+02:00"),
        ("tomorrow noon", "2026-10-24T12:00:00+02:00"),
        ("tomorrow at 5pm", "2026-10-24T17:00:00+02:00"),
        ("day after tomorrow", "2026-10-25T23:59:00+01:00"),
        # A weekday is never today, and its offset is that day's own.
        ("Friday", "2026-10-30T23:59:00+01:00"),
        ("fri 9:30", "2026-10-30T09:30:00+01:00"),
        ("next monday, 12 am", "2026-10-26T00:00:00+01:00"),
        ("by saturday", "2026-10-24T23:59:00+02:00"),
        ("in 3 days", "2026-10-26T12:00:00+01:00"),
        ("in a week", "2026-10-30T12:00:00+01:00"),
        ("in two hours", "2026-10-23T14:00:00+02:00"),
        ("in 90 minutes", "2026-10-23T13:30:00+02:00"),
        # A clock time alone is the next one.
        ("18:00", "2026-10-23T18:00:00+02:00"),
        ("9:00", "2026-10-24T09:00:00+02:00"),
        ("2026-12-01", "2026-12-01T23:59:00+01:00"),
        ("2026-12-01 14:00", "2026-12-01T14:00:00+01:00"),
        ("2026-12-01T14:00", "2026-12-01T14:00:00+01:00"),
        ("2026-12-01T10:00:00+05:30", "2026-12-01T10:00:00+05:30"),
        ("2026-12-01t10:00:00z", "2026-12-01T10:00:00+00:00"),
    ],
)
def test_te1_times_are_read_as_people_write_them(said: str, due: str) -> None:
    assert due_time(said, FRIDAY) == due


@pytest.mark.parametrize(
    "said",
    ["", "soon", "tomorow", "25:00", "friday 13pm", "in 3 moons", "in many days", "2026-13-01", "31.12.2026", "fr", "in 99999 weeks in a row"],
)  # fmt: skip
def test_te1_what_is_no_time_gets_examples(said: str) -> None:
    with pytest.raises(BadTime) as refused:
        due_time(said, FRIDAY)
    assert EXAMPLES in str(refused.value)


@pytest.mark.parametrize("example", EXAMPLES.split(", "))
def test_te1_every_example_works(example: str) -> None:
    assert datetime.fromisoformat(due_time(example, FRIDAY)).tzinfo is not None


@given(st.text(max_size=30), st.datetimes(timezones=st.just(UTC)))
def test_te1_any_text_is_a_time_or_is_refused(said: str, now: datetime) -> None:
    try:
        found = due_time(said, now)
    except BadTime:
        return
    assert datetime.fromisoformat(found).tzinfo is not None


@given(st.integers(0, 9999))
def test_te1_days_are_counted_on_the_calendar(days: int) -> None:
    found = datetime.fromisoformat(due_time(f"in {days} days", FRIDAY)).replace(tzinfo=None)
    assert found == FRIDAY.replace(tzinfo=None) + timedelta(days)


def test_te1_a_wrong_time_ends_the_command_before_anything_is_sent() -> None:
    done = CliRunner().invoke(leanvibe, ["task", "add", "x", "--due", "tomorow"])
    assert done.exit_code == 2
    assert "'--due'" in done.stderr
    assert "tomorrow, friday 9:30" in " ".join(done.stderr.split())
