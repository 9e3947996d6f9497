"""Encodes prompts to token ids within a deadline: for checkpoints in the sandbox, for the mock engine in a few threads."""

from __future__ import annotations

import math
from pathlib import Path

import trio

from actors.inference.messages import GenerationRefused
from actors.inference.sandbox_messages import EncodedPrompt, EncodePrompt, SandboxMessage
from actors.inference.schema_errors import BadSchema
from actors.inference.text.chat_template import TemplateRefused
from actors.inference.text.text_model import TextModel
from actors.inference.text.token_text import SandboxedText
from actors.inference.tools import GenerateFromIds, GenerateWithTools
from protocol.errors import ErrorCode
from protocol.generation import Generate
from runtime import ActorDead, ActorRef, AskDeadline, RuntimeFault

__all__ = ["DEADLINE_PASSED", "PromptEncoder"]

DEADLINE_PASSED = "the request's own deadline has passed"

ENCODING_THREADS = 4
ENCODING_SECONDS = 30.0
UNREADABLE = "the processes that encode prompts are down or overloaded"
SANDBOX_RESTARTS = "the sandbox that encodes prompts is restarting"
SANDBOX_RESTART_SECONDS = 0.2
"""The first restart is immediate."""


class PromptEncoder:
    """Encodes a bounded number of prompts at a time."""

    def __init__(self, sandbox: ActorRef[SandboxMessage] | None = None) -> None:
        """``sandbox`` encodes prompts for models of type `SandboxedText`."""
        self._sandbox = sandbox
        self._in_sandbox = 0
        self.problem: str | None = None
        """Why the latest prompt could not be read, if the request was not at fault; None after a success."""
        self._threads = trio.CapacityLimiter(ENCODING_THREADS)

    @property
    def waiting(self) -> int:
        """Prompts queued for encoding, including those in the sandbox."""
        return self._threads.statistics().tasks_waiting + self._in_sandbox

    async def encode(
        self,
        text: TextModel,
        generate: Generate,
        deadline_at: float = math.inf,
        *,
        client_id: str = "",
        caller: str = "",
    ) -> EncodedPrompt:
        """Encodes a prompt to token ids. Raises `GenerationRefused`; on cancellation its thread finishes in the
        background.

        ``deadline_at`` is the request's own deadline on Trio's clock. ``client_id`` and ``caller`` determine its turn.
        """
        if isinstance(generate, GenerateFromIds):
            return EncodedPrompt(generate.prompt_ids)
        gives_up_at = trio.current_time() + ENCODING_SECONDS
        try:
            with trio.fail_at(min(gives_up_at, deadline_at)):
                if isinstance(text, SandboxedText):
                    return await self._encode_in_sandbox(text.folder, generate, client_id, caller)
                if self._sandbox is not None and _has_form(generate):
                    # Bytes may be encoded anywhere; a schema must be checked in the sandbox.
                    return await self._encode_in_sandbox(None, generate, client_id, caller)
                return EncodedPrompt(
                    await trio.to_thread.run_sync(text.encode, generate, limiter=self._threads, abandon_on_cancel=True)
                )
        except TemplateRefused as error:
            raise GenerationRefused(
                ErrorCode.INVALID_FIELD, f"the model's chat template rejects this: {error}", field="data.messages"
            ) from None
        except BadSchema as error:
            raise GenerationRefused(
                ErrorCode.INVALID_FIELD, f"data.{error.field}: {error}", field=f"data.{error.field}"
            ) from None
        except trio.TooSlowError:
            if deadline_at < gives_up_at:
                raise GenerationRefused(ErrorCode.DEADLINE_EXCEEDED, DEADLINE_PASSED) from None
            raise GenerationRefused(
                ErrorCode.OVERLOADED, "the prompt was not encoded in time", retry_after_ms=1000
            ) from None

    async def _encode_in_sandbox(
        self, folder: Path | None, generate: Generate, client_id: str, caller: str
    ) -> EncodedPrompt:
        """Encodes in the sandbox, retrying once if the sandbox is lost. Raises `GenerationRefused`."""
        assert self._sandbox is not None
        message = EncodePrompt(folder=folder, client_id=client_id, caller=caller, generate=generate)
        self._in_sandbox += 1
        try:
            for is_last in (False, True):
                try:
                    ids: EncodedPrompt = await self._sandbox.ask(message, timeout=ENCODING_SECONDS)
                except AskDeadline:
                    self.problem = "prompts are not encoded in time"
                    raise trio.TooSlowError from None
                except GenerationRefused as refusal:
                    is_ours = refusal.code in (ErrorCode.OVERLOADED, ErrorCode.MODEL_UNAVAILABLE)
                    self.problem = UNREADABLE if is_ours else None
                    raise
                except ActorDead:
                    if is_last:
                        raise
                    await trio.sleep(SANDBOX_RESTART_SECONDS)
                else:
                    self.problem = None
                    return ids
        except RuntimeFault:
            self.problem = SANDBOX_RESTARTS
            raise GenerationRefused(ErrorCode.UNAVAILABLE, SANDBOX_RESTARTS, retry_after_ms=1000) from None
        finally:
            self._in_sandbox -= 1
        raise AssertionError("returned or raised")


def _has_form(generate: Generate) -> bool:
    return generate.response_schema is not None or (
        isinstance(generate, GenerateWithTools) and generate.call_rule is not None
    )
