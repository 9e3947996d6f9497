"""Two servers on one database of PostgreSQL, as processes: the second is refused, and let in once the first is dead."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from actors.storage.database import open_engine
from actors.storage.holding import holder_of
from tests.postgresql_fixture import fresh_postgresql_database
from tests.system.serving_process import leanvibe, start_server, wait_for

pytestmark = pytest.mark.integration


def test_db19_a_second_server_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    database = fresh_postgresql_database()
    settings = {"LEANVIBE_DATABASE": database.render_as_string(hide_password=False)}
    here, there = tmp_path / "here", tmp_path / "there"
    with start_server(here, **settings) as first:
        assert first.run("task", "add", "of the first").returncode == 0
        name = f"process {first.process.pid} uses this database; stop it"
        refused = leanvibe(there, "serve", **settings)
        assert refused.returncode not in (0, None)
        assert name in refused.stderr
        assert "Traceback" not in refused.stderr
        # Nor is anything restored beneath the first.
        assert leanvibe(here, "backup", str(tmp_path / "kept.backup"), **settings).returncode == 0
        beneath = leanvibe(there, "restore", str(tmp_path / "kept.backup"), "--replace", **settings)
        assert beneath.returncode != 0
        assert "uses this database" in beneath.stderr
        # Doctor says so where the second would start, and nothing of it where the first runs.
        said = json.loads(leanvibe(there, "doctor", "--json", **settings).stdout)["findings"]
        (problem,) = [one for one in said if one["check"] == "database" and one["state"] == "problem"]
        assert f"process {first.process.pid}" in problem["said"]
        said = json.loads(leanvibe(here, "doctor", "--json", **settings).stdout)["findings"]
        assert not [one for one in said if one["check"] == "database" and one["state"] != "ok"]
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(20)
        # The system closes the connections of the dead; PostgreSQL needs a moment to see it.
        engine = open_engine(database, writes=False)
        with engine.connect() as connection:
            wait_for(lambda: holder_of(connection) is None, what="the lock of the first given up")
        engine.dispose()
    with start_server(there, **settings) as second:
        listed = json.loads(second.run("task", "list", "--json").stdout)["tasks"]
        assert [one["title"] for one in listed] == ["of the first"]
