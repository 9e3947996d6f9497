"""A subscriber's view of one stream, sufficient to resume it after the inference actor restarts. No I/O."""

from __future__ import annotations

import attrs
from attrs import define, field

from actors.inference.messages import (
    FirstTimes,
    GenerationEvent,
    GenerationFailed,
    GenerationRefused,
    GenerationTokens,
    ResumeFrom,
    StartGeneration,
)
from protocol.commands import OnDisconnect
from protocol.errors import ErrorCode
from runtime import ActorRef

__all__ = ["StreamConsumer"]


@define(kw_only=True)
class StreamConsumer:
    """One stream, as far as its events have come here."""

    stream: str
    epoch: str = ""
    command_id: str | None = None
    """Of the command of this device that the stream answers."""
    recovery: StartGeneration | None = field(default=None, repr=False)
    """What starts it again; None of a stream that has ended."""
    seq: int = 0
    is_ready: bool = False
    """True while live events are passed on; before that, and while pages are fetched, they are kept back."""
    has_lost_owner: bool = False
    """True while the inference actor that made it is gone and none has taken it over."""
    token_ids: list[int] = field(factory=list, repr=False)
    log_probability: float = 0.0
    model: str | None = None
    """The model that answers it."""
    first_times: FirstTimes | None = None
    """What was measured of its beginning."""
    left_out: list[str] | None = None
    """What of its schema the answer will not have, as `Accepted` tells it."""
    _early: list[GenerationEvent] = field(factory=list, repr=False)

    @property
    def ends_with_server(self) -> bool:
        """Whether it was accepted, and has nobody who would make it again after a restart of the server."""
        return self.recovery is not None and self.recovery.generate.on_disconnect is not OnDisconnect.DETACH

    def keep_early(self, event: GenerationEvent) -> None:
        """Keep an event that came before it may be passed on."""
        self._early.append(event)

    def take_early(self) -> list[GenerationEvent]:
        """The events kept back, once."""
        early, self._early = self._early, []
        return early

    def begin_at(self, seq: int, behind: ResumeFrom | None) -> None:
        """Stand behind ``seq``, which the client has; ``behind`` is what lies before it."""
        self.seq = seq
        if behind is not None:
            self.token_ids, self.log_probability = list(behind.token_ids), behind.log_probability
            self.model, self.first_times = behind.model, behind.first_times

    def take(self, event: GenerationEvent) -> bool:
        """Note an event; False if it is not the next one and must not be passed on."""
        first = event.first_seq if isinstance(event, GenerationTokens) else event.seq
        if first != self.seq + 1:
            return False
        self.seq = event.seq
        if isinstance(event, GenerationTokens):
            self.token_ids.extend(event.token_ids)
            self.log_probability += event.log_probability
            self.first_times = self.first_times or event.first_times
        return True

    def restart(self, subscriber: ActorRef[GenerationEvent]) -> StartGeneration | None:
        """What to ask of a new owner so that it goes on here; None where only somebody else could say how."""
        if self.recovery is None:
            return None
        assert self.recovery.generate.seed is not None
        point = ResumeFrom(
            seq=self.seq,
            token_ids=tuple(self.token_ids),
            log_probability=self.log_probability,
            seed=self.recovery.generate.seed,
            model=self.model,
            first_times=self.first_times,
        )
        return attrs.evolve(self.recovery, subscriber=subscriber, resume=point, epoch=self.epoch)

    def failure(self, error: Exception) -> GenerationFailed:
        """The last event of a stream that could not be taken over."""
        code = error.code if isinstance(error, GenerationRefused) else ErrorCode.UNAVAILABLE
        return GenerationFailed(stream=self.stream, seq=self.seq + 1, code=code, message=str(error))
