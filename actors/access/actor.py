"""The access actor: authenticates requests against the rules, and owns the tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
import trio
from attrs import field, frozen

from actors.access.local_token import read_local_token, remove_local_token, write_local_token
from actors.access.messages import (
    LOCAL_CLIENT,
    AccessRequest,
    AuthenticationError,
    AwaitTokenChange,
    CheckIdentity,
    CheckOrigin,
    CreateToken,
    EnsureLocalToken,
    FindEnded,
    ForgetTokens,
    Identity,
    IdentityWithdrawn,
    ListTokens,
    MadeToken,
    OfferToken,
    RevokeToken,
    TakeOfferedToken,
    TokenDescription,
    TokenOffer,
)
from actors.access.rules import host_problem, origin_problem, query_problem
from actors.access.store import FORGET_TOKENS, LOAD_TOKENS, REVOKE_TOKEN, SAVE_TOKEN, RevokeStored
from actors.access.token_offers import OFFER_SECONDS, TokenOffers
from actors.access.tokens import TokenStore, checked_token, describe, is_same_token, new_local_token
from actors.clock import now_milliseconds
from actors.errors import CommandError
from actors.storage.messages import Operation, Storage
from protocol.errors import ErrorCode
from runtime import Actor, ActorRef, Down, RuntimeFault, reject

__all__ = ["Access", "AccessSettings", "CheckTokens", "ReloadTokens"]

_log = structlog.get_logger("access")

LOOK_SECONDS = 0.5
"""Upper bound on how long a connection outlives its token."""
RELOAD_SECONDS = 1.0
SHARED_SECONDS = 2.0
"""In which a node reads what other nodes have changed."""
KEEP_SECONDS = 5.0


@frozen
class CheckTokens:
    """Timer: look for sessions whose token has ended."""


@frozen
class ReloadTokens:
    """Timer: read the stored tokens again, because the outcome of a write is unknown."""


@frozen
class KeepLocalToken:
    """Timer: try again to store the command line's token and write its file."""


@frozen(kw_only=True)
class AccessSettings:
    """Access rules other than tokens."""

    data_folder: Path
    """Holds the file of the command line's token."""
    allowed_hosts: frozenset[str] = frozenset()
    """Accepted in addition to loopback names."""
    allowed_origins: frozenset[str] = frozenset()
    """Accepted in addition to loopback origins."""
    is_loopback_only: bool = True
    """True if only programs on this machine can reach the server."""
    node: str | None = None
    """Name of this node of a cluster, whose other nodes change tokens too; None of a server of its own."""
    now_ms: Callable[[], int] = field(default=now_milliseconds)
    """POSIX milliseconds."""


@frozen
class _Session:
    """An authenticated connection that is still open."""

    reference: ActorRef[IdentityWithdrawn]
    token_id: str | None
    """None if it was opened while the server had no tokens."""


