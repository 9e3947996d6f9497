"""Commands of operators. Each needs that role, which every client has on a server without tokens."""

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
    """Requests an actor's own snapshot of its state; for a busy actor the answer has its stack. Needs the role `operator`."""

    path: str = field(validator=[length(1, PATH_CHARACTERS, "characters"), plain_text])


@frozen(kw_only=True)
class ActorStateData:
    """Answers `actor_state`."""

    path: str
    snapshot: dict[str, Any] | None = None
    """None if the actor did not answer."""
    busy_with: str | None = None
    """Class name of the message that it is handling."""
    stack: list[str]
    """Await stack of its task, outermost frame first."""


@frozen(kw_only=True)
class ActorRestart:
    """Stops a child in order and starts it again, without counting a failure. Needs the role `operator`."""

    path: str = field(validator=[length(1, PATH_CHARACTERS, "characters"), plain_text])


@frozen(kw_only=True)
class ActorSuspend:
    """Makes an actor stop taking messages until `actor_resume`. Needs the role `operator`."""

    path: str = field(validator=[length(1, PATH_CHARACTERS, "characters"), plain_text])


@frozen(kw_only=True)
class ActorResume:
    """Resumes a suspended actor. Needs the role `operator`."""

    path: str = field(validator=[length(1, PATH_CHARACTERS, "characters"), plain_text])


@frozen(kw_only=True)
class ActorTold:
    """Answers `actor_restart`, `actor_suspend` and `actor_resume`."""

    path: str
    incarnation: int


@frozen
class EngineKill:
    """Kills the process of the active engine like `kill -9`; answers continue in the next one. Needs the role `operator`."""


@frozen(kw_only=True)
class EngineKilled:
    """Answers `engine_kill`."""

    worker_pid: int


@frozen
class TokenList:
    """Lists all access tokens, without their secrets. Needs the role `operator`."""


@frozen(kw_only=True)
class TokenData:
    """An access token, without its secret."""

    token_id: str
    name: str
    client_ids: list[str] | None = None
    """Client ids that it permits; None permits all."""
    roles: list[str]
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None
    is_local: bool
    """True for the token of this machine's command line."""


@frozen(kw_only=True)
class TokensFound:
    """Answers `token_list`, oldest first."""

    tokens: list[TokenData]


@frozen(kw_only=True)
class TokenCreate:
    """Creates a token; as soon as one exists, access requires a token. Needs the role `operator`."""

    client_ids: list[str] = field(validator=length(1, 64, "entries"))
    """At least one; the first is the default when a client names none."""
    roles: list[str] = field(factory=lambda: ["user"], validator=length(1, 2, "entries"))
    """`user`, `operator`."""
    name: str = field(default="", validator=[length(0, 64, "characters"), plain_text])
    expires_ms: int | None = field(default=None, validator=between(0, 2**53))
    """POSIX milliseconds, in the future."""


@frozen(kw_only=True)
class TokenCreated:
    """Answers `token_create`: the only time that the token itself is shown."""

    token: str = field(repr=False)
    description: TokenData


@frozen(kw_only=True)
class TokenRevoke:
    """Revokes a token now and closes its connections. Needs the role `operator`."""

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
"""By wire name. The server remembers none of them: after a lost answer, check the state instead of resending."""
