"""Commands of operators. Each needs that role, which everybody has who reaches a server without tokens."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from protocol.command_type import CommandType
from protocol.operator_topics import PATH_CHARACTERS, Watch, Watching
from protocol.validation import between, length, plain_text

__all__ = [
    "OPERATOR_COMMANDS",
    "ActorRestart",
    "ActorResume",
    "ActorState",
    "ActorStateData",
    "ActorSuspend",
    "ActorTold",
    "EngineKill",
    "EngineKilled",
    "TokenCreate",
    "TokenCreated",
    "TokenData",
    "TokenList",
    "TokenRevoke",
    "TokensFound",
]


@frozen(kw_only=True)
class ActorState:
    """Ask an actor for its own view of its state; one that is busy is told with its stack. Needs the role `operator`."""

    path: str = field(validator=[length(1, PATH_CHARACTERS, "characters"), plain_text])


@frozen(kw_only=True)
class ActorStateData:
    """Answers `actor_state`."""

    path: str
    snapshot: dict[str, Any] | None = None
    """None of one that did not answer."""
    busy_with: str | None = None
    """Class name of the message that it handles meanwhile."""
    stack: list[str]
    """Where its task waits, outermost frame first."""


@frozen(kw_only=True)
class ActorRestart:
    """Stop a child in order and start it again; no failure is counted. Needs the role `operator`."""

    path: str = field(validator=[length(1, PATH_CHARACTERS, "characters"), plain_text])


@frozen(kw_only=True)
class ActorSuspend:
    """Let an actor take no more messages until `actor_resume`. Needs the role `operator`."""

    path: str = field(validator=[length(1, PATH_CHARACTERS, "characters"), plain_text])


@frozen(kw_only=True)
class ActorResume:
    """Let a suspended actor go on. Needs the role `operator`."""

    path: str = field(validator=[length(1, PATH_CHARACTERS, "characters"), plain_text])


@frozen(kw_only=True)
class ActorTold:
    """Answers `actor_restart`, `actor_suspend` and `actor_resume`."""

    path: str
    incarnation: int


@frozen
class EngineKill:
    """Kill the process of the engine in use as `kill -9` does: answers go on in the next one. Needs the role `operator`."""


@frozen(kw_only=True)
class EngineKilled:
    """Answers `engine_kill`."""

    worker_pid: int


@frozen
class TokenList:
    """All access tokens, without their secrets. Needs the role `operator`."""


@frozen(kw_only=True)
class TokenData:
    """A token as it may be shown."""

    token_id: str
    name: str
    client_ids: list[str] | None = None
    """Client ids that it opens; None opens all."""
    roles: list[str]
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None
    is_local: bool
    """It is the one of this machine's command line."""


@frozen(kw_only=True)
class TokensFound:
    """Answers `token_list`, oldest first."""

    tokens: list[TokenData]


@frozen(kw_only=True)
class TokenCreate:
    """Make a token; from the first one on nobody enters without. Needs the role `operator`."""

    client_ids: list[str] = field(validator=length(1, 64, "entries"))
    """At least one; the first is the one meant where none is named."""
    roles: list[str] = field(factory=lambda: ["user"], validator=length(1, 2, "entries"))
    """`user`, `operator`."""
    name: str = field(default="", validator=[length(0, 64, "characters"), plain_text])
    expires_ms: int | None = field(default=None, validator=between(0, 2**53))
    """POSIX milliseconds, in the future."""


@frozen(kw_only=True)
class TokenCreated:
    """Answers `token_create`: the only time that the token itself is told."""

    token: str = field(repr=False)
    description: TokenData


@frozen(kw_only=True)
class TokenRevoke:
    """End a token now; its connections are closed. Needs the role `operator`."""

    token_id: str = field(validator=length(1, 64, "characters"))


OPERATOR_COMMANDS: dict[str, CommandType] = {
    "watch": CommandType(Watch, result=Watching, needs_operator=True),
    "actor_state": CommandType(ActorState, result=ActorStateData, needs_operator=True),
    "actor_restart": CommandType(ActorRestart, result=ActorTold, needs_operator=True),
    "actor_suspend": CommandType(ActorSuspend, result=ActorTold, needs_operator=True),
    "actor_resume": CommandType(ActorResume, result=ActorTold, needs_operator=True),
    "engine_kill": CommandType(EngineKill, result=EngineKilled, needs_operator=True),
    "token_list": CommandType(TokenList, result=TokensFound, needs_operator=True),
    "token_create": CommandType(TokenCreate, result=TokenCreated, needs_operator=True),
    "token_revoke": CommandType(TokenRevoke, result=TokenData, needs_operator=True),
}
"""By wire name. The server remembers none of them: one whose answer was lost is looked after, not sent again."""
