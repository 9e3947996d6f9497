"""Things that are named by an id or by the beginning of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["NotOne", "one_beginning"]

MOST_LISTED = 10
"""Of what an ambiguous beginning may mean."""


class NotOne(ValueError):
    """None or several begin so; the text says which."""

    def __init__(self, message: str, candidates: tuple[str, ...]) -> None:
        super().__init__(message)
        self.candidates = candidates


def one_beginning(beginning: str, found: Iterable[tuple[str, str]], *, what: str, word: str = "id") -> str:
    """The id that begins so; ``found`` are ids with what they are called. Raises `NotOne` unless it is exactly one."""
    if not beginning:
        raise NotOne(f"a {what} is named by its {word} or by the beginning of it, and nothing was given", ())
    matching = sorted(one for one in found if one[0].startswith(beginning))
    if len(matching) == 1:
        return matching[0][0]
    if not matching:
        raise NotOne(f"no {what} has {_a(word)} that begins with {beginning!r}", ())
    shown = "".join(f"\n  {identifier}  {name}" for identifier, name in matching[:MOST_LISTED])
    more = f"\n  … and {len(matching) - MOST_LISTED} more" if len(matching) > MOST_LISTED else ""
    raise NotOne(
        f"{len(matching)} {what}s have {_a(word)} that begins with {beginning!r}; give more of it:{shown}{more}",
        tuple(identifier for identifier, _ in matching),
    )


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
