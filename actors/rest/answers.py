"""Answers that have nothing to say but their status and header lines."""

from __future__ import annotations

from collections.abc import Mapping

from quart import Response

__all__ = ["empty_answer"]


def empty_answer(status: int, headers: Mapping[str, str]) -> Response:
    """204 or 304: neither a body nor a word about one (RFC 9110, 8.6)."""
    response = Response(b"", status=status, headers=dict(headers))
    for name in ("Content-Length", "Content-Type"):
        response.headers.pop(name, None)
    return response
