"""Prometheus metrics of the inference service, named like vLLM's with our prefix. All values are measured."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["InferenceMetrics"]

_FIRST_TOKEN = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_GAP = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5)


class InferenceMetrics:
    """Written by the inference actor, read by `/metrics`. Lives as long as the process, so counts survive restarts of
    the actor."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._first_token = Histogram(
            "leanvibe_time_to_first_token_seconds",
            "Time from acceptance to the first token",
            buckets=_FIRST_TOKEN,
            registry=registry,
        )
        self._gap = Histogram(
            "leanvibe_inter_token_latency_seconds",
            "Time between two tokens of one answer",
            buckets=_GAP,
            registry=registry,
        )
        self._requests = Counter(
            "leanvibe_request_success",
            "Requests by outcome",
            ["finished_reason"],
            registry=registry,
        )
        self._refused = Counter(
            "leanvibe_requests_refused", "Requests refused because the queue was full", registry=registry
        )
        self._prompt_tokens = Counter("leanvibe_prompt_tokens", "Prompt tokens of finished requests", registry=registry)
        self._generation_tokens = Counter(
            "leanvibe_generation_tokens", "Answer tokens of finished requests", registry=registry
        )
        self._steps = Counter("leanvibe_engine_steps", "Steps of the worker", registry=registry)
        self._step_seconds = Counter("leanvibe_engine_step_seconds", "Time spent in steps", registry=registry)
        self._prefilled = Counter(
            "leanvibe_prefilled_tokens", "Prompt tokens computed, padding included", registry=registry
        )
        self._drafted = Counter(
            "leanvibe_spec_decode_num_draft_tokens", "Tokens drafted and verified", registry=registry
        )
        self._accepted = Counter(
            "leanvibe_spec_decode_num_accepted_tokens", "Drafted tokens that were accepted", registry=registry
        )
        self._prefix_queries = Counter(
            "leanvibe_prefix_cache_queries", "Prompt tokens looked up in the prefix cache", registry=registry
        )
        self._prefix_hits = Counter(
            "leanvibe_prefix_cache_hits", "Prompt tokens found in the prefix cache", registry=registry
        )
        self._memory = Gauge(
            "leanvibe_engine_memory_bytes", "Memory of all workers, by kind", ["kind"], registry=registry
        )
        self._memory_kinds: set[str] = set()
        self._restarts = Counter("leanvibe_engine_restarts", "Workers lost", registry=registry)
        self._running = Gauge("leanvibe_num_requests_running", "Requests running in the worker", registry=registry)
        self._waiting = Gauge("leanvibe_num_requests_waiting", "Requests waiting for a row", registry=registry)

    def first_token(self, seconds: float) -> None:
        """A request got its first token."""
        self._first_token.observe(seconds)

    def token_gap(self, seconds: float) -> None:
        """A request got its next token."""
        self._gap.observe(seconds)

    def step(self, prefilled_tokens: int, seconds: float) -> None:
        """The worker completed a step; its tokens are counted when their requests end."""
        self._steps.inc()
        self._step_seconds.inc(seconds)
        self._prefilled.inc(prefilled_tokens)

    def drafts(self, drafted_tokens: int, accepted_tokens: int) -> None:
        """A step verified this many drafted tokens and accepted some of them."""
        self._drafted.inc(drafted_tokens)
        self._accepted.inc(accepted_tokens)

    def occupancy(self, running: int, waiting: int) -> None:
        """Sets the numbers of running and waiting requests."""
        self._running.set(running)
        self._waiting.set(waiting)

    def finished(self, outcome: str, prompt_tokens: int, generation_tokens: int) -> None:
        """A request ended, exactly once."""
        self._requests.labels(outcome).inc()
        self._prompt_tokens.inc(prompt_tokens)
        self._generation_tokens.inc(generation_tokens)

    def refused(self) -> None:
        """A request was refused because the queue was full."""
        self._refused.inc()

    def engine_restart(self) -> None:
        """A worker was lost."""
        self._restarts.inc()

    def prefix_query(self, tokens: int) -> None:
        """A prompt of this many tokens was passed to the worker."""
        self._prefix_queries.inc(tokens)

    def prefix_hit(self, tokens: int) -> None:
        """This many prompt tokens were found in the prefix cache."""
        self._prefix_hits.inc(tokens)

    def memory(self, held: Mapping[str, float]) -> None:
        """Sets the latest memory figures of all workers, bytes by owner; owners missing from ``held`` are set to zero."""
        self._memory_kinds.update(held)
        for kind in self._memory_kinds:
            self._memory.labels(kind).set(held.get(kind, 0.0))
