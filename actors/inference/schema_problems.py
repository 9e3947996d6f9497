"""Why a schema cannot be followed, in words for its author and not in those of the grammar engine. Pure."""

from __future__ import annotations

__all__ = ["words_of"]

_WORDS = (
    (("doesn't satisfy", "forced bytes"), "a token came that it does not allow"),
    (
        ("schema too large", "grammar too large", "grammar size", "maximum grammar", "max_grammar"),
        "it is too large to be followed",
    ),
    # The second is said where no token may begin a text.
    (("unsatisfiable", "Unsatisfiable", "NoExtensionBias"), "no value fits it: rules of it exclude each other"),
    (
        ("regex parse error", "invalid regex", "failed to compile regex", "unsupported regex"),
        "it has a pattern that is no regular expression as JSON Schema has them",
    ),
    (
        ("lexer", "regex", "fuel", "too complex", "row items", "max_items"),
        "it has patterns or alternatives that are too complex to be followed",
    ),
    (("stack level", "recursion"), "it is nested too deep"),
)


def words_of(problem: str) -> str:
    """``problem`` is what the engine said; it may hold the engine's state, of which nothing is told."""
    for signs, words in _WORDS:
        if any(one in problem for one in signs):
            return words
    return "it combines rules that cannot be followed together"
