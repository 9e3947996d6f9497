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
    """State of one stream at the last event that reached this connection."""

    stream: str
    epoch: str = ""
    command_id: str | None = None
    """Id of this device's command that the stream answers."""
    recovery: StartGeneration | None = field(default=None, repr=False)
    """Request that starts the stream again; None once it has ended."""
    seq: int = 0
    is_ready: bool = False
    """True while live events are passed on. Before that, and while pages are fetched, they are buffered."""
    has_lost_owner: bool = False
    """True while the inference actor that ran the stream is down and no successor has taken it over."""
    token_ids: list[int] = field(factory=list, repr=False)
    log_probability: float = 0.0
    model: str | None = None
    """Model that generates the answer."""
    first_times: FirstTimes | None = None
    """Timings of the start of the answer."""
    left_out: list[str] | None = None
    """Parts of the schema that the answer will not have, as reported in `Accepted`."""
    _early: list[GenerationEvent] = field(factory=list, repr=False)

    @property
    def ends_with_server(self) -> bool:
        """True if the stream was accepted and would not be resumed after a restart of the server."""
        return self.recovery is not None and self.recovery.generate.on_disconnect is not OnDisconnect.DETACH

    def keep_early(self, event: GenerationEvent) -> None:
        """Buffer an event that may not be passed on yet."""
        self._early.append(event)

    def take_early(self) -> list[GenerationEvent]:
        """Remove and return the buffered events."""
        early, self._early = self._early, []
        return early

    def begin_at(self, seq: int, behind: ResumeFrom | None) -> None:
        """Begin after ``seq``, which the client has; ``behind`` describes what precedes it."""
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
        """Return a request that makes a new inference actor continue here, or None if nothing is known to continue."""
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
        """Return the last event of a stream that could not be taken over."""
        code = error.code if isinstance(error, GenerationRefused) else ErrorCode.UNAVAILABLE
        return GenerationFailed(stream=self.stream, seq=self.seq + 1, code=code, message=str(error))
