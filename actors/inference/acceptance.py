"""Turns requests into generations that wait for a row, or rejects them."""

from __future__ import annotations

import secrets
from collections.abc import Container

import trio

from actors.inference.admission import may_wait, worth_trying_after_ms
from actors.inference.generation import Generation
from actors.inference.messages import (
    Complete,
    GenerationRefused,
    MeasurePrompt,
    PromptSize,
    ResumeFrom,
    StartGeneration,
)
from actors.inference.metrics import InferenceMetrics
from actors.inference.model_manager import ModelManager
from actors.inference.prompts import PromptEncoder
from actors.inference.request_rules import check_request, deadline_of
from actors.inference.sandbox_messages import EncodedPrompt
from actors.inference.scheduler import Scheduler
from actors.inference.settings import InferenceSettings
from actors.inference.stream_broker import StreamBroker
from actors.tracing.trace_context import current_trace
from protocol.commands import Generate
from protocol.errors import ErrorCode

__all__ = ["Acceptance"]


class Acceptance:
    """Part of the inference actor: encodes and checks requests. Stores nothing but what its owner sets."""

    def __init__(
        self,
        settings: InferenceSettings,
        models: ModelManager,
        prompts: PromptEncoder,
        streams: StreamBroker,
        generations: Container[str],
        metrics: InferenceMetrics,
    ) -> None:
        """``generations`` holds the names of those that run or wait."""
        self._settings = settings
        self._models = models
        self._prompts = prompts
        self._streams = streams
        self._generations = generations
        self._metrics = metrics
        self.is_draining = False
        """True once the server is shutting down: everything is rejected."""
        self.last_inference_ms: float | None = None
        """Duration of the most recently finished answer, from which retry times are estimated."""

    async def measure(self, message: MeasurePrompt) -> PromptSize:
        """Encodes a prompt only to count its tokens. Raises `GenerationRefused`."""
        self.refuse_if_draining()
        scheduler = self._models.current
        prompt_ids = await self._prompts.encode(
            scheduler.text, message.generate, client_id=message.client_id, caller=message.caller
        )
        return PromptSize(prompt_tokens=len(prompt_ids), context_tokens=scheduler.context_tokens)

    async def encode(
        self,
        request: StartGeneration | Complete,
        resume: ResumeFrom | None,
        asked_at: float | None,
        *,
        was_accepted: bool = False,
    ) -> tuple[Scheduler, EncodedPrompt]:
        """Returns the scheduler that will answer and the prompt's token ids. Raises `GenerationRefused`."""
        generate = request.generate
        deadline_at = deadline_of(generate, asked_at, trio.current_time())
        while True:
            # Checked again on acceptance; checking here saves a request that would be rejected anyway from encoding and
            # waiting.
            self.refuse_if_draining()
            scheduler = self._models.scheduler_for(resume)
            if resume is None and not was_accepted:
                self._check_queue(scheduler, 0)
            caller = request.caller if isinstance(request, StartGeneration) else ""
            prompt_ids = await self._prompts.encode(
                scheduler.text, generate, deadline_at, client_id=request.client_id, caller=caller
            )
            # Another model, with another tokenizer, may have taken over in the meantime.
            if scheduler is self._models.scheduler_for(resume):
                return scheduler, prompt_ids

    async def encode_for(self, scheduler: Scheduler, generation: Generation) -> tuple[list[int], int]:
        """Encodes the prompt of an accepted generation for another model. Raises `GenerationRefused`.

        Returns its token ids and the maximum number of answer tokens.
        """
        prompt_ids = await self._prompts.encode(scheduler.text, generation.generate, client_id=generation.client_id)
        return prompt_ids, self._checked(scheduler, generation.generate, prompt_ids, generation.to_context_end)

    def prepare(
        self,
        scheduler: Scheduler,
        request: StartGeneration | Complete,
        stream: str,
        prompt_ids: list[int],
        resume: ResumeFrom | None,
        *,
        was_accepted: bool = False,
    ) -> Generation:
        """Checks the request and builds its `Generation`; stores nothing. Raises `GenerationRefused`.

        A request that was accepted before is never rejected because the queue is full.
        """
        generate = request.generate
        self.refuse_if_draining()
        if stream in self._generations or self._streams.is_reserved(stream):
            raise GenerationRefused(ErrorCode.CONFLICT, f"stream {stream} is already running", field="id")
        is_new = resume is None and not was_accepted
        if scheduler.state == "down" and scheduler.fails_waiting and is_new:
            raise GenerationRefused(
                ErrorCode.MODEL_UNAVAILABLE, f"the model is not available: {scheduler.stage}", retry_after_ms=2000
            )
        to_end = isinstance(request, StartGeneration) and request.to_context_end
        max_tokens = self._checked(scheduler, generate, prompt_ids, to_end)
        if is_new:
            self._check_queue(scheduler, len(prompt_ids))
        seed = resume.seed if resume is not None else generate.seed
        return Generation(
            stream=stream,
            client_id=request.client_id,
            domain=request.domain,
            generate=generate,
            scheduler=scheduler,
            seed=secrets.randbits(53) if seed is None else seed,
            prompt_ids=prompt_ids,
            max_tokens=max_tokens,
            to_context_end=to_end,
            ignores_end=isinstance(request, StartGeneration) and request.ignores_end,
            tell_prompt=request.tell_prompt if isinstance(request, StartGeneration) else None,
            detokenizer=scheduler.text.detokenizer(),
            accepted_at=trio.current_time(),
            trace=request.trace if isinstance(request, StartGeneration) else current_trace(),
            asked_at=request.asked_at if isinstance(request, StartGeneration) else None,
            token_text=scheduler.text.token_text,
        )

    def refuse_if_draining(self) -> None:
        """Raises `GenerationRefused` while the server is shutting down."""
        if self.is_draining:
            raise GenerationRefused(ErrorCode.SHUTTING_DOWN, "the server is shutting down")

    def can_queue(self, scheduler: Scheduler, prompt_tokens: int = 0) -> bool:
        """True if the scheduler's queue takes another request of ``prompt_tokens``."""
        queue, (requests, tokens) = scheduler.queue, self._streams.reserved
        can_wait = may_wait(self._settings.limits, len(queue) + requests, queue.tokens + tokens, prompt_tokens)
        # Requests whose prompts are still being encoded count as waiting too.
        return can_wait and self._prompts.waiting < self._settings.limits.waiting_requests

    def _check_queue(self, scheduler: Scheduler, prompt_tokens: int) -> None:
        if not self.can_queue(scheduler, prompt_tokens):
            self._metrics.refused()
            retry_after_ms = worth_trying_after_ms(self._settings.limits, len(scheduler.queue), self.last_inference_ms)
            raise GenerationRefused(
                ErrorCode.OVERLOADED, "too many requests are waiting", retry_after_ms=retry_after_ms
            )

    def _checked(self, scheduler: Scheduler, generate: Generate, prompt_ids: list[int], to_context_end: bool) -> int:
        """Returns the maximum number of answer tokens. Raises `GenerationRefused`."""
        return check_request(
            generate,
            prompt_tokens=len(prompt_ids),
            vocabulary_size=scheduler.text.vocabulary_size,
            context_tokens=scheduler.context_tokens,
            default_max_tokens=self._settings.default_max_tokens,
            to_context_end=to_context_end,
        )
