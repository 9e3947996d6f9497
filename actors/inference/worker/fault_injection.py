"""Fault injection: a plan of faults that the worker carries out, so that tests need not patch anything.

A plan is a JSON list of objects: ``{"fault": "raise|hang|abort|exit|slow", "step": N}`` strikes at the N-th
step of the process; with ``"stage": "warming up"`` when start-up reaches that stage;
with ``"load": "name"`` when a model of that name is loaded; with ``"prompt": "text"`` at each step that
computes a row whose prompt contains these bytes (mock) or token ids (a list). ``"seconds"`` is the length of a hang or a
slow step.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from attrs import field, frozen

from actors.inference.worker.stepper import Row

__all__ = ["FaultSchedule", "InjectedFault"]


class InjectedFault(Exception):
    """Raised by a `raise` fault."""


@frozen(kw_only=True)
class _Fault:
    fault: str = field()
    step: int | None = None
    stage: str | None = None
    prompt: str | list[int] | None = None
    load: str | None = None
    seconds: float = 3600.0

    @fault.validator
    def _known(self, _: object, value: str) -> None:
        if value not in ("raise", "hang", "abort", "exit", "slow"):
            raise ValueError(f"unknown fault {value!r}")

    def strikes(self, step: int, rows: list[Row]) -> bool:
        """True if the fault is due at this step."""
        if self.load is not None:
            return False
        if self.prompt is not None:
            wanted = list(self.prompt.encode()) if isinstance(self.prompt, str) else self.prompt
            return any(_contains(row.prompt_ids, wanted) for row in rows)
        return self.step is not None and step == self.step

    def carry_out(self, when: str) -> None:
        """Performs the fault."""
        match self.fault:
            case "raise":
                raise InjectedFault(f"planned for {when}")
            case "hang" | "slow":
                time.sleep(self.seconds)
            case "abort":
                os.abort()
            case "exit":
                os._exit(1)


class FaultSchedule:
    """The faults of one worker process."""

    def __init__(self, faults: list[dict[str, Any]]) -> None:
        self._faults = [_Fault(**one) for one in faults]
        self._rows: dict[int, Row] = {}

    @classmethod
    def from_json(cls, text: str | None) -> FaultSchedule:
        """Parses the worker's `--faults` argument. Raises `ValueError` or `TypeError` for a bad plan."""
        return cls(json.loads(text) if text else [])

    def admitted(self, row: Row) -> None:
        """Records a row's prompt if any fault depends on prompts."""
        if any(one.prompt is not None for one in self._faults):
            self._rows[row.row] = row

    def forget(self, row: int) -> None:
        """Forgets a row that has ended."""
        self._rows.pop(row, None)

    def clear(self) -> None:
        """Forgets all rows."""
        self._rows.clear()

    def strike(self, step: int) -> None:
        """Performs the faults planned for this step."""
        for fault in self._faults:
            if fault.strikes(step, list(self._rows.values())):
                fault.carry_out(f"step {step}")

    def reach(self, stage: str) -> None:
        """Performs the faults planned for this start-up stage."""
        for fault in self._faults:
            if fault.stage == stage:
                fault.carry_out(f"stage {stage}")

    def strike_load(self, name: str) -> None:
        """Performs the faults planned for loading this model."""
        for fault in self._faults:
            if fault.load == name:
                fault.carry_out(f"the load of {name}")


def _contains(ids: list[int], wanted: list[int]) -> bool:
    return any(ids[at : at + len(wanted)] == wanted for at in range(len(ids) - len(wanted) + 1))
