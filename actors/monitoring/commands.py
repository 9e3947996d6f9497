"""Commands of operators: to actors through the runtime, to the engine and tokens through their services."""

from __future__ import annotations

import json
from typing import Any

import structlog

from actors.access.messages import (
    AccessRequest,
    CreateToken,
    ListTokens,
    MadeToken,
    RevokeToken,
    TokenDescription,
)
from actors.errors import CommandError
from actors.inference.messages import InferenceRequest, KillEngine
from protocol.errors import ErrorCode
from protocol.operators import (
    ActorRestart,
    ActorResume,
    ActorState,
    ActorStateData,
    ActorSuspend,
    ActorTold,
    EngineKill,
    EngineKilled,
    TokenCreate,
    TokenCreated,
    TokenData,
    TokenList,
    TokenRevoke,
    TokensFound,
)
from runtime import ActorRef, ActorSystem, AskDeadline, Context, RuntimeFault, UnknownPath
from runtime.inspection import actor_snapshot, restart, suspend, tree_node

__all__ = ["OperatorCommands"]

_log = structlog.get_logger("monitoring")

SNAPSHOT_SECONDS = 1.0
ASK_SECONDS = 8.0
SNAPSHOT_BYTES = 64 * 1024


class OperatorCommands:
    """Part of the monitoring actor. Each command runs in a child task."""

    def __init__(
        self,
        system: ActorSystem,
        inference: ActorRef[InferenceRequest],
        access: ActorRef[AccessRequest],
        context: Context,
    ) -> None:
        self._system = system
        self._inference = inference
        self._access = access
        self._context = context

    async def carry_out(self, data: Any) -> Any:
        """Run a command and return its result. Raises `CommandError`, and refusals of the service it asks."""
        match data:
            case ActorState(path=path):
                return await self._state(path)
            case ActorRestart(path=path):
                return await self._restart(path)
            case ActorSuspend(path=path):
                return self._suspend(path, suspended=True)
            case ActorResume(path=path):
                return self._suspend(path, suspended=False)
            case EngineKill():
                return EngineKilled(worker_pid=await self._inference.ask(KillEngine(), timeout=ASK_SECONDS))
            case TokenList():
                found = await self._access.ask(ListTokens(), timeout=ASK_SECONDS)
                return TokensFound(tokens=[_token(one) for one in found])
            case TokenCreate():
                return await self._create(data)
            case TokenRevoke(token_id=token_id):
                return _token(await self._access.ask(RevokeToken(token_id), timeout=ASK_SECONDS))
        raise AssertionError("unreachable: the table of commands names no other")

    async def _state(self, path: str) -> ActorStateData:
        try:
            node = tree_node(self._system, path)
        except UnknownPath:
            raise CommandError(ErrorCode.NOT_FOUND, f"there is no {path} in the tree", field="data.path") from None
        stack = list(node.stack)
        if node.kind != "actor":
            return ActorStateData(path=path, stack=stack)
        try:
            snapshot = dict(await actor_snapshot(self._system, path, timeout=SNAPSHOT_SECONDS))
        except AskDeadline:
            return ActorStateData(path=path, busy_with=node.current_message, stack=stack)
        except RuntimeFault:
            return ActorStateData(path=path, stack=stack)
        # Actors show what JSON has, and whatever else they show as text.
        text = json.dumps(snapshot, default=str)
        if len(text) > SNAPSHOT_BYTES:
            snapshot = {"left out": f"{len(text)} bytes; `leanvibe inspect state {path}` shows them"}
            return ActorStateData(path=path, snapshot=snapshot, stack=stack)
        return ActorStateData(path=path, snapshot=json.loads(text), stack=stack)

    async def _restart(self, path: str) -> ActorTold:
        self._refuse_own(path)
        _log.warning("operator restarts part of the tree", path=path)
        try:
            await restart(self._system, path)
        except RuntimeFault as error:
            raise CommandError(ErrorCode.CONFLICT, str(error), field="data.path") from None
        return self._told(path)

    def _suspend(self, path: str, *, suspended: bool) -> ActorTold:
        if suspended:
            self._refuse_own(path)
        _log.warning("operator suspends an actor" if suspended else "operator resumes an actor", path=path)
        try:
            suspend(self._system, path, suspended=suspended)
        except RuntimeFault as error:
            raise CommandError(ErrorCode.CONFLICT, str(error), field="data.path") from None
        return self._told(path)

    def _refuse_own(self, path: str) -> None:
        """Refuse commands to monitoring and connections themselves, which are needed to undo them."""
        own = self._context.path
        if path == own or path in ("root", "connections") or path.startswith("connections/sockets"):
            raise CommandError(
                ErrorCode.CONFLICT,
                f"this page itself depends on {path}; use `leanvibe inspect`, which does not",
                field="data.path",
            )

    def _told(self, path: str) -> ActorTold:
        return ActorTold(path=path, incarnation=self._system.record(path).incarnation)

    async def _create(self, data: TokenCreate) -> TokenCreated:
        wanted = CreateToken(
            client_ids=tuple(data.client_ids), roles=tuple(data.roles), name=data.name, expires_ms=data.expires_ms
        )
        made: MadeToken = await self._access.ask(wanted, timeout=ASK_SECONDS)
        return TokenCreated(token=made.token, description=_token(made.description))


def _token(one: TokenDescription) -> TokenData:
    return TokenData(
        token_id=one.token_id,
        name=one.name,
        client_ids=None if one.client_ids is None else list(one.client_ids),
        roles=list(one.roles),
        created_ms=one.created_ms,
        expires_ms=one.expires_ms,
        revoked_ms=one.revoked_ms,
        is_local=one.is_local,
    )
