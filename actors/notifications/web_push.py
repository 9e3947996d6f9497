"""Web Push: RFC 8030 requests with RFC 8291 content (aes128gcm) and RFC 8292 identification.

`http-ece` encrypts: it is the reference library and needs nothing but `cryptography`, while pywebpush, which wraps it,
brings requests and aiohttp along, neither of which runs on Trio.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Awaitable, Callable

from actors.notifications.delivery_rules import Attempt
from actors.notifications.http_client import HttpClient, HttpClientSettings
from actors.notifications.outbox import DeviceQueuePage, QueuedDelivery
from actors.notifications.sender import attempt_of, fitted, texts
from actors.notifications.vapid import VapidKeys
from protocol.events import Priority

__all__ = ["PAYLOAD_BYTES", "WebPushSender", "encrypted"]

PAYLOAD_BYTES = 3993
"""Capacity of a 4096-byte record: less a header of 86, a tag of 16 and a padding delimiter of 1."""
TIME_TO_LIVE_SECONDS = 24 * 3600
URGENCY = {
    Priority.CRITICAL: "high",
    Priority.HIGH: "high",
    Priority.MEDIUM: "normal",
    Priority.LOW: "low",
    Priority.DEBUG: "very-low",
}


class WebPushSender:
    """Sends to browsers' push services."""

    def __init__(self, settings: HttpClientSettings, keys: Callable[[], Awaitable[VapidKeys]]) -> None:
        self._http_client = HttpClient(settings)
        self._keys = keys

    async def __aenter__(self) -> WebPushSender:
        await self._http_client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http_client.__aexit__(*error)

    async def send(self, page: DeviceQueuePage, item: QueuedDelivery) -> Attempt:
        """Send one message to one subscription."""
        title, body = texts(page, item)
        payload = fitted(
            lambda text: {
                "notification_id": item.notification_id,
                "kind": item.kind,
                "priority": item.priority.value,
                "title": title,
                "body": text,
                "data": item.data,
                "badge": page.badge,
            },
            body,
            PAYLOAD_BYTES,
        )
        # At first need: it brings cryptography, which takes a tenth of a second to import.
        from http_ece import ECEException

        try:
            content = encrypted(payload, page.secret)
        except (ValueError, ECEException):
            return Attempt(is_final=True, reason="the subscription's keys are no keys")
        try:
            keys = await self._keys()
        except (OSError, ValueError):
            # Its owner can mend the file while the server runs.
            return Attempt(reason="the server's key for Web Push cannot be read")
        answer = await self._http_client.post(
            page.address,
            {
                "authorization": keys.authorization(page.address),
                "content-encoding": "aes128gcm",
                "content-type": "application/octet-stream",
                "ttl": str(TIME_TO_LIVE_SECONDS),
                "urgency": URGENCY[item.priority],
                # A repeat takes the place of the first, if that one still waits at the service.
                "topic": topic_of(item.notification_id),
            },
            content,
        )
        return attempt_of(answer, taken=(200, 201, 202, 204))


def topic_of(notification_id: str) -> str:
    """Return at most 32 characters of base64url (RFC 8030 §5.4), stable per notification."""
    return base64.urlsafe_b64encode(hashlib.sha256(notification_id.encode()).digest()[:18]).decode()


def encrypted(payload: bytes, keys: str) -> bytes:
    """Encrypt one aes128gcm record for the subscription with these keys (JSON). Raises `ValueError`, `ECEException`."""
    import http_ece
    from cryptography.hazmat.primitives.asymmetric import ec

    subscription = json.loads(keys)
    content: bytes = http_ece.encrypt(
        payload,
        private_key=ec.generate_private_key(ec.SECP256R1()),
        dh=_decoded(subscription["p256dh"]),
        auth_secret=_decoded(subscription["auth"]),
        version="aes128gcm",
    )
    return content


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
