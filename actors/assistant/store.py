"""The assistant's operations and queries, for the composition root."""

from __future__ import annotations

from typing import Any

from actors.assistant import item_store
from actors.assistant.assist_store import BEGIN_ASSIST, END_ASSIST, READ_WINDOW, RUNNING_ASSISTS
from actors.assistant.conversation_store import (
    CHOOSE_WAY,
    DELETE_CONVERSATION,
    GET_CONVERSATION,
    LIST_CONVERSATIONS,
    SEARCH_CONVERSATIONS,
)
from actors.assistant.tables import metadata
from actors.storage.messages import Operation, Query

__all__ = ["OPERATIONS", "QUERIES", "metadata"]

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    BEGIN_ASSIST,
    END_ASSIST,
    CHOOSE_WAY,
    DELETE_CONVERSATION,
    *item_store.OPERATIONS,
)
QUERIES: tuple[Query[Any, Any], ...] = (
    READ_WINDOW,
    RUNNING_ASSISTS,
    LIST_CONVERSATIONS,
    GET_CONVERSATION,
    SEARCH_CONVERSATIONS,
    *item_store.QUERIES,
)
