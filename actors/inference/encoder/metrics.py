"""Prometheus metrics of the encoder, all measured."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["EncoderMetrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class EncoderMetrics:
    """Written by the encoder's actor, read by `/metrics`. Lives as long as the process, so restarts keep the counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "leanvibe_embedding_requests", "Requests for embeddings by how they ended", ["outcome"], registry=registry
        )
        self.texts = Counter("leanvibe_embedding_texts", "Texts embedded", registry=registry)
        self.tokens = Counter("leanvibe_embedding_tokens", "Their tokens", registry=registry)
        self.restarts = Counter("leanvibe_encoder_restarts", "Encoder workers lost", registry=registry)
        self.memory = Gauge(
            "leanvibe_encoder_memory_bytes", "Resident memory of the encoder's worker", registry=registry
        )
        self.seconds = Histogram(
            "leanvibe_embedding_batch_seconds", "Time of one batch in the worker", buckets=_SECONDS, registry=registry
        )
