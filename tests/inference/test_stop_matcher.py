"""Stop texts are found for every way the text may be cut into pieces, and nothing of one ever leaks (promise 16)."""

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from actors.inference.text.stop_matcher import StopMatcher

# Few letters, so that stop texts overlap, repeat and begin within each other; one of them has several bytes.
_LETTERS = "abé"
_TEXTS = st.text(_LETTERS, max_size=24)
_STOPS = st.lists(st.text(_LETTERS, min_size=1, max_size=5), max_size=4)


def cut_before_the_earliest_stop(text: str, stops: list[str]) -> str | None:
    """The definition: the stop text that is complete first counts, of those that end together the longest."""
    for end in range(1, len(text) + 1):
        begins = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if begins:
            return text[: min(begins)]
    return None


def pieces_of(text: str, cuts: set[int]) -> list[str]:
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    return [text[begin:end] for begin, end in itertools.pairwise(edges)]


@given(text=_TEXTS, stops=_STOPS, cuts=st.sets(st.integers(0, 23)))
@example(text="aaab", stops=["aab"], cuts=set())
@example(text="ababac", stops=["abac", "b" * 5], cuts={3})
@example(text="xab", stops=["ab", "xab", "b"], cuts={1, 2})
def test_p16_for_every_chunking_the_output_is_the_text_before_the_earliest_stop(
    text: str, stops: list[str], cuts: set[int]
) -> None:
    matcher = StopMatcher(stops)
    expected = cut_before_the_earliest_stop(text, stops)
    passed, seen = "", ""
    for piece in pieces_of(text, cuts):
        passed += matcher.feed(piece)
        seen += piece
        stops_so_far = cut_before_the_earliest_stop(seen, stops)
        assert matcher.has_stopped == (stops_so_far is not None)
        if stops_so_far is None:
            # What was passed can never turn out to be part of a stop text.
            assert not any(
                seen[at:].startswith(stop) or stop.startswith(seen[at:]) for stop in stops for at in range(len(passed))
            )
    passed += matcher.flush()
    assert passed == (text if expected is None else expected)


@given(text=_TEXTS, stops=_STOPS, cuts=st.sets(st.integers(0, 23)))
def test_text_is_held_back_only_while_it_may_begin_a_stop(text: str, stops: list[str], cuts: set[int]) -> None:
    matcher = StopMatcher(stops)
    passed, seen = "", ""
    for piece in pieces_of(text, cuts):
        passed += matcher.feed(piece)
        seen += piece
        if matcher.has_stopped:
            return
        held = seen[len(passed) :]
        assert held == "" or any(stop.startswith(held) for stop in stops)


def test_a_shorter_stop_within_a_longer_one_stops_as_soon_as_it_is_complete() -> None:
    whole, bytewise = StopMatcher(["abc", "b"]), StopMatcher(["abc", "b"])
    assert whole.feed("xabc") == "xa"
    assert "".join(bytewise.feed(letter) for letter in "xabc") == "xa"


def test_a_partial_match_is_given_out_when_the_text_ends() -> None:
    matcher = StopMatcher(["END"])
    assert matcher.feed("this is the EN") == "this is the "
    assert matcher.flush() == "EN"
    assert matcher.flush() == ""


def test_nothing_is_passed_after_a_stop() -> None:
    matcher = StopMatcher(["."])
    assert matcher.feed("one. two") == "one"
    assert matcher.feed(" three") == ""
    assert matcher.flush() == ""


def test_p16_long_stop_texts_that_nearly_match_cost_no_more_than_the_text() -> None:
    # Comparing each end of what is held with each stop text would take hours here.
    stops = ["a" * (200_000 + number) for number in range(16)]
    matcher = StopMatcher(stops)
    for _ in range(20_000):
        assert matcher.feed("a") == ""
    assert matcher.feed("b") == "a" * 20_000 + "b"
    assert not matcher.has_stopped
