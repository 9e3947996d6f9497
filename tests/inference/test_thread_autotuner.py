"""The BLAS yields to other programs, on simulated machines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from actors.inference.worker.thread_autotuner import LONGEST_WAIT_SECONDS, SOMEWHAT_LESS, ThreadAutotuner

CORES = 4
WORK_SECONDS = 0.1
"""Of one thread that has a core to itself."""


def step(free_cores: int, threads: int) -> tuple[float, float]:
    """Seconds and processor seconds of one step: threads that lack a core make all of them wait."""
    if threads <= free_cores:
        return WORK_SECONDS / threads, WORK_SECONDS
    seconds = 5 * WORK_SECONDS
    return seconds, seconds * free_cores


def run(
    ladder: ThreadAutotuner, steps: int, free_cores: int, shape: Callable[[int], tuple[int, int]] = lambda _: (1, 0)
) -> list[int]:
    used = []
    for number in range(steps):
        used.append(ladder.threads)
        ladder.stepped(shape(number), *step(free_cores, ladder.threads))
    return used


def test_an_undisturbed_machine_keeps_all_its_threads() -> None:
    assert set(run(ThreadAutotuner(CORES), 2000, CORES)) == {CORES}


@pytest.mark.parametrize(("free_cores", "best"), [(3, 2), (2, 2), (1, 1)])
def test_a_product_gives_way_to_who_else_wants_the_cores(free_cores: int, best: int) -> None:
    used = run(ThreadAutotuner(CORES), 2000, free_cores)
    assert max(set(used[-1000:]), key=used[-1000:].count) == best
    # Trying more again costs little.
    assert used[-1000:].count(best) > 900


def test_threads_that_get_hardly_any_time_go_within_two_steps() -> None:
    # However different the steps are: a slow machine makes few that are alike.
    assert run(ThreadAutotuner(2), 4, 1, lambda number: (number, 0)) == [2, 2, 1, 1]


def test_the_threads_come_back_when_the_others_are_gone() -> None:
    ladder = ThreadAutotuner(CORES)
    run(ladder, 2000, 1)
    needed = int(3 * LONGEST_WAIT_SECONDS / WORK_SECONDS)
    assert set(run(ladder, needed, CORES)[-100:]) == {CORES}


def test_a_trial_that_does_not_pay_is_taken_back() -> None:
    ladder = ThreadAutotuner(2)
    used = []
    for _ in range(2000):
        used.append(ladder.threads)
        # Short of cores, and yet one thread would be no faster.
        ladder.stepped((1, 0), WORK_SECONDS, WORK_SECONDS * ladder.threads * (SOMEWHAT_LESS - 0.05))
    assert 1 in used
    assert used.count(2) > 1900


def test_steps_of_different_work_are_not_compared() -> None:
    ladder = ThreadAutotuner(CORES)
    used = set()
    for number in range(500):
        used.add(ladder.threads)
        ladder.stepped((1, number % 2), WORK_SECONDS, WORK_SECONDS * ladder.threads * (SOMEWHAT_LESS - 0.05))
    assert used == {CORES}


def test_one_thread_has_nothing_to_try() -> None:
    assert set(run(ThreadAutotuner(1), 500, 0)) == {1}


_PROGRAM = """
import sys
from pathlib import Path
from actors.inference.worker.blas import load_blas
from actors.inference.worker.blas import blas_threads
load_blas("openblas", Path(sys.argv[1]))
found = blas_threads()
assert found is not None
found.use(1)
print(found.most, blas_threads().most)
found.use(found.most)
print(blas_threads().most)
"""


def test_the_real_blas_takes_the_number(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = str(tmp_path_factory.mktemp("blas"))
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, folder],
        capture_output=True,
        text=True,
        check=True,
        env={"OPENBLAS_NUM_THREADS": "2"},
        timeout=60,
    )
    assert done.stdout.splitlines() == ["2 1", "2"]
