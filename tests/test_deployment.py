"""The files under `deploy/`: every metric that they name is one that `/metrics` has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import ErrorCode
from tests.server_fixture import running_server

TOP = Path(__file__).resolve().parent.parent
DASHBOARD = TOP / "deploy" / "grafana" / "leanvibe.json"
RULES = TOP / "deploy" / "prometheus" / "leanvibe.rules.yml"
METRIC = re.compile(r"\bleanvibe_[a-z_]+\b")
LABEL = re.compile(r'\b(?:by|without) \(([^)]*)\)|([a-z_]+)=~?"')
OF_PROMETHEUS = {"instance", "job", "le"}
SECONDS = 60.0


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression in PromQL, with the name of what it is for."""
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    rules = RULES.read_text(encoding="utf-8")
    for alert, rest in re.findall(r"- alert: (\w+)\n(.*?)(?:for:|labels:)", rules, re.DOTALL):
        yield alert, rest.partition("expr:")[2]


async def served_metrics(server: Any) -> tuple[set[str], set[str]]:
    """Names of all series and of their labels, as a scraper reads them."""
    async with server.http() as http:
        text = (await http.get("/metrics")).text
    names = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    # A histogram is three series; a name without samples still has its type.
    names |= {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count")}
    labels = set(re.findall(r'[{,]([a-z_]+)="', text))
    return names, labels


@pytest.mark.integration
async def test_ob1_every_metric_of_dashboard_and_rules_is_served(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with server.peer() as peer:
            # Labels are there once something was counted.
            await peer.generate("g", "count to 3")
        names, labels = await served_metrics(server)
    found = list(expressions())
    assert len(found) > 20
    for title, expression in found:
        named = set(METRIC.findall(expression))
        assert named or "up{" in expression, title
        assert named <= names, title
        used = {one.strip() for group in LABEL.findall(expression) for part in group for one in part.split(",")} - {""}
        assert used <= labels | OF_PROMETHEUS, title


def test_ob2_promtool_takes_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; apt-get install prometheus")
    done = subprocess.run(
        [promtool, "check", "rules", RULES], capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert "SUCCESS: 7 rules found" in done.stdout


def test_ob3_the_dashboard_can_be_imported_anywhere() -> None:
    """Its data source is a variable, panels do not overlap, and every one says what it shows."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert {one["name"] for one in dashboard["templating"]["list"]} == {"datasource", "instance"}
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not covered & cells, panel["title"]
        assert max(x for x, _ in covered) < 24
        cells |= covered
        assert panel["description"]
        assert {one["datasource"]["uid"] for one in panel["targets"]} == {"${datasource}"}


def test_ob4_outcomes_that_the_rules_name_are_codes_that_end_a_request() -> None:
    named = re.findall(r'finished_reason=~"([^"]+)"', RULES.read_text(encoding="utf-8"))
    assert named
    codes = {one.value for one in ErrorCode}
    assert {code for one in named for code in one.split("|")} <= codes
