"""Faults strike when and where the plan says. (Those that end a process are tried in `test_worker_process.py`.)"""

import time

import pytest

from actors.inference.sampling import Sampling
from actors.inference.worker.fault_injection import FaultSchedule, InjectedFault
from actors.inference.worker.stepper import Row


def row(number: int, prompt: str) -> Row:
    return Row(
        row=number,
        prompt_ids=list(prompt.encode()),
        emitted_ids=[],
        max_tokens=5,
        stop_ids=frozenset(),
        sampling=Sampling(),
    )


def test_an_empty_plan_does_nothing() -> None:
    for text in (None, "", "[]"):
        plan = FaultSchedule.from_json(text)
        plan.admitted(row(1, "hello"))
        plan.strike(1)


def test_a_fault_strikes_at_its_step_only() -> None:
    plan = FaultSchedule.from_json('[{"fault": "raise", "step": 3}]')
    plan.strike(1)
    plan.strike(2)
    with pytest.raises(InjectedFault, match="3"):
        plan.strike(3)
    plan.strike(4)


def test_a_fault_with_a_prompt_strikes_while_such_a_row_is_there() -> None:
    plan = FaultSchedule.from_json('[{"fault": "raise", "prompt": "poison"}]')
    plan.admitted(row(1, "harmless"))
    plan.strike(1)
    plan.admitted(row(2, "a poisonous prompt"))
    for step in (2, 3):
        with pytest.raises(InjectedFault):
            plan.strike(step)
    plan.forget(2)
    plan.strike(4)
    plan.admitted(row(3, "poison"))
    plan.clear()
    plan.strike(5)


def test_a_prompt_may_be_token_ids() -> None:
    plan = FaultSchedule.from_json('[{"fault": "raise", "prompt": [101, 108]}]')
    plan.admitted(row(1, "hallo"))
    plan.strike(1)
    plan.admitted(row(2, "hello"))
    with pytest.raises(InjectedFault):
        plan.strike(2)


def test_a_fault_with_a_stage_strikes_when_the_start_has_come_to_it() -> None:
    plan = FaultSchedule.from_json('[{"fault": "raise", "stage": "warming up"}]')
    plan.reach("loading weights")
    plan.strike(1)
    with pytest.raises(InjectedFault, match="warming up"):
        plan.reach("warming up")


def test_a_slow_step_goes_on_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    FaultSchedule.from_json('[{"fault": "slow", "step": 1, "seconds": 0.25}]').strike(1)
    assert slept == [0.25]


@pytest.mark.parametrize("plan", ['[{"fault": "explode", "step": 1}]', '[{"fault": "raise", "stepp": 1}]', "{", "[1]"])
def test_a_bad_plan_is_refused(plan: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        FaultSchedule.from_json(plan)
