"""What a client can meet.

::

    CommandFailed    the server said no: `data` is its `error` or `failed`
    Disconnected     the connection ended, and no other will follow; or an answer was lost with it
    ├─ Refused         the server will not have this client: its token, its name, its version
    └─ OutcomeUnknown  a command that changes something was sent, and whether it was carried out cannot be told
"""

from __future__ import annotations

from typing import Any

from protocol.errors import CloseCode

__all__ = ["CommandFailed", "Disconnected", "HandshakeRefused", "OutcomeUnknown", "Refused", "alone", "refusal"]

REFUSING = (CloseCode.UNAUTHORIZED, CloseCode.FORBIDDEN, CloseCode.NOT_THIS_PROTOCOL)
FOR_GOOD = (400, 401, 403, 426)
"""Statuses of a handshake that the same request would meet again. A 404 is also what proxies say while a server restarts."""


class CommandFailed(Exception):
    """The server answered with `error`, or a stream ended with `failed`; ``data`` is what it said."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(f"{data.get('code')}: {data.get('message')}")
        self.data = data

    @property
    def code(self) -> str:
        """One of the protocol's error codes."""
        return str(self.data.get("code"))


class Disconnected(Exception):
    """The connection ended; ``code`` and ``reason`` are those of its close frame, if there was one."""

    def __init__(self, code: int | None, reason: str | None) -> None:
        said = f" ({code})" if code is not None else ""
        super().__init__(f"the connection ended{said}{': ' + reason if reason else ''}")
        self.code = code
        self.reason = reason


class Refused(Disconnected):
    """The server will not have this client, and would not the next time either; ``reason`` is its sentence."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(code, reason)
        self.args = (f"the server refuses this client: {reason}",)


class OutcomeUnknown(Disconnected):
    """A command that changes something was sent and its answer did not come, so nobody here knows what became of it.

    It is not sent again: past the time for which the server remembers commands it would be carried out twice.
    """

    def __init__(self, kind: str, command_id: str, cause: Disconnected) -> None:
        super().__init__(cause.code, cause.reason)
        self.args = (f"{kind} was sent and may have been carried out; look before you repeat it ({cause})",)
        self.kind = kind
        """The command's type."""
        self.command_id = command_id


class HandshakeRefused(OSError):
    """What answers there does not open a WebSocket for us; ``status`` is that of its HTTP answer, if it gave one."""

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_for_good(self) -> bool:
        """Whether the next handshake would be refused like this one."""
        return self.status in FOR_GOOD


def refusal(cause: Exception) -> Exception:
    """As a sentence, where the server said why."""
    if isinstance(cause, CommandFailed):
        return Refused(f"{cause.data.get('message')} ({cause.code})")
    if isinstance(cause, Disconnected) and cause.code in REFUSING and not isinstance(cause, Refused):
        return Refused(cause.reason or "it does not say why", cause.code)
    if isinstance(cause, HandshakeRefused):
        return Refused(str(cause))
    return cause


def alone(group: BaseExceptionGroup) -> BaseException:
    """A caller sees its own exception, not the nursery that it never asked for."""
    return group.exceptions[0] if len(group.exceptions) == 1 else group
