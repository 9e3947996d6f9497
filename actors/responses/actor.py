"""The responses service. It completes every stored response, whether or not it is being read, and through restarts.

It does not sit between engine and readers: the inference actor passes each event to a callback that never waits, and
readers ask for whatever follows their position. So a slow or absent reader delays nothing.
"""

from __future__ import annotations

from typing import Any

import attrs
import structlog
import trio

from actors.clock import now_milliseconds
from actors.errors import CommandError, error_from_fault
from actors.inference.messages import (
    CancelGeneration,
    DescribeEngine,
    EngineHealth,
    GenerationEnded,
    GenerationStarted,
    InferenceRequest,
    StartGeneration,
)
from actors.responses.messages import (
    CancelResponse,
    DeleteResponse,
    FindBegun,
    FollowResponse,
    NewResponse,
    ReadChain,
    ReadInput,
    ReadResponse,
    ResponseEnd,
    ResponsePage,
    ResponseSnapshot,
    ResponsesRequest,
    StartResponse,
    end_of,
    failed_end,
)
from actors.responses.running import AnswerForms, RunningResponse, page_of
from actors.responses.store import (
    BEGIN_RESPONSE,
    DELETE_RESPONSE,
    END_RESPONSE,
    FIND_BEGUN,
    READ_CHAIN,
    READ_RESPONSE,
    RUNNING_RESPONSES,
    BeginResponse,
    EndResponse,
    LeftResponse,
    Owned,
)
from actors.storage.messages import Storage
from protocol.commands import Generate, OnDisconnect
from protocol.errors import ErrorCode
from runtime import Actor, ActorDead, ActorRef, AskDeadline, MailboxFull, RuntimeFault, reject

__all__ = ["Responses", "ResponsesMessage"]

_log = structlog.get_logger("responses")

INFERENCE_SECONDS = 40.0
LOOK_SECONDS = 1.0
"""How often a silent generation is checked to be still running."""
RECOVERY_SECONDS = 600.0
"""How long a response may wait for an engine to continue it: for a worker that loads its model, or for a full queue."""
RETRY_SECONDS = 0.25
DISK_SECONDS = 1.0
SETTLE_SECONDS = 15.0
"""Longest wait for the end of a cancelled response to be stored."""
CANCELLED = "cancelled by its client"

ResponsesMessage = ResponsesRequest | GenerationEnded


