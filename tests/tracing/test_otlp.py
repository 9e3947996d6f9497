"""What is sent, read back with the classes that OpenTelemetry generates from its own files."""

from __future__ import annotations

from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from actors.tracing.otlp import SCOPE, PartialSuccess, export_request, partial_success
from actors.tracing.trace_context import TraceContext, new_trace
from actors.tracing.tracer import Span, SpanKind
from tests.tracing.collector import attributes_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.one_of(
    TEXTS, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.lists(TEXTS, max_size=3)
)


@given(
    name=TEXTS,
    kind=st.sampled_from(SpanKind),
    start=st.integers(0, 2**63),
    seconds=st.integers(0, 2**40),
    attributes=st.dictionaries(TEXTS.filter(lambda one: one != "error.type"), VALUES, max_size=5),
    parent=st.sampled_from(
        [None, new_trace(), TraceContext("0" * 31 + "1", "0" * 15 + "1", is_remote=True, state="a=1,b=2")]
    ),
    error=st.sampled_from([None, "timeout"]),
)
def test_tr3_opentelemetrys_classes_read_what_was_written(
    name: str,
    kind: SpanKind,
    start: int,
    seconds: int,
    attributes: dict[str, object],
    parent: TraceContext | None,
    error: str | None,
) -> None:
    span = Span(
        name=name,
        kind=kind,
        context=new_trace() if parent is None else parent.child(),
        parent=parent,
        start_ns=start,
        end_ns=start + seconds,
        attributes=attributes,
        error_type=error,
    )
    read = ExportTraceServiceRequest.FromString(export_request([span, span], {"service.name": "leanvibe"}, "1.2"))
    (of_resource,) = read.resource_spans
    assert attributes_of(of_resource.resource) == {"service.name": "leanvibe"}
    (in_scope,) = of_resource.scope_spans
    assert (in_scope.scope.name, in_scope.scope.version) == (SCOPE, "1.2")
    first, second = in_scope.spans
    assert first == second
    assert not len(UnknownFieldSet(first))
    assert (first.name, first.kind) == (name, kind.value)
    assert (first.trace_id.hex(), first.span_id.hex()) == (span.context.trace_id, span.context.span_id)
    assert first.parent_span_id.hex() == ("" if parent is None else parent.span_id)
    assert (first.start_time_unix_nano, first.end_time_unix_nano) == (start, start + seconds)
    assert attributes_of(first) == (attributes if error is None else {**attributes, "error.type": error})
    assert first.status.code == (Status.STATUS_CODE_UNSET if error is None else Status.STATUS_CODE_ERROR)
    assert first.trace_state == ("" if parent is None else parent.state)
    assert first.flags & 0x1
    assert bool(first.flags & 0x200) == (parent is not None and parent.is_remote)


def test_half_of_a_surrogate_pair_costs_a_character_and_not_the_batch() -> None:
    span = Span(name="\ud800x", kind=SpanKind.INTERNAL, context=new_trace(), parent=None, start_ns=0)
    read = ExportTraceServiceRequest.FromString(export_request([span], {}, "1"))
    assert read.resource_spans[0].scope_spans[0].spans[0].name == "?x"


@given(rejected=st.integers(-(2**63), 2**63 - 1), message=TEXTS)
def test_tr16_what_a_collector_rejects_is_read_as_opentelemetry_writes_it(rejected: int, message: str) -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = message
    assert partial_success(answer.SerializeToString()) == PartialSuccess(max(rejected, 0), message)


@given(body=st.binary(max_size=40))
def test_tr16_an_answer_that_is_something_else_rejects_nothing_or_what_it_says(body: bytes) -> None:
    assert partial_success(body).rejected >= 0
    assert partial_success(b"") == PartialSuccess(0, "")
    assert partial_success(b'{"partialSuccess":{}}') == PartialSuccess(0, "")
