"""Spans as OTLP has them: `ExportTraceServiceRequest` of opentelemetry-proto 1, in protobuf's wire format. Pure.

A dozen messages of strings and numbers are all that is sent, so they are written here. Tests read them with the classes that
OpenTelemetry generates from its own files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping

from attrs import frozen

from actors.tracing.tracer import AttributeValue, Span

__all__ = ["SCOPE", "PartialSuccess", "export_request", "partial_success"]

SCOPE = "leanvibe"
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_STATUS_ERROR = 2
_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200


def export_request(spans: Iterable[Span], resource: Mapping[str, str], version: str) -> bytes:
    """The body of one POST to `/v1/traces`. ``resource`` says what made the spans."""
    of_resource = b"".join(_message(1, _attribute(name, value)) for name, value in resource.items())
    scope = _text(1, SCOPE) + _text(2, version)
    in_scope = _message(1, scope) + b"".join(_message(2, _span(span)) for span in spans)
    return _message(1, _message(1, of_resource) + _message(2, in_scope))


@frozen
class PartialSuccess:
    """The part of an accepted request that the collector rejected."""

    rejected: int
    message: str
    """Its reason; empty where it gave none. With no rejected span, a warning."""


def partial_success(body: bytes) -> PartialSuccess:
    """Read the body of an answer, `ExportTraceServiceResponse`; none rejected where it is something else."""
    try:
        found = dict(_fields(dict(_fields(body)).get(1, b"")))
    except (ValueError, IndexError, TypeError):
        found = {}
    rejected, message = found.get(1, 0), found.get(2, b"")
    if not isinstance(rejected, int) or not isinstance(message, bytes):
        return PartialSuccess(0, "")
    # Of a signed number nothing below zero means anything.
    return PartialSuccess(rejected if rejected < 2**63 else 0, message.decode("utf-8", "replace"))


def _fields(content: bytes | int) -> Iterator[tuple[int, bytes | int]]:
    """Numbers and values of one message. Raises `ValueError`, `IndexError` or `TypeError` for anything else."""
    if isinstance(content, int):
        raise TypeError(content)
    at = 0
    while at < len(content):
        tag, at = _read_varint(content, at)
        if tag & 7 == _VARINT:
            value, at = _read_varint(content, at)
            yield tag >> 3, value
            continue
        if tag & 7 == _LENGTH:
            size, at = _read_varint(content, at)
        elif tag & 7 in (_FIXED64, _FIXED32):
            size = 8 if tag & 7 == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {tag & 7}")
        if at + size > len(content):
            raise ValueError("cut")
        yield tag >> 3, content[at : at + size]
        at += size


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = 0
    for place in range(10):
        byte = content[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("a number of more than 64 bits")


def _span(span: Span) -> bytes:
    parent, context = span.parent, span.context
    flags = int(context.is_sampled) | _HAS_IS_REMOTE
    if parent is not None and parent.is_remote:
        flags |= _IS_REMOTE
    return b"".join(
        (
            _message(1, bytes.fromhex(context.trace_id)),
            _message(2, bytes.fromhex(context.span_id)),
            _text(3, context.state) if context.state else b"",
            b"" if parent is None else _message(4, bytes.fromhex(parent.span_id)),
            _text(5, span.name),
            _number(6, span.kind.value),
            _tag(7, _FIXED64) + struct.pack("<Q", span.start_ns),
            _tag(8, _FIXED64) + struct.pack("<Q", span.end_ns),
            *(_message(9, _attribute(name, value)) for name, value in _with_error(span).items()),
            b"" if span.error_type is None else _message(15, _number(3, _STATUS_ERROR)),
            _tag(16, _FIXED32) + struct.pack("<I", flags),
        )
    )


def _with_error(span: Span) -> Mapping[str, AttributeValue]:
    return span.attributes if span.error_type is None else {**span.attributes, "error.type": span.error_type}


def _attribute(name: str, value: AttributeValue) -> bytes:
    return _text(1, name) + _message(2, _any_value(value))


def _any_value(value: AttributeValue) -> bytes:
    match value:
        case str():
            return _text(1, value)
        case bool():
            return _number(2, int(value))
        case int():
            return _number(3, value)
        case float():
            return _tag(4, _FIXED64) + struct.pack("<d", value)
        case _:
            return _message(5, b"".join(_message(1, _any_value(one)) for one in value))


def _text(field: int, text: str) -> bytes:
    # Half of a surrogate pair has no form in UTF-8, which protobuf wants.
    return _message(field, text.encode("utf-8", "replace"))


def _message(field: int, content: bytes) -> bytes:
    return _tag(field, _LENGTH) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _tag(field, _VARINT) + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)


def _tag(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
