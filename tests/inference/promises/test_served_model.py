"""Prefix cache of a served model: computed prompts are shared, cached, lost with their worker, and computed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.inference.promises.served_phi3 import served_phi3

pytestmark = [pytest.mark.integration, pytest.mark.mlx_real_inference]

BEGINNING = "It was a dark and stormy night; the rain fell in torrents, except at occasional intervals. " * 2


async def test_p13_the_next_turn_reads_only_what_is_new_and_only_within_its_domain(tmp_path: Path) -> None:
    async with served_phi3(tmp_path) as service:
        first = await service.start(BEGINNING, max_tokens=20, domain="one")
        text = await service.answer(first)
        assert (await service.done(first)).usage.cached_tokens == 0
        turn = await service.start(BEGINNING + text + " And then?", max_tokens=5, domain="one")
        usage = (await service.done(turn)).usage
        assert usage.prompt_tokens - 12 <= usage.cached_tokens < usage.prompt_tokens
        repeat = await service.start(BEGINNING, max_tokens=20, domain="one")
        assert await service.answer(repeat) == text
        assert (await service.done(repeat)).usage.cached_tokens == len(BEGINNING) - 1
        stranger = await service.start(BEGINNING, max_tokens=20, domain="two")
        assert await service.answer(stranger) == text
        assert (await service.done(stranger)).usage.cached_tokens == 0
        queries, hits = service.figure("prefix_cache_queries_total"), service.figure("prefix_cache_hits_total")
        assert (queries, hits) == (
            sum([(await service.done(one)).usage.prompt_tokens for one in (first, turn, repeat, stranger)]),
            sum([(await service.done(one)).usage.cached_tokens for one in (first, turn, repeat, stranger)]),
        )


async def test_p19_load_serve_lose_load_again_and_the_cache_works_as_before(tmp_path: Path) -> None:
    async with served_phi3(tmp_path) as service:
        text = (await service.complete(BEGINNING, max_tokens=20)).text
        for _ in range(2):
            assert (await service.complete(BEGINNING, max_tokens=20)).done.usage.cached_tokens > 0
            await service.restart_worker()
            again = await service.complete(BEGINNING, max_tokens=20)
            assert again.text == text
            assert again.done.usage.cached_tokens == 0, "what was kept went with its worker"
