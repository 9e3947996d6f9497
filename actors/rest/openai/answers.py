"""The answers to one request, one for each prompt and `n`, returned whole or merged into one stream of events."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import attrs
import trio
from attrs import frozen

from actors.access.messages import Identity
from actors.inference.messages import DescribeGeneration, GenerationRefused, GenerationTokens, InferenceRequest
from actors.rest.openai.chunks import ChatChunks, TextChunks
from actors.rest.openai.errors import openai_error
from actors.rest.openai.prompt_echo import Echo, behind_echo, read_echo, with_echo
from actors.rest.openai.replies import ReplyHead, chat_chunk, completion_chunk, usage, usage_chunk
from actors.rest.problems import problem_of
from actors.rest.stream_subscriber import LOOK_SECONDS, News, StreamSubscriber
from protocol.codec import encode
from protocol.commands import Generate
from protocol.errors import InvalidField
from protocol.events import Done, FinishReason
from runtime import ActorRef, RuntimeFault

__all__ = ["SIGN_OF_LIFE_SECONDS", "Answers", "Asked", "seed_of", "sign_of_life", "start_answers"]

SIGN_OF_LIFE_SECONDS = 10.0
"""Longest silence in a stream, even while the prompt is queued or prefilled; otherwise clients and proxies would time
out.
"""
PROGRESS_SECONDS = 1.0
MAXIMUM_READ_TOKENS = 32_768
"""Tokens of all prompts whose tokens are returned. A single prompt may be longer, up to the model's context."""
SEEDS = 2**53


def seed_of(seed: int | None, index: int) -> int | None:
    """The seed of each answer: the request's own for the first, derived from it for the others."""
    if seed is None or index == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest()[:8], "big") % SEEDS


@frozen(kw_only=True)
class Asked:
    """The prompts of a request and the way to answer them."""

    generates: Sequence[Generate]
    """One for each prompt."""
    made: int
    """Answers to generate for each prompt."""
    told: int
    """Answers to return for each prompt: those that the model finds likeliest."""
    ignores_end: bool = False
    """Continue past the model's end-of-text token."""
    echoes: Sequence[Any] = ()
    """The prompts, if they are echoed before their answers."""
    reads_prompt: bool = False
    """Also return the prompts' tokens, or obtain the prompts' text from them."""
    makes_nothing: bool = False
    """Return only the prompts."""


@frozen
class _Whole:
    subscriber: StreamSubscriber
    tokens: list[GenerationTokens]
    done: Done


