"""The error of an unsupported schema."""

from __future__ import annotations

__all__ = ["BadSchema"]


class BadSchema(ValueError):
    """The schema cannot be enforced; the text says why."""

    def __init__(self, problem: str, *, field: str = "response_schema") -> None:
        """``field`` is the schema's name in the request."""
        super().__init__(problem)
        self.field = field
