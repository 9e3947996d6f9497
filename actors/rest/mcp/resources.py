"""MCP resources: conversations and boards as JSON, each under its own URI."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, unquote

from attrs import frozen

from actors.assistant.messages import GetConversation, ListConversations
from actors.errors import CommandError
from actors.rest.mcp.tools import DEVICE, SERVICE_SECONDS, Asker
from actors.tasks.messages import ReadBoard
from protocol.codec import structure, unstructure
from protocol.conversations import ConversationGet, ConversationList, ConversationPage
from protocol.errors import ErrorCode
from protocol.tasks import TaskBoard

__all__ = ["BOARD", "TEMPLATES", "Listed", "list_page", "read"]

BOARD = "leanvibe://board/default"
_CONVERSATIONS = "leanvibe://conversations/"
_ADDRESS = re.compile(
    r"leanvibe://(?P<kind>conversations|board)/(?P<name>[^/?#]{1,512})(?:\?after=(?P<after>[0-9]{1,16}))?"
)

TEMPLATES = (
    (
        "leanvibe://conversations/{name}",
        "conversation",
        "A stored conversation with its turns; `?after=N` gives those behind turn N.",
    ),
    ("leanvibe://board/{project}", "board", "A Kanban board with the tasks of each column."),
)
"""URI template, name and description of each kind."""


@frozen
class Listed:
    """A resource in the list."""

    uri: str
    name: str
    description: str


async def list_page(asker: Asker, cursor: str | None) -> tuple[list[Listed], str | None]:
    """Return a page of the list and the cursor of the next one. Raises `ProtocolFault` for an invalid cursor."""
    given = {} if cursor is None else {"after": cursor}
    data: ConversationList = structure(given, ConversationList, prefix="cursor")
    wanted = ListConversations(client_id=asker.who.client_id, device_id=DEVICE, data=data)
    page: ConversationPage = await asker.services.assistant.ask(wanted, timeout=SERVICE_SECONDS)
    listed = [] if cursor is not None else [Listed(BOARD, "board", "The Kanban board of the project default.")]
    for one in page.conversations:
        uri = _CONVERSATIONS + quote(one.conversation, safe="")
        listed.append(Listed(uri, one.conversation, f"Conversation of {one.turns} turns, last on {one.updated}."))
    return listed, page.next


async def read(asker: Asker, uri: str) -> Any:
    """Read a resource as JSON values. Raises `CommandError`: `not_found`."""
    found = _ADDRESS.fullmatch(uri)
    if found is None:
        raise CommandError(ErrorCode.NOT_FOUND, f"there is no resource {uri[:128]!r}", field="uri")
    name = unquote(found["name"])
    if found["kind"] == "board":
        board: TaskBoard = structure({"project": name}, TaskBoard, prefix="uri")
        of_board = ReadBoard(client_id=asker.who.client_id, device_id=DEVICE, data=board)
        return unstructure(await asker.services.tasks.ask(of_board, timeout=SERVICE_SECONDS))
    data: ConversationGet = structure(
        {"conversation": name, "after": int(found["after"] or 0)}, ConversationGet, prefix="uri"
    )
    of_conversation = GetConversation(client_id=asker.who.client_id, device_id=DEVICE, data=data)
    return unstructure(await asker.services.assistant.ask(of_conversation, timeout=SERVICE_SECONDS))
