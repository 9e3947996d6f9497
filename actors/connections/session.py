"""The session of one connection: authentication, membership in the registry, and the `welcome` that opens it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import trio
from attrs import frozen

from actors.access.messages import AccessRequest, AuthenticationError, CheckIdentity, Identity, IdentityWithdrawn
from actors.connections.event_log_reader import CLIENT_STREAM, EventLogReader
from actors.connections.generation_streams import SNAPSHOT_BYTES, GenerationStreams
from actors.connections.keepalive import PING_INTERVAL_SECONDS
from actors.connections.messages import ConnectionNews, Join, Joined, RegistryRequest, ScheduleKeepalive
from actors.connections.replies import Replies
from actors.connections.transport import WebSocketTransport
from actors.errors import CommandError
from actors.inference.messages import DescribeEngine, EngineHealth, InferenceRequest
from protocol.codec import encode, unstructure, wire_time
from protocol.commands import Hello, ResumePoint
from protocol.errors import CloseCode, ErrorCode
from protocol.events import AnswerDefaults, Limits, ResumeResult, Welcome
from runtime import ActorRef, Context, RuntimeFault

__all__ = ["ConnectionSettings", "Session"]

AUTHENTICATE_SECONDS = 5.0
REAUTHENTICATE_PAUSE_SECONDS = 0.25
JOIN_SECONDS = 5.0
JOIN_PAUSE_SECONDS = 0.1
MODEL_SECONDS = 1.0


@frozen(kw_only=True)
class ConnectionSettings:
    """Settings shared by all connections of this server; `welcome` reports them."""

    server: str
    """Name and version."""
    model: str
    """Model configured at startup. `welcome` names the active one."""
    limits: Limits
    answer_defaults: AnswerDefaults | None = None
    """Answer settings of people who have chosen none."""


class Session:
    """Opens one session and renews it when the access service or the registry restarts.

    Part of a connection actor; only that actor's tasks call it.
    """

    def __init__(
        self,
        connection: str,
        settings: ConnectionSettings,
        transport: WebSocketTransport,
        replies: Replies,
        streams: GenerationStreams,
        event_log: EventLogReader,
        context: Context,
        *,
        access: ActorRef[AccessRequest],
        inference: ActorRef[InferenceRequest],
        registry: ActorRef[RegistryRequest],
        joined: Callable[[], None],
    ) -> None:
        """``joined`` is called once the registry has accepted the connection."""
        self._connection = connection
        self._settings = settings
        self._transport = transport
        self._replies = replies
        self._streams = streams
        self._event_log = event_log
        self._context = context
        self._access = access
        self._inference = inference
        self._registry = registry
        self._joined = joined
        self._identity: Identity | None = None
        self.hello: Hello | None = None
        """The client's `hello`; None until `welcome` has been sent."""

    @property
    def domain(self) -> str:
        """The domain of the client's token; empty before authentication."""
        return "" if self._identity is None else self._identity.domain

    @property
    def is_operator(self) -> bool:
        """True if the client's token has the operator role."""
        return self._identity is not None and self._identity.is_operator

    async def open(self, command_id: str, hello: Hello) -> bool:
        """Answer a `hello`; True if the answer was `welcome`, not an error. Raises `CommandError`, `RuntimeFault`."""
        try:
            self._identity = await self._authenticate(hello)
        except AuthenticationError as refusal:
            code = ErrorCode.FORBIDDEN if refusal.is_forbidden else ErrorCode.UNAUTHORIZED
            self._replies.error(command_id, code, str(refusal))
            self._close_unauthenticated(refusal)
            return False
        try:
            joined = await self._join(hello)
        except CommandError as refusal:
            self._replies.failure(command_id, "hello", refusal)
            if refusal.code is ErrorCode.RATE_LIMITED:
                self._transport.close_soon(CloseCode.TOO_MANY, refusal.message)
            return False
        self._joined()
        self._streams.client_id = hello.client_id
        points = {one.stream: one for one in hello.resume}
        client_point = points.pop(CLIENT_STREAM, None)
        client_result = await self._event_log.begin(
            hello.client_id,
            hello.device_id,
            None if client_point is None else (client_point.epoch, client_point.seq),
            is_alone=joined.is_alone,
        )
        resumed, continuations = await self._resume_all(hello, points)
        if client_result is not None:
            resumed.insert(0, client_result)
        self._context.monitor(self._access)
        welcome = Welcome(
            connection_id=self._connection,
            client_id=hello.client_id,
            device_id=hello.device_id,
            epoch=self._event_log.cursor.epoch,
            server=self._settings.server,
            limits=self._settings.limits,
            model=await self._active_model(),
            state={kind: msgspec.json.decode(data) for kind, data in joined.state.items()},
            resumed=resumed,
            answer_defaults=self._settings.answer_defaults,
        )
        self.hello = hello
        self._transport.take_large_messages()
        self._replies.reply(command_id, "welcome", unstructure(welcome))
        self._event_log.subscribe(joined.subscription)
        self._event_log.open()
        for resume_events in continuations:
            resume_events()
        return True

    async def rejoin(self) -> None:
        """Join the restarted registry, retrying until it answers, and read the log for events missed meanwhile."""
        assert self.hello is not None
        while True:
            try:
                joined = await self._join(self.hello)
            except (CommandError, RuntimeFault):
                # Nothing signals that the registry is up again, so poll.
                await trio.sleep(JOIN_PAUSE_SECONDS)
                continue
            for kind, data in joined.state.items():
                self._transport.put(self._transport.send_queue.put_state, kind, wire_time(), data)
            self._event_log.poll()
            return

    async def reauthenticate(self) -> None:
        """Authenticate with the restarted access service, which has lost its sessions, retrying until it answers.

        Without a session there, the connection would outlive its token.
        """
        assert self.hello is not None
        try:
            while True:
                try:
                    self._identity = await self._authenticate(self.hello)
                    break
                except RuntimeFault:
                    # Nothing signals that the access service is up again, so poll.
                    await trio.sleep(REAUTHENTICATE_PAUSE_SECONDS)
            self._context.monitor(self._access)
        except AuthenticationError as refusal:
            self._close_unauthenticated(refusal)

    async def _authenticate(self, hello: Hello) -> Identity:
        """Return the identity behind a `hello`. Raises `AuthenticationError`.

        From then on the connection gets `IdentityWithdrawn` when its token ends.
        """
        session: ActorRef[IdentityWithdrawn] = self._context.self_ref
        identity: Identity = await self._access.ask(
            CheckIdentity(client_id=hello.client_id, token=hello.token, session=session), timeout=AUTHENTICATE_SECONDS
        )
        return identity

    def _close_unauthenticated(self, refusal: AuthenticationError) -> None:
        code = CloseCode.FORBIDDEN if refusal.is_forbidden else CloseCode.UNAUTHORIZED
        self._transport.close_soon(code, str(refusal))

    async def _join(self, hello: Hello) -> Joined:
        connection: ActorRef[ConnectionNews] = self._context.self_ref
        joined: Joined = await self._registry.ask(
            Join(client_id=hello.client_id, device_id=hello.device_id, connection=connection), timeout=JOIN_SECONDS
        )
        self._context.monitor(self._registry)
        self._registry.tell_nowait(ScheduleKeepalive(self._context.path, PING_INTERVAL_SECONDS))
        return joined

    async def _resume_all(
        self, hello: Hello, points: Mapping[str, ResumePoint]
    ) -> tuple[list[ResumeResult], list[Callable[[], None]]]:
        """Resume the generation streams named in `hello`.

        Returns their results, and callbacks that start passing events on; call those after `welcome`.
        """
        results: list[ResumeResult] = []
        continuations: list[Callable[[], None]] = []
        left_bytes = SNAPSHOT_BYTES
        for point in points.values():
            result, resume_events = await self._streams.resume(
                hello.device_id, point.stream, point.epoch, point.seq, snapshot_bytes=left_bytes
            )
            left_bytes -= len(encode([(result.snapshot or {}).get("text", "")]))
            results.append(result)
            continuations.append(resume_events)
        return results, continuations

    async def _active_model(self) -> str:
        """Name of the active model, or of the configured one if the inference actor does not answer."""
        try:
            health: EngineHealth = await self._inference.ask(DescribeEngine(), timeout=MODEL_SECONDS)
        except RuntimeFault:
            return self._settings.model
        return health.model
