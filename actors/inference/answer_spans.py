"""Trace spans of an answer, by OpenTelemetry's GenAI conventions: inference, with queue, prefill and decode as its
children.

Names and attributes follow open-telemetry/semantic-conventions-genai of 2026, whose status is "development". Spans
contain nothing that people write: no message, no answer, no stop text, no schema.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

from actors.inference.generation import Generation
from actors.tracing.trace_context import TraceContext
from actors.tracing.tracer import AttributeValue, Span, SpanKind, Tracer
from protocol.events import FinishReason

__all__ = ["PROVIDER", "record_answer"]

PROVIDER = "leanvibe"
COMPLETE = frozenset(one.value for one in FinishReason)
STOPPED = frozenset({"cancelled", "abandoned"})
"""Ended by the caller, which is not an error."""


def record_answer(tracer: Tracer, generation: Generation, outcome: str, now: float) -> None:
    """Queues the spans of a generation that ended with ``outcome``; ``now`` is Trio's clock."""
    above = generation.trace
    if not tracer.is_on or above is None or not above.is_sampled:
        return
    # Durations are known only now; all are placed on the wall clock by this moment's offset.
    offset_ns = time.time_ns() - int(trio.current_time() * 1e9)

    def wall_ns(moment: float) -> int:
        return offset_ns + int(moment * 1e9)

    whole = Span(
        name=f"{_operation(generation)} {_model(generation)}",
        # The model runs in a separate process.
        kind=SpanKind.CLIENT,
        context=above.child(),
        parent=above,
        start_ns=wall_ns(generation.accepted_at),
        end_ns=wall_ns(now),
        attributes=_attributes(generation, outcome),
        error_type=None if outcome in COMPLETE | STOPPED else outcome,
    )
    tracer.record(whole)
    for span in _parts(generation, now, whole.context, wall_ns):
        tracer.record(span)


def _parts(generation: Generation, now: float, above: TraceContext, wall_ns: Callable[[float], int]) -> list[Span]:
    """Spans of the phases that the generation reached, in order."""
    admitted, first = generation.admitted_at, generation.first_token_at
    moments: list[tuple[str, float, float | None, dict[str, AttributeValue]]] = [
        ("queue", generation.accepted_at, admitted, {})
    ]
    if admitted is not None:
        cached = generation.cached_tokens
        known: dict[str, AttributeValue] = {"leanvibe.prompt_tokens": len(generation.prompt_ids)}
        if cached is not None:
            known["leanvibe.cached_tokens"] = cached
        moments.append(("prefill", admitted, first, known))
    if first is not None:
        of_decode: dict[str, AttributeValue] = {"leanvibe.completion_tokens": len(generation.emitted_ids)}
        if generation.death_record.deaths:
            of_decode["leanvibe.engine_restarts"] = generation.death_record.deaths
        moments.append(("decode", first, now, of_decode))
    return [
        Span(
            name=name,
            kind=SpanKind.INTERNAL,
            context=above.child(),
            parent=above,
            start_ns=wall_ns(begun),
            end_ns=wall_ns(now if ended is None else ended),
            attributes=attributes,
        )
        for name, begun, ended, attributes in moments
    ]


def _operation(generation: Generation) -> str:
    return "text_completion" if generation.generate.messages is None else "chat"


def _model(generation: Generation) -> str:
    return "" if generation.scheduler is None else generation.scheduler.model.name


def _attributes(generation: Generation, outcome: str) -> dict[str, AttributeValue]:
    generate = generation.generate
    attributes: dict[str, AttributeValue | None] = {
        "gen_ai.operation.name": _operation(generation),
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": _model(generation),
        "gen_ai.response.model": _model(generation),
        "gen_ai.response.id": generation.stream,
        "gen_ai.conversation.id": generate.conversation,
        "gen_ai.output.type": "text" if generate.response_schema is None else "json",
        "gen_ai.request.max_tokens": generate.max_tokens,
        "gen_ai.request.temperature": float(generate.temperature),
        "gen_ai.request.top_p": float(generate.top_p),
        "gen_ai.request.top_k": None if generate.top_k is None else float(generate.top_k),
        "gen_ai.request.presence_penalty": float(generate.presence_penalty),
        "gen_ai.request.frequency_penalty": float(generate.frequency_penalty),
        "gen_ai.request.seed": generation.seed,
        "gen_ai.response.finish_reasons": [outcome] if outcome in COMPLETE else None,
        "gen_ai.usage.input_tokens": len(generation.prompt_ids),
        "gen_ai.usage.output_tokens": len(generation.emitted_ids),
        "gen_ai.usage.cache_read.input_tokens": generation.cached_tokens,
        "gen_ai.response.time_to_first_chunk": None
        if generation.first_token_at is None
        else generation.first_token_at - generation.accepted_at,
        "leanvibe.outcome": outcome,
    }
    return {name: value for name, value in attributes.items() if value is not None}
