"""Answers with drafts and without: one that repeats the code it is about, and one that has little to repeat."""

from __future__ import annotations

import time

import trio
from attrs import define, field, frozen

from benchmark.clients import ANSWER_SECONDS
from benchmark.scenarios import QUESTIONS
from benchmark.systems import OurServer
from benchmark.told_to_end import run_until_told
from protocol.client import connect
from protocol.commands import ChatMessage, Generate, Role

__all__ = ["CommandContext", "Question", "ask", "plain", "refactoring", "settle"]

CODE_TOKENS = 200
PLAIN_TOKENS = 80
SETTLE_SECONDS = 12.0
"""A spare has no sign that it has imported all; on two cores it takes some eight seconds, and they spoil the first answers."""

INVENTORY = """class Inventory:
    def __init__(self):
        self.items = {}
        self.prices = {}

    def add_item(self, name, quantity, price):
        if name in self.items:
            self.items[name] = self.items[name] + quantity
        else:
            self.items[name] = quantity
        self.prices[name] = price

    def remove_item(self, name, quantity):
        if name not in self.items:
            raise KeyError("no such item: " + name)
        if self.items[name] < quantity:
            raise ValueError("not enough of " + name)
        self.items[name] = self.items[name] - quantity
        if self.items[name] == 0:
            del self.items[name]
            del self.prices[name]

    def total_value(self):
        total = 0
        for name in self.items:
            total = total + self.items[name] * self.prices[name]
        return total

    def cheapest(self):
        best = None
        for name in self.prices:
            if best is None or self.prices[name] < self.prices[best]:
                best = name
        return best

    def report(self):
        lines = []
        for name in sorted(self.items):
            lines.append(name + ": " + str(self.items[name]))
        return "\\n".join(lines)
"""
METHODS = ("report", "cheapest", "total_value")
PLAIN_QUESTIONS = 3
"""Of each round."""


@frozen
class Question:
    """A prompt and the maximum length of its answer."""

    text: str
    tokens: int


@define
class CommandContext:
    """Answers of one system."""

    texts: list[str] = field(factory=list)
    tokens: int = 0
    seconds: float = 0.0
    """From each first token to the last."""

    @property
    def rate(self) -> float:
        """Tokens per second of decoding."""
        return self.tokens / self.seconds


def refactoring(number: int) -> Question:
    """Return a question whose answer repeats some forty lines of its prompt."""
    method = METHODS[number % len(METHODS)]
    text = (
        f"Refactor this class: rename the method `{method}` to `{method}_of_all`, leave all else as it is, "
        f"and give the whole class again.\n\n```python\n{INVENTORY}```"
    )
    return Question(text, CODE_TOKENS)


def plain(number: int) -> list[Question]:
    """Return questions whose answers share little with their prompts."""
    first = 1 + number * PLAIN_QUESTIONS
    return [Question(QUESTIONS[(first + place) % len(QUESTIONS)], PLAIN_TOKENS) for place in range(PLAIN_QUESTIONS)]


def settle(systems: list[OurServer]) -> None:
    """Have each answer something, and wait until their spare processes have imported what they need."""
    for system in systems:
        ask(system, Question(QUESTIONS[0], 8), CommandContext())
    time.sleep(SETTLE_SECONDS)


def ask(system: OurServer, question: Question, asked: CommandContext) -> None:
    """Ask one question and add what came of it."""
    run_until_told(_ask, system.websocket_url, question, asked)


async def _ask(url: str, question: Question, asked: CommandContext) -> None:
    generate = Generate(messages=[ChatMessage(Role.USER, question.text)], max_tokens=question.tokens, temperature=0.0)
    async with connect(url, client_id="bench-drafts") as client:
        with trio.fail_after(ANSWER_SECONDS):
            async with client.generate(generate) as answer:
                text = "".join([piece async for piece in answer])
        assert answer.done is not None
        timings = answer.done["timings"]
        asked.texts.append(text)
        asked.tokens += answer.done["usage"]["completion_tokens"] - 1
        asked.seconds += (timings["total_ms"] - timings["first_token_ms"]) / 1000
