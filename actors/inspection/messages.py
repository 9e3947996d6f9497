"""Messages of the inspection service."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from runtime import Request

__all__ = ["DescribeTree", "NoteWorker"]


@frozen
class NoteWorker:
    """A worker process was started; its process id goes to `server.json` for operators."""

    worker_pid: int


@frozen
class DescribeTree(Request[dict[str, Any]]):
    """Return the supervision tree as JSON values: each actor with its state, mailbox and restarts."""
