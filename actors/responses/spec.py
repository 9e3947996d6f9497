"""The responses service's part of the tree."""

from __future__ import annotations

from actors.references import References
from actors.responses.actor import Responses
from runtime import ChildSpec

__all__ = ["spec"]


def spec(to: References) -> ChildSpec:
    """One actor: stored answers of OpenAI's Responses API."""
    return ChildSpec(id="responses", start=lambda: Responses(to.inference, to.storage))
