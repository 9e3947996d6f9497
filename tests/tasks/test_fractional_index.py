"""Keys of positions: always one between two, never longer than they must be, in byte order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.tasks.fractional_index import BASE, LONGEST, SHORT, WIDTH, key_between, keys_between


@given(st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), min_size=1, max_size=120))
def test_a_key_put_anywhere_is_where_it_was_put(places: list[tuple[int, bool]]) -> None:
    keys: list[str] = []
    for place, is_last in places:
        index = len(keys) if is_last else place % (len(keys) + 1)
        low = keys[index - 1] if index else None
        high = keys[index] if index < len(keys) else None
        key = key_between(low, high)
        assert not key[WIDTH:].endswith("0")
        keys.insert(index, key)
    assert keys == sorted(set(keys), key=str.encode)


def test_keys_at_the_ends_do_not_grow() -> None:
    first = last = key_between(None, None)
    for _ in range(5000):
        first, last = key_between(None, first), key_between(last, None)
        assert len(first) == len(last) == WIDTH


@pytest.mark.parametrize("is_above", [True, False])
def test_a_key_grows_by_a_digit_for_about_six_insertions_at_one_place(is_above: bool) -> None:
    low, high = key_between(None, None), key_between(key_between(None, None), None)
    for count in range(200):
        middle = key_between(low, high)
        assert len(middle) <= WIDTH + 1 + count // 5
        low, high = (middle, high) if is_above else (low, middle)


@given(st.integers(0, 300), st.sampled_from(["none", "low", "high", "both", "tight"]))
def test_keys_dealt_out_are_in_order_between_their_bounds(count: int, bounds: str) -> None:
    first = key_between(None, None)
    second = key_between(first, None)
    third = key_between(first, second)
    low = first if bounds in ("low", "both", "tight") else None
    high = {"high": second, "both": second, "tight": third}.get(bounds)
    keys = keys_between(low, high, count)
    assert len(keys) == count
    together = [one for one in (low, *keys, high) if one is not None]
    assert together == sorted(set(together), key=str.encode)
    assert all(len(key) <= SHORT < LONGEST for key in keys)


def test_integers_keep_their_width() -> None:
    assert BASE**WIDTH > 10**14
    assert key_between("V0000000zz", "V0000009") == "V0000004"
