"""The real model analyses a real task: its own words, its own confidence, told to every device."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.cache_folder import cache_folder_of_tests
from tests.system.serving_process import start_server, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.mlx_real_inference]


def test_create_with_analysis_carries_what_the_real_model_says(tmp_path: Path) -> None:
    with (
        start_server(
            tmp_path, "--engine", "mlx", LEANVIBE_ENGINE="mlx", LEANVIBE_CACHE_DIR=str(cache_folder_of_tests())
        ) as server,
        httpx.Client(base_url=server.about["rest_url"], trust_env=False, timeout=120) as http,
    ):
        wait_for(lambda: server.run("status").returncode == 0, seconds=150, what="the model")
        health = http.get("/health/mlx").json()
        assert health["has_pretrained_weights"] is True
        wanted = {"title": "Add a login page", "description": "With name and password.", "analyze_with_ai": True}
        task = http.post("/tasks/me", json={**wanted, "ai_timeout_seconds": 60}).json()
        if task["ai_analysis_status"] == "pending":
            # A loaded machine may take longer than a create waits; the analysis follows all the same.
            wait_for(lambda: http.get(f"/tasks/me/{task['id']}").json()["ai_analysis_status"] != "pending", seconds=120)
            task = http.get(f"/tasks/me/{task['id']}").json()
        assert task["ai_analysis_status"] == "done"
        said = task["ai_analysis"].lower()
        assert len(said.split()) > 10
        # Words on the subject, not characters drawn at random.
        assert any(word in said for word in ("login", "page", "user", "password")), said
        assert 0 < task["ai_analysis_confidence"] < 1
        assert task["version"] == 1
