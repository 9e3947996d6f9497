"""Entity tags and preconditions (RFC 9110, 8.8.3 and 13). Pure functions.

Our tags identify the version of a resource. A proxy that compresses answers changes the tag: `"3"` becomes `W/"3"`
(nginx) or `"3-gzip"` (Apache), and its clients send that one back. None of our tags is weak or ends like a coding, so
both forms are accepted as the original tag. That includes `If-Match`, where the letter of the RFC would make every
write through such a proxy fail.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence

from attrs import frozen

from actors.errors import CommandError
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
    """The tags of one of the two headers, or `*`."""

    tags: tuple[str, ...]
    """Tags without quotes and without a proxy's changes; empty for `*`."""

    @property
    def is_any(self) -> bool:
        """True for `*`, which matches any existing resource."""
        return not self.tags

    def of_whole(self) -> Condition:
        """Return the condition for the whole resource. The tag of a part has its name after a dot."""
        return Condition(tuple(one.partition(".")[0] for one in self.tags))


def read_condition(lines: Sequence[str], header: str) -> Condition | None:
    """Parse all `If-Match` or `If-None-Match` headers together; None if the header is absent.

    Raises `CommandError` (`bad_message`, 400) if they are not a list of tags.
    """
    if not lines:
        return None
    text = ",".join(lines)
    if text.strip(" \t") == "*":
        return Condition(())
    tags = _TAG.findall(text) if len(text) < MAXIMUM_TAGS * 100 and _TAGS.fullmatch(text) else []
    if not 1 <= len(tags) <= MAXIMUM_TAGS:
        raise CommandError(
            ErrorCode.BAD_MESSAGE,
            f'{header} must be * or a comma-separated list of entity tags, such as "3"',
            field=header,
        )
    return Condition(tuple(_CODING.sub("", one) for one in tags))


def holds_if_match(condition: Condition | None, current: str | None) -> bool:
    """True if the request may proceed. ``current`` is the resource's tag, None if it does not exist."""
    return condition is None or (current is not None and (condition.is_any or current in condition.tags))


def holds_if_none_match(condition: Condition | None, current: str | None) -> bool:
    """True if the resource differs from the one that the client knows."""
    return condition is None or current is None or not (condition.is_any or current in condition.tags)


def version_of(tag: str) -> int | None:
    """Return the version in a task's tag; None for any other tag."""
    found = _VERSION.fullmatch(tag)
    version = 0 if found is None else int(found[1])
    return version if 0 < version <= MAXIMUM_INTEGER else None


def content_tag(content: bytes) -> str:
    """Return a tag for a resource without a version of its own."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()[:DIGEST_BYTES]).decode()
