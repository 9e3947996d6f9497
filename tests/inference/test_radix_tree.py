"""The index of kept prefixes: longest match, sharing, splitting, true LRU, an exact byte bound."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from actors.inference.worker.radix_tree import SPAN, RadixTree


def make_index(maximum_bytes: int = 1 << 30) -> RadixTree[tuple[int, ...]]:
    """Pieces are the tokens themselves, one byte each, so that what was found can be read."""
    return RadixTree(maximum_bytes, size_of=len, cut=lambda piece, start, stop: piece[start:stop])


def keep(index: RadixTree[tuple[int, ...]], tokens: list[int], domain: str = "") -> int:
    return index.insert(domain, tokens, lambda start, stop: tuple(tokens[start:stop]))


def found(
    index: RadixTree[tuple[int, ...]], tokens: list[int], limit: int | None = None, domain: str = ""
) -> list[int]:
    pieces, length = index.find(domain, tokens, len(tokens) if limit is None else limit)
    joined = [token for piece in pieces for token in piece]
    assert len(joined) == length
    return joined


def test_p13_the_longest_common_beginning_is_found_also_in_the_middle_of_a_span() -> None:
    index = make_index()
    keep(index, list(range(1000)))
    assert found(index, list(range(700)) + [9999] * 50) == list(range(700))


def test_p13_an_exact_repeat_is_found_up_to_the_limit() -> None:
    index = make_index()
    tokens = list(range(200))
    keep(index, tokens)
    assert found(index, tokens, limit=199) == tokens[:199]


def test_only_what_is_new_is_made_when_a_sequence_goes_on() -> None:
    index = make_index()
    keep(index, list(range(100)))
    assert keep(index, list(range(150))) == 50
    assert index.bytes == 150


def test_two_continuations_share_their_beginning() -> None:
    index = make_index()
    common = list(range(500))
    keep(index, [*common, 1, 2, 3])
    keep(index, [*common, 4, 5, 6])
    assert index.bytes == 506
    assert found(index, [*common, 4, 5, 6, 7]) == [*common, 4, 5, 6]
    assert found(index, [*common, 1, 2, 3, 7]) == [*common, 1, 2, 3]


def test_domains_share_nothing() -> None:
    index = make_index()
    keep(index, list(range(100)), domain="a")
    assert found(index, list(range(100)), domain="b") == []


def test_p13_the_least_recently_used_goes_first_and_a_find_counts_as_use() -> None:
    index = make_index(maximum_bytes=2 * SPAN)
    first, second, third = [1] * SPAN, [2] * SPAN, [3] * SPAN
    keep(index, first)
    keep(index, second)
    assert found(index, first) == first
    keep(index, third)
    assert found(index, first) == first
    assert found(index, second) == []


def test_ends_are_evicted_before_their_beginnings() -> None:
    index = make_index(maximum_bytes=3 * SPAN)
    keep(index, list(range(3 * SPAN)))
    keep(index, [7777] * SPAN)
    assert found(index, list(range(3 * SPAN))) == list(range(2 * SPAN))


def test_p13_lookup_compares_once_a_span_and_not_once_a_pair() -> None:
    index = make_index()
    draw = random.Random(7)
    tokens = [draw.randrange(50_000) for _ in range(32_768)]
    keep(index, tokens)
    for other in range(100):
        keep(index, [*tokens[: 256 * other], -1 - other])
    comparisons = 0

    class Counting(list[int]):
        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            nonlocal comparisons
            comparisons += 1
            return super().__getitem__(key)

    pieces, length = index.find("", Counting(tokens), len(tokens))
    assert length == len(tokens)
    # Two looks a node: which child, and whether its span is equal. Splits made at most one node more each.
    assert comparisons <= 2 * (len(tokens) // SPAN + 2 * 100 + 2)
    assert len(pieces) <= len(tokens) // SPAN + 2 * 100


@given(st.data())
def test_the_index_agrees_with_a_plain_list_of_sequences(data: st.DataObject) -> None:
    index = make_index()
    kept: list[list[int]] = []
    for _ in range(data.draw(st.integers(1, 12))):
        base = data.draw(st.sampled_from(kept)) if kept and data.draw(st.booleans()) else []
        cut = data.draw(st.integers(0, len(base)))
        tokens = base[:cut] + data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=150))
        keep(index, tokens)
        kept.append(tokens)
    wanted = data.draw(st.sampled_from(kept)) + data.draw(st.lists(st.integers(0, 3), max_size=80))
    longest = max(_common(one, wanted) for one in kept)
    assert found(index, wanted) == wanted[:longest]
    assert index.bytes == len({tuple(one[:end]) for one in kept for end in range(1, len(one) + 1)})


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=200), min_size=1, max_size=20), st.integers(1, 300))
def test_the_bound_holds_after_every_insertion(sequences: list[list[int]], bound: int) -> None:
    index = make_index(bound)
    for tokens in sequences:
        keep(index, tokens)
        assert index.bytes <= bound
        pieces, length = index.find("", tokens, len(tokens))
        assert [token for piece in pieces for token in piece] == tokens[:length]


def _common(one: list[int], other: list[int]) -> int:
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return length


def test_p05_room_is_made_piece_by_piece_so_that_no_more_than_one_is_ever_held_beyond_the_bound() -> None:
    index = make_index(1000)
    for number in range(4):
        keep(index, [number] * 250)
    held: list[int] = []

    def make(start: int, stop: int) -> tuple[int, ...]:
        held.append(index.bytes)
        return tuple(range(10_000 + start, 10_000 + stop))

    index.insert("", list(range(10_000, 15_000)), make)
    assert max(held) <= 1000
    assert 1000 - SPAN < index.bytes <= 1000
    assert found(index, list(range(10_000, 15_000))) == list(range(10_000, 10_000 + index.bytes)), "its beginning"
    assert len(held) < 20, "what would not stay is not made"


def test_p05_the_beginning_that_a_new_sequence_goes_on_from_is_not_what_makes_room_for_it() -> None:
    index = make_index(300)
    keep(index, list(range(100)))
    keep(index, list(range(1000, 1200)))
    keep(index, list(range(200)))
    assert found(index, list(range(200))) == list(range(200))
    assert index.bytes <= 300
