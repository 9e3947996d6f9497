"""The MCP tools as a table: name, arguments, handler, required role, and whether they only read."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
from attrs import field, frozen

from actors.access.messages import OPERATOR, USER, Identity
from actors.assistant.messages import AnswerTurn, SearchConversations, TurnAnswer
from actors.inference.messages import DescribeEngine
from actors.inspection.messages import DescribeTree
from actors.notifications.messages import PostNotification
from actors.rest.assistant import ProcessRequest, command_of
from actors.rest.health import describe_encoder, mlx_health
from actors.rest.models import encoder_health
from actors.rest.references import Services
from actors.tasks.messages import ClaimTask, CreateTask, ListTasks, MoveTask, ReleaseTask, TaskRequest
from protocol.codec import unstructure
from protocol.commands import MAXIMUM_FRAME_BYTES, Generate
from protocol.conversations import ConversationSearch
from protocol.events import Priority
from protocol.notifications import NotificationPost
from protocol.schema import class_schemas, reachable
from protocol.task_claims import TaskClaim, TaskRelease
from protocol.task_model import printed_text
from protocol.tasks import TaskCreate, TaskList, TaskMove
from protocol.validation import between, client_name, length, plain_text, readable_text

__all__ = ["DEVICE", "TOOLS", "Ask", "Asker", "Nothing", "Notify", "Tool"]

DEVICE = ":mcp"
"""Device in the history of tasks; no device can have this name."""
ANSWER_SECONDS = 600.0
"""Longest time that `ask` may take; a client that wants less abandons its call."""
TASK_SECONDS = 75.0
SERVICE_SECONDS = 10.0
SEED_BITS = 53


@frozen(kw_only=True)
class Ask:
    """A question to the model that this server runs."""

    prompt: str = field(validator=[length(1, MAXIMUM_FRAME_BYTES, "characters"), readable_text], repr=False)
    """The question."""
    conversation: str | None = field(default=None, validator=client_name)
    """Continue a stored conversation, or begin one with this name. Without it nothing is stored."""
    max_tokens: int | None = field(default=None, validator=between(1, 2**31))
    """Maximum number of tokens in the answer."""


@frozen(kw_only=True)
class Notify:
    """A message to the client's devices."""

    title: str = field(validator=[length(1, 255, "characters"), printed_text])
    """At most 255 characters."""
    body: str = field(validator=[length(1, 1000, "characters"), plain_text])
    """At most 1,000 characters."""
    priority: Priority | None = None
    """Defaults to `medium`."""


@frozen(kw_only=True)
class Nothing:
    """No arguments."""


@frozen(kw_only=True)
class Asker:
    """The client that uses the tools."""

    services: Services
    who: Identity
    caller: str
    """Tells apart the programs that share a client id."""


@frozen(kw_only=True)
class Tool:
    """A tool."""

    name: str
    description: str
    arguments: type
    """The attrs class that its arguments are parsed as."""
    run: Callable[[Asker, Any], Awaitable[Any]] = field(repr=False)
    """Returns JSON values, an object."""
    role: str = USER
    """The role that a token needs; operators have every role."""
    reads_only: bool = False

    def is_for(self, who: Identity) -> bool:
        """True if this client may call the tool."""
        return self.role == USER or who.is_operator

    def schema(self) -> dict[str, Any]:
        """Self-contained JSON Schema of its arguments."""
        found = class_schemas(reachable(self.arguments), set())
        schema: dict[str, Any] = found.pop(self.arguments.__name__)
        # The description of the class is for readers of its code.
        schema.pop("description", None)
        return {**schema, "$defs": dict(sorted(found.items()))} if found else schema


