"""What the inference actor is configured with, and what its timers tell it."""

from __future__ import annotations

from attrs import field, frozen

from actors.inference.admission import AdmissionLimits
from actors.inference.stream_broker import StreamRules

__all__ = ["DeadlinePassed", "IdleCheck", "InferenceSettings"]


@frozen(kw_only=True)
class InferenceSettings:
    """What the room was configured with."""

    engine: str
    """`mlx` or `mock`."""
    limits: AdmissionLimits = field(factory=AdmissionLimits)
    default_max_tokens: int | None = None
    """Length of answers that name none; None is `DEFAULT_MAX_TOKENS`, or the context's end for those that ask for it."""
    idle_unload_seconds: float = 0.0
    """The model is unloaded after so long without a request; 0 keeps it."""
    model_memory_bytes: int = 0
    """What the weights of all loaded models may take together; 0 asks the machine what is free."""
    streams: StreamRules = field(factory=StreamRules)


@frozen
class DeadlinePassed:
    """A generation's own deadline has come."""

    stream: str


@frozen
class IdleCheck:
    """Has anything run lately?"""
