"""`/api/embed`, `/api/embeddings` and the encoder in Ollama's lists, with the real encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy
import pytest

from actors.inference.checkpoints.encoder import WEIGHTS, encoder_folder
from actors.inference.checkpoints.manifest import file_sha256
from actors.rest.ollama.replies import wire_moment
from tests.encoder_fixture import GOLDENS, encoder_cache
from tests.server_fixture import running_server

__all__ = ["encoder_cache"]

pytestmark = [pytest.mark.integration, pytest.mark.mlx_real_inference]


async def test_ol11_texts_are_embedded_and_cut_as_ollama_does(tmp_path: Path, encoder_cache: Path) -> None:
    short, long = GOLDENS[0], next(one for one in GOLDENS if one.tokens > 256)
    async with running_server(tmp_path, cache_dir=encoder_cache) as server, server.http() as http:

        async def embed(path: str, **body: Any) -> httpx.Response:
            return await http.post(path, json=body, timeout=240)

        answer = await embed("/api/embed", model="all-minilm", input=[short.text, long.text])
        told = answer.json()
        assert (answer.status_code, told["model"]) == (200, "all-minilm")
        vectors = numpy.array(told["embeddings"])
        assert (vectors * numpy.stack([short.vector, long.vector])).sum(axis=1).min() >= 0.9999
        assert told["prompt_eval_count"] == short.tokens + 256
        assert 0 < told["load_duration"] <= told["total_duration"]
        one = (await embed("/api/embed", model="all-minilm-l6-v2:latest", input=short.text, dimensions=10)).json()
        assert [len(vector) for vector in one["embeddings"]] == [10]
        refused = await embed("/api/embed", model="all-minilm", input=["x", long.text], truncate=False)
        assert refused.status_code == 400
        assert refused.json()["error"].startswith("input[1]: a text has 542 tokens")
        older = (await embed("/api/embeddings", model="all-minilm", prompt=short.text)).json()
        assert float(numpy.array(older["embedding"]) @ short.vector) >= 0.9999
        assert (await embed("/api/embed", model="all-minilm", input="")).json()["embeddings"] == []
        assert (await embed("/api/embed", model="all-minilm")).json()["embeddings"] == []
        assert (await embed("/api/embeddings", model="all-minilm", prompt="")).json() == {"embedding": []}
        assert [
            len(one) for one in (await embed("/api/embed", model="all-minilm", input=[""])).json()["embeddings"]
        ] == [384]
        shown = (await embed("/api/show", model="all-minilm")).json()
        assert (shown["capabilities"], shown["model_info"]["bert.context_length"]) == (["embedding"], 256)
        loaded = {one["name"]: one for one in (await http.get("/api/ps")).json()["models"]}
        assert loaded["all-minilm-l6-v2:latest"]["context_length"] == 256
        (mine,) = [one for one in (await http.get("/api/tags")).json()["models"] if "minilm" in one["name"]]
        assert (mine["details"]["family"], mine["state"]) == ("bert", "ready")
        weights = encoder_folder(encoder_cache) / WEIGHTS.name
        assert mine["digest"] == loaded["all-minilm-l6-v2:latest"]["digest"] == file_sha256(weights)
        assert mine["modified_at"] == shown["modified_at"] == wire_moment(weights.stat().st_mtime)
