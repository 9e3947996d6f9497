"""Entity tags and preconditions (RFC 9110, 8.8.3 and 13). Pure.

A tag of ours says which version of a thing an answer shows. A proxy that compresses what it passes on makes another tag
of it: `"3"` becomes `W/"3"` (nginx) or `"3-gzip"` (Apache), and that is what its client has to say of the version it saw.
No tag of ours is weak and none ends like a coding, so both are understood as the tag that they were made of, in
`If-Match` too, where the letter of the RFC would let nobody behind such a proxy write.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence

from attrs import frozen

from actors.refusals import CommandRefused
from protocol.errors import ErrorCode
from protocol.json_text import MAXIMUM_INTEGER

__all__ = ["Condition", "content_tag", "holds_if_match", "holds_if_none_match", "read_condition", "version_of"]

MAXIMUM_TAGS = 64
DIGEST_BYTES = 12
_ENTRY = r'[ \t]*(?:(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"[ \t]*)?'
_TAGS = re.compile(f"{_ENTRY}(?:,{_ENTRY})*")
_TAG = re.compile(r'"([\x21\x23-\x7e\x80-\xff]*)"')
_CODING = re.compile(r"(?:--?|;)(?:gzip|x-gzip|br|deflate|zstd|compress|identity)$")
_VERSION = re.compile(r"([1-9][0-9]{0,15})(?:-blocked)?")


@frozen
class Condition:
    """What one of the two headers says: some tags, or `*`."""

    tags: tuple[str, ...]
    """Without their quotes, and without what a proxy made of them; empty is `*`."""

    @property
    def is_any(self) -> bool:
        """Is it `*`: whatever is there?"""
        return not self.tags

    def of_whole(self) -> Condition:
        """The same about the whole thing, whichever part of it was shown: a part has its name behind a dot."""
        return Condition(tuple(one.partition(".")[0] for one in self.tags))


def read_condition(lines: Sequence[str], header: str) -> Condition | None:
    """What the lines of `If-Match` or `If-None-Match` say together; None without any.

    Raises `CommandRefused` (`bad_message`, 400) for what is no list of tags.
    """
    if not lines:
        return None
    text = ",".join(lines)
    if text.strip(" \t") == "*":
        return Condition(())
    tags = _TAG.findall(text) if len(text) < MAXIMUM_TAGS * 100 and _TAGS.fullmatch(text) else []
    if not 1 <= len(tags) <= MAXIMUM_TAGS:
        raise CommandRefused(
            ErrorCode.BAD_MESSAGE, f'{header} must be entity tags with commas between them, as "3", or *', field=header
        )
    return Condition(tuple(_CODING.sub("", one) for one in tags))


def holds_if_match(condition: Condition | None, current: str | None) -> bool:
    """Whether a request may go on; ``current`` is the tag of what is there, None where nothing is."""
    return condition is None or (current is not None and (condition.is_any or current in condition.tags))


def holds_if_none_match(condition: Condition | None, current: str | None) -> bool:
    """Whether what is there is something else than the client knows."""
    return condition is None or current is None or not (condition.is_any or current in condition.tags)


def version_of(tag: str) -> int | None:
    """The version of a task that a tag names; None for what is no tag of a task."""
    found = _VERSION.fullmatch(tag)
    version = 0 if found is None else int(found[1])
    return version if 0 < version <= MAXIMUM_INTEGER else None


def content_tag(content: bytes) -> str:
    """The tag of a thing that has no version of its own."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()[:DIGEST_BYTES]).decode()
