"""Times as people read them in a terminal."""

from __future__ import annotations

import datetime

__all__ = ["local_time"]


def local_time(text: str) -> str:
    """An RFC 3339 time in this machine's zone, to the minute; any other text as it is."""
    try:
        return f"{datetime.datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError):
        return text
