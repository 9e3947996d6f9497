"""Errors of the client.

::

    CommandFailed    the server answered with an error: `data` is its `error` or `failed`
    Disconnected     the connection ended, and no other will follow; or an answer was lost with it
    ├─ Refused         the server permanently rejects this client: its token, its name, its version
    └─ OutcomeUnknown  a command that changes something was sent, and its outcome cannot be determined
"""

from __future__ import annotations

from typing import Any

from protocol.errors import CloseCode

__all__ = ["CommandFailed", "Disconnected", "HandshakeRefused", "OutcomeUnknown", "Refused", "alone", "refusal"]

REFUSING = (CloseCode.UNAUTHORIZED, CloseCode.FORBIDDEN, CloseCode.NOT_THIS_PROTOCOL)
FOR_GOOD = (400, 401, 403, 426)
"""Handshake statuses that the same request would meet again. A 404 is excluded: proxies send it while a server restarts."""


class CommandFailed(Exception):
    """The server answered with `error`, or a stream ended with `failed`; ``data`` is the answer's."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(f"{data.get('code')}: {data.get('message')}")
        self.data = data

    @property
    def code(self) -> str:
        """One of the protocol's error codes."""
        return str(self.data.get("code"))


class Disconnected(Exception):
    """The connection ended; ``code`` and ``reason`` are those of its close frame, if it had one."""

    def __init__(self, code: int | None, reason: str | None) -> None:
        said = f" ({code})" if code is not None else ""
        super().__init__(f"the connection ended{said}{': ' + reason if reason else ''}")
        self.code = code
        self.reason = reason


class Refused(Disconnected):
    """The server rejects this client, and would reject it again; ``reason`` is its explanation."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(code, reason)
        self.args = (f"the server refuses this client: {reason}",)


class OutcomeUnknown(Disconnected):
    """A command that changes something was sent and its answer was lost, so its outcome is unknown.

    It is not sent again: once the server has forgotten it, it would be carried out twice.
    """

    def __init__(self, kind: str, command_id: str, cause: Disconnected) -> None:
        super().__init__(cause.code, cause.reason)
        self.args = (f"{kind} was sent and may have been carried out; check before you repeat it ({cause})",)
        self.kind = kind
        """The command's type."""
        self.command_id = command_id


class HandshakeRefused(OSError):
    """The WebSocket handshake failed; ``status`` is that of the HTTP answer, if there was one."""

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_for_good(self) -> bool:
        """True if the next handshake would be rejected as well."""
        return self.status in FOR_GOOD


def refusal(cause: Exception) -> Exception:
    """Converts a permanent rejection into `Refused` with the server's explanation; other errors are returned unchanged."""
    if isinstance(cause, CommandFailed):
        return Refused(f"{cause.data.get('message')} ({cause.code})")
    if isinstance(cause, Disconnected) and cause.code in REFUSING and not isinstance(cause, Refused):
        return Refused(cause.reason or "it gives no reason", cause.code)
    if isinstance(cause, HandshakeRefused):
        return Refused(str(cause))
    return cause


def alone(group: BaseExceptionGroup) -> BaseException:
    """Unwraps a single exception, so that a caller does not see the nursery that it did not ask for."""
    return group.exceptions[0] if len(group.exceptions) == 1 else group
