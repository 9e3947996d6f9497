"""Workloads. Each function makes one measurement; the caller is responsible for rounds and medians."""

from __future__ import annotations

import itertools
import os
import random
import signal
import statistics
import time

import trio
from attrs import frozen

from benchmark.clients import CommandContext, ask_chat, at_once, chat, over_websocket
from benchmark.systems import ChatServer, OurServer
from benchmark.told_to_end import run_until_told
from protocol.client import Client, connect
from protocol.commands import Generate

__all__ = [
    "QUESTIONS",
    "Gaps",
    "Turns",
    "crash_to_next_token",
    "fifty_tokens",
    "flood",
    "gaps_beside_a_long_prompt",
    "lookup_milliseconds",
    "many_at_once",
    "questions",
    "second_turn",
]

QUESTIONS = (
    "Write a simple Python function to add two numbers and say what it does.",
    "Explain what is recursion in programming, with a small example in words.",
    "Describe how a binary search works and why it is fast on sorted lists.",
    "Tell me what a hash table is and where a programmer would use one.",
    "Give three reasons to write tests before changing old code, in full sentences.",
    "What is the difference between a list and a tuple in Python, and when does it matter?",
    "Explain to a beginner what an exception is and how to handle one well.",
    "How does version control help a team of people who edit the same files?",
)
FLOOD_TOKENS = 4
FLOOD_CONNECTIONS = 100
SENTENCE = "Entry {} of this log says that the machine did its work and that nobody had to look after it. "
SENTENCE_TOKENS = 22
"""About."""
STREAMS = 4


def _text(number: int, tokens: int) -> str:
    """A text of about so many tokens that begins like no other number's."""
    return f"Log {number}. " + "".join(
        SENTENCE.format(number * 1000 + line) for line in range(tokens // SENTENCE_TOKENS)
    )


def questions(number: int, count: int) -> list[str]:
    """Return ``count`` questions that are unique to ``number``, so that no cached prefix of another number helps."""
    return [f"Note {number * 1000 + index}: {QUESTIONS[index % len(QUESTIONS)]}" for index in range(count)]


def many_at_once(system: OurServer | ChatServer, number: int, count: int, tokens: int) -> CommandContext:
    """So many clients ask at the same moment."""
    requests = [chat(question, tokens=tokens) for question in questions(number, count)]
    if isinstance(system, ChatServer):
        return run_until_told(ask_chat, system.port, requests)
    asked = run_until_told(_ours, system.websocket_url, requests, count)
    assert asked.failed or asked.tokens == count * tokens, f"{asked.tokens} tokens came, not {count * tokens}"
    return asked


def flood(system: OurServer | ChatServer, count: int) -> CommandContext:
    """Far more short requests at once than anybody has rows for."""
    requests = [chat(f"Say {number}.", tokens=FLOOD_TOKENS) for number in range(count)]
    if isinstance(system, ChatServer):
        return run_until_told(ask_chat, system.port, requests)
    return run_until_told(_ours, system.websocket_url, requests, min(count, FLOOD_CONNECTIONS))


async def _ours(url: str, requests: list[Generate], connections: int) -> CommandContext:
    return await at_once(url, requests, connections=connections)


def fifty_tokens(system: OurServer) -> float:
    """Seconds for 50 tokens of one client."""
    return run_until_told(_ours, system.websocket_url, [chat(QUESTIONS[1], tokens=50)], 1).elapsed_seconds


# --- a long prompt beside running streams -----------------------------------------------------------


@frozen
class Gaps:
    """99th percentiles of the time between two tokens of a running stream, seconds."""

    idle: float
    beside: float
    prompt_tokens: int
    prompt_seconds: float
    """From the long prompt's asking to its first token."""


def gaps_beside_a_long_prompt(system: OurServer, number: int, *, prompt_tokens: int, idle_tokens: int) -> Gaps:
    """Token gaps of running streams, first alone and then while a long prompt is read."""
    return run_until_told(_gaps, system.websocket_url, number, prompt_tokens, idle_tokens)


async def _gaps(url: str, number: int, prompt_tokens: int, idle_tokens: int) -> Gaps:
    streams = [CommandContext() for _ in range(STREAMS)]

    async def run_on(index: int) -> None:
        async with connect(url, client_id=f"bench-stream-{index}") as client:
            await over_websocket(client, chat(QUESTIONS[index], tokens=2000), streams[index])

    async with trio.open_nursery() as nursery, connect(url, client_id="bench-long") as client:
        for index in range(STREAMS):
            nursery.start_soon(run_on, index)
        while any(len(one.token_times) < 5 for one in streams):
            await trio.sleep(0.01)
        idle_from = time.perf_counter()
        while any(len(_gaps_within(one, idle_from, time.perf_counter())) < idle_tokens for one in streams):
            await trio.sleep(0.01)
        asked_at = time.perf_counter()
        long = CommandContext()
        async with client.generate(chat(_text(number, prompt_tokens), tokens=1)) as answer:
            async for _ in answer:
                long.token_times.append(time.perf_counter())
        assert answer.done is not None
        until = long.token_times[0] if long.token_times else time.perf_counter()
        nursery.cancel_scope.cancel()
    idle = [gap for one in streams for gap in _gaps_within(one, idle_from, asked_at)]
    beside = [gap for one in streams for gap in _gaps_within(one, asked_at, until)]
    return Gaps(
        idle=_percentile_99(idle),
        beside=_percentile_99(beside),
        prompt_tokens=answer.done["usage"]["prompt_tokens"],
        prompt_seconds=until - asked_at,
    )


def _gaps_within(asked: CommandContext, start: float, end: float) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(asked.token_times) if start < later <= end]


