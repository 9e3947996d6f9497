"""Child specification of the assistant."""

from __future__ import annotations

from actors.assistant.actor import Assistant
from actors.references import References
from runtime import ChildSpec

__all__ = ["spec"]


def spec(to: References) -> ChildSpec:
    """A single actor for conversations and the commands in them."""
    return ChildSpec(id="assistant", start=lambda: Assistant(to.inference, to.storage))