class Responses(Actor[ResponsesMessage]):
    """Holds only the running responses in memory; everything else is in the database."""

    mailbox = reject(4096)

    def __init__(self, inference: ActorRef[InferenceRequest], storage: Storage, forms: AnswerForms) -> None:
        self._inference = inference
        self._storage = storage
        self._forms = forms
        self._running: dict[str, RunningResponse] = {}
        self._is_draining = False
        self._idle = trio.Event()

    async def started(self) -> None:
        """Resume the responses that were running when the last server or incarnation ended."""
        for one in await self._storage.read(RUNNING_RESPONSES, None):
            self.context.spawn(self._take_up, one)

    async def handle(self, message: ResponsesMessage) -> object:
        match message:
            case StartResponse():
                self.context.answer_later(self._start, message)
            case ReadResponse(client_id=client_id, id=name):
                self.context.answer_later(self._snapshot, client_id, name)
            case ReadInput(client_id=client_id, id=name):
                self.context.answer_later(self._input, client_id, name)
            case FollowResponse():
                self.context.answer_later(self._follow, message)
            case ReadChain(client_id=client_id, id=name):
                self.context.answer_later(self._chain, client_id, name)
            case CancelResponse(client_id=client_id, id=name):
                self.context.answer_later(self._cancel, client_id, name)
            case DeleteResponse(client_id=client_id, id=name):
                self.context.answer_later(self._delete, client_id, name)
            case FindBegun():
                self.context.answer_later(self._find_begun, message)
            case GenerationEnded():
                # This service has received the same from the generation's events.
                pass
        return None

    async def draining(self) -> None:
        """Wait until every response has ended. Responses still running at the deadline are resumed by the next
        server.
        """
        self._is_draining = True
        if self._running:
            await self._idle.wait()

    def snapshot(self) -> dict[str, object]:
        """Counts only."""
        return {"running": len(self._running)}

    # --- beginning --------------------------------------------------------------------------------

    async def _start(self, message: StartResponse) -> GenerationStarted:
        """Child task: start the answer and store it. If it is refused, nothing is stored."""
        response = message.response
        generate = attrs.evolve(message.generate, on_disconnect=OnDisconnect.DETACH)
        running = self._running_response(response, message.client_id, message.domain, generate, message.caller)
        begun = is_repeat = False
        try:
            # Not cancelled with the request: a generation that has started is either stored or cancelled.
            with trio.CancelScope(shield=True):
                started = await self._begin(running)
                begun = True
                stored = await self._storage.transact(
                    BEGIN_RESPONSE,
                    BeginResponse(
                        response=response,
                        client_id=message.client_id,
                        domain=message.domain,
                        generate=running.request.generate,
                    ),
                    client_id=message.client_id,
                    key=message.key,
                )
                is_repeat = stored.is_repeat
        except BaseException as error:
            if begun:
                self._end_generation(response.id)
                if isinstance(error, AskDeadline | ActorDead):
                    # It is unknown if the response was written. Writing its end afterwards makes both cases the same.
                    lost = failed_end(ErrorCode.UNAVAILABLE, "the response could not be stored", now_milliseconds())
                    self.context.spawn(self._settle, running, lost)
            if isinstance(error, RuntimeFault) and (refusal := error_from_fault(error, writes=begun)) is not None:
                raise refusal from None
            raise
        if is_repeat:
            # The same command arrived twice at once, and the other one came first.
            self._end_generation(response.id)
            return attrs.evolve(started, stream=stored.value, is_repeat=True)
        self._running[response.id] = running
        self.context.spawn(self._see_through, running)
        return started

    async def _find_begun(self, message: FindBegun) -> str | None:
        command_id = message.key.command_id
        try:
            found = await self._storage.transact(FIND_BEGUN, command_id, client_id=message.client_id, key=message.key)
        except CommandError as refusal:
            if refusal.code is ErrorCode.NOT_FOUND:
                return None
            raise
        except RuntimeFault as fault:
            raise _as_refusal(fault, writes=False) from fault
        return found.value

    def _running_response(
        self, response: NewResponse, client_id: str, domain: str, generate: Generate, caller: str = ""
    ) -> RunningResponse:
        return RunningResponse(
            response=response,
            reading=self._forms.reading(response),
            client_id=client_id,
            request=StartGeneration(
                client_id=client_id,
                domain=domain,
                caller=caller,
                stream=response.id,
                generate=generate,
                to_context_end=True,
                # After a restart this service resumes the response, rather than the inference actor.
                observer=self.context.self_ref,
            ),
        )

    async def _begin(self, running: RunningResponse) -> GenerationStarted:
        running.incarnation = self._inference.incarnation
        request = attrs.evolve(running.request, subscriber=running.deliver)
        started: GenerationStarted = await self._inference.ask(request, timeout=INFERENCE_SECONDS)
        running.began(started)
        return started

    async def _take_up(self, left: LeftResponse) -> None:
        """Resume a response that a restart interrupted. The same request and seed give the same answer."""
        response = left.response
        if left.generate is None:
            unreadable = failed_end(
                ErrorCode.UNAVAILABLE, "it was started by another version of the server", now_milliseconds()
            )
            command = EndResponse(id=response.id, client_id=left.client_id, text="", logprobs=(), end=unreadable)
            await self._store_end(command)
            return
        running = self._running_response(response, left.client_id, left.domain, left.generate)
        self._running[response.id] = running
        # It may still be generated for a lost incarnation of this actor.
        self._end_generation(response.id)
        if not await self._until_begun(running, is_new=True):
            return
        await self._see_through(running)

    # --- going on ---------------------------------------------------------------------------------

    async def _see_through(self, running: RunningResponse) -> None:
        """Wait for the end and store it."""
        while running.last is None:
            await running.wait(LOOK_SECONDS)
            running.read()
            is_there = self._inference.is_running and self._inference.incarnation == running.incarnation
            if running.last is None and not is_there and not await self._until_begun(running, is_new=False):
                return
        await self._settle(running, end_of(running.last, now_milliseconds()))

    async def _until_begun(self, running: RunningResponse, *, is_new: bool) -> bool:
        """Have the engine continue, as soon as there is one. Returns False if the response ended instead."""
        deadline = trio.current_time() + RECOVERY_SECONDS
        while running.is_wanted():
            refusal: CommandError | None = None
            try:
                await self._check_model(running)
                if is_new:
                    await self._begin(running)
                else:
                    running.incarnation = self._inference.incarnation
                    again = attrs.evolve(running.restart(), subscriber=running.deliver)
                    await self._inference.ask(again, timeout=INFERENCE_SECONDS)
            except CommandError as refused:
                refusal = refused
            except (ActorDead, AskDeadline, MailboxFull) as error:
                _log.info("a response waits for an engine", response=running.response.id, error=str(error))
            else:
                if not running.is_wanted():
                    self._end_generation(running.response.id)
                return True
            is_final = refusal is not None and not refusal.code.is_temporary and refusal.code is not ErrorCode.CONFLICT
            if is_final or trio.current_time() > deadline:
                code = ErrorCode.UNAVAILABLE if refusal is None else refusal.code
                message = "no engine could continue it" if refusal is None else refusal.message
                await self._settle(running, failed_end(code, message, now_milliseconds()))
                return False
            await running.wait(RETRY_SECONDS)
        await self._settle(running, ResponseEnd(status="cancelled", message=CANCELLED, ended_ms=now_milliseconds()))
        return False

    async def _check_model(self, running: RunningResponse) -> None:
        """Reject a response that another model would have to continue. Raises `CommandError`."""
        health: EngineHealth = await self._inference.ask(DescribeEngine(), timeout=INFERENCE_SECONDS)
        if health.model != running.response.model:
            message = f"the model {running.response.model!r} that started this response is not loaded any more"
            raise CommandError(ErrorCode.NOT_FOUND, message)

    # --- ending -----------------------------------------------------------------------------------

    async def _settle(self, running: RunningResponse, end: ResponseEnd) -> None:
        """Store the end, retrying until the database is available, then notify the readers."""
        running.read()
        end = attrs.evolve(end, reasoning_tokens=running.reading.reasoning_tokens)
        command = EndResponse(
            id=running.response.id,
            client_id=running.client_id,
            text=running.text,
            logprobs=running.logprobs,
            end=end,
            output=self._output(attrs.evolve(running.snapshot(), end=end)),
        )
        await self._store_end(command)
        running.end = end
        self._running.pop(running.response.id, None)
        running.tell()
        if self._is_draining and not self._running:
            self._idle.set()

    async def _store_end(self, command: EndResponse) -> None:
        while True:
            try:
                await self._storage.transact(END_RESPONSE, command, client_id=command.client_id)
            except (CommandError, AskDeadline, ActorDead, MailboxFull) as error:
                _log.warning("a response waits for the database", response=command.id, error=str(error))
                await trio.sleep(DISK_SECONDS)
            else:
                return

    def _output(self, snapshot: ResponseSnapshot) -> tuple[dict[str, Any], ...]:
        """Return the items that are appended to the conversation."""
        return () if snapshot.response.conversation_id is None else tuple(self._forms.output(snapshot))

    def _end_generation(self, stream: str) -> None:
        try:
            self._inference.tell_nowait(CancelGeneration(stream, CANCELLED))
        except (MailboxFull, ActorDead):
            _log.warning("a response could not be cancelled", response=stream)

    # --- reading ----------------------------------------------------------------------------------

    def _find(self, client_id: str, name: str) -> RunningResponse | None:
        running = self._running.get(name)
        return running if running is not None and running.client_id == client_id else None

    async def _snapshot(self, client_id: str, name: str) -> ResponseSnapshot:
        running = self._find(client_id, name)
        if running is not None:
            return running.snapshot()
        try:
            return await self._storage.read(READ_RESPONSE, Owned(client_id=client_id, id=name))
        except RuntimeFault as fault:
            raise _as_refusal(fault, writes=False) from fault

    async def _input(self, client_id: str, name: str) -> NewResponse:
        return (await self._snapshot(client_id, name)).response

    async def _follow(self, message: FollowResponse) -> ResponsePage:
        running = self._find(message.client_id, message.id)
        if running is not None:
            return await running.page(message.after, message.after_tokens, message.wait_seconds)
        snapshot = await self._snapshot(message.client_id, message.id)
        if snapshot.end is None and (running := self._find(message.client_id, message.id)) is None:
            # It is about to be resumed.
            await trio.sleep(RETRY_SECONDS)
            return ResponsePage(text="")
        return page_of(snapshot, message.after, message.after_tokens)

    async def _chain(self, client_id: str, name: str) -> tuple[ResponseSnapshot, ...]:
        running = self._find(client_id, name)
        if running is not None and running.last is not None:
            await self._until_settled(running)
        try:
            return await self._storage.read(READ_CHAIN, Owned(client_id=client_id, id=name))
        except RuntimeFault as fault:
            raise _as_refusal(fault, writes=False) from fault

    async def _cancel(self, client_id: str, name: str) -> ResponseSnapshot:
        running = self._find(client_id, name)
        if running is not None:
            running.is_cancelled = True
            running.tell()
            self._end_generation(name)
            await self._until_settled(running)
        return await self._snapshot(client_id, name)

    async def _delete(self, client_id: str, name: str) -> bool:
        await self._cancel(client_id, name)
        try:
            return (
                await self._storage.transact(DELETE_RESPONSE, Owned(client_id=client_id, id=name), client_id=client_id)
            ).value
        except RuntimeFault as fault:
            raise _as_refusal(fault, writes=True) from fault

    async def _until_settled(self, running: RunningResponse) -> None:
        with trio.move_on_after(SETTLE_SECONDS):
            while running.end is None:
                await running.wait(LOOK_SECONDS)


def _as_refusal(fault: RuntimeFault, *, writes: bool) -> Exception:
    return error_from_fault(fault, writes=writes) or fault
