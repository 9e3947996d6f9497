"""What `scripts/bench_answers` counts of answers."""

from __future__ import annotations

import pytest

from scripts.benchmark.answer_quality import QUESTIONS, SAMPLINGS, Counts, Measured, count, repeated_share


def measured(text: str, *, cut: bool = False, ended: bool = False, confidence: float | None = 0.5) -> Measured:
    return Measured(text=text, tokens=len(text.split()), was_cut=cut, was_ended=ended, confidence=confidence)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("one two three", 0.0),
        ("a b c d e f g h i", 0.0),
        ("a b c d e f g h " * 2, 1 / 9),
        ("x " * 16, 8 / 9),
    ],
)
def test_the_share_of_runs_of_words_that_came_before(text: str, share: float) -> None:
    assert repeated_share(text) == pytest.approx(share)


def test_loops_cuts_and_equal_answers_are_counted_apart() -> None:
    answers = [
        measured("Lisbon."),
        measured(" Lisbon.\n"),
        measured("so on " * 40, cut=True, confidence=0.9),
        measured("ended early", cut=True, ended=True, confidence=None),
        measured("a long answer", cut=True, confidence=0.7),
    ]
    assert count(answers) == Counts(answers=5, loops=2, cut=2, identical=2, tokens=17, sure_loops=1)


def test_each_question_is_asked_once_and_the_defaults_are_among_the_samplings() -> None:
    assert len(set(QUESTIONS)) == len(QUESTIONS) == 20
    assert {"temperature": 0.2, "top_p": 0.9, "repetition_penalty": 1.1} in SAMPLINGS.values()
