"""Retention of ended generations on disk, independent of changes to the wall clock."""

from sqlalchemy import Engine, insert, select

from actors.inference.store import KEPT_MILLISECONDS, prune_generations
from actors.inference.tables import generations
from tests.database_fixture import database, database_engine

__all__ = ["database", "database_engine"]

NOW_MS = 1_790_000_000_000
DAY_MS = 86_400_000


def test_what_ended_by_a_clock_that_ran_ahead_is_kept_five_minutes_from_now_on(database_engine: Engine) -> None:
    with database_engine.begin() as connection:
        for stream, ended_ms in (("running", None), ("now", NOW_MS), ("ahead", NOW_MS + 2 * DAY_MS)):
            row = {"stream": stream, "client_id": "me", "domain": "d", "request": "{}", "prompt_tokens": 1}
            connection.execute(insert(generations).values(**row, started_ms=NOW_MS, ended_ms=ended_ms))

        def left(now_ms: int) -> list[str]:
            prune_generations(connection, now_ms)
            return sorted(connection.execute(select(generations.c.stream)).scalars())

        assert left(NOW_MS) == ["ahead", "now", "running"]
        assert left(NOW_MS + KEPT_MILLISECONDS - 1) == ["ahead", "now", "running"]
        assert left(NOW_MS + KEPT_MILLISECONDS) == ["running"]
