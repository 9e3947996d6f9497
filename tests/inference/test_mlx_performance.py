"""Fifty tokens of a real answer: printed next to their bound. `scripts/bench_inference` is what judges it.

A machine that does something else meanwhile takes six times as long, so no time decides a test here; what is
judged is that every run emits all tokens, and the same ones.
"""

import resource
import time
from pathlib import Path

import pytest

from actors.inference.mlx.load import LoadedModel
from actors.inference.text.text_model import CheckpointText
from actors.inference.worker.mlx_stepper import MlxStepper
from protocol.commands import ChatMessage, Generate, Role

from .tiny_model import make_row

pytestmark = [pytest.mark.mlx_real_inference, pytest.mark.performance]

TOKENS = 50
BOUND_SECONDS = 5.0


@pytest.mark.parametrize("batch", [1, 8])
def test_fifty_tokens_are_the_same_in_every_run_and_their_time_is_printed(
    embedded_model: Path, loaded_model: LoadedModel, batch: int, capsys: pytest.CaptureFixture[str]
) -> None:
    question = [ChatMessage(Role.USER, "Write a simple Python function to add two numbers.")]
    ids = CheckpointText(embedded_model).encode(Generate(messages=question))
    stepper = MlxStepper(loaded_model, {"parameter_bytes": loaded_model.parameter_bytes}, None, prefix_bytes=0)
    runs: list[tuple[float, float]] = []
    answers: list[list[tuple[int, int]]] = []
    for _ in range(3):
        for number in range(batch):
            stepper.admit(make_row(number, ids, TOKENS))
        began = time.perf_counter()
        first = 0.0
        emitted: list[tuple[int, int]] = []
        while stepper.has_work():
            emitted += [(one.row, one.token_id) for one in stepper.step().emitted]
            if emitted and not first:
                first = time.perf_counter() - began
        assert len(emitted) == batch * TOKENS
        answers.append(emitted)
        runs.append((time.perf_counter() - began, first))
    total, first = sorted(runs)[1]
    memory = stepper.memory()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with capsys.disabled():
        print(
            f"\n{batch} row(s) × {TOKENS} tokens, {loaded_model.dtype}, prompt {len(ids)} tokens: {total:.2f} s"
            f"{f' (bound {BOUND_SECONDS:g} s)' if batch == 1 else ''}, {batch * TOKENS / total:.1f} tokens/s, "
            f"first token {1000 * first:.0f} ms, weights {memory['weights'] / 1e6:.0f} MB, "
            f"MLX {memory['mlx_active'] / 1e6:.0f} MB + pool {memory['mlx_pool'] / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB"
        )
    assert answers[0] == answers[1] == answers[2]
