"""Canary values that ship: who makes them, what they prove, and what is said where there are none."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from actors.command_line import model as command_module
from actors.command_line import model_work
from actors.command_line.main import leanvibe
from actors.inference.checkpoints import shipped_canaries as table_module
from actors.inference.checkpoints.catalogue import Canaries, short_names
from actors.inference.checkpoints.errors import ModelFileCorrupt
from actors.inference.checkpoints.shipped_canaries import ShippedCanaries, shipped_canaries, write_shipped
from actors.inference.worker.blas import BlasReport
from actors.inference.worker.startup import load_stepper
from tests.inference.models.local_hub import Hub, serving
from tests.inference.models.small_checkpoints import rewrite_tensors, write_small

Run = Callable[..., Result]
PHI = short_names()["phi-3-mini"]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the table that ships, in its place."""
    copy = tmp_path / "table.json"
    copy.write_text(table_module.TABLE.read_text())
    monkeypatch.setattr(table_module, "TABLE", copy)
    return copy


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def run(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for module in (command_module, model_work):
        monkeypatch.setattr(module, "load_blas", lambda _settings: None)
    monkeypatch.setenv("LEANVIBE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "400")

    def invoke(*words: str | Path) -> Result:
        result = CliRunner().invoke(leanvibe, ["model", *map(str, words), "--cache-dir", str(cache)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub(model=PHI)) as running:
        running.add_folder(write_small(tmp_path / "published", shards=2))
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield running


def checks(run: Run, *words: str | Path) -> dict[str, dict[str, Any]]:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return {check["name"]: check for check in json.loads(result.stdout)["checks"]}


def health(cache: Path) -> dict[str, Any]:
    """What the worker reports of it, which is what `/health/mlx` shows."""
    folder = cache / "models" / PHI.replace("/", "--")
    blas = BlasReport(name="test", choice="shipped", warning=None)
    return load_stepper(folder, "phi-3-mini", blas, lambda _stage: None, prefix_bytes=0).report()


def test_the_table_that_ships_can_be_read_and_has_the_embedded_model() -> None:
    shipped = shipped_canaries()
    assert shipped["smollm2-135m-instruct"].canaries == Canaries(3.9295, 3.0251)
    assert shipped["smollm2-135m-instruct"].revision is None


def test_one_command_measures_what_ships_for_a_commit_and_from_then_on_it_is_held_against_it(
    run: Run, hub: Hub, cache: Path, table: Path
) -> None:
    measured = run("measure", "phi-3-mini", "--json")
    assert measured.exit_code == 0, measured.output
    said = json.loads(measured.stdout)
    entry = shipped_canaries(table)[PHI]
    assert (entry.name, entry.revision) == (PHI, hub.commit)
    assert (said["short"], said["long"]) == (entry.canaries.short, entry.canaries.long)
    assert entry.canaries.long is not None
    assert set(shipped_canaries(table)) == {PHI, "smollm2-135m-instruct"}, "what was there stays"
    assert "canary_nats_per_token" not in json.loads(
        (cache / "models" / PHI.replace("/", "--") / "manifest.json").read_text()
    ), "measuring for others records nothing here"
    found = checks(run, "verify", "phi-3-mini")
    for text in ("short", "long"):
        assert "shipped with this version" in found[f"canary_{text}"]["detail"]
        assert not found[f"canary_{text}"]["action"]
    report = health(cache)
    assert report["has_pretrained_weights"]
    assert not [one for one in report["warnings"] if "canary" in one or "nats" in one]


def test_values_that_ship_are_believed_before_those_of_a_manifest(run: Run, hub: Hub, cache: Path, table: Path) -> None:
    assert run("pull", "phi-3-mini").exit_code == 0
    recorded = json.loads((cache / "models" / PHI.replace("/", "--") / "manifest.json").read_text())
    off = Canaries(recorded["canary_nats_per_token"] + 0.05, recorded["long_canary_nats_per_token"])
    write_shipped(ShippedCanaries(name=PHI, revision=hub.commit, canaries=off, measured="cpu, float32"), table)
    result = run("verify", "phi-3-mini", "--json")
    assert result.exit_code == 1
    (failed,) = [check for check in json.loads(result.stdout)["checks"] if not check["passed"]]
    assert failed["name"] == "canary_short"


def test_a_short_name_stands_for_the_commit_that_was_measured(run: Run, hub: Hub, table: Path) -> None:
    values = Canaries(4.0, 4.0)
    write_shipped(ShippedCanaries(name=PHI, revision="e" * 40, canaries=values, measured="cpu, float32"), table)
    assert "no revision 'eeeeeeee" in run("pull", "phi-3-mini").stderr
    found = checks(run, "pull", PHI)
    assert "the values of this version are for commit eeeeeeeeeeee" in found["canary_short"]["detail"]


def test_without_shipped_values_every_place_says_what_proves_the_model_and_what_does_not(
    run: Run, hub: Hub, cache: Path, table: Path
) -> None:
    lack = (
        "this version ships none for this model, so the hashes of its source are what proves it; it can be used as it is; "
        "values to ship are made in a checkout with `leanvibe model measure`"
    )
    first = checks(run, "pull", "phi-3-mini")
    assert "hashed now" in first["files"]["detail"]
    assert first["canary_short"]["detail"].endswith(
        f"under the 6 of a trained model; recorded now, so that later changes show; {lack}"
    )
    assert not first["canary_short"]["action"]
    later = checks(run, "verify", "phi-3-mini")
    for text in ("short", "long"):
        assert "recorded on 20" in later[f"canary_{text}"]["detail"]
        assert "so that changes since then show" in later[f"canary_{text}"]["detail"]
        assert lack in later[f"canary_{text}"]["detail"]
        assert "shipped with" not in later[f"canary_{text}"]["detail"]
        assert not later[f"canary_{text}"]["action"], "what a reader cannot change is no advice"
    assert "To do:" not in run("verify", "phi-3-mini").stdout
    report = health(cache)
    assert report["has_pretrained_weights"], "the hub's hashes vouch for it"
    assert [one for one in report["warnings"] if "nats" in one or "model measure" in one] == []
    (check,) = [one for one in report["checks"] if one["name"] == "canary_short"]
    assert lack in check["detail"]


def test_a_model_pulled_without_a_check_says_that_nothing_was_measured_yet(
    run: Run, hub: Hub, cache: Path, table: Path
) -> None:
    assert run("pull", "phi-3-mini", "--no-check").exit_code == 0
    report = health(cache)
    (warning,) = [one for one in report["warnings"] if "nats" in one]
    assert "no recorded value to compare with" in warning
    assert "`leanvibe model verify` records what it measures" in warning


def test_values_are_measured_for_models_with_a_short_name_alone(run: Run) -> None:
    for name in ("someone/other", "embedded"):
        refused = run("measure", name)
        assert refused.exit_code == 2
        assert "phi-3-mini" in refused.stderr


def test_no_value_is_made_of_a_damaged_file(run: Run, hub: Hub, cache: Path, table: Path) -> None:
    before = table.read_text()
    assert run("pull", "phi-3-mini", "--no-check").exit_code == 0
    folder = cache / "models" / PHI.replace("/", "--")
    weights = min(folder.glob("model*.safetensors"))
    rewrite_tensors(weights, lambda tensors: tensors.update({name: one * 1.5 for name, one in tensors.items()}))
    refused = run("measure", "phi-3-mini")
    assert refused.exit_code == 1
    assert weights.name in refused.stderr
    assert table.read_text() == before


def test_no_value_is_made_of_a_model_that_a_person_accepted(run: Run, hub: Hub, cache: Path, table: Path) -> None:
    before = table.read_text()
    assert run("pull", "phi-3-mini", "--no-check").exit_code == 0
    path = cache / "models" / PHI.replace("/", "--") / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"provenance": "unverified"}))
    assert run("verify", "phi-3-mini", "--accept").exit_code == 0
    refused = run("measure", "phi-3-mini")
    assert refused.exit_code == 1
    assert "it was accepted by a person" in refused.stderr
    assert table.read_text() == before


