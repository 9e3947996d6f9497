"""The one REST client of the command line, for what needs no connection of its own."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from actors.command_line.credentials import Credentials
from actors.command_line.failure_words import failure_words, tls_words
from protocol.tls_faults import TlsProblem, speaks_tls, tls_problem

__all__ = ["NoAnswer", "RestFailed", "rest_bytes", "rest_call", "why_unreachable"]

SECONDS = 15.0
PLAIN_PORT = 80


class RestFailed(Exception):
    """The server refused or did not answer; the text is for a person."""


class NoAnswer(RestFailed):
    """The server did not answer, or with something that cannot be read."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the server does not answer: {why}")
        self.why = why
        """Without its subject."""


def rest_call(
    method: str,
    url: str,
    body: Any = None,
    *,
    credentials: Credentials,
    seconds: float = SECONDS,
    client_id: str | None = None,
) -> Any:
    """The answer's JSON; ``client_id`` says who asks where the path does not. Raises `RestFailed`. Blocking, with a deadline."""
    content = rest_bytes(method, url, body, credentials=credentials, seconds=seconds, client_id=client_id)
    try:
        return json.loads(content)
    except ValueError as error:
        raise NoAnswer(str(error)) from None


def rest_bytes(
    method: str,
    url: str,
    body: Any = None,
    *,
    credentials: Credentials,
    seconds: float = SECONDS,
    client_id: str | None = None,
) -> bytes:
    """The answer as it is, otherwise like `rest_call`."""
    headers = {"Content-Type": "application/json", **credentials.headers}
    if client_id is not None:
        headers["X-Client-Id"] = client_id
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310  from server.json
    # The environment's proxy is for the world; this address is the server's own.
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=credentials.tls)
    )
    try:
        with direct.open(request, timeout=seconds) as response:
            content: bytes = response.read()
            return content
    except urllib.error.HTTPError as refused:
        with refused:
            raise RestFailed(_problem(refused.read(), refused.code)) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NoAnswer(_why_of(url, error)) from None


def _why_of(url: str, error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    parts = urlsplit(url)
    problem, detail = None, ""
    if isinstance(cause, ssl.SSLError) or (
        parts.scheme == "https" and isinstance(cause, ConnectionError | http.client.HTTPException)
    ):
        problem, detail = tls_problem(cause)
    elif isinstance(cause, ConnectionResetError | http.client.HTTPException) and parts.hostname:
        # It did not understand us.
        problem = TlsProblem.SECURED if speaks_tls(parts.hostname, parts.port or PLAIN_PORT) else None
    if problem is None:
        return why_unreachable(error)
    return tls_words(problem, problem.value + (f" ({detail})" if detail else ""))


def why_unreachable(error: Exception) -> str:
    """Explain why a request got no answer, without Python's names."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "nothing came in time"
    return cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)


def _problem(body: bytes, status: int) -> str:
    try:
        problem = json.loads(body)
        return failure_words({**problem, "message": problem.get("detail") or problem["title"]})
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"the server answered with {status}"