@frozen(kw_only=True)
class Answers:
    """The answers of one request while they are generated."""

    head: ReplyHead
    asked: Asked
    inference: ActorRef[InferenceRequest]
    subscribers: Sequence[StreamSubscriber]
    """Those of the first prompt, then those of the second, and so on."""
    news: News
    left_out: Sequence[str] = ()
    """Parts of schemas that these answers leave out, under the names of the engine's request."""

    async def whole(self, make: Callable[[Sequence[GenerationTokens], Done], dict[str, Any]]) -> dict[str, Any]:
        """Return the reply; ``make`` builds the reply of a single answer. Raises `GenerationRefused` if one cannot be
        finished.
        """
        answers = [_Whole(one, *(await _all(one))) for one in self.subscribers]
        choices: list[dict[str, Any]] = []
        reasoning_tokens = 0
        reply: dict[str, Any] = {}
        for place in range(len(self.asked.generates)):
            group = answers[place * self.asked.made : (place + 1) * self.asked.made]
            likeliest = sorted(group, key=lambda one: one.done.confidence or 0.0, reverse=True)[: self.asked.told]
            for answer in [one for one in group if any(one is other for other in likeliest)]:
                is_empty = self.asked.makes_nothing
                reply = make([] if is_empty else answer.tokens, _cut(answer.done) if is_empty else answer.done)
                reasoning_tokens += reply["usage"]["completion_tokens_details"]["reasoning_tokens"]
                (choice,) = reply["choices"]
                if self.asked.echoes:
                    echo = await self._echo(place, answer.subscriber)
                    choice = with_echo(choice, echo)
                choices.append({**choice, "index": len(choices)})
        return {**reply, "choices": choices, "usage": self._usage(reasoning_tokens)}

    async def stream(self, chunks: Sequence[TextChunks | ChatChunks]) -> AsyncGenerator[bytes, None]:
        """Yield the answers as events. A stream that has begun always ends with `[DONE]` or an error."""
        for event in self._beginnings():
            yield event
        going_on = list(range(len(self.subscribers)))
        echoes: dict[int, Echo] = {}
        """The prompts already sent, by index of the answer."""
        spoke_at = trio.current_time()
        try:
            while going_on:
                self.news.forget()
                made = []
                for index in list(going_on):
                    of_answer = self._chunks_of(index, chunks[index], going_on)
                    if of_answer and self.asked.reads_prompt and index not in echoes:
                        echoes[index] = echo = await self._echo(index // self.asked.made, self.subscribers[index])
                        first = completion_chunk(self.head, ())
                        first["choices"][0] |= {"text": echo.text, "logprobs": echo.logprobs}
                        made.append(_numbered(first, index))
                    made += [behind_echo(one, echoes[index]) if index in echoes else one for one in of_answer]
                for one in made:
                    yield _event(one)
                    spoke_at = trio.current_time()
                if not made and going_on:
                    if trio.current_time() - spoke_at >= SIGN_OF_LIFE_SECONDS:
                        yield await sign_of_life(self.inference, self.subscribers[going_on[0]].stream)
                        spoke_at = trio.current_time()
                    await self.news.wait(min(LOOK_SECONDS, SIGN_OF_LIFE_SECONDS))
        except GenerationRefused as refusal:
            body, _ = openai_error(problem_of(refusal.code, refusal.message, field=refusal.field))
            yield _event(body)
            return
        if self.head.includes_usage:
            yield _event(
                {
                    **usage_chunk(self.head, self._done(0)),
                    "usage": self._usage(sum(one.reasoning_tokens for one in chunks)),
                }
            )
        yield b"data: [DONE]\n\n"

    def _beginnings(self) -> list[bytes]:
        """Events before each answer: the role in a chat, the prompt in a completion with `echo`."""
        if self.head.is_chat:
            first = [chat_chunk(self.head, (), is_first=True) for _ in self.subscribers]
        elif self.asked.reads_prompt:
            # Sent once it has been prefilled.
            first = []
        else:
            first = [completion_chunk(self.head, ()) for _ in self.subscribers if self.asked.echoes]
            for index, one in enumerate(first):
                one["choices"][0]["text"] = self.asked.echoes[index // self.asked.made]
        return [_event(_numbered(one, index)) for index, one in enumerate(first)]

    def _chunks_of(self, index: int, chunks: TextChunks | ChatChunks, going_on: list[int]) -> list[dict[str, Any]]:
        """Chunks of one answer since the last call. Removes it from ``going_on`` at its end."""
        subscriber = self.subscribers[index]
        tokens = subscriber.take_nowait()
        if tokens is None:
            return []
        if tokens:
            return [] if self.asked.makes_nothing else [_numbered(one, index) for one in chunks.take(tokens)]
        going_on.remove(index)
        return [_numbered(one, index) for one in chunks.end(self._done(index))]

    async def _echo(self, place: int, subscriber: StreamSubscriber) -> Echo:
        prompt = self.asked.echoes[place]
        if not self.asked.reads_prompt:
            return Echo(text=prompt)
        return await read_echo(prompt, subscriber.prompt, has_logprobs=self.head.has_logprobs)

    def _done(self, index: int) -> Done:
        done = self.subscribers[index].done
        assert done is not None
        return _cut(done) if self.asked.makes_nothing else done

    def _usage(self, reasoning_tokens: int) -> dict[str, Any]:
        """Usage of all answers; each prompt is counted once."""
        counted = [usage(self._done(index)) for index in range(len(self.subscribers))]
        prompts = counted[:: self.asked.made]
        prompt_tokens = sum(one["prompt_tokens"] for one in prompts)
        completion_tokens = 0 if self.asked.makes_nothing else sum(one["completion_tokens"] for one in counted)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {
                "cached_tokens": sum(one["prompt_tokens_details"]["cached_tokens"] for one in prompts)
            },
            "completion_tokens_details": {"reasoning_tokens": reasoning_tokens},
        }


async def sign_of_life(inference: ActorRef[InferenceRequest], stream: str) -> bytes:
    """Build a comment with the generation's progress, which clients ignore (server-sent events, section 9.2.6)."""
    try:
        progress = await inference.ask(DescribeGeneration(stream), timeout=PROGRESS_SECONDS)
    except (RuntimeFault, GenerationRefused):
        return b": busy\n\n"
    if not progress.is_running:
        return b": waiting\n\n"
    if progress.read_tokens < progress.prompt_tokens:
        return f": prefill {progress.read_tokens}/{progress.prompt_tokens}\n\n".encode()
    return b": decoding\n\n"


async def start_answers(inference: ActorRef[InferenceRequest], who: Identity, head: ReplyHead, asked: Asked) -> Answers:
    """Start all generations; they end with the request. Raises `GenerationRefused`, `RuntimeFault`."""
    news = News()
    subscribers: list[StreamSubscriber] = []
    left_out: Sequence[str] = ()
    read_tokens = 0
    for generate in asked.generates:
        for number in range(asked.made):
            subscriber = StreamSubscriber(inference, news)
            one = attrs.evolve(generate, seed=seed_of(generate.seed, number))
            started = await subscriber.start(
                who, one, to_context_end=True, ignores_end=asked.ignores_end, scores_prompt=asked.reads_prompt
            )
            read_tokens += started.prompt_tokens if asked.reads_prompt else 0
            if read_tokens > max(MAXIMUM_READ_TOKENS, started.prompt_tokens):
                raise InvalidField(
                    f"body.prompt and n amount to more than {MAXIMUM_READ_TOKENS} tokens of echoed prompts",
                    field="body.prompt",
                )
            subscribers.append(subscriber)
            left_out = started.left_out
    return Answers(head=head, asked=asked, inference=inference, subscribers=subscribers, news=news, left_out=left_out)


async def _all(subscriber: StreamSubscriber) -> tuple[list[GenerationTokens], Done]:
    tokens: list[GenerationTokens] = []
    while taken := await subscriber.take():
        tokens += taken
    assert subscriber.done is not None
    return tokens, subscriber.done


def _cut(done: Done) -> Done:
    """The result of an answer that has no tokens."""
    return attrs.evolve(done, finish_reason=FinishReason.LENGTH)


def _numbered(chunk: dict[str, Any], index: int) -> dict[str, Any]:
    chunk["choices"][0]["index"] = index
    return chunk


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + encode(data) + b"\n\n"
