"""REST of a server that is there for one question: made when somebody comes, and then like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.rest import all_routes
from tests.server_fixture import running_server


@pytest.mark.integration
@pytest.mark.parametrize("is_ephemeral", [True, False])
async def test_te39_rest_is_made_when_somebody_connects_where_a_server_is_ephemeral(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_ephemeral: bool
) -> None:
    made: list[None] = []
    make = all_routes.make_whole_application

    def counted(**arguments: Any) -> Any:
        made.append(None)
        return make(**arguments)

    monkeypatch.setattr(all_routes, "make_whole_application", counted)
    async with running_server(tmp_path, is_ephemeral=is_ephemeral) as server:
        assert len(made) == (0 if is_ephemeral else 1)
        async with server.http() as http:
            for _ in range(2):
                assert (await http.get("/health/ready")).status_code == 200
        assert len(made) == 1
