"""The limit of open files, which mlx-lm sets for the whole process: worker and `leanvibe model` keep the one they were given."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from actors.inference.mlx.library_imports import keeping_descriptor_limit
from actors.inference.worker_config import WorkerConfig
from actors.inference.worker_frames import ModelFiles
from tests.inference.models.small_checkpoints import write_small
from tests.inference.worker_kit import worker

HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
LIMITS = [1024, 16_384 if HARD == resource.RLIM_INFINITY else min(HARD, 16_384)]
"""Below what mlx-lm sets, and above it where this machine has more."""
SECONDS = 120.0


def limited(limit: int) -> list[str]:
    """A command that becomes the one after it, with that limit."""
    return ["bash", "-c", f'ulimit -Sn {limit} && ulimit -Hn {limit} && exec "$@"', "limited"]


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    """A small model with an adapter, whose loader is the part of mlx-lm that sets the limit."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    parameters = {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": ["mlp.down_proj"]}
    config = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": parameters}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    layers = [f"model.layers.{layer}.mlp.down_proj" for layer in range(2)]
    parts = {f"{one}.lora_a": mx.full((96, 4), 0.1) for one in layers} | {
        f"{one}.lora_b": mx.full((4, 64), 0.1) for one in layers
    }
    mx.save_safetensors(str(adapter / "adapters.safetensors"), parts)
    return ModelFiles("small", write_small(tmp_path / "small"), adapter)


@pytest.mark.integration
@pytest.mark.parametrize("limit", LIMITS)
def test_op35_a_worker_keeps_its_limit_of_open_files(
    files: ModelFiles, cache_folder: Path, tmp_path: Path, limit: int
) -> None:
    config = WorkerConfig(engine="mlx", cache_dir=cache_folder, compiled=False, warms_up=False)
    seen = tmp_path / "seen"
    code = (
        "import resource, sys; from actors.inference.worker import __main__ as program;"
        f"tell = lambda: open({str(seen)!r}, 'w').write(str(resource.getrlimit(resource.RLIMIT_NOFILE)));"
        "load = program._load;"
        "program._load = lambda *about: (load(*about), tell())[0];"
        "sys.exit(program.main())"
    )
    with worker(config=config, model=files, code=code, before=limited(limit)):
        assert seen.read_text() == str((limit, limit))


@pytest.mark.integration
@pytest.mark.parametrize("limit", LIMITS)
def test_op35_the_commands_for_models_keep_it_too(files: ModelFiles, cache_folder: Path, limit: int) -> None:
    program = (
        "import atexit, resource, sys;"
        "atexit.register(lambda: print('limit', *resource.getrlimit(resource.RLIMIT_NOFILE), file=sys.stderr));"
        "from actors.command_line.main import main; main()"
    )
    words = ["verify", files.folder, "--adapter", files.adapter, "--accept", "--cache-dir", cache_folder]
    done = subprocess.run(
        [*limited(limit), sys.executable, "-c", program, "model", *map(str, words)],
        capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    assert "verified" in done.stdout, done.stderr
    assert f"limit {limit} {limit}" in done.stderr.splitlines()


def test_op35_other_limits_can_be_set_meanwhile() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE)
    set_limit = resource.setrlimit
    with keeping_descriptor_limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        resource.setrlimit(resource.RLIMIT_CORE, (0, before[1][1]))
        within = resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, before[1])
    assert within == (before[0], (0, before[1][1]))
    assert resource.setrlimit is set_limit
