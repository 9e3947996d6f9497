"""A table of fields as Markdown, for the reference pages. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable

from actors.rest.openai.fields import FieldRule

__all__ = ["field_lines"]


def field_lines(rules: Iterable[FieldRule]) -> str:
    """Head and one line a field."""
    lines = ["| field | is | asks for nothing | |", "|---|---|---|---|"]
    for rule in rules:
        quiet = ", ".join(f"`{json.dumps(one)}`" for one in rule.quiet)
        lines.append(f"| `{rule.name}` | {rule.treatment.value} | {quiet} | {rule.note} |")
    return "".join(f"{one}\n" for one in lines)
