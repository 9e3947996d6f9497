"""Web Push: RFC 8030 requests with RFC 8291 content (aes128gcm) and RFC 8292 identification.

`http-ece` encrypts: it is the reference library and needs nothing but `cryptography`, while pywebpush, which wraps it,
brings requests and aiohttp along, neither of which runs on Trio. The server's key (VAPID) is generated on first use and stored
in the data folder with mode 0600.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from actors.notifications.delivery_rules import Attempt
from actors.notifications.http_client import HttpClient, HttpClientSettings
from actors.notifications.outbox import DeviceQueuePage, QueuedDelivery
from actors.notifications.sender import attempt_of, fitted, texts
from protocol.events import Priority

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec


__all__ = ["PAYLOAD_BYTES", "VapidKeys", "WebPushSender", "encrypted", "load_or_make_keys"]

FILE_NAME = "vapid.pem"
TOKEN_SECONDS = 12 * 3600
"""Push services refuse tokens valid for more than 24 hours."""
RENEW_SECONDS = 3600
ORIGINS_KEPT = 256
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
            return Attempt(is_final=True, reason="the subscription's keys are invalid")
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


class VapidKeys:
    """A key pair and the tokens signed with it, one per push service."""

    def __init__(self, private: ec.EllipticCurvePrivateKey, contact: str) -> None:
        from cryptography.hazmat.primitives import serialization

        self._private = private
        self._contact = contact
        point = private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.public_key = base64.urlsafe_b64encode(point).rstrip(b"=").decode()
        """base64url, as a browser's `applicationServerKey` expects it."""
        self._tokens: dict[str, tuple[float, str]] = {}

    def authorization(self, endpoint: str, now_seconds: float | None = None) -> str:
        """Return the `Authorization` header for this endpoint."""
        import jwt

        now = time.time() if now_seconds is None else now_seconds
        origin = _origin(endpoint)
        expires, token = self._tokens.get(origin, (0.0, ""))
        # Ahead of what one made now would have, it was made by a clock that has been set back since.
        if not RENEW_SECONDS <= expires - now <= TOKEN_SECONDS:
            expires = now + TOKEN_SECONDS
            token = jwt.encode(
                {"aud": origin, "exp": int(expires), "sub": self._contact}, self._private, algorithm="ES256"
            )
            if len(self._tokens) >= ORIGINS_KEPT:
                self._tokens.clear()
            self._tokens[origin] = (expires, token)
        return f"vapid t={token}, k={self.public_key}"


def _origin(endpoint: str) -> str:
    """Serialise an origin as browsers and push services do (RFC 6454, 6.2): lower case, no default port."""
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + ("" if parts.port in (None, 443) else f":{parts.port}")


def load_or_make_keys(folder: Path, contact: str) -> VapidKeys:
    """Load the keys from the data folder, or generate them. Raises `OSError`, or `ValueError` for a damaged file. Blocking.

    A new file is complete before it gets its name, and the loser of a race uses the winner's file.
    """
    # At first need as well: most servers push nothing, and these take a tenth of a second to import.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path = folder / FILE_NAME
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{FILE_NAME}.")  # 0600 by nature
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(made)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(name, path)
        finally:
            Path(name).unlink()
    private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise ValueError(f"{path} does not hold a P-256 key")
    return VapidKeys(private, contact)