async def _ask(asker: Asker, data: Ask) -> Any:
    wanted = ProcessRequest(
        type="message", content=data.prompt, conversation=data.conversation, max_tokens=data.max_tokens
    )
    generate = command_of(wanted, asker.services.answer_defaults)
    assert isinstance(generate, Generate)
    turn = AnswerTurn(
        client_id=asker.who.client_id,
        data=attrs.evolve(generate, seed=secrets.randbits(SEED_BITS)),
        max_tokens=data.max_tokens,
        domain=asker.who.domain,
        caller=asker.caller,
    )
    answered: TurnAnswer = await asker.services.assistant.ask(turn, timeout=ANSWER_SECONDS)
    usage = answered.done.usage
    return {
        "answer": answered.text,
        "finish_reason": answered.done.finish_reason.value,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
    }


async def _search(asker: Asker, data: ConversationSearch) -> Any:
    wanted = SearchConversations(client_id=asker.who.client_id, data=data)
    return unstructure(await asker.services.assistant.ask(wanted, timeout=SERVICE_SECONDS))


def _of_tasks(request: type[TaskRequest[Any]]) -> Callable[[Asker, Any], Awaitable[Any]]:
    async def run(asker: Asker, data: Any) -> Any:
        wanted = request(client_id=asker.who.client_id, device_id=DEVICE, data=data)
        return unstructure(await asker.services.tasks.ask(wanted, timeout=TASK_SECONDS))

    return run


async def _notify(asker: Asker, data: Notify) -> Any:
    fields = {"title": data.title, "body": data.body}
    posted = NotificationPost(template="message", fields=fields, priority=data.priority)
    wanted = PostNotification(client_id=asker.who.client_id, data=posted)
    return unstructure(await asker.services.notifications.ask(wanted, timeout=SERVICE_SECONDS))


async def _health(asker: Asker, _: Nothing) -> Any:
    engine = await asker.services.inference.ask(DescribeEngine(with_memory=True), timeout=SERVICE_SECONDS)
    return {**mlx_health(engine), "encoder": describe_encoder(await encoder_health(asker.services))}


async def _tree(asker: Asker, _: Nothing) -> Any:
    return await asker.services.inspection.ask(DescribeTree(), timeout=SERVICE_SECONDS)


TOOLS: Mapping[str, Tool] = {
    one.name: one
    for one in (
        Tool(
            name="ask",
            description="Ask the model that this server runs. With a conversation, continue it.",
            arguments=Ask,
            run=_ask,
        ),
        Tool(
            name="search_conversations",
            description="Find what was said in stored conversations: turns that contain a text, newest first.",
            arguments=ConversationSearch,
            run=_search,
            reads_only=True,
        ),
        Tool(
            name="list_tasks",
            description="List tasks of the board, by project, column, assignee or text.",
            arguments=TaskList,
            run=_of_tasks(ListTasks),
            reads_only=True,
        ),
        Tool(
            name="add_task",
            description="Add a task to the board, last in its column.",
            arguments=TaskCreate,
            run=_of_tasks(CreateTask),
        ),
        Tool(
            name="move_task",
            description="Move a task to another column or place. `version` is the one that was read last.",
            arguments=TaskMove,
            run=_of_tasks(MoveTask),
        ),
        Tool(
            name="claim_task",
            description=(
                "Take a task from backlog or todo to work on it. The answer has a lease: call this again with it before "
                "it expires, or the task goes back. Move the task to testing or done when the work is done."
            ),
            arguments=TaskClaim,
            run=_of_tasks(ClaimTask),
        ),
        Tool(
            name="release_task",
            description="Give a claimed task back to its column, with the lease of the claim.",
            arguments=TaskRelease,
            run=_of_tasks(ReleaseTask),
        ),
        Tool(
            name="notify",
            description="Send a notification to the user's devices.",
            arguments=Notify,
            run=_notify,
        ),
        Tool(
            name="read_health",
            description="Read the health of the model: state, speed, memory and other measurements.",
            arguments=Nothing,
            run=_health,
            reads_only=True,
        ),
        Tool(
            name="read_tree",
            description="Read the supervision tree of the server: every actor with its state, mailbox and restarts.",
            arguments=Nothing,
            run=_tree,
            role=OPERATOR,
            reads_only=True,
        ),
    )
}
"""By name."""
