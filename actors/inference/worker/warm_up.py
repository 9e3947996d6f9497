"""The first steps of a worker: they prove that it works, and say how long a step takes here."""

from __future__ import annotations

import time
from collections.abc import Sequence

from actors.inference.sampling import Sampling
from actors.inference.worker.stepper import Row, Stepper

__all__ = ["warm_up"]

TOKENS = 2


def warm_up(stepper: Stepper, prompt_ids: Sequence[int]) -> list[tuple[float, int, int]]:
    """Answer a prompt twice side by side, once cold and once hot.

    Returns what each step took: seconds, rows that emitted a token, prompt tokens read. Raises what a step raises.
    """
    settings = (Sampling(), Sampling(temperature=1.0, top_p=0.9, seed=1))
    for number, sampling in enumerate(settings):
        stepper.admit(
            Row(
                row=number,
                prompt_ids=list(prompt_ids),
                emitted_ids=[],
                max_tokens=TOKENS,
                stop_ids=frozenset(),
                sampling=sampling,
            )
        )
    measured: list[tuple[float, int, int]] = []
    while stepper.has_work():
        began = time.perf_counter()
        result = stepper.step()
        measured.append((time.perf_counter() - began, len(result.emitted), result.prefilled_tokens))
    return measured
