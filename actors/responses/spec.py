"""The responses service's part of the tree."""

from __future__ import annotations

from collections.abc import Callable

from actors.references import References
from actors.responses.actor import Responses
from actors.responses.running import AnswerForms
from runtime import ChildSpec

__all__ = ["spec"]


def spec(to: References, forms: Callable[[], AnswerForms]) -> ChildSpec:
    """One actor: stored answers of OpenAI's Responses API, and their conversations. ``forms`` says how answers are read."""
    return ChildSpec(id="responses", start=lambda: Responses(to.inference, to.storage, forms()))
