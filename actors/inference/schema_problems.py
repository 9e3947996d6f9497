"""Translates the grammar engine's errors about a schema into words for its author. Pure functions."""

from __future__ import annotations

__all__ = ["words_of"]

_WORDS = (
    (("doesn't satisfy", "forced bytes"), "a token came that it does not allow"),
    (
        ("schema too large", "grammar too large", "grammar size", "maximum grammar", "max_grammar"),
        "it is too large to be followed",
    ),
    # The last one is raised if no token may begin a text.
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
    """``problem`` is the engine's error; any engine state it contains is not passed on."""
    for signs, words in _WORDS:
        if any(one in problem for one in signs):
            return words
    return "it combines rules that cannot be followed together"
