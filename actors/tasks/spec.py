"""Child specification of the tasks service."""

from __future__ import annotations

from actors.references import References
from actors.tasks.actor import Tasks
from runtime import ChildSpec

__all__ = ["spec"]


def spec(to: References) -> ChildSpec:
    """A single actor for all boards."""
    return ChildSpec(id="tasks", start=lambda: Tasks(to.storage, to.inference))
