"""SSRF-safe HTTP client for URLs given by clients: https only, public addresses only, no redirects, bounded.

The name is resolved here, every returned address is checked, and the connection goes to one of these: there is no second
look-up that an attacker's name server could answer differently (DNS rebinding). TLS still checks the certificate against
the name.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

import httpcore2
import trio
from attrs import frozen

from actors.notifications.delivery_rules import retry_after_seconds
from actors.notifications.ip_policy import deny_reason
from protocol.validation import address_problem

__all__ = ["AddressRefused", "Answer", "HttpClient", "HttpClientSettings", "RequestFailed"]

REQUEST_SECONDS = 10.0
"""Deadline of a whole request, from resolving the name to the end of the answer."""
CONNECTIONS = 32
ANSWER_BYTES = 8 * 1024
"""Part of a response body that is read; it is needed only for the reason of a failure."""
NAMES_AT_ONCE = 24
"""Concurrent name look-ups per HTTP client; an abandoned thread still counts."""
Resolve = Callable[[str, int], Awaitable[list[str]]]


class RequestFailed(Exception):
    """No response because of the network, the peer or TLS. Another attempt may succeed."""


class AddressRefused(Exception):
    """The address is refused by policy. Another attempt will not help."""


@frozen(kw_only=True)
class HttpClientSettings:
    """Settings of outgoing requests."""

    allow_private: bool = False
    """Allow addresses of private networks."""
    ca_file: str | None = None
    """Certificate authority to trust in addition to the system's, PEM."""
    request_seconds: float = REQUEST_SECONDS


@frozen(kw_only=True)
class Answer:
    """A response."""

    status: int
    body: bytes
    """First bytes of the body."""
    retry_after_seconds: float | None
    """From `Retry-After`."""


class _Resolver:
    """Resolves names in its own threads, so that names whose servers never answer cannot exhaust the shared ones."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(NAMES_AT_ONCE)

    async def __call__(self, host: str, port: int) -> list[str]:
        found = await trio.to_thread.run_sync(_look_up, host, port, abandon_on_cancel=True, limiter=self._threads)
        return list(dict.fromkeys(str(one[4][0]) for one in found))


def _look_up(host: str, port: int) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP))


class _ClosedWhenCancelled(httpcore2.AsyncNetworkStream):
    """Closes its socket even if the TLS handshake is cancelled, in which case the library forgets it."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  its signature
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  its signature
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  its signature
    ) -> httpcore2.AsyncNetworkStream:
        try:
            return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:  # a cancellation above all; raised again
            await self._stream.aclose()  # a plain socket's: closes at once, even when cancelled
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Network backend that connects to checked addresses, never to names."""

    def __init__(self, *, allow_private: bool, resolve: Resolve | None = None) -> None:
        self._allow_private = allow_private
        self._resolve = resolve or _Resolver()
        self._trio = httpcore2.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the library's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Resolve, check and connect. Raises `AddressRefused` if any address of the host is denied."""
        try:
            with trio.fail_after(float("inf") if timeout is None else timeout):
                addresses = await self._resolve(host.strip("[]"), port)
        except trio.TooSlowError as late:
            raise httpcore2.ConnectTimeout("the name was not resolved in time") from late
        except UnicodeError as error:
            # Before it asks anybody the system encodes the name, and some it cannot.
            raise AddressRefused(f"{host[:64]} cannot be the name of a host") from error
        except OSError as error:
            raise httpcore2.ConnectError("the name cannot be resolved") from error
        for address in addresses:
            problem = None if self._allow_private else deny_reason(address)
            if problem is not None:
                raise AddressRefused(f"{host} resolves to an address that is denied: {problem}")
        failure: Exception = httpcore2.ConnectError("the name has no address")
        for address in addresses:
            try:
                connected = await self._trio.connect_tcp(address, port, timeout, local_address, socket_options)
                return _ClosedWhenCancelled(connected)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Always refused: no URL given by a client leads to a file."""
        raise AddressRefused("Unix sockets are refused")

    async def sleep(self, seconds: float) -> None:
        """Used by the pool's retries."""
        await self._trio.sleep(seconds)


class HttpClient:
    """A client for one channel. Use it as an async context manager."""

    def __init__(self, settings: HttpClientSettings, *, http2: bool = False, resolve: Resolve | None = None) -> None:
        self._settings = settings
        self._http2 = http2
        self._backend = CheckedBackend(allow_private=settings.allow_private, resolve=resolve)
        self._seconds = settings.request_seconds
        self._pool: httpcore2.AsyncConnectionPool | None = None
        self._opening = trio.Lock()

    async def __aenter__(self) -> HttpClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._pool is not None:
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await self._pool.aclose()

    async def _open_pool(self) -> httpcore2.AsyncConnectionPool:
        """Open the pool at the first request, because reading the system's authorities is slow and must not delay the start."""
        async with self._opening:
            if self._pool is None:
                try:
                    context = await trio.to_thread.run_sync(_trusting, self._settings.ca_file)
                except OSError as error:  # SSLError is one
                    raise RequestFailed("the certificate authorities cannot be read") from error
                # httpx's own core, because only there the network backend is a parameter. It follows no redirect,
                # keeps no cookie and reads no proxy from the environment, which is all that is wanted here.
                self._pool = httpcore2.AsyncConnectionPool(
                    ssl_context=context,
                    max_connections=CONNECTIONS,
                    max_keepalive_connections=CONNECTIONS,
                    keepalive_expiry=60.0,
                    http1=not self._http2,
                    http2=self._http2,
                    network_backend=self._backend,
                )
            return self._pool

    async def post(self, url: str, headers: Mapping[str, str], content: bytes) -> Answer:
        """Post and return the response, whatever its status. Raises `RequestFailed`, `AddressRefused`.

        If cancelled, the connection is closed and it is unknown whether the peer processed the request.
        """
        if (problem := address_problem(url)) is not None:
            # One that was registered before the rule, or that the settings name.
            raise AddressRefused(f"the address {problem}")
        try:
            with trio.fail_after(self._seconds):
                return await self._post(url, {"user-agent": "leanvibe", **headers}, content)
        except trio.TooSlowError:
            raise RequestFailed(f"no answer within {self._seconds:g} seconds") from None
        except (
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.TimeoutException,
            httpcore2.UnsupportedProtocol,
        ) as error:
            # The text may quote the address, which is a secret.
            raise RequestFailed(type(error).__name__) from error

    async def _post(self, url: str, headers: Mapping[str, str], content: bytes) -> Answer:
        pool = await self._open_pool()
        async with pool.stream("POST", url, headers=list(headers.items()), content=content) as response:
            body = b""
            async with aclosing(aiter(response.stream)) as parts:  # type: ignore[arg-type,type-var]
                async for part in parts:
                    body += part
                    if len(body) >= ANSWER_BYTES:
                        break
            named = {name.lower(): value for name, value in response.headers}
            retry_after = named.get(b"retry-after")
            return Answer(
                status=response.status,
                body=body[:ANSWER_BYTES],
                retry_after_seconds=retry_after_seconds(
                    None if retry_after is None else retry_after.decode("latin-1"), time.time()
                ),
            )


def _trusting(ca_file: str | None) -> ssl.SSLContext:
    """Return a context with the system's authorities and the configured one. Blocking."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context
