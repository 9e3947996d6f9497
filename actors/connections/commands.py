"""Carries out the commands of one connection, most of them by passing them to the service that their route names."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from attrs import frozen

from actors.access.messages import OPERATOR
from actors.connections.event_log_reader import CLIENT_STREAM, EventLogReader
from actors.connections.generation_streams import GenerationStreams
from actors.connections.messages import ChangeSubscription, RegistryRequest
from actors.connections.replies import Replies
from actors.connections.session import Session
from actors.connections.topic_views import TopicViews
from actors.inference.messages import CancelGeneration, GenerationStarted, InferenceRequest, StartGeneration
from actors.storage.messages import IdempotencyKey
from actors.tracing.trace_context import parse_traceparent
from actors.tracing.tracer import SpanKind, Tracer
from protocol.codec import ReceivedCommand, unstructure
from protocol.command_type import ONLY_IF_KNOWN
from protocol.commands import COMMANDS, Assist, Cancel, Generate, Hello, Resume, Subscribe
from protocol.errors import ErrorCode
from protocol.events import Accepted
from protocol.operator_topics import Watch
from runtime import ActorRef, Context, Request

__all__ = ["CommandDispatcher", "CommandRoute", "StreamRoute", "generation_route"]

CANCEL_SECONDS = 10.0
SUBSCRIBE_SECONDS = 5.0
SEED_BITS = 53


@frozen(kw_only=True)
class CommandRoute:
    """Sends commands of one wire class to a service as one message; its answer becomes one `result`."""

    service: ActorRef[Any]
    message: Callable[..., Request[Any]]
    """Called with `client_id`, `device_id`, `data` (the wire class) and `key` (None for reads)."""
    timeout_seconds: float = 10.0
    """Deadline of the ask."""


@frozen(kw_only=True)
class StreamRoute:
    """Sends commands of one wire class to a service that answers `GenerationStarted`; events go to the subscriber."""

    service: ActorRef[Any]
    message: Callable[..., Request[GenerationStarted]]
    """Called with `client_id`, `device_id`, `domain`, `data` (wire class), `key`, `stream` (a new name) and `subscriber`.

    The service passes `stream`, `subscriber`, `key` and `domain` on in its `StartGeneration` and returns its answer.
    """
    of_conversation: StreamRoute | None = None
    """Route of commands that name a conversation, if it differs."""


def generation_route(inference: ActorRef[InferenceRequest], of_conversation: StreamRoute | None = None) -> StreamRoute:
    """Route `generate` to the inference service, and turns of a conversation to ``of_conversation``."""
    return StreamRoute(service=inference, message=_start_generation, of_conversation=of_conversation)


def _start_generation(*, device_id: str, data: Generate, **fields: Any) -> StartGeneration:
    return StartGeneration(generate=data, **fields)


class CommandDispatcher:
    """Carries out commands of an open session. Part of a connection actor; only that actor's tasks call it."""

    def __init__(
        self,
        session: Session,
        replies: Replies,
        streams: GenerationStreams,
        views: TopicViews,
        event_log: EventLogReader,
        context: Context,
        *,
        inference: ActorRef[InferenceRequest],
        registry: ActorRef[RegistryRequest],
        routes: Mapping[type, CommandRoute | StreamRoute],
        tracer: Tracer,
    ) -> None:
        """``routes`` are keyed by the wire class of the command."""
        self._session = session
        self._replies = replies
        self._streams = streams
        self._views = views
        self._event_log = event_log
        self._context = context
        self._inference = inference
        self._registry = registry
        self._routes = routes
        self._tracer = tracer

    async def carry_out(self, command: ReceivedCommand) -> None:
        """Carry out one command and reply once. Raises `CommandError`, `RuntimeFault` in place of the reply."""
        assert command.id is not None
        match command.data:
            case Cancel(target):
                await self._cancel(command.id, target)
            case Resume():
                await self._resume(command.id, command.data)
            case Subscribe():
                await self._subscribe(command.id, command.data)
            case _ if COMMANDS[command.type].needs_operator and not self._session.is_operator:
                message = f"{command.type} needs a token with the role {OPERATOR}"
                self._replies.error(command.id, ErrorCode.FORBIDDEN, message)
            case Watch():
                await self._replies.result(command.id, unstructure(await self._views.watch(command.data)))
            case _:
                parent = None if command.traceparent is None else parse_traceparent(command.traceparent)
                with self._tracer.span(f"WebSocket {command.type}", SpanKind.SERVER, parent=parent):
                    await self._pass_to_service(command)

    async def _pass_to_service(self, command: ReceivedCommand) -> None:
        assert command.id is not None
        hello, route = self._session.hello, self._routes.get(type(command.data))
        assert hello is not None
        key = None
        if COMMANDS[command.type].writes:
            key = IdempotencyKey(
                client_id=hello.client_id,
                device_id=hello.device_id,
                command_id=command.id,
                digest=command.digest,
                must_be_known=command.only_if_known,
            )
        match route:
            case StreamRoute() if command.only_if_known:
                # The answer is a stream, which is retained for a shorter time than other results.
                message = f"resume the stream of this {command.type} for its outcome; nothing was carried out now"
                self._replies.error(command.id, ErrorCode.CONFLICT, message, field=ONLY_IF_KNOWN)
            case StreamRoute():
                await self._start_stream(command, route, hello, key)
            case CommandRoute():
                value = await route.service.ask(
                    route.message(client_id=hello.client_id, device_id=hello.device_id, data=command.data, key=key),
                    timeout=route.timeout_seconds,
                )
                await self._replies.result(command.id, unstructure(value))
            case None:
                message = f"{command.type} is not served here"
                self._replies.error(command.id, ErrorCode.UNKNOWN_TYPE, message, field="type")

    async def _start_stream(
        self, command: ReceivedCommand, route: StreamRoute, hello: Hello, key: IdempotencyKey | None
    ) -> None:
        assert command.id is not None
        data: Generate | Assist = command.data
        if data.conversation is not None and route.of_conversation is not None:
            route = route.of_conversation
        if isinstance(data, Generate) and data.seed is None:
            # Drawn here, so that a repeated generation samples the same tokens.
            data = attrs.evolve(data, seed=secrets.randbits(SEED_BITS))
        self_ref = self._context.self_ref
        domain = self._session.domain
        consumer, is_repeat = await self._streams.start(
            route.service,
            command.id,
            lambda stream: route.message(
                client_id=hello.client_id,
                device_id=hello.device_id,
                domain=domain,
                data=data,
                key=key,
                stream=stream,
                subscriber=self_ref,
            ),
        )
        accepted = Accepted(consumer.stream, consumer.epoch, consumer.left_out)
        self._replies.reply(command.id, "accepted", unstructure(accepted))
        self._streams.accept(consumer, is_repeat=is_repeat)

    async def _cancel(self, command_id: str, target: str) -> None:
        consumer = self._streams.of_command(target)
        was_running = False
        if consumer is not None:
            was_running = await self._inference.ask(CancelGeneration(consumer.stream), timeout=CANCEL_SECONDS)
        self._replies.reply(command_id, "result", {"cancelled": was_running})

    async def _resume(self, command_id: str, point: Resume) -> None:
        hello = self._session.hello
        assert hello is not None
        if point.stream == CLIENT_STREAM:
            result = await self._event_log.resume(point.epoch, point.seq)
            await self._replies.result(command_id, unstructure(result))
            self._event_log.open()
            return
        result, resume_events = await self._streams.resume(hello.device_id, point.stream, point.epoch, point.seq)
        await self._replies.result(command_id, unstructure(result))
        resume_events()

    async def _subscribe(self, command_id: str, subscription: Subscribe) -> None:
        hello = self._session.hello
        assert hello is not None
        stored = await self._registry.ask(
            ChangeSubscription(client_id=hello.client_id, device_id=hello.device_id, data=subscription),
            timeout=SUBSCRIBE_SECONDS,
        )
        self._replies.reply(command_id, "result", unstructure(stored))
