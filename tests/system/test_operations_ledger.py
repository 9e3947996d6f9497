"""The judge of the operations storm: it notices lost, duplicate, cut and wrong results."""

from __future__ import annotations

import pytest

from tests.system.operations_ledger import (
    AnswerTold,
    Cut,
    DeviceTold,
    Told,
    wrong_answers,
    wrong_cuts,
    wrong_writes,
)

TOLD = {"a": Told.ACCEPTED, "b": Told.ACCEPTED, "c": Told.REFUSED, "d": Told.UNKNOWN}


@pytest.mark.parametrize("kept", [["a", "b"], ["d", "b", "a"]])
def test_what_was_accepted_is_kept_once_and_what_nobody_knows_at_most_once(kept: list[str]) -> None:
    assert wrong_writes("tasks", TOLD, kept) == []


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (["a"], "1 tasks were accepted and are not kept, such as b"),
        (["a", "b", "b"], "1 tasks are kept more than once, such as b"),
        (["a", "b", "d", "d"], "1 tasks are kept more than once, such as d"),
        (["a", "b", "c"], "1 tasks were refused and are kept, such as c"),
        (["a", "b", "e"], "1 tasks are kept that nobody sent, such as e"),
    ],
)
def test_a_lost_and_a_doubled_write_are_noticed(kept: list[str], words: str) -> None:
    assert wrong_writes("tasks", TOLD, kept) == [words]


def device(*events: tuple[int, str, str | None], snapshots: int = 0) -> list[str]:
    told = DeviceTold(snapshots=snapshots)
    for event in events:
        told.note(*event)
    return told.wrong("phone", first_seq=1, head=3, to_be_told=["a", "b"])


def test_a_device_that_was_told_all_in_order_is_content() -> None:
    assert device((1, "e1", "a"), (2, "e2", None), (3, "e3", "b")) == []
    # The server added a notice of its own after the last check of the log.
    assert device((1, "e1", "a"), (2, "e2", None), (3, "e3", "b"), (4, "e4", None)) == []


def test_events_that_are_missing_doubled_or_out_of_order_are_noticed() -> None:
    assert device((1, "e1", "a"), (3, "e3", "b")) == ["phone: of 3 events 1 missing, 0 twice"]
    assert device((1, "e1", "a"), (2, "e2", None), (3, "e3", "b"), (5, "e5", None)) == [
        "phone: of 5 events 1 missing, 0 twice"
    ]
    assert device()[0] == "phone: of 3 events 3 missing, 0 twice"
    assert device((1, "e1", "a"), (2, "e2", None)) == [
        "phone: of 3 events 1 missing, 0 twice",
        "1 phone: writes that are kept were never told, such as b",
    ]
    assert device((1, "e1", "a"), (2, "e2", None), (2, "e2", None), (3, "e3", "b")) == [
        "phone: of 3 events 0 missing, 1 twice",
        "phone: 1 events came under two numbers",
    ]
    assert device((1, "e1", "a"), (2, "e1", "a"), (3, "e3", "b")) == [
        "phone: 1 events came under two numbers",
        "1 phone: writes were told more than once, such as a",
    ]
    assert device((2, "e2", None), (1, "e1", "a"), (3, "e3", "b")) == ["phone: of 3 events out of order"]
    assert device((1, "e1", "a"), (2, "e2", "c"), (3, "e3", "b")) == [
        "1 phone: writes were told that are not kept, such as c"
    ]
    assert device((1, "e1", "a"), (2, "e2", None), (3, "e3", "b"), snapshots=1) == [
        "phone: 1 times the server had lost what was missing"
    ]


def answered(text: str, ending: str) -> list[str]:
    return wrong_answers([AnswerTold("count", text, ending)], {"count": "1 2 3"})


def test_an_answer_is_its_twin_or_ends_with_an_error_of_its_own() -> None:
    assert answered("1 2 3", "done") == []
    assert answered("1 2", "engine_failed") == []
    differs = "1 answers differ from what they are undisturbed, such as count"
    assert answered("1 2", "done") == [differs]
    assert answered("1 2 2", "engine_failed") == [differs]
    for ending in ("never ended", "internal"):
        assert answered("1 2", ending) == [
            f"1 answers ended otherwise than with an error of their own, such as count ({ending})"
        ]


def test_as_many_answers_may_differ_as_ties_make() -> None:
    answers = [AnswerTold("count", "1 2 3", "done")] * 9 + [AnswerTold("count", "1 2 4", "done")]
    assert wrong_answers(answers, {"count": "1 2 3"}, ties_allowed=0.1) == []
    assert wrong_answers(answers, {"count": "1 2 3"}, ties_allowed=0.09) != []


def test_a_client_that_was_cut_while_it_read_is_noticed() -> None:
    def cut(code: int | None, *, is_server_away: bool) -> list[str]:
        return wrong_cuts([Cut("phone", code, "full disk", is_server_away)])

    assert cut(None, is_server_away=True) == cut(1001, is_server_away=True) == []
    assert cut(None, is_server_away=False) == ["phone was cut while it read (None), after full disk"]
    # A client that reads is never "too slow", whatever else happens.
    assert cut(4008, is_server_away=True) == ["phone was cut while it read (4008), after full disk"]
