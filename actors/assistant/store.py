"""All that the assistant asks of storage, for the composition root."""

from __future__ import annotations

from actors.assistant.assist_store import OPERATIONS, QUERIES
from actors.assistant.tables import metadata

__all__ = ["OPERATIONS", "QUERIES", "metadata"]
