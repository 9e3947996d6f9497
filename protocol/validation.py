"""Validators for fields on the wire. Each failure carries the path of its field."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Sized
from typing import Any
from urllib.parse import urlsplit

from attrs import Attribute

__all__ = [
    "CONTROLS",
    "FieldFault",
    "address_problem",
    "between",
    "client_name",
    "control_problem",
    "each",
    "https_address",
    "is_client_name",
    "length",
    "one_form",
    "one_of",
    "plain_text",
    "printable_ascii",
    "readable_text",
    "schema_words",
    "text_problem",
]

Validator = Callable[[Any, "Attribute[Any]", Any], None]

CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
CONTROLS = r"\u0000-\u0008\u000e-\u001a\u001c-\u001f\u007f-\u0084\u0086-\u009f"
"""Characters that stored text never contains: C0 and C1 (ISO 6429) except white space and escape, which logs and code contain.

Written for a character class, in the escapes that Python and JSON Schema validators share.
"""
_NO_ADDRESS = re.compile(r"[^\x21-\x7e]|\\")
"""White space, control characters, non-ASCII characters, and the backslash, which some parsers take for a slash."""
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
LONGEST_HOST = 253
_CONTROL = re.compile(f"[{CONTROLS}]")

_SCHEMA_WORDS: dict[Validator, dict[str, Any]] = {}


def schema_words(validator: object) -> dict[str, Any]:
    """A validator's constraint in JSON Schema keywords; `size` stands for the three pairs of length keywords."""
    words: dict[str, Any] = {}
    each_of: tuple[Any, ...] = getattr(validator, "_validators", (validator,))
    for one in each_of:
        words |= _SCHEMA_WORDS.get(one, {})
    return words


class FieldFault(ValueError):
    """An invalid value; `path` is relative to the class that holds it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}")
        self.path = path
        self.problem = problem


def between(low: float | None, high: float | None) -> Validator:
    """Validator: a number within bounds, both inclusive; None passes."""

    def validate(_: object, attribute: Attribute[Any], value: float | None) -> None:
        if value is None:
            return
        if low is not None and value < low:
            raise FieldFault(attribute.name, f"must be at least {_shown(low)}, not {_shown(value)}")
        if high is not None and value > high:
            raise FieldFault(attribute.name, f"must be at most {_shown(high)}, not {_shown(value)}")

    bounds = {"minimum": low, "maximum": high}
    _SCHEMA_WORDS[validate] = {word: bound for word, bound in bounds.items() if bound is not None}
    return validate


def _shown(value: float) -> str:
    """Formats a number in few characters, an integer of 64 bits exactly; not every Python integer converts to a double."""
    if isinstance(value, int) and value.bit_length() <= 64:
        return str(value)
    try:
        return f"{value:g}"
    except OverflowError:
        return "an integer beyond any double"


def length(low: int, high: int, what: str) -> Validator:
    """Validator: a string or collection of ``low`` to ``high`` ``what`` (characters, entries); None passes."""

    def validate(_: object, attribute: Attribute[Any], value: Sized | None) -> None:
        if value is not None and not low <= len(value) <= high:
            raise FieldFault(attribute.name, f"must have {low} to {high} {what}, not {len(value)}")

    _SCHEMA_WORDS[validate] = {"size": (low, high)}
    return validate


def described(validator: Validator, **words: Any) -> Validator:
    """Registers a validator's constraint in JSON Schema keywords. Returns the validator."""
    _SCHEMA_WORDS[validator] = words
    return validator


def each(check: Callable[[Any], str | None], **words: Any) -> Validator:
    """Validator: applies ``check`` (a problem or None) to each element of a list; None passes. ``words`` describe an element."""

    def validate(_: object, attribute: Attribute[Any], value: list[Any] | None) -> None:
        for index, element in enumerate(value or ()):
            problem = check(element)
            if problem is not None:
                raise FieldFault(f"{attribute.name}[{index}]", problem)

    if words:
        _SCHEMA_WORDS[validate] = {"items": words}
    return validate


