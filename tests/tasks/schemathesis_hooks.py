"""What schemathesis sends, in the protocol's terms: to JSON Schema 3.0 is an integer too, to the strict codec it is not."""

from __future__ import annotations

from typing import Any

import schemathesis

__all__ = ["before_call", "map_body"]


@schemathesis.hook
def map_body(_: Any, body: Any) -> Any:
    """The same body with whole numbers written as such."""
    return _whole(body)


@schemathesis.hook
def before_call(_: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Good requests go without a cursor: only the server makes one, and a text made up is refused as it should be."""
    if case.query and "cursor" in case.query and case.meta.generation.mode.is_positive:
        del case.query["cursor"]


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(one) for key, one in value.items()}
    return [_whole(one) for one in value] if isinstance(value, list) else value
