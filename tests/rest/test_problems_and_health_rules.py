"""The pure parts of REST: problems and the words of health."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actors.inference.messages import EngineHealth
from actors.rest.health import HEALTHY_STATUSES, engine_status, mlx_health
from actors.rest.problems import HTTP_STATUS, problem
from protocol.errors import ErrorCode


def health(**changes: Any) -> EngineHealth:
    fields: dict[str, Any] = {
        "engine": "mlx",
        "state": "ready",
        "model": "m",
        "worker_pid": 1,
        "restarts": 0,
        "report": {"has_pretrained_weights": True},
        "problem": None,
        "queue_depth": 0,
        "running": 0,
        "tokens_per_second": None,
        "last_inference_ms": None,
    }
    return EngineHealth(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "healthy"),
        ({"engine": "mock"}, "mock"),
        ({"engine": "mock", "report": {"has_pretrained_weights": True}}, "mock"),
        ({"report": {"has_pretrained_weights": False}}, "degraded"),
        ({"report": {}}, "degraded"),
        ({"state": "loading"}, "loading"),
        ({"state": "loading", "engine": "mock"}, "loading"),
        ({"state": "down"}, "degraded"),
        ({"state": "anything else"}, "degraded"),
    ],
)
def test_only_a_ready_engine_with_pretrained_weights_is_healthy(changes: dict[str, Any], status: str) -> None:
    assert engine_status(health(**changes)) == status
    assert (status in HEALTHY_STATUSES) == (status in ("healthy", "mock"))


def test_what_was_not_measured_is_null_and_never_invented() -> None:
    body = mlx_health(health(state="loading", report={}, worker_pid=None))
    for name in (
        "last_inference_time",
        "memory_usage_mb",
        "canary_nll",
        "backend",
        "blas",
        "dtype",
        "tokens_per_second",
        "worker_pid",
    ):
        assert body[name] is None
    assert body["inference_ready"] is False
    assert body["has_pretrained_weights"] is False


def test_measured_figures_are_passed_on() -> None:
    body = mlx_health(
        health(
            memory={"resident": 3 * 1024 * 1024},
            last_inference_ms=12.5,
            tokens_per_second=99.0,
            restarts=2,
            queue_depth=3,
            running=4,
            report={"has_pretrained_weights": True, "canary_nll": 2.5, "blas": "mkl", "warnings": ["slow"]},
        )
    )
    assert (body["memory_usage_mb"], body["last_inference_time"], body["tokens_per_second"]) == (3.0, 12.5, 99.0)
    assert (body["restarts"], body["queue_depth"], body["running"]) == (2, 3, 4)
    assert (body["canary_nll"], body["blas"], body["warnings"]) == (2.5, "mkl", ["slow"])


def test_jd8_memory_is_that_of_all_processes_and_health_tells_why_requests_are_refused() -> None:
    told = mlx_health(health(memory={"resident": 3 * 2**20}, all_processes_bytes=7.0 * 2**20, refuses="too many wait"))
    assert (told["memory_usage_mb"], told["refuses"]) == (7.0, "too many wait")
    assert mlx_health(health())["refuses"] is None


def test_every_error_code_has_a_status() -> None:
    assert set(HTTP_STATUS) == set(ErrorCode)
    assert all(400 <= status <= 599 for status in HTTP_STATUS.values())
    # What may work later is never told as a mistake of the asker's, save for asking too much.
    for code, status in HTTP_STATUS.items():
        assert code.is_temporary == (status in (429, 502, 503, 504))


@pytest.mark.parametrize(("milliseconds", "seconds"), [(1, "1"), (1000, "1"), (1001, "2"), (0, "1")])
async def test_a_problem_is_rfc_9457_with_our_code(milliseconds: int, seconds: str) -> None:
    response = problem(ErrorCode.OVERLOADED, "too much", field="body.x", retry_after_ms=milliseconds)
    assert response.status_code == 429
    assert response.content_type == "application/problem+json"
    assert response.headers["Retry-After"] == seconds
    assert json.loads(await response.get_data()) == {
        "title": "overloaded",
        "status": 429,
        "detail": "too much",
        "code": "overloaded",
        "temporary": True,
        "field": "body.x",
    }
