"""What the worker's step loop drives: a batch of rows that advances one step at a time."""

from __future__ import annotations

import json
from array import array
from typing import Any, Protocol

from attrs import define, field, frozen

from actors.inference.sampling import Sampling
from actors.inference.structured_output import BadSchema
from actors.inference.tools import ToolCallConstraint
from protocol.errors import ErrorCode

__all__ = ["Row", "RowFailure", "SampledToken", "StepOutput", "Stepper"]


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
    alternatives: int | None = None
    """How many of the likeliest tokens to report beside each emitted one; None reports nothing."""
    prompt_key: bytes = field(init=False, repr=False, eq=False)
    """Equal for rows of one domain with the same prompt, and for no others."""

    def __attrs_post_init__(self) -> None:
        self.prompt_key = array("q", self.prompt_ids).tobytes() + self.domain.encode()

    @property
    def must_be_prepared(self) -> bool:
        """Whether it needs what `Stepper.prepare` makes."""
        return self.response_schema is not None or self.call_rule is not None

    @classmethod
    def from_frame(cls, data: dict[str, Any]) -> Row:
        """From the data of an `admit` frame."""
        sampling = dict(data["sampling"])
        sampling["logit_bias"] = {int(token): bias for token, bias in sampling["logit_bias"].items()}
        call_rule, schema = data.get("call_rule"), data.get("response_schema")
        return cls(
            row=data["row"],
            prompt_ids=list(data["prompt_ids"]),
            emitted_ids=list(data["emitted_ids"]),
            max_tokens=data["max_tokens"],
            stop_ids=frozenset(data["stop_ids"]),
            sampling=Sampling(**sampling),
            domain=data.get("domain", ""),
            response_schema=None if schema is None else json.loads(schema),
            call_rule=None if call_rule is None else ToolCallConstraint.from_text(call_rule),
            alternatives=data.get("alternatives"),
        )


@frozen
class SampledToken:
    """One token of one row."""

    row: int
    token_id: int
    log_probability: float
    """Under the model's own distribution, before temperature, penalties and masks."""
    finish: str | None
    """`stop`, `length`, or None while the row goes on. A stop token ends the row and is not text."""
    alternatives: list[tuple[int, float]] | None = None
    """Likeliest tokens at this position with their log-probabilities, for rows that asked."""


@frozen
class RowFailure:
    """Why a row was dropped."""

    reason: str
    code: str = ErrorCode.ENGINE_FAILED.value
    """Of the failure as its asker is told."""

    @classmethod
    def of(cls, error: Exception) -> RowFailure:
        """A schema that cannot be followed any further is its asker's; everything else is the engine's."""
        if isinstance(error, BadSchema):
            return cls(str(error), ErrorCode.INVALID_FIELD.value)
        return cls(f"{type(error).__name__}: {error}")


@define(kw_only=True)
class StepOutput:
    """What one step did."""

    emitted: list[SampledToken] = field(factory=list)
    """At most one token of each row, in the order of its answer several where a draft was right."""
    failed: list[tuple[int, RowFailure]] = field(factory=list)
    """Rows that were dropped because something of theirs raised, with the reason."""
    rows: list[int] = field(factory=list)
    """Every row that this step computed for, prefill included."""
    reading: list[tuple[int, int]] = field(factory=list)
    """Rows whose prompts are being read, and how much of each is."""
    prefilled_tokens: int = 0
    drafted_tokens: int = 0
    """Tokens that were guessed and judged in this step."""
    accepted_tokens: int = 0
    """Of these, how many are among the emitted ones."""
    cached: list[tuple[int, int]] = field(factory=list)
    """Rows whose prompt began in kept keys and values, and how many tokens of it did."""


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
