"""The assistant service's part of the tree."""

from __future__ import annotations

from actors.assistant.actor import Assistant
from actors.references import References
from runtime import ChildSpec

__all__ = ["spec"]


def spec(to: References) -> ChildSpec:
    """One actor: conversations, and what is asked within them."""
    return ChildSpec(id="assistant", start=lambda: Assistant(to.inference, to.storage))
