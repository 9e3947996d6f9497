"""Sampling settings of a row, sent to the worker, and the keys of its randomness."""

from __future__ import annotations

from attrs import field, frozen

__all__ = ["COLDEST", "Sampling", "position_key"]

COLDEST = 1e-5
"""Below this temperature the likeliest token is taken, as in vLLM: differences between close candidates are rounding
errors."""
_MASK = (1 << 64) - 1


def _cold_or_warm(temperature: float) -> float:
    return temperature if temperature >= COLDEST else 0.0


@frozen(kw_only=True)
class Sampling:
    """Sampling settings of one row, already validated against the vocabulary."""

    temperature: float = field(default=0.0, converter=_cold_or_warm)
    """0, or anything below `COLDEST`, takes the likeliest token."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps all."""
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = field(factory=dict)
    seed: int = 0

    @property
    def truncates(self) -> bool:
        """True if it samples, and only among the likelier tokens."""
        return self.temperature > 0 and bool(self.top_k or self.top_p < 1 or self.min_p > 0)

    @property
    def changes_logits(self) -> bool:
        """True if tokens already seen, or biases, change the scores."""
        return bool(
            self.repetition_penalty != 1.0 or self.presence_penalty or self.frequency_penalty or self.logit_bias
        )


def position_key(seed: int, position: int) -> int:
    """64-bit key for the draw at one position of one answer (the mixing function of splitmix64).

    Keys depend on nothing else, so neighbours in the batch, arrival order and recoveries change no draw.
    """
    mixed = (seed * 0x9E3779B97F4A7C15 + (position + 1) * 0xD1B54A32D192ED03) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)
