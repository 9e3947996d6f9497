"""Finds or begins the conversation of a chat. A stored one is given by its name or a unique prefix."""

from __future__ import annotations

import datetime
import secrets
from typing import Any

from actors.command_line.prefixes import NotOne, one_beginning
from protocol.client import Client
from protocol.validation import is_client_name

__all__ = ["NotOne", "free_name", "new_name", "stored_conversations", "stored_name"]


def new_name() -> str:
    """A name that says when it began, and is no other's that began in the same second."""
    return f"chat-{datetime.datetime.now().astimezone():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


async def stored_conversations(client: Client) -> list[dict[str, Any]]:
    """Return all conversations that the server stores for this client."""
    found: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = (await client.command("conversation_list", {"after": after} if after else {}))["data"]
        found += page["conversations"]
        after = page.get("next")
        if after is None:
            return found


async def stored_name(client: Client, beginning: str, *, begins: str) -> str:
    """The whole name of the one that is meant; ``begins`` is what a person types to begin a new one. Raises `NotOne`."""
    known = [(one["conversation"], f"{one['turns']} turns") for one in await stored_conversations(client)]
    if any(name == beginning for name, _ in known):
        return beginning
    try:
        return one_beginning(beginning, known, what="conversation", word="name")
    except NotOne as error:
        if error.candidates:
            raise
        advice = f"; `{begins} {beginning}` begins a new one" if is_client_name(beginning) else ""
        raise NotOne(f"{error}{advice}", ()) from None


async def free_name(client: Client, name: str, *, goes_on: str) -> str:
    """The name, where no stored conversation has it; ``goes_on`` is what a person types for those. Raises `NotOne`."""
    if not is_client_name(name):
        raise NotOne("a conversation's name has 1 to 64 letters, digits, dots, dashes and underscores", ())
    if any(one["conversation"] == name for one in await stored_conversations(client)):
        raise NotOne(f"there is a conversation {name} already; `{goes_on} {name}` goes on with it", (name,))
    return name
