"""What the worker's step loop drives: a batch of rows that advances one step at a time."""

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
    """One sequence in the worker."""

    row: int
    prompt_ids: list[int]
    emitted_ids: list[int]
    max_tokens: int
    stop_ids: frozenset[int]
    sampling: Sampling
    domain: str = ""
    """Security domain: only rows of one domain share kept keys and values."""
    response_schema: dict[str, Any] | None = None
    """A JSON Schema that the answer must follow."""
    call_rule: ToolCallConstraint | None = None
    """What its calls of tools must follow."""
    free_calls: ToolCallFormat | None = None
    """How it writes calls of tools that must follow nothing, so that their arguments are JSON all the same."""
    alternatives: int | None = None
    """How many of the likeliest tokens to report beside each emitted one; None reports nothing."""
    prompt_alternatives: int | None = None
    """The same beside each token of the prompt but the first; then all of the prompt is read, whatever is kept of it."""
    prompt_key: bytes = field(init=False, repr=False, eq=False)
    """Equal for rows of one domain with the same prompt, and for no others."""

    def __attrs_post_init__(self) -> None:
        self.prompt_key = array("q", self.prompt_ids).tobytes() + self.domain.encode()

    @property
    def must_be_prepared(self) -> bool:
        """Whether it needs what `Stepper.prepare` makes."""
        return self.response_schema is not None or self.call_rule is not None or self.free_calls is not None

    @classmethod
    def admitted(cls, frame: Admit) -> Row:
        """As the server asks for it. Raises `ValueError` for a schema or rule that is no JSON."""
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
    """A batch. Everything is called from the one thread that owns it."""

    def report(self) -> dict[str, Any]:
        """What is loaded and how it was checked; told to the server when ready."""

    def prepare(self, row: Row) -> Any:
        """Make what a row needs besides, which may take long. The one method that may be called in any thread."""

    def admit(self, row: Row, prepared: Any = None) -> None:
        """Take a row, with what `prepare` made for it. It is computed from the next step on."""

    def cancel(self, row: int) -> None:
        """Drop a row, wherever it is; unknown rows are ignored."""

    def clear(self) -> None:
        """Drop all rows."""

    def has_work(self) -> bool:
        """Whether a step would do anything."""

    def step(self) -> StepOutput:
        """One decode step for all rows, of which a row that is alone may get several tokens, and at most one chunk of prefill."""

    def memory(self) -> dict[str, float]:
        """Bytes by what holds them."""


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
