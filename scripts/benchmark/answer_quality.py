"""Counts flaws of answers that need no reader: loops, cuts, repeats. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from attrs import frozen

__all__ = ["QUESTIONS", "SAMPLINGS", "Counts", "Measured", "count", "repeated_share"]

RUN_WORDS = 8
LOOP_SHARE = 0.2
"""An answer loops when more than this share of its runs of eight words occurred earlier in it."""
MAX_TOKENS = 400

QUESTIONS = (
    "What is the capital of Portugal?",
    "Why is the sky blue? Explain it to a child.",
    "Write a short, polite email that moves a meeting to Thursday.",
    "How do I bake a simple loaf of bread?",
    "How do I read a text file line by line in Python?",
    "What speaks for and against living in a large city?",
    "Tell the story of Cinderella in a few sentences.",
    "Tell me a joke about cats.",
    "Plan a weekend in Paris.",
    "What is the difference between RAM and a hard disk?",
    "Give me five tips for learning a new language.",
    "Write a poem of four lines about autumn.",
    "What is recursion?",
    "Convert 30 degrees Celsius to Fahrenheit and show how.",
    "List the planets of the solar system.",
    "Write an SQL query that counts orders by customer.",
    "How can I sleep better?",
    "Who wrote Hamlet, and what is it about?",
    "Explain the difference between a virus and a bacterium.",
    "Suggest a name for a small bakery, and say why.",
)
"""Questions that people ask: facts, explanations, texts, lists, code."""

SAMPLINGS: dict[str, dict[str, float]] = {
    "likeliest token": {"temperature": 0.0},
    "likeliest token, penalty 1.1": {"temperature": 0.0, "repetition_penalty": 1.1},
    "temperature 0.2, top-p 0.9": {"temperature": 0.2, "top_p": 0.9},
    "temperature 0.2, top-p 0.9, penalty 1.1": {"temperature": 0.2, "top_p": 0.9, "repetition_penalty": 1.1},
    "temperature 0.7, top-p 0.9, penalty 1.1": {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1},
}


@frozen(kw_only=True)
class Measured:
    """Measured properties of one answer."""

    text: str
    tokens: int
    was_cut: bool
    """It ended because of its length."""
    was_ended: bool
    """The server's detector ended it."""
    confidence: float | None

    @property
    def loops(self) -> bool:
        """True if it repeats itself over and over."""
        return self.was_ended or repeated_share(self.text) > LOOP_SHARE


@frozen(kw_only=True)
class Counts:
    """Totals over all answers of one sampling."""

    answers: int
    loops: int
    cut: int
    """Ended by their length and not by the detector."""
    identical: int
    """Answers that are equal to an answer to another question."""
    tokens: int
    """Of the mean answer."""
    sure_loops: int
    """Loops whose confidence is above that of half of the other answers."""


def repeated_share(text: str) -> float:
    """The share of runs of eight words that occurred earlier in the text."""
    words = text.split()
    runs = [tuple(words[place : place + RUN_WORDS]) for place in range(len(words) - RUN_WORDS + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def count(answers: Sequence[Measured]) -> Counts:
    """The counts of one sampling; of at least one answer."""
    texts = Counter(one.text.strip() for one in answers)
    others = sorted(one.confidence for one in answers if not one.loops and one.confidence is not None)
    middle = others[len(others) // 2] if others else 0.0
    return Counts(
        answers=len(answers),
        loops=sum(one.loops for one in answers),
        cut=sum(one.was_cut and not one.was_ended for one in answers),
        identical=sum(texts[one.text.strip()] > 1 for one in answers),
        tokens=round(sum(one.tokens for one in answers) / len(answers)),
        sure_loops=sum(one.loops and (one.confidence or 0.0) > middle for one in answers),
    )
