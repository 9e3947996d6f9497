"""An answer that repeats itself is noticed; one that only has much in common with itself is not."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.inference.generation import Generation
from actors.inference.messages import GenerationDone, GenerationEvent, GenerationTokens, ResumeFrom
from actors.inference.repetition import LONGEST_PERIOD, REPEATED_PERIODS, REPEATED_TOKENS, RepetitionDetector
from actors.inference.text.text_model import MockText
from protocol.commands import Generate
from protocol.events import FinishReason

SENTENCE = list(b"It is important to note that this is so. ")


def noticed_at(ids: Iterable[int]) -> int | None:
    """Number of tokens after which it is noticed."""
    detector = RepetitionDetector()
    return next((count for count, one in enumerate(ids, start=1) if detector.feed(one)), None)


def text(content: str) -> list[int]:
    """Words, digits and signs, about as tokenizers cut a text."""
    pieces = re.findall(r" ?[A-Za-z]+|\d|\n+|.", content)
    known: dict[str, int] = {}
    return [known.setdefault(piece, len(known)) for piece in pieces]


# --- what is noticed --------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [5, 12, 40, 100, LONGEST_PERIOD])
def test_gr40_a_block_that_comes_again_and_again_is_noticed_soon(length: int) -> None:
    block = random.Random(length).sample(range(1000), length)
    at = noticed_at([7, 8, 9, *block * 200])
    assert at is not None
    assert at <= 3 + length + max(REPEATED_TOKENS, REPEATED_PERIODS * length) + length


def test_gr40_a_sentence_whose_number_goes_up_is_noticed() -> None:
    lines = "".join(
        f"{number}. It is important to be patient and kind to all the people that you meet on your way home.\n"
        for number in range(100)
    )
    assert noticed_at(text(lines)) is not None


def test_gr40_a_long_row_of_one_token_is_noticed_and_a_short_one_is_not() -> None:
    assert noticed_at([5] * 2000) is not None
    assert noticed_at([5] * 300) is None


@given(start=st.lists(st.integers(0, 50), max_size=300), block=st.lists(st.integers(0, 50), min_size=5, max_size=60))
def test_gr40_what_stood_before_a_loop_does_not_hide_it(start: list[int], block: list[int]) -> None:
    assert noticed_at([*start, *block * 40, *block * 120]) is not None


# --- what is not ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        " ".join(str(number) for number in range(1, 2000)),
        "".join(f"def get_{name}(self):\n    return self._{name}\n\n" for name in "abcdefghijklmnopqrstuvwxyz" * 3),
        "".join(f"| {number} | {number * number} | {number**3} |\n" for number in range(300)),
        "".join(
            f'  {{"id": {number}, "name": "item {number * 7}", "price": {number * 3}}},\n' for number in range(200)
        ),
        "Row, row, row your boat\nGently down the stream\nMerrily, merrily, merrily, merrily\nLife is but a dream\n\n"
        * 2,
        "=" * 100 + "\n" + "-" * 100 + "\n" + "0, " * 120,
    ],
    ids=["counting", "accessors", "table", "json", "song", "rulers"],
)
def test_gr40_ordinary_texts_are_left_alone(content: str) -> None:
    assert noticed_at(text(content)) is None


def test_gr40_prose_is_left_alone() -> None:
    draw = random.Random(3)
    words = [
        "the",
        "of",
        "a",
        "model",
        "answer",
        "that",
        "which",
        "token",
        "runs",
        "with",
        "every",
        "small",
        "large",
        "not",
        "in",
        "is",
        "was",
        "it",
    ]
    assert noticed_at(text(" ".join(draw.choice(words) for _ in range(3000)))) is None


def test_what_is_kept_is_bounded() -> None:
    detector = RepetitionDetector()
    for one in range(5000):
        detector.feed(one)
    assert len(detector._grams) <= LONGEST_PERIOD
    assert len(detector._ids) <= LONGEST_PERIOD + 1


# --- in an answer -----------------------------------------------------------------------------------


def answer(events: list[GenerationEvent]) -> Generation:
    return Generation(
        stream="s", client_id="c", generate=Generate(prompt="x"), seed=1, prompt_ids=[1], max_tokens=10_000,
        detokenizer=MockText().detokenizer(), accepted_at=0.0, deliver=events.append,
    )  # fmt: skip


def run(generation: Generation, ids: Sequence[int]) -> int:
    for count, one in enumerate(ids, start=1):
        generation.advance(one, -0.1, None, 1.0)
        if generation.has_finished:
            return count
    return 0


def test_gr40_a_looping_answer_ends_by_length_with_a_note_and_without_confidence() -> None:
    events: list[GenerationEvent] = []
    generation = answer(events)
    count = run(generation, SENTENCE * 50)
    assert 0 < count < 12 * len(SENTENCE)
    done = generation.complete(2.0)
    assert (done.finish_reason, done.repetition, done.confidence) == (FinishReason.LENGTH, True, None)
    assert done.usage.completion_tokens == count
    told = "".join(one.text for one in events if isinstance(one, GenerationTokens))
    assert told == bytes((SENTENCE * 50)[:count]).decode()
    assert isinstance(events[-1], GenerationDone)


@pytest.mark.parametrize(("times", "repeats"), [(3, True), (1, False)])
def test_gr45_an_answer_that_is_cut_in_a_loop_has_no_confidence_either(times: int, repeats: bool) -> None:
    generation = answer([])
    ids = [*range(100, 160), *SENTENCE * times]
    for one in ids[:-1]:
        generation.advance(one, -0.1, None, 1.0)
    generation.advance(ids[-1], -0.1, "length", 1.0)
    done = generation.complete(2.0)
    assert (done.finish_reason, done.repetition) == (FinishReason.LENGTH, True if repeats else None)
    assert (done.confidence is None) is repeats


def test_gr40_an_ordinary_answer_has_no_such_note() -> None:
    generation = answer([])
    generation.advance(65, -0.1, None, 1.0)
    generation.advance(MockText.END, 0.0, "stop", 1.0)
    done = generation.complete(2.0)
    assert done.repetition is None
    assert done.confidence is not None


def test_gr40_an_answer_that_was_ended_so_stays_ended_where_it_is_taken_up_again() -> None:
    events: list[GenerationEvent] = []
    first = answer(events)
    count = run(first, SENTENCE * 50)
    told = [one for one in events if isinstance(one, GenerationTokens)]
    again = answer([])
    point = ResumeFrom(
        token_ids=tuple((SENTENCE * 50)[:count]),
        seq=told[-1].seq,
        seed=1,
        log_probability=-1.0,
        first_times=told[-1].first_times,
    )
    again.resume(point)
    assert again.has_finished
    assert again.complete(3.0).repetition is True


def test_gr40_one_that_was_not_yet_is_ended_at_the_same_token() -> None:
    first, again = answer([]), answer([])
    count = run(first, SENTENCE * 50)
    half = (SENTENCE * 50)[: count // 2]
    again.resume(ResumeFrom(token_ids=tuple(half), seq=0, seed=1, log_probability=-1.0, first_times=None))
    assert len(half) + run(again, (SENTENCE * 50)[count // 2 :]) == count
