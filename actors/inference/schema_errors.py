"""Errors of unsupported schemas, in words for their authors. No I/O."""

from __future__ import annotations

__all__ = ["BadSchema", "NotSupported", "words_of"]

_WORDS = (
    (("doesn't satisfy", "forced bytes"), "it received a token that it does not allow"),
    (
        ("schema too large", "grammar too large", "grammar size", "maximum grammar", "max_grammar"),
        "it is too large",
    ),
    # The last one is raised if no token may begin a text.
    (
        ("unsatisfiable", "Unsatisfiable", "NoExtensionBias"),
        "no value satisfies it: its keywords contradict each other",
    ),
    (
        ("regex parse error", "invalid regex", "failed to compile regex", "unsupported regex"),
        "it has a pattern that is not a valid regular expression",
    ),
    (
        ("lexer", "regex", "fuel", "too complex", "row items", "max_items"),
        "its patterns or alternatives are too complex",
    ),
    (("stack level", "recursion"), "it is nested too deeply"),
)


class BadSchema(ValueError):
    """The schema cannot be enforced; the text says why."""

    def __init__(self, problem: str, *, field: str = "response_schema") -> None:
        """``field`` is the schema's name in the request."""
        super().__init__(problem)
        self.field = field


class NotSupported(Exception):
    """Part of a schema that is not supported; it is left out where the schema permits."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path or 'the schema'} {problem}")


def words_of(problem: str) -> str:
    """``problem`` is the engine's error; any engine state it contains is not passed on."""
    for signs, words in _WORDS:
        if any(one in problem for one in signs):
            return words
    return "it combines keywords that are not supported together"
