"""Webhooks: signed POSTs to addresses that clients registered."""

from __future__ import annotations

import hashlib
import hmac
import time

from actors.notifications.delivery_rules import Attempt
from actors.notifications.http_client import HttpClient, HttpClientSettings
from actors.notifications.outbox import DeviceQueuePage, QueuedDelivery
from actors.notifications.sender import attempt_of, fitted, texts
from protocol.codec import wire_time

__all__ = ["WebhookSender", "signature"]

BODY_BYTES = 64 * 1024


class WebhookSender:
    """Posts JSON, signed with the secret that the client registered."""

    def __init__(self, settings: HttpClientSettings) -> None:
        self._http_client = HttpClient(settings)

    async def __aenter__(self) -> WebhookSender:
        await self._http_client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http_client.__aexit__(*error)

    async def send(self, page: DeviceQueuePage, item: QueuedDelivery) -> Attempt:
        """Post one notification to one address."""
        title, body = texts(page, item)
        content = fitted(
            lambda text: {
                "notification_id": item.notification_id,
                "client_id": page.client_id,
                "kind": item.kind,
                "priority": item.priority.value,
                "title": title,
                "body": text,
                "data": item.data,
                "created_at": wire_time(item.created_ms / 1000),
                "attempt": item.attempts + 1,
            },
            body,
            BODY_BYTES,
        )
        timestamp = str(int(time.time()))
        answer = await self._http_client.post(
            page.address,
            {
                "content-type": "application/json",
                "x-leanvibe-notification": item.notification_id,
                "x-leanvibe-timestamp": timestamp,
                "x-leanvibe-signature": signature(page.secret, timestamp, content),
            },
            content,
        )
        return attempt_of(answer, taken=tuple(range(200, 300)))


def signature(secret: str, timestamp: str, content: bytes) -> str:
    """Return `v1=` and the hexadecimal HMAC-SHA-256 of timestamp, a dot and the body.

    A receiver compares it in constant time and refuses timestamps that are minutes old, so that none can be replayed.
    """
    return "v1=" + hmac.new(secret.encode(), timestamp.encode() + b"." + content, hashlib.sha256).hexdigest()
