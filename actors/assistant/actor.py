"""The assistant. It builds prompts, stores conversations, and notifies every device of answers.

Tokens do not pass through it: inference sends them to the connection that asked, and tells the assistant only how the
answer ended.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import structlog
import trio
from attrs import define, field, frozen

from actors.assistant.assist_store import (
    BEGIN_ASSIST,
    END_ASSIST,
    READ_WINDOW,
    RUNNING_ASSISTS,
    BeginAssist,
    BegunAssist,
    ConversationWindow,
    EndAssist,
    Restart,
    RunningAssist,
    WindowQuery,
)
from actors.assistant.context_fitting import PromptPlan, answer_room, plan_of, shrink
from actors.assistant.conversation_store import (
    CHOOSE_WAY,
    DELETE_CONVERSATION,
    GET_CONVERSATION,
    LIST_CONVERSATIONS,
    SEARCH_CONVERSATIONS,
    Owned,
)
from actors.assistant.item_store import READS, WRITES
from actors.assistant.messages import (
    AddItems,
    AnswerTurn,
    AssistantRequest,
    BeginItems,
    ChooseWay,
    DeleteConversation,
    DeleteItem,
    ForgetItems,
    GetConversation,
    LabelItems,
    ListConversations,
    ListItems,
    ReadItem,
    ReadItemContext,
    ReadItems,
    SearchConversations,
    StartTurn,
    TurnAnswer,
)
from actors.assistant.rejected_commands import RejectedCommands
from actors.errors import CommandError, error_from_fault
from actors.inference.messages import (
    CancelGeneration,
    GenerationEnded,
    GenerationEvent,
    GenerationStarted,
    InferenceRequest,
    IsGenerating,
    MeasurePrompt,
    StartGeneration,
)
from actors.storage.messages import IdempotencyKey, Operation, Query, Storage
from actors.tracing.trace_context import within
from protocol.commands import Assist, Generate, OnDisconnect
from protocol.conversations import ConversationTurns
from protocol.errors import ErrorCode
from runtime import Actor, ActorDead, ActorRef, AskDeadline, Down, MailboxFull, RuntimeFault, reject

__all__ = ["Assistant", "AssistantMessage", "SettleLost"]

Reply = TypeVar("Reply")

_log = structlog.get_logger("assistant")

INFERENCE_SECONDS = 40.0
SHRINKING_STEPS = 24
"""Maximum number of attempts at shortening a prompt; each drops what should be enough."""
RECOVERY_SECONDS = 35.0
"""Time for the subscribers of a lost inference actor to ask its successor to continue."""
RETRY_SECONDS = 1.0
SETTLING_SECONDS = 5.0


@frozen
class SettleLost:
    """Commands whose inference actor was lost; those not resumed by now have failed."""

    streams: frozenset[str]


AssistantMessage = AssistantRequest | GenerationEnded | SettleLost


@define(eq=False, kw_only=True)
class Running:
    """A command being answered."""

    client_id: str
    conversation: str | None = None
    has_follower: bool
    """True if a connection will resume the answer after the inference actor is lost."""
    is_begun: bool = False
    """True once it is stored."""
    ended: GenerationEnded | None = None
    settled: trio.Event = field(factory=trio.Event)
    """Set once its end is stored."""


class Assistant(Actor[AssistantMessage]):
    """Holds only the running answers in memory; everything else is in the database."""

    mailbox = reject(4096)

    def __init__(self, inference: ActorRef[InferenceRequest], storage: Storage) -> None:
        self._inference = inference
        self._storage = storage
        self._running: dict[str, Running] = {}
        self._rejected = RejectedCommands()
        self._idle = trio.Event()
        self._is_draining = False

    async def started(self) -> None:
        """Resume the answers that were running when the last server or incarnation ended."""
        left = await self._storage.read(RUNNING_ASSISTS, None)
        for one in left:
            self._running[one.stream] = Running(
                client_id=one.client_id, conversation=one.conversation, has_follower=False, is_begun=True
            )
            self.context.spawn(self._take_up, one)
        self.context.monitor(self._inference)

    async def handle(self, message: AssistantMessage) -> object:
        match message:
            case StartTurn():
                self.context.answer_later(self._start, message)
            case AnswerTurn():
                self.context.answer_later(self._answer, message)
            case ListConversations(client_id=client_id, data=data):
                self.context.answer_later(self._read, LIST_CONVERSATIONS, Owned(client_id=client_id, data=data))
            case SearchConversations(client_id=client_id, data=data):
                self.context.answer_later(self._read, SEARCH_CONVERSATIONS, Owned(client_id=client_id, data=data))
            case GetConversation():
                self.context.answer_later(self._get, message)
            case DeleteConversation():
                self.context.answer_later(self._write, DELETE_CONVERSATION, message)
            case ChooseWay():
                self.context.answer_later(self._write, CHOOSE_WAY, message)
            case BeginItems() | LabelItems() | ForgetItems() | AddItems() | DeleteItem():
                self.context.answer_later(self._write_items, message)
            case ReadItems() | ReadItemContext() | ListItems() | ReadItem():
                self.context.answer_later(self._read_items, message)
            case GenerationEnded():
                self._generation_ended(message)
            case SettleLost(streams):
                self.context.spawn(self._settle_lost, streams)
        return None

    async def down(self, down: Down) -> None:
        """Inference is lost. Connections resume the answers that they subscribe to; the others have failed."""
        for stream, running in self._running.items():
            if running.is_begun and not running.has_follower and running.ended is None:
                self._generation_ended(_lost(stream, running.client_id))
        self.context.after(RECOVERY_SECONDS, SettleLost(frozenset(self._running)))

    async def draining(self) -> None:
        """Wait until every answer in progress is stored."""
        self._is_draining = True
        if self._running:
            await self._idle.wait()

    def snapshot(self) -> dict[str, object]:
        """Counts only."""
        return {"running": len(self._running)}

    # --- beginning --------------------------------------------------------------------------------

    async def _start(self, message: StartTurn) -> GenerationStarted:
        """Child task: fit the prompt, start the answer and store the turn. If it is refused, nothing is stored."""
        command_id = message.key.command_id
        self._rejected.check(message.key, trio.current_time())
        with _upstream_errors_as_refusals(writes=False):
            plan, window = await self._fit(message.client_id, message.data, None, command_id)
        with _upstream_errors_as_refusals(writes=True):
            # Not cancelled with the request: inference starts what it has stored, and reports it to a retry, so the
            # turn must be stored too. Both requests have deadlines.
            with trio.CancelScope(shield=True):
                started = await self._begin(
                    message.stream,
                    message.client_id,
                    message.domain,
                    command_id,
                    plan,
                    window,
                    key=message.key,
                    subscriber=message.subscriber,
                )
            return started  # noqa: RET504  a cancel scope may swallow, so its block is no place to return from

    async def _answer(self, message: AnswerTurn) -> TurnAnswer:
        """Child task that waits for the answer's end. Cancelling the request cancels it, and with it the answer."""
        stream = f"ai-{secrets.token_hex(12)}"
        with _upstream_errors_as_refusals(writes=False):
            plan, window = await self._fit(
                message.client_id, message.data, message.max_tokens, stream, caller=message.caller
            )
        with _upstream_errors_as_refusals(writes=True):
            await self._begin(
                stream,
                message.client_id,
                message.domain,
                stream,
                plan,
                window,
                max_tokens=message.max_tokens,
                caller=message.caller,
            )
        running = self._running.get(stream)
        assert running is not None
        try:
            await running.settled.wait()
        finally:
            if running.ended is None:
                self._cancel(stream)
        ended = running.ended
        assert ended is not None
        if ended.done is None:
            raise CommandError(ended.code or ErrorCode.UNAVAILABLE, ended.message or "the answer was cancelled")
        return TurnAnswer(text=ended.text, done=ended.done, fields=plan.rule()(ended.text, ended.done))

    async def _fit(
        self,
        client_id: str,
        data: Assist | Generate,
        max_tokens: int | None,
        command_id: str,
        *,
        caller: str = "",
    ) -> tuple[PromptPlan, ConversationWindow]:
        """Build the prompt with as much of the conversation and code as fits into the context."""
        window = ConversationWindow(turns=(), last_turn=0, turns_before=0)
        if data.conversation is not None:
            await self._until_settled(client_id, data.conversation)
            wanted = WindowQuery(
                client_id=client_id,
                name=data.conversation,
                command_id=command_id,
                parent=data.parent,
                answers=data.answers,
            )
            window = await self._storage.read(READ_WINDOW, wanted)
        plan = plan_of(data, window.turns, window.turns_before, window.asked)
        if isinstance(data, Generate):
            max_tokens = data.max_tokens
        for _ in range(SHRINKING_STEPS):
            size = await self._inference.ask(
                MeasurePrompt(plan.generate(max_tokens), client_id, caller), timeout=INFERENCE_SECONDS
            )
            if max_tokens is not None and max_tokens >= size.context_tokens:
                raise CommandError(
                    ErrorCode.CONTEXT_LENGTH_EXCEEDED,
                    f"{max_tokens} tokens were requested for the answer; the model's context here has {size.context_tokens}",
                    field="data.max_tokens",
                )
            room = size.context_tokens - answer_room(size.context_tokens, max_tokens)
            if size.prompt_tokens <= room:
                return plan, window
            plan = shrink(plan, size.prompt_tokens, room, size.context_tokens)
        raise CommandError(
            ErrorCode.CONTEXT_LENGTH_EXCEEDED,
            f"the prompt could not be made to fit; the model's context holds {size.context_tokens} tokens",
            field="data.content",
        )

    async def _begin(
        self,
        stream: str,
        client_id: str,
        domain: str,
        command_id: str,
        plan: PromptPlan,
        window: ConversationWindow,
        *,
        key: IdempotencyKey | None = None,
        subscriber: ActorRef[GenerationEvent] | None = None,
        max_tokens: int | None = None,
        caller: str = "",
    ) -> GenerationStarted:
        generate, rule = plan.generate(max_tokens), plan.rule()
        running = self._running[stream] = Running(
            client_id=client_id, conversation=plan.source.conversation, has_follower=subscriber is not None
        )
        try:
            started = await self._inference.ask(
                StartGeneration(
                    client_id=client_id,
                    stream=stream,
                    generate=generate,
                    subscriber=subscriber,
                    domain=domain,
                    observer=self.context.self_ref,
                    completion_fields=rule,
                    wants_calibrated=rule.intent is not None,
                    key=key,
                    caller=caller,
                ),
                timeout=INFERENCE_SECONDS,
            )
        except BaseException:
            self._forget(stream)
            raise
        if started.is_repeat:
            # A repeated command gets its first outcome; nothing is started.
            self._forget(stream)
            return started
        begin = BeginAssist(
            begun=BegunAssist(stream=stream, seed=started.seed, prompt_tokens=started.prompt_tokens),
            client_id=client_id,
            domain=domain,
            command_id=command_id,
            intent=None if plan.intent is None else plan.intent.value,
            conversation=plan.source.conversation,
            expected_last_turn=window.last_turn,
            expected_leaf=window.leaf,
            parent=plan.source.parent,
            answers=plan.source.answers,
            window_start=plan.turns[0].number if plan.turns else plan.source.answers or window.last_turn + 1,
            content=plan.content,
            prompt=plan.message if plan.message != plan.content else None,
            restart=Restart(generate=generate, rule=rule) if generate.on_disconnect is OnDisconnect.DETACH else None,
        )
        try:
            await self._storage.transact(BEGIN_ASSIST, begin, client_id=client_id)
        except CommandError as refusal:
            self._cancel(stream)
            self._forget(stream)
            if key is not None:
                # Inference has stored the id with a stream that ended before it began.
                self._rejected.keep(key, refusal, trio.current_time())
            raise
        except BaseException:
            # It is unknown if the turn was written. Writing its end afterwards makes both cases the same.
            self._cancel(stream)
            running.is_begun = True
            self._generation_ended(_lost(stream, client_id))
            raise
        running.is_begun = True
        if running.ended is not None:
            self.context.spawn(self._settle, stream, running, running.ended)
        return started

    async def _take_up(self, one: RunningAssist) -> None:
        """Resume an answer that a restart interrupted: detached ones are generated again, the others have failed."""
        if one.restart is None:
            self._cancel(one.stream)
            self._generation_ended(_lost(one.stream, one.client_id))
            return
        try:
            await self._inference.ask(
                StartGeneration(
                    client_id=one.client_id,
                    stream=one.stream,
                    generate=one.restart.generate,
                    subscriber=None,
                    domain=one.domain,
                    observer=self.context.self_ref,
                    completion_fields=one.restart.rule,
                    wants_calibrated=one.restart.rule.intent is not None,
                ),
                timeout=INFERENCE_SECONDS,
            )
        except CommandError as refusal:
            # A conflict means that it is still running: only this actor was restarted.
            if refusal.code is not ErrorCode.CONFLICT:
                self._generation_ended(_lost(one.stream, one.client_id))
        except (ActorDead, AskDeadline, MailboxFull):
            self._generation_ended(_lost(one.stream, one.client_id))

    # --- ending -----------------------------------------------------------------------------------

    def _generation_ended(self, ended: GenerationEnded) -> None:
        running = self._running.get(ended.stream)
        if running is None or running.ended is not None:
            return
        running.ended = ended
        if running.is_begun:
            with within(ended.trace):
                self.context.spawn(self._settle, ended.stream, running, ended)

    async def _settle(self, stream: str, running: Running, ended: GenerationEnded) -> None:
        """Store the end, retrying until the database is available."""
        end = EndAssist(stream=stream, text=ended.text, is_complete=ended.done is not None)
        while True:
            try:
                await self._storage.transact(END_ASSIST, end, client_id=running.client_id)
                break
            except (CommandError, AskDeadline, ActorDead, MailboxFull) as error:
                _log.warning("an answer waits for the database", stream=stream, error=str(error))
                await trio.sleep(RETRY_SECONDS)
        running.settled.set()
        self._forget(stream)

    async def _settle_lost(self, streams: frozenset[str]) -> None:
        """End the answers that no subscriber has resumed in time."""
        for stream in streams:
            running = self._running.get(stream)
            if running is None or running.ended is not None or not running.is_begun:
                continue
            try:
                is_known = await self._inference.ask(IsGenerating(stream), timeout=INFERENCE_SECONDS)
            except (ActorDead, AskDeadline, MailboxFull):
                is_known = False
            if not is_known:
                self._generation_ended(_lost(stream, running.client_id))
        self.context.monitor(self._inference)

    async def _until_settled(self, client_id: str, conversation: str) -> None:
        """Wait for the end of an answer to be stored, so that a client that has received it can continue at once."""
        for running in list(self._running.values()):
            if (running.client_id, running.conversation) == (client_id, conversation) and running.ended is not None:
                with trio.move_on_after(SETTLING_SECONDS):
                    await running.settled.wait()

    def _cancel(self, stream: str) -> None:
        try:
            self._inference.tell_nowait(CancelGeneration(stream))
        except MailboxFull:
            _log.warning("an answer without a subscriber goes on", stream=stream)

    def _forget(self, stream: str) -> None:
        self._running.pop(stream, None)
        if self._is_draining and not self._running:
            self._idle.set()

    async def _write(self, operation: Operation[Owned, Reply], message: DeleteConversation | ChooseWay) -> Reply:
        owned = Owned(client_id=message.client_id, data=message.data)
        await self._until_settled(message.client_id, message.data.conversation)
        with _upstream_errors_as_refusals(writes=True):
            committed = await self._storage.transact(operation, owned, client_id=message.client_id, key=message.key)
        return committed.value

    async def _write_items(self, message: BeginItems | LabelItems | ForgetItems | AddItems | DeleteItem) -> Any:
        if not isinstance(message, BeginItems):
            await self._until_settled(message.client_id, message.id)
        key = message.key if isinstance(message, BeginItems | AddItems) else None
        with _upstream_errors_as_refusals(writes=True):
            committed = await self._storage.transact(
                WRITES[type(message)], message, client_id=message.client_id, key=key
            )
        return committed.value

    async def _read_items(self, message: ReadItems | ReadItemContext | ListItems | ReadItem) -> Any:
        await self._until_settled(message.client_id, message.id)
        with _upstream_errors_as_refusals(writes=False):
            return await self._storage.read(READS[type(message)], message)

    async def _get(self, message: GetConversation) -> ConversationTurns:
        await self._until_settled(message.client_id, message.data.conversation)
        return await self._read(GET_CONVERSATION, Owned(client_id=message.client_id, data=message.data))

    async def _read(self, query: Query[Owned, Reply], owned: Owned) -> Reply:
        with _upstream_errors_as_refusals(writes=False):
            return await self._storage.read(query, owned)


def _lost(stream: str, client_id: str) -> GenerationEnded:
    """The end of an answer that was lost with its inference actor."""
    return GenerationEnded(
        stream=stream,
        client_id=client_id,
        text="",
        done=None,
        code=ErrorCode.UNAVAILABLE,
        message="the answer was lost with a restart",
    )


@contextmanager
def _upstream_errors_as_refusals(*, writes: bool) -> Iterator[None]:
    """Translates upstream unavailability into a rejection for the caller."""
    try:
        yield
    except RuntimeFault as fault:
        refusal = error_from_fault(fault, writes=writes)
        if refusal is None:
            raise
        raise refusal from None
