"""Keys that order a column: strings compared byte by byte, between any two of which there is always another.

A key is eight digits of base 62, counted up from the middle of their range for each task put last, and a fraction for
those put between two. A fraction grows by one digit for about six insertions at one place; when it is as long as a key
may be, the keys around that place are dealt out anew (`keys_between`), which changes no order.

After D. Greenspan, "Implementing fractional indexing" (2020), with integers of a fixed width.
"""

from __future__ import annotations

__all__ = ["LONGEST", "SHORT", "key_between", "keys_between"]

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BASE = len(DIGITS)
WIDTH = 8
MIDDLE = BASE**WIDTH // 2
LONGEST = 48
"""Characters of the longest key that is kept."""
SHORT = 24
"""What keys that are dealt out anew shall not exceed."""


def key_between(low: str | None, high: str | None) -> str:
    """A key above ``low`` and below ``high``; None is the end of the column. ``low`` must be below ``high``."""
    if low is None and high is None:
        return _integer_key(MIDDLE)
    if low is None:
        assert high is not None
        return _integer_key(_integer(high) - 1)
    if high is None:
        return _integer_key(_integer(low) + 1)
    assert low < high, "a key between two needs them in order"
    first, last = _integer(low), _integer(high)
    if last - first > 1:
        return _integer_key((first + last) // 2)
    # With the next integer as the bound, any fraction above that of `low` will do.
    return low[:WIDTH] + _fraction_between(low[WIDTH:], high[WIDTH:] if first == last else None)


def keys_between(low: str | None, high: str | None, count: int) -> list[str]:
    """``count`` keys between two, in order and as far apart as they can be."""
    if count == 0:
        return []
    if high is None:
        keys: list[str] = []
        for _ in range(count):
            keys.append(key_between(keys[-1] if keys else low, None))
        return keys
    if low is None:
        first = _integer(high) - count
        return [_integer_key(first + one) for one in range(count)]
    middle = key_between(low, high)
    left = count // 2
    return [*keys_between(low, middle, left), middle, *keys_between(middle, high, count - left - 1)]


def _integer(key: str) -> int:
    value = 0
    for digit in key[:WIDTH]:
        value = value * BASE + DIGITS.index(digit)
    return value


def _integer_key(value: int) -> str:
    digits = []
    for _ in range(WIDTH):
        value, digit = divmod(value, BASE)
        digits.append(DIGITS[digit])
    return "".join(reversed(digits))


def _fraction_between(low: str, high: str | None) -> str:
    """Digits behind the point, above ``low`` and below ``high`` (None is 1); never ending with 0."""
    digits: list[str] = []
    while True:
        place = len(digits)
        under = DIGITS.index(low[place]) if place < len(low) else 0
        over = BASE if high is None else DIGITS.index(high[place])
        if over - under > 1:
            return "".join(digits) + DIGITS[(under + over) // 2]
        digits.append(DIGITS[under])
        if over != under:
            # Already below `high`, so nothing bounds the rest from above.
            high = None
