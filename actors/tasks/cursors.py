"""Cursors: where a page ended, in words that only the server reads."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

import msgspec
from attrs import frozen

from protocol.codec import encode

__all__ = ["Cursor", "read_cursor", "write_cursor"]


@frozen
class Cursor:
    """The last task of a page."""

    value: int | str
    """What the page was ordered by."""
    task_id: str


def write_cursor(cursor: Cursor, listing: Any) -> str:
    """A cursor for the next page of the same ``listing`` (JSON values: filters, sort and order)."""
    return base64.urlsafe_b64encode(encode([_digest(listing), cursor.value, cursor.task_id])).decode().rstrip("=")


def read_cursor(text: str, listing: Any, kind: type[int] | type[str]) -> Cursor | None:
    """The cursor; None where it is none, or belongs to another listing."""
    try:
        parts = msgspec.json.decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True))
    except (binascii.Error, msgspec.DecodeError, ValueError):
        return None
    match parts:
        case [str(digest), value, str(task_id)] if (
            digest == _digest(listing)
            and type(value) is kind
            and "\0" not in f"{value}{task_id}"
            and (kind is str or abs(int(value)) < 2**62)
        ):
            return Cursor(value, task_id)
    return None


def _digest(listing: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(listing, order="deterministic")).hexdigest()[:16]