def test_no_value_is_made_of_weights_that_know_nothing(
    run: Run, hub: Hub, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = table.read_text()
    monkeypatch.setattr("actors.inference.mlx.proof.CANARY_CEILING_NATS", 1.0)
    refused = run("measure", "phi-3-mini")
    assert refused.exit_code == 1
    assert "are not what the model was trained with" in refused.stderr
    assert table.read_text() == before


ENTRY = {
    "name": "x", "revision": None, "canary_nats_per_token": 4, "long_canary_nats_per_token": 3.5, "measured": "cpu",
}  # fmt: skip


@pytest.mark.parametrize(
    "content",
    ["", "{}", '""', "null", "[1]", '[{"name": "x"}]', json.dumps(ENTRY)]
    + [
        json.dumps([ENTRY | changed])
        for changed in (
            {"name": None}, {"revision": 7}, {"canary_nats_per_token": "4"}, {"long_canary_nats_per_token": True},
            {"measured": {}},
        )
    ],
)  # fmt: skip
def test_a_damaged_table_is_told_with_its_path(tmp_path: Path, content: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps([ENTRY]))
    assert shipped_canaries(path)["x"].canaries == Canaries(4.0, 3.5)
    path.write_text(content)
    with pytest.raises(ModelFileCorrupt, match=f"{re.escape(str(path))}.*not a table of canary values"):
        shipped_canaries(path)
