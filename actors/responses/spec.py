"""Child specification of the responses service."""

from __future__ import annotations

from collections.abc import Callable

from actors.references import References
from actors.responses.actor import Responses
from actors.responses.running import AnswerForms
from runtime import ChildSpec

__all__ = ["spec"]


def spec(to: References, forms: Callable[[], AnswerForms]) -> ChildSpec:
    """A single actor for the stored responses of OpenAI's Responses API. ``forms`` returns the parsers of answers."""
    return ChildSpec(id="responses", start=lambda: Responses(to.inference, to.storage, forms()))
