"""Bodies of the health routes. Pure functions of the measurements."""

from __future__ import annotations

from typing import Any

from actors.inference.embedding_messages import EncoderHealth
from actors.inference.messages import EngineHealth

__all__ = ["HEALTHY_STATUSES", "describe_encoder", "engine_status", "mlx_health", "unknown_engine"]

HEALTHY_STATUSES = frozenset({"healthy", "mock", "unloaded"})
"""Statuses that are answered with 200; all others with 503."""
MEBIBYTE = 1024 * 1024
UNKNOWN = "unknown"
"""State of an engine that could not be reached."""


def engine_status(engine: EngineHealth) -> str:
    """Return `healthy`, `mock`, `loading`, `unloaded` (the next request loads it again) or `degraded`."""
    if engine.state in ("loading", "unloaded"):
        return engine.state
    if engine.state != "ready":
        return "degraded"
    if engine.engine == "mock":
        return "mock"
    return "healthy" if engine.report.get("has_pretrained_weights") else "degraded"


def unknown_engine(problem: str) -> EngineHealth:
    """A placeholder for an engine that did not answer or could not be reached; ``problem`` gives the reason."""
    return EngineHealth(
        engine="",
        state=UNKNOWN,
        model="",
        worker_pid=None,
        restarts=0,
        report={},
        problem=problem,
        queue_depth=0,
        running=0,
        tokens_per_second=None,
        last_inference_ms=None,
    )


def mlx_health(engine: EngineHealth) -> dict[str, Any]:
    """Body of `/health/mlx`. Values that were not measured are null. Of an unreachable engine nothing is known."""
    report = engine.report
    is_ready = engine.state == "ready"
    is_known = engine.state != UNKNOWN
    held = engine.memory.get("resident") if engine.all_processes_bytes is None else engine.all_processes_bytes
    return {
        "status": engine_status(engine),
        "model": engine.model,
        "has_pretrained_weights": bool(report.get("has_pretrained_weights")) if is_known else None,
        "inference_ready": is_ready,
        "last_inference_time": engine.last_inference_ms,
        "memory_usage_mb": None if held is None else round(held / MEBIBYTE, 1),
        "canary_nll": report.get("canary_nll"),
        "backend": report.get("backend"),
        "blas": report.get("blas"),
        "dtype": report.get("dtype"),
        "kernels": report.get("kernels"),
        "queue_depth": engine.queue_depth if is_known else None,
        "running": engine.running if is_known else None,
        "tokens_per_second": engine.tokens_per_second,
        "restarts": engine.restarts if is_known else None,
        "worker_pid": engine.worker_pid,
        "load_seconds": report.get("load_seconds"),
        "memory_bytes": dict(engine.memory),
        "memory_bound_bytes": engine.memory_bound_bytes,
        "requests": dict(engine.totals),
        "problem": engine.problem,
        "refuses": engine.refuses,
        "tools": ("template" if engine.has_tools else "generic") if is_known else None,
        "provenance": report.get("provenance"),
        "adapter": report.get("adapter"),
        "changing_to": engine.changing_to,
        "change_stage": engine.change_stage,
        "checks": list(report.get("checks", ())),
        "warnings": list(report.get("warnings", ())),
    }


def describe_encoder(encoder: EncoderHealth | None) -> dict[str, Any]:
    """The field `encoder` of `/health` and `/health/mlx`. It never affects the status, which is the chat model's."""
    if encoder is None:
        return {"state": "restarting"}
    report = encoder.report
    return {
        "model": encoder.model,
        "state": encoder.state,
        "stage": encoder.stage,
        "worker_pid": encoder.worker_pid,
        "restarts": encoder.restarts,
        "memory_bytes": encoder.memory_bytes,
        "waiting": encoder.waiting,
        "totals": dict(encoder.totals),
        # From the newest worker that became ready; null before the first.
        "files": report.get("files"),
        "canary": report.get("canary"),
        "dtype": report.get("dtype"),
        "threads": report.get("threads"),
        "parameters": report.get("parameters"),
        "load_seconds": report.get("load_seconds"),
    }
