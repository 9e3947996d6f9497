"""Configuration and timer messages of the inference actor."""

from __future__ import annotations

from attrs import field, frozen

from actors.inference.admission import AdmissionLimits
from actors.inference.stream_broker import StreamRules

__all__ = ["DeadlinePassed", "IdleCheck", "InferenceSettings"]


@frozen(kw_only=True)
class InferenceSettings:
    """Configuration of the service."""

    engine: str
    """`mlx` or `mock`."""
    limits: AdmissionLimits = field(factory=AdmissionLimits)
    default_max_tokens: int | None = None
    """Answer length if a request sets none; None means `DEFAULT_MAX_TOKENS`, or the context's end for requests that ask
    for it."""
    idle_unload_seconds: float = 0.0
    """Idle time after which the model is unloaded; 0 keeps it loaded."""
    model_memory_bytes: int = 0
    """Limit on the weights of all loaded models together; 0 uses the machine's free memory."""
    streams: StreamRules = field(factory=StreamRules)


@frozen
class DeadlinePassed:
    """Timer: a generation's deadline has passed."""

    stream: str


@frozen
class IdleCheck:
    """Timer: check whether the service has been idle."""
