"""What the inspection service is told and asked."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from runtime import Request

__all__ = ["DescribeTree", "NoteWorker"]


@frozen
class NoteWorker:
    """A worker process was started; operators find its process id in `server.json`."""

    worker_pid: int


@frozen
class DescribeTree(Request[dict[str, Any]]):
    """The supervision tree as JSON values: each actor with its state, mailbox and restarts."""
