"""What the inspection room is told."""

from __future__ import annotations

from attrs import frozen

__all__ = ["NoteWorker"]


@frozen
class NoteWorker:
    """A worker process was started; operators find its process id in `server.json`."""

    worker_pid: int
