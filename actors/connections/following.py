"""What a connection remembers of a stream it follows: enough to go on with it should its owner be lost."""

from __future__ import annotations

from attrs import define, field

from actors.inference.messages import GenerationEvent, GenerationFailed, GenerationRefused, GenerationTokens, ResumeFrom
from protocol.commands import Generate
from protocol.errors import ErrorCode

__all__ = ["Following"]


@define(kw_only=True)
class Following:
    """One stream, as far as its events have come here."""

    command_id: str
    stream: str
    generate: Generate = field(repr=False)
    seq: int = 0
    is_accepted: bool = False
    """True once `accepted` was sent; events before that are kept back."""
    has_lost_owner: bool = False
    """True while the inference actor that made it is gone and none has taken it over."""
    token_ids: list[int] = field(factory=list, repr=False)
    log_probability: float = 0.0
    model: str | None = None
    """The model that answers it."""
    _early: list[GenerationEvent] = field(factory=list, repr=False)

    def keep_early(self, event: GenerationEvent) -> None:
        """Keep an event that came before `accepted` was sent."""
        self._early.append(event)

    def take_early(self) -> list[GenerationEvent]:
        """The events kept back, once."""
        early, self._early = self._early, []
        return early

    def take(self, event: GenerationEvent) -> bool:
        """Note an event; False if it is not the next one and must not be passed on."""
        if event.seq != self.seq + 1:
            return False
        self.seq = event.seq
        if isinstance(event, GenerationTokens):
            self.token_ids.extend(event.token_ids)
            self.log_probability += event.log_probability
        return True

    def resume_point(self) -> ResumeFrom:
        """Where a new owner must go on."""
        assert self.generate.seed is not None
        return ResumeFrom(
            seq=self.seq,
            token_ids=tuple(self.token_ids),
            log_probability=self.log_probability,
            seed=self.generate.seed,
            model=self.model,
        )

    def failure(self, error: Exception) -> GenerationFailed:
        """The last event of a stream that could not be taken over."""
        code = error.code if isinstance(error, GenerationRefused) else ErrorCode.UNAVAILABLE
        return GenerationFailed(stream=self.stream, seq=self.seq + 1, code=code, message=str(error))