class Access(Actor[AccessRequest | CheckTokens | ReloadTokens | KeepLocalToken]):
    """Holds all tokens in memory, so that no check reads the database; a change takes effect once it is stored."""

    mailbox = reject(4096)

    def __init__(self, settings: AccessSettings, storage: Storage) -> None:
        self._settings = settings
        self._storage = storage
        self._book = TokenStore()
        self._offers = TokenOffers()
        self._sessions: dict[str, _Session] = {}
        self._changes = 0
        self._changed = trio.Event()
        # One change at a time, so that what is in memory is what was stored last.
        self._changing = trio.Lock()
        self._refused = 0

    async def started(self) -> None:
        """Read the tokens. Requests wait in the mailbox until then, so none is let in early."""
        await self._load()
        await self._keep_local_token()
        self.context.every(LOOK_SECONDS, CheckTokens())
        if self._settings.node is not None:
            self.context.every(SHARED_SECONDS, ReloadTokens())

    async def handle(
        self,
        message: CheckOrigin
        | CheckIdentity
        | FindEnded
        | AwaitTokenChange
        | CreateToken
        | OfferToken
        | TakeOfferedToken
        | ListTokens
        | RevokeToken
        | ForgetTokens
        | EnsureLocalToken
        | CheckTokens
        | ReloadTokens
        | KeepLocalToken,
    ) -> Identity | Mapping[str, str] | TokenOffer | tuple[TokenDescription, ...] | int | None:
        match message:
            case CheckOrigin():
                problem = (
                    host_problem(
                        message.host,
                        self._settings.allowed_hosts,
                        allows_addresses=not self._settings.is_loopback_only,
                    )
                    or origin_problem(message.origin, self._settings.allowed_origins)
                    or query_problem(message.query)
                )
                if problem is not None:
                    self._refused += 1
                    raise AuthenticationError(problem, is_forbidden=True)
            case CheckIdentity():
                return self._identity(message)
            case FindEnded(domains):
                reasons = {one: self._end_of(one) for one in domains}
                return {one: reason for one, reason in reasons.items() if reason is not None}
            case AwaitTokenChange(seen, within_seconds):
                self.context.answer_later(self._await_change, seen, within_seconds)
            case ListTokens():
                return tuple(describe(one) for one in self._book.by_id.values())
            case OfferToken(wanted):
                # What would be refused then is refused now.
                checked_token(wanted, self._settings.now_ms())
                return TokenOffer(code=self._offers.offer(wanted, trio.current_time()), seconds=OFFER_SECONDS)
            case TakeOfferedToken(code):
                # The code is gone before anything is waited for, so two who show it at once are not both answered.
                self.context.answer_later(self._carry_out, self._offers.take(code, trio.current_time()))
            case CreateToken() | RevokeToken() | ForgetTokens() | EnsureLocalToken():
                self.context.answer_later(self._carry_out, message)
            case CheckTokens():
                self._withdraw_ended()
            case ReloadTokens():
                self.context.spawn(self._reload)
            case KeepLocalToken():
                self.context.spawn(self._ensure)
        return None

    async def down(self, down: Down) -> None:
        """Forget the session of a connection that ended."""
        self._sessions.pop(down.path, None)

    def snapshot(self) -> dict[str, object]:
        """Counts."""
        counts = self._book.snapshot(self._settings.now_ms())
        return {**counts, "sessions": len(self._sessions), "refused": self._refused, "offers": len(self._offers)}

    # --- identities -------------------------------------------------------------------------------

    def _identity(self, message: CheckIdentity) -> Identity:
        try:
            if len(self._book):
                identity = self._book.identity(message.token, message.client_id, self._settings.now_ms())
            else:
                identity = self._identity_without_tokens(message)
        except AuthenticationError as refusal:
            self._refused += 1
            _log.info("entry refused", reason=str(refusal))
            raise
        if message.session is not None:
            self._sessions[message.session.path] = _Session(message.session, identity.token_id)
            self.context.monitor(message.session)
        return identity

    def _identity_without_tokens(self, message: CheckIdentity) -> Identity:
        if not self._settings.is_loopback_only:
            raise AuthenticationError("this server listens to other machines and has no tokens", is_forbidden=False)
        if message.token is not None and not message.may_be_needless:
            # Silently taking a token that nothing checks would look like protection.
            raise AuthenticationError("this server has no tokens configured; send none", is_forbidden=False)
        return Identity(client_id=message.client_id or LOCAL_CLIENT)

    def _withdraw_ended(self) -> None:
        """Notify the sessions whose token no longer opens anything."""
        for path, session in list(self._sessions.items()):
            reason = self._end_of(session.token_id)
            if reason is None:
                continue
            del self._sessions[path]
            try:
                session.reference.tell_nowait(IdentityWithdrawn(reason))
            except RuntimeFault as error:
                _log.warning("session not notified of the end of its token", session=path, error=str(error))

    def _end_of(self, token_id: str | None) -> str | None:
        """Reason why sessions of this token have ended, or None. ``token_id`` is None for sessions opened without tokens."""
        if token_id:
            return self._book.end_of(token_id, self._settings.now_ms())
        return "a token is needed now" if len(self._book) else None

    # --- changes ----------------------------------------------------------------------------------

    async def _carry_out(self, change: CreateToken | RevokeToken | ForgetTokens | EnsureLocalToken) -> object:
        match change:
            case CreateToken():
                return await self._create(change)
            case RevokeToken(token_id):
                return await self._revoke(token_id)
            case ForgetTokens():
                return await self._forget()
            case EnsureLocalToken():
                return await self._ensure()

    async def _create(self, wanted: CreateToken) -> MadeToken:
        stored, text = checked_token(wanted, self._settings.now_ms())
        async with self._changing:
            await self._change(SAVE_TOKEN, stored)
            await self._keep_local_token()
        _log.info("token made", token_id=stored.token_id, roles=list(stored.roles))
        return MadeToken(description=describe(stored), token=text)

    async def _revoke(self, token_id: str) -> TokenDescription:
        async with self._changing:
            await self._change(REVOKE_TOKEN, RevokeStored(token_id=token_id, time_ms=self._settings.now_ms()))
            ended = describe(self._book.by_id[token_id])
            await self._keep_local_token()
        _log.info("token revoked", token_id=token_id)
        return ended

    async def _forget(self) -> int:
        if not self._settings.is_loopback_only:
            raise CommandError(
                ErrorCode.CONFLICT, "the server listens to other machines; without tokens it may not, so revoke them"
            )
        async with self._changing:
            count: int = await self._change(FORGET_TOKENS, None)
            await self._keep_local_token()
        _log.warning("all tokens deleted: every program on this machine has access", tokens=count)
        return count

    async def _ensure(self) -> bool:
        async with self._changing:
            await self._keep_local_token()
        return len(self._book) > 0

    async def _keep_local_token(self) -> None:
        """Bring the command line's token up to date, retrying until the disk accepts it."""
        try:
            await self._see_to_local_token(self._settings.data_folder)
        except (OSError, CommandError, RuntimeFault) as error:
            problem = error.strerror if isinstance(error, OSError) else str(error)
            _log.error("the command line's token cannot be stored", error=problem)
            self.context.note_problem(f"the command line has no token: {problem}")
            self.context.after(KEEP_SECONDS, KeepLocalToken())
        else:
            self.context.note_problem(None)

    async def _see_to_local_token(self, folder: Path) -> None:
        """Make the file if tokens are needed and it is missing or stale; remove it if the server has no tokens."""
        if not len(self._book):
            remove_local_token(folder)
        elif not is_same_token(read_local_token(folder), self._book.local(self._settings.node)):
            stored, text = new_local_token(self._settings.now_ms(), self._settings.node)
            await self._change(SAVE_TOKEN, stored)
            write_local_token(folder, text)

    async def _change(self, operation: Operation[Any, Any], command: Any) -> Any:
        """Store a change, then load what is stored. If cancelled or timed out, a reload is scheduled."""
        is_known = False
        try:
            committed = await self._storage.transact(operation, command, client_id=LOCAL_CLIENT)
            await self._load()
            is_known = True
        finally:
            if not is_known:
                self.context.after(0, ReloadTokens())
        return committed.value

    async def _load(self) -> None:
        self._book = TokenStore(await self._storage.read(LOAD_TOKENS, None))
        self._withdraw_ended()
        self._changes += 1
        self._changed.set()
        self._changed = trio.Event()

    async def _await_change(self, seen: int | None, within_seconds: float) -> int:
        with trio.move_on_after(within_seconds):
            while seen == self._changes:
                await self._changed.wait()
        return self._changes

    async def _reload(self) -> None:
        async with self._changing:
            try:
                await self._load()
                if self._settings.node is not None:
                    # Another node may have made the first token, or forgotten all.
                    await self._keep_local_token()
            except RuntimeFault as error:
                _log.warning("tokens not read; trying again", error=str(error))
                self.context.after(RELOAD_SECONDS, ReloadTokens())
