"""The Containerfile and the compose file, read: what they promise can be seen in them. `scripts/try_compose` builds and runs them."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import attrs
import yaml

from actors.settings import Settings

TOP = Path(__file__).resolve().parent.parent
CONTAINERFILE = TOP / "deploy" / "Containerfile"
COMPOSE = TOP / "deploy" / "compose.yaml"


def stages() -> list[list[tuple[str, str]]]:
    """Instructions of each stage, lines joined and comments left out."""
    lines = [one for one in CONTAINERFILE.read_text(encoding="utf-8").splitlines() if not one.lstrip().startswith("#")]
    found: list[list[tuple[str, str]]] = [[]]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            if name == "FROM":
                found.append([])
            found[-1].append((name, re.sub(r"\s+", " ", rest).strip()))
    return found


def last() -> dict[str, str]:
    """The image's own instructions by name; of several the last."""
    return dict(stages()[-1])


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return loaded


def test_ct1_the_container_runs_as_nobody_and_writes_to_one_volume() -> None:
    image = last()
    user, _, group = image["USER"].partition(":")
    # Numbers, so that an orchestrator can see that it is not root.
    assert int(user) > 0
    assert int(group) > 0
    assert [name for name, _ in stages()[-1]].count("VOLUME") == 1
    volume = image["VOLUME"]
    settings = dict(re.findall(r"(\S+?)=(\S+)", image["ENV"]))
    for name in ("HOME", "LEANVIBE_DATA_DIR", "LEANVIBE_CACHE_DIR"):
        assert Path(settings[name]).is_relative_to(volume), name
    for name in settings:
        if name.startswith("LEANVIBE_"):
            assert name.removeprefix("LEANVIBE_").lower() in {one.name for one in attrs.fields(Settings)}
    service = compose()["services"]["leanvibe"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert [one.partition(":")[2] for one in service["volumes"]] == [volume]


def test_ct2_the_image_is_slim_and_whole() -> None:
    build, image = stages()[1:]
    # The second stage has no pip cache, no wheel and nothing of the checkout.
    assert [rest for name, rest in image if name == "COPY"] == ["--from=build /opt/leanvibe /opt/leanvibe"]
    assert not any(name == "ADD" for name, _ in [*build, *image])
    assert any("--no-cache-dir" in rest for name, rest in build if name == "RUN")
    assert {rest.split()[0] for name, rest in [*build, *image] if name == "FROM"} == {"${BASE}"}
    assert ast.literal_eval(last()["ENTRYPOINT"]) == ["leanvibe"]
    assert ast.literal_eval(last()["CMD"])[0] == "serve"


def test_ct3_the_health_check_asks_whether_the_server_lives() -> None:
    command = last()["HEALTHCHECK"].partition("CMD ")[2]
    program, option, code = ast.literal_eval(command)
    assert (program, option) == ("python3", "-c")
    compile(code, "HEALTHCHECK", "exec")
    port = last()["EXPOSE"]
    assert f"http://127.0.0.1:{port}/health/live" in code
    assert int(port) == attrs.fields(Settings).port.default


def test_ct4_the_compose_file_waits_for_the_database_and_has_no_password() -> None:
    services = compose()["services"]
    assert services["leanvibe"]["depends_on"]["database"]["condition"] == "service_healthy"
    assert "healthcheck" in services["database"]
    assert all(one.startswith("127.0.0.1:") for one in services["leanvibe"]["ports"])
    assert "ports" not in services["database"]
    asked_for = r"\$\{DATABASE_PASSWORD:\?[^}]+\}"
    assert re.fullmatch(asked_for, services["database"]["environment"]["POSTGRES_PASSWORD"])
    assert re.search(rf"://leanvibe:{asked_for}@database/", services["leanvibe"]["environment"]["LEANVIBE_DATABASE"])
    assert set(compose()["volumes"]) == {"state", "database"}
    # A stop has the drain, nine seconds, and a little.
    assert int(services["leanvibe"]["stop_grace_period"].removesuffix("s")) >= 30