def one_of(*allowed: str) -> Validator:
    """Validator: one of these words."""

    def validate(_: object, attribute: Attribute[Any], value: str) -> None:
        if value not in allowed:
            raise FieldFault(attribute.name, f"must be one of {', '.join(allowed)}, not {value[:40]!r}")

    _SCHEMA_WORDS[validate] = {"enum": list(allowed)}
    return validate


def client_name(_: object, attribute: Attribute[Any], value: str | None) -> None:
    """Validator: a client or device id of 1 to 64 letters, digits, dots, dashes and underscores; None passes."""
    if value is not None and not CLIENT_NAME.fullmatch(value):
        raise FieldFault(attribute.name, f"must match {CLIENT_NAME.pattern}")


_SCHEMA_WORDS[client_name] = {"pattern": f"^{CLIENT_NAME.pattern}$"}


def is_client_name(value: str) -> bool:
    """True for a valid client or device id."""
    return CLIENT_NAME.fullmatch(value) is not None


def one_form(value: Any) -> Any:
    """Normalizes names (NFC, UAX #15), so that names that look the same compare equal. Accepts strings, lists of them, None.

    A converter for fields used in look-ups; text that is only read by people stays as written.
    """
    if isinstance(value, str):
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    return [one_form(one) for one in value] if isinstance(value, list) else value


def readable_text(_: object, attribute: Attribute[Any], value: str | None) -> None:
    """Validator: text that is not blank, without control characters (`control_problem`); None passes."""
    problem = None if value is None else text_problem(value)
    if problem is not None:
        raise FieldFault(attribute.name, problem)


def plain_text(_: object, attribute: Attribute[Any], value: str | None) -> None:
    """Validator: text without control characters (`control_problem`), for stored fields; None passes."""
    problem = None if value is None else control_problem(value)
    if problem is not None:
        raise FieldFault(attribute.name, problem)


_SCHEMA_WORDS[plain_text] = {"pattern": f"^[^{CONTROLS}]*$"}


def text_problem(value: str) -> str | None:
    """The problem that `readable_text` finds in a text, or None."""
    if not value.strip():
        return "must not be empty"
    return control_problem(value)


def control_problem(value: str) -> str | None:
    """Names the first control character in a text to be stored, or returns None.

    White space and escape pass. Text shown in a terminal is sanitized there.
    """
    found = None if value.isascii() and value.isprintable() else _CONTROL.search(value)
    return None if found is None else f"must not contain the control character U+{ord(found[0]):04X}"


def printable_ascii(value: str) -> bool:
    """True for 1 to 64 printable ASCII characters: a valid command id."""
    return 1 <= len(value) <= 64 and all(" " <= one <= "~" for one in value)


def address_problem(text: str) -> str | None:
    """The problem with an https address, or None. Its destination is checked when it is used."""
    if _NO_ADDRESS.search(text):
        return "must be an https address of printable ASCII"
    try:
        parts = urlsplit(text)
        port = parts.port  # raises unless it is a number up to 65535
    except ValueError:
        return "must be an https address"
    if parts.scheme != "https":
        return "must be an https address: no other scheme is supported"
    if "@" in parts.netloc:
        return "must be an https address without a user name"
    if port == 0:
        return "must be an https address with a port from 1 to 65535"
    if not _is_host(parts.hostname or "", has_brackets="[" in parts.netloc):
        return "must be an https address whose host is a name or an IP address"
    return None


def _is_host(host: str, *, has_brackets: bool) -> bool:
    """True for a name within the limits of DNS (RFC 1035, 2.3.4), or an IPv6 address without a zone."""
    if has_brackets:
        try:
            return "%" not in host and ipaddress.ip_address(host).version == 6
        except ValueError:
            return False
    name = host.removesuffix(".")
    return len(name) <= LONGEST_HOST and all(_LABEL.fullmatch(label) for label in name.split("."))


def https_address(_: object, attribute: Attribute[Any], value: str | None) -> None:
    """Validator: an https address (see `address_problem`); None passes."""
    problem = None if value is None else address_problem(value)
    if problem is not None:
        raise FieldFault(attribute.name, problem)
