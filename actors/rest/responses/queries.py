"""Queries of the Responses API, and pages of items. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import field, frozen

from protocol.errors import InvalidField
from protocol.validation import between, length, one_of

__all__ = ["ItemsQuery", "StreamQuery", "item_list", "item_page"]


@frozen(kw_only=True)
class StreamQuery:
    """Query of `GET /v1/responses/{id}`."""

    stream: bool | None = None
    starting_after: int | None = field(default=None, validator=between(0, 2**53))
    """Number of the last event that the client has."""


@frozen(kw_only=True)
class ItemsQuery:
    """Query of a list of items."""

    limit: int = field(default=20, validator=between(1, 100))
    order: str = field(default="desc", validator=one_of("asc", "desc"))
    after: str | None = field(default=None, validator=length(1, 256, "characters"))
    """Id of the last item of the previous page."""


def item_page(items: Sequence[dict[str, Any]], wanted: ItemsQuery) -> dict[str, Any]:
    """Return one page. Raises `InvalidField` for a cursor that is not an item of the list."""
    ordered = list(items) if wanted.order == "asc" else list(reversed(items))
    first = 0
    if wanted.after is not None:
        places = [index for index, one in enumerate(ordered) if one["id"] == wanted.after]
        if not places:
            raise InvalidField("after must be the id of an item of this list", field="after")
        first = places[0] + 1
    page = ordered[first : first + wanted.limit]
    return item_list(page, has_more=first + len(page) < len(ordered))


def item_list(page: Sequence[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Format a page as OpenAI's clients expect it."""
    return {
        "object": "list",
        "data": list(page),
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": has_more,
    }
