"""The interface that the worker's step loop drives: a batch of rows that advances one step at a time, and its warm-up."""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Sequence
from typing import Any, Protocol

from attrs import define, field

from actors.inference.sampling import Sampling
from actors.inference.tools import ToolCallConstraint, ToolCallFormat
from actors.inference.worker_frames import Admit, StepOutput

__all__ = ["Row", "Stepper", "warm_up"]


@define(kw_only=True)
class Row:
    """One sequence in the worker: a row of every batched tensor."""

    row: int
    prompt_ids: list[int]
    emitted_ids: list[int]
    max_tokens: int
    stop_ids: frozenset[int]
    sampling: Sampling
    domain: str = ""
    """Security domain: only rows of one domain share cached keys and values."""
    response_schema: dict[str, Any] | None = None
    """A JSON Schema that the answer must follow."""
    call_rule: ToolCallConstraint | None = None
    """Constraint on its tool calls."""
    free_calls: ToolCallFormat | None = None
    """Format of unconstrained tool calls, which still guarantees that their arguments are JSON."""
    alternatives: int | None = None
    """Number of likeliest tokens to report with each emitted one; None reports none."""
    prompt_alternatives: int | None = None
    """The same for each token of the prompt except the first; the whole prompt is then read, whatever is cached of it."""
    prompt_key: bytes = field(init=False, repr=False, eq=False)
    """Equal for rows of one domain with the same prompt, and for no other rows."""

    def __attrs_post_init__(self) -> None:
        self.prompt_key = array("q", self.prompt_ids).tobytes() + self.domain.encode()

    @property
    def must_be_prepared(self) -> bool:
        """True if the row needs `Stepper.prepare`."""
        return self.response_schema is not None or self.call_rule is not None or self.free_calls is not None

    @classmethod
    def admitted(cls, frame: Admit) -> Row:
        """Builds a row from the server's frame. Raises `ValueError` for a schema or constraint that is not JSON."""
        return cls(
            row=frame.row,
            prompt_ids=frame.prompt_ids,
            emitted_ids=frame.emitted_ids,
            max_tokens=frame.max_tokens,
            stop_ids=frozenset(frame.stop_ids),
            sampling=frame.sampling,
            domain=frame.domain,
            response_schema=None if frame.response_schema is None else json.loads(frame.response_schema),
            call_rule=None if frame.call_rule is None else ToolCallConstraint.from_text(frame.call_rule),
            free_calls=None if frame.free_calls is None else ToolCallFormat[frame.free_calls],
            alternatives=frame.alternatives,
            prompt_alternatives=frame.prompt_alternatives,
        )


class Stepper(Protocol):
    """A batch of rows. All methods but `prepare` are called from the one thread that owns it."""

    def report(self) -> dict[str, Any]:
        """Describes the loaded model and its checks; sent to the server when ready."""

    def prepare(self, row: Row) -> Any:
        """Builds the matcher that a row needs, which may take long. The only method that may be called from any thread."""

    def admit(self, row: Row, prepared: Any = None) -> None:
        """Adds a row, with the result of `prepare`. It is computed from the next step on."""

    def cancel(self, row: int) -> None:
        """Drops a row, wherever it is; unknown rows are ignored."""

    def clear(self) -> None:
        """Drops all rows."""

    def has_work(self) -> bool:
        """True if a step has something to compute."""

    def step(self) -> StepOutput:
        """Runs one decode step for all rows, possibly several tokens for a row that is alone, and at most one chunk of
        prefill."""

    def memory(self) -> dict[str, float]:
        """Bytes in use, by purpose."""


TOKENS = 2


def warm_up(stepper: Stepper, prompt_ids: Sequence[int]) -> list[tuple[float, int, int]]:
    """Proves that a worker works and measures its steps: answers a prompt twice in one batch, with and without a temperature.

    Returns the time of each step, the rows that emitted a token, and the prompt tokens read. Raises the errors of a step.
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
