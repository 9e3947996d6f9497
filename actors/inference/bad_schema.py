"""The error of a schema that no answer can be held to."""

from __future__ import annotations

__all__ = ["BadSchema"]


class BadSchema(ValueError):
    """The schema cannot be followed; the text says why."""

    def __init__(self, problem: str, *, field: str = "response_schema") -> None:
        """``field`` is what the asker calls it."""
        super().__init__(problem)
        self.field = field