def _percentile_99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98] if len(values) > 1 else values[0]


# --- conversations ----------------------------------------------------------------------------------


@frozen
class Turns:
    """First-token times of a conversation's second turn, seconds."""

    kept: float
    """What was computed in the first turn is there."""
    new: float
    """The same length, never seen before."""
    cached_tokens: int
    prompt_tokens: int


def second_turn(system: OurServer, number: int, *, tokens: int) -> Turns:
    """The second turn of a conversation of so many tokens, with what the first turn left and without."""
    return run_until_told(_second_turn, system.websocket_url, number, tokens)


async def _second_turn(url: str, number: int, tokens: int) -> Turns:
    async with connect(url, client_id="bench-turns") as client:
        first = _text(2 * number, tokens)
        reply = await over_websocket(client, chat(first, tokens=16), CommandContext())
        kept = await _first_token(client, chat(first, reply, QUESTIONS[2], tokens=2))
        new = await _first_token(client, chat(_text(2 * number + 1, tokens), reply, QUESTIONS[2], tokens=2))
    assert new[1]["cached_tokens"] < 100, "this conversation should have been unknown"
    return Turns(
        kept=kept[0], new=new[0], cached_tokens=kept[1]["cached_tokens"], prompt_tokens=kept[1]["prompt_tokens"]
    )


async def _first_token(client: Client, generate: Generate) -> tuple[float, dict[str, int]]:
    began = time.perf_counter()
    first = None
    async with client.generate(generate) as answer:
        async for _ in answer:
            first = first or time.perf_counter() - began
    assert answer.done is not None
    assert first is not None
    return first, answer.done["usage"]


# --- a crash ----------------------------------------------------------------------------------------


def crash_to_next_token(system: OurServer) -> float:
    """Seconds from the worker's kill to the next token of the stream that it worked on."""
    return run_until_told(_crash, system)


async def _crash(system: OurServer) -> float:
    asked = CommandContext()
    killed_at = 0.0
    async with connect(system.websocket_url, client_id="bench-crash") as client, trio.open_nursery() as nursery:
        nursery.start_soon(over_websocket, client, chat(QUESTIONS[0], tokens=2000), asked)
        while len(asked.token_times) < 10:
            await trio.sleep(0.01)
        pid = (await trio.to_thread.run_sync(system.health))["worker_pid"]
        killed_at = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        # What was on its way when the worker died comes at once; the first after that is the new worker's.
        while not (after := _times_after_the_pause(asked.token_times, killed_at)):
            assert not asked.failed, asked.failed
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    return after[0] - killed_at


def _times_after_the_pause(times: list[float], killed_at: float) -> list[float]:
    return [one for one in times if one > killed_at + 0.25]


# --- the index of kept prefixes ---------------------------------------------------------------------


def lookup_milliseconds() -> float:
    """Measure one lookup of 32,768 tokens among a hundred sequences of that length that diverge at different places."""
    from actors.inference.worker.radix_tree import RadixTree

    draw = random.Random(1)
    tokens = [draw.randrange(49_152) for _ in range(32_768)]
    index: RadixTree[int] = RadixTree(1 << 40, size_of=lambda _: 1, cut=lambda piece, _start, _stop: piece)
    index.insert("", tokens, lambda _start, _stop: 0)
    for number in range(99):
        index.insert("", [*tokens[: 300 * number], *(-1 - number for _ in tokens[300 * number :])], lambda *_: 0)
    began = time.perf_counter()
    _, length = index.find("", tokens, len(tokens) - 1)
    elapsed = time.perf_counter() - began
    assert length == len(tokens) - 1
    return 1000 * elapsed
