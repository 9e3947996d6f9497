"""The interface of push channels: one attempt at one delivery."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from actors.notifications.delivery_rules import Attempt
from actors.notifications.http_client import Answer
from actors.notifications.outbox import DeviceQueuePage, QueuedDelivery
from protocol.notification_templates import DEFAULT_LOCALE, cut, render

__all__ = ["Sender", "attempt_of", "fitted", "texts"]

GONE = (404, 410)
TEMPORARY = (408, 425, 429)
LATER = 500


class Sender(Protocol):
    """Sends over one channel. An async context manager for the life of its actor."""

    async def __aenter__(self) -> Sender: ...

    async def __aexit__(self, *error: object) -> None: ...

    async def send(self, page: DeviceQueuePage, item: QueuedDelivery) -> Attempt:
        """Try once, within a deadline. Raises `RequestFailed` or `AddressRefused` as the HTTP client does."""
        ...


def attempt_of(answer: Answer, *, taken: tuple[int, ...], gone: tuple[int, ...] = GONE) -> Attempt:
    """Return the outcome that an HTTP response means for a delivery."""
    status = answer.status
    if status in taken:
        return Attempt(is_sent=True)
    reason = f"HTTP {status}"
    if status in gone:
        return Attempt(is_gone=True, reason=reason)
    if status in TEMPORARY or status >= LATER:
        return Attempt(reason=reason, retry_after_seconds=answer.retry_after_seconds)
    if 300 <= status < 400:
        return Attempt(is_final=True, reason=f"{reason}: redirects are not followed")
    return Attempt(is_final=True, reason=reason)


def texts(page: DeviceQueuePage, item: QueuedDelivery) -> tuple[str, str]:
    """Return title and body in the device's language, cut to what its channel shows."""
    return render(item.kind, item.fields, page.locale or DEFAULT_LOCALE, page.channel.value)


def fitted(make: Callable[[str], dict[str, Any]], body: str, maximum_bytes: int) -> bytes:
    """Encode ``make(body)`` as JSON, shortening the body until it fits. Raises `ValueError` if even an empty body does not."""
    while True:
        encoded = json.dumps(make(body), ensure_ascii=False, separators=(",", ":")).encode()
        over = len(encoded) - maximum_bytes
        if over <= 0:
            return encoded
        if not body:
            raise ValueError(f"{over} bytes too many without any text")
        # As many characters as the bytes too many are worth on average in this text, so that few rounds are needed.
        share = over * len(body) // len(json.dumps(body, ensure_ascii=False).encode())
        body = cut(body, max(0, len(body) - share - 1)) if len(body) > 1 else ""
