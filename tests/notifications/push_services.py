"""Stand-ins of push services: real TLS and HTTP by hypercorn, real decryption, real checks of tokens.

The next responses to each subscription are planned: a status, `Later(seconds)` for 429 with `Retry-After`, `HANG`,
`CUT`.
"""

from __future__ import annotations

import base64
import json
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import http_ece
import jwt
import trio
import trustme
from attrs import define, field, frozen
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypercorn.config import Config
from hypercorn.trio import serve

__all__ = ["CUT", "HANG", "Later", "PushServices", "Received", "apple_key", "push_services"]

HANG = "hang"
CUT = "cut"


@frozen
class Later:
    """429 with `Retry-After`."""

    seconds: str
    status: int = 429


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def apple_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Write a signing key to a file in Apple's format."""
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return key


@frozen
class Received:
    """One accepted request, decrypted if it was encrypted."""

    path: str
    headers: dict[str, str]
    payload: dict[str, Any]
    raw: bytes
    http_version: str
    time: float
    """By the monotonic clock."""


@define
class PushServices:
    """Web Push at `/push/NAME`, APNs at `/3/device/TOKEN`, webhooks at `/hook/NAME`."""

    ca_file: Path
    url: str = ""
    received: list[Received] = field(factory=list)
    """Requests answered with success, in order."""
    requests: list[str] = field(factory=list)
    """Paths of all requests, accepted or not."""
    problems: list[str] = field(factory=list)
    """Problems of requests; a good sender leaves it empty."""
    plans: dict[str, deque[Any]] = field(factory=lambda: defaultdict(deque))
    is_down: bool = False
    """Every request is answered with 503."""
    apple_public: Any = None
    subscriptions: dict[str, tuple[ec.EllipticCurvePrivateKey, bytes]] = field(factory=dict)

    def subscription(self, name: str) -> dict[str, Any]:
        """Return a browser's `PushSubscription.toJSON()`."""
        key = ec.generate_private_key(ec.SECP256R1())
        auth = b"0123456789abcdef"
        self.subscriptions[f"/push/{name}"] = (key, auth)
        return {
            "endpoint": f"{self.url}/push/{name}",
            "keys": {"p256dh": base64url(point_of(key.public_key())), "auth": base64url(auth)},
        }

    def titles(self, path: str) -> list[str]:
        """Return the titles received at this path, in order."""
        return [title_of(one.payload) for one in self.received if one.path == path]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve as an ASGI application."""
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                # The sender died in the middle: half a request is no request.
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        path = scope["path"]
        self.requests.append(path)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        planned = self.plans[path].popleft() if self.plans[path] else (503 if self.is_down else None)
        if planned == HANG:
            await trio.sleep_forever()
        if planned == CUT:
            await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"100")]})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise ConnectionResetError("cut on purpose")
        if isinstance(planned, Later):
            await self._answer(send, planned.status, {"retry-after": planned.seconds})
            return
        if isinstance(planned, tuple):
            await self._answer(send, planned[0], {}, json.dumps(planned[1]).encode())
            return
        if planned is not None and planned >= 300:
            await self._answer(send, planned, {"location": f"{self.url}/push/elsewhere"} if planned < 400 else {})
            return
        try:
            payload = self._checked(path, headers, body, scope["http_version"])
        except Exception as error:
            self.problems.append(f"{path}: {error!r}")
            await self._answer(send, 400, {})
            return
        self.received.append(Received(path, headers, payload, body, scope["http_version"], time.monotonic()))
        await self._answer(send, planned or (200 if path.startswith("/3/") else 201), {})

    async def _answer(self, send: Any, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    def _checked(self, path: str, headers: dict[str, str], body: bytes, http_version: str) -> dict[str, Any]:
        if path.startswith("/push/"):
            return self._web_push(path, headers, body)
        if path.startswith("/3/device/"):
            return self._apns(headers, body, http_version)
        payload: dict[str, Any] = json.loads(body)
        return payload

    def _web_push(self, path: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        scheme, _, parameters = headers["authorization"].partition(" ")
        assert scheme == "vapid", scheme
        given = dict(part.strip().split("=", 1) for part in parameters.split(","))
        point = base64.urlsafe_b64decode(given["k"] + "=" * (-len(given["k"]) % 4))
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        claims = jwt.decode(given["t"], public, algorithms=["ES256"], audience=self.url)
        assert claims["exp"] <= time.time() + 24 * 3600
        assert claims["sub"].startswith(("mailto:", "https:"))
        assert int(headers["ttl"]) > 0
        assert headers["urgency"] in ("very-low", "low", "normal", "high")
        assert len(headers["topic"]) <= 32
        assert headers["content-encoding"] == "aes128gcm"
        assert len(body) <= 4096
        key, auth = self.subscriptions[path]
        payload: dict[str, Any] = json.loads(http_ece.decrypt(body, private_key=key, auth_secret=auth))
        return payload

    def _apns(self, headers: dict[str, str], body: bytes, http_version: str) -> dict[str, Any]:
        assert http_version == "2", http_version
        token = headers["authorization"].removeprefix("bearer ")
        assert jwt.get_unverified_header(token)["kid"] == "KEY1234567"
        claims = jwt.decode(token, self.apple_public, algorithms=["ES256"])
        assert claims["iss"] == "TEAM123456"
        assert 0 <= time.time() - claims["iat"] < 3600
        assert headers["apns-topic"]
        assert headers["apns-push-type"] == "alert"
        assert headers["apns-priority"] in ("5", "10")
        assert int(headers["apns-expiration"]) > time.time()
        assert len(headers["apns-collapse-id"]) <= 64
        assert len(body) <= 4096
        payload: dict[str, Any] = json.loads(body)
        assert payload["aps"]["alert"]["title"]
        return payload


def title_of(payload: dict[str, Any]) -> str:
    """Return the title of either kind of payload."""
    return str(payload["aps"]["alert"]["title"] if "aps" in payload else payload["title"])


@asynccontextmanager
async def push_services(folder: Path) -> AsyncIterator[PushServices]:
    """Run the stand-ins on a free port of localhost, with a certificate of a test authority."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    for number, one in enumerate(certificate.cert_chain_pems):
        one.write_to_path(str(folder / "certificate.pem"), append=number > 0)
    services = PushServices(folder / "ca.pem")
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.certfile, config.keyfile = str(folder / "certificate.pem"), str(folder / "key.pem")
    config.graceful_timeout = 0
    config.shutdown_timeout = 0.2
    config.accesslog = config.errorlog = None
    stopped = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[list[str]]) -> None:
            await serve(services, config, shutdown_trigger=stopped.wait, task_status=task_status)  # type: ignore[arg-type]

        binds = await nursery.start(run)
        services.url = f"https://localhost:{binds[0].rpartition(':')[2]}"
        try:
            yield services
        finally:
            stopped.set()
            nursery.cancel_scope.cancel(reason="the test is over")
