"""Apple's push notification service: HTTP/2 with a provider token (JWT, ES256) that is reused for 20 to 60 minutes."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import trio
from attrs import frozen

from actors.notifications.delivery_rules import Attempt
from actors.notifications.http_client import Answer, HttpClient, HttpClientSettings
from actors.notifications.outbox import DeviceQueuePage, QueuedDelivery
from actors.notifications.sender import attempt_of, fitted, texts
from protocol.events import Priority

__all__ = ["ApnsCredentials", "ApnsSender", "ProviderToken"]

HOSTS = {"production": "https://api.push.apple.com", "sandbox": "https://api.sandbox.push.apple.com"}
TOKEN_SECONDS = 40 * 60
"""Apple refuses tokens renewed more often than every 20 minutes, and those older than 60."""
SHORTEST_TOKEN_SECONDS = 20 * 60
PAYLOAD_BYTES = 4096
EXPIRES_SECONDS = 24 * 3600
SHORTEST_EXPIRY_SECONDS = 3600
"""Minimum, however old a notification seems to be: a clock that was ahead for a while must not let it expire in transit."""
CLOCK_SLACK_SECONDS = 60.0
"""Routine clock corrections stay below this."""
IMMEDIATE, GENTLE = "10", "5"


@frozen(kw_only=True)
class ApnsCredentials:
    """Credentials that Apple issued to the owner of the app."""

    key_file: Path
    """The signing key, `AuthKey_….p8`."""
    key_id: str
    team_id: str
    topic: str
    """The app's bundle id, for devices that name none."""
    url: str | None = None
    """Overrides Apple's addresses."""


class ProviderToken:
    """The JWT sent with every request, renewed before it expires."""

    def __init__(self, credentials: ApnsCredentials, key: str) -> None:
        self._credentials = credentials
        self._key = key
        self._token = ""
        self._made_seconds = float("-inf")

    def value(self, now_seconds: float) -> str:
        """Return the token, renewed if it is older than 40 minutes or dated in the future."""
        if self._is_outside(now_seconds, TOKEN_SECONDS):
            self._make(now_seconds)
        return self._token

    def refused(self, now_seconds: float) -> None:
        """Discard a token that Apple rejected as expired, unless it is too early to renew it."""
        if self._is_outside(now_seconds, SHORTEST_TOKEN_SECONDS):
            self._make(now_seconds)

    def _is_outside(self, now_seconds: float, longest_seconds: float) -> bool:
        return not -CLOCK_SLACK_SECONDS <= now_seconds - self._made_seconds <= longest_seconds

    def _make(self, now_seconds: float) -> None:
        import jwt

        self._token = jwt.encode(
            {"iss": self._credentials.team_id, "iat": int(now_seconds)},
            self._key,
            algorithm="ES256",
            headers={"kid": self._credentials.key_id},
        )
        self._made_seconds = now_seconds


class ApnsSender:
    """Sends to iPhones, iPads and Macs. Without credentials every delivery fails with that reason and is kept for later."""

    def __init__(self, settings: HttpClientSettings, credentials: ApnsCredentials | None) -> None:
        self._http_client = HttpClient(settings, http2=True)
        self._credentials = credentials
        self._token: ProviderToken | None = None

    async def __aenter__(self) -> ApnsSender:
        await self._http_client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http_client.__aexit__(*error)

    async def send(self, page: DeviceQueuePage, item: QueuedDelivery) -> Attempt:
        """Send one notification to one device token."""
        if self._credentials is None:
            return Attempt(is_final=True, reason="this server has no APNs key")
        # At first need: most servers push nothing, and it takes a tenth of a second to import.
        import jwt

        now = time.time()
        try:
            token = (await self._provider_token(self._credentials)).value(now)
        except (OSError, ValueError, jwt.PyJWTError):
            # Its owner can mend the file while the server runs.
            self._token = None
            return Attempt(reason="the APNs key cannot be read")
        title, body = texts(page, item)
        is_urgent = item.priority in (Priority.CRITICAL, Priority.HIGH)
        payload = fitted(
            lambda text: {
                "aps": {
                    "alert": {"title": title, "body": text},
                    "badge": page.badge,
                    "sound": "default",
                    "thread-id": item.kind,
                    "interruption-level": "time-sensitive" if is_urgent else "active",
                },
                "notification_id": item.notification_id,
                "kind": item.kind,
                "data": item.data,
            },
            body,
            PAYLOAD_BYTES,
        )
        host = self._credentials.url or HOSTS[page.environment or "production"]
        answer = await self._http_client.post(
            f"{host}/3/device/{page.address}",
            {
                "authorization": f"bearer {token}",
                "apns-topic": page.topic or self._credentials.topic,
                "apns-push-type": "alert",
                "apns-priority": GENTLE if item.priority in (Priority.LOW, Priority.DEBUG) else IMMEDIATE,
                "apns-expiration": str(expiration(item.created_ms / 1000, now)),
                "apns-id": str(uuid.uuid5(uuid.NAMESPACE_URL, item.notification_id)),
                "apns-collapse-id": item.notification_id[:64],
                "content-type": "application/json",
            },
            payload,
        )
        return self._judged(answer, now)

    async def _provider_token(self, credentials: ApnsCredentials) -> ProviderToken:
        if self._token is None:
            self._token = ProviderToken(credentials, await trio.Path(credentials.key_file).read_text())
        return self._token

    def _judged(self, answer: Answer, now_seconds: float) -> Attempt:
        reason = _reason(answer.body)
        if answer.status == 403 and reason == "ExpiredProviderToken" and self._token is not None:
            self._token.refused(now_seconds)
            return Attempt(reason="HTTP 403: ExpiredProviderToken")
        attempt = attempt_of(answer, taken=(200,))
        if attempt.is_sent or not reason:
            return attempt
        return Attempt(
            is_gone=attempt.is_gone,
            is_final=attempt.is_final,
            reason=f"{attempt.reason}: {reason}",
            retry_after_seconds=attempt.retry_after_seconds,
        )


def expiration(created_seconds: float, now_seconds: float) -> int:
    """Return Apple's expiry time, POSIX seconds: a day after creation, and always in the future."""
    made = min(created_seconds, now_seconds)
    return int(max(made + EXPIRES_SECONDS, now_seconds + SHORTEST_EXPIRY_SECONDS))


def _reason(body: bytes) -> str:
    """Return Apple's reason for an error, or an empty string."""
    try:
        told: Any = json.loads(body)
    except ValueError:
        return ""
    reason = told.get("reason") if isinstance(told, dict) else None
    return reason[:64] if isinstance(reason, str) and reason.isalnum() else ""
