"""Fractional index: keys that order a column. They are strings compared byte by byte, with room between any two.

A key is eight digits of base 62, incremented from the middle of their range for each task appended, and a fraction
for tasks inserted between two others. A fraction grows by one digit for about six insertions at one place. When it
reaches the maximum length, the keys around it are rebalanced (`keys_between`), which does not change the order.

After D. Greenspan, "Implementing fractional indexing" (2020), with integers of a fixed width.
"""

from __future__ import annotations

__all__ = ["LONGEST", "SHORT", "key_between", "keys_between"]

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BASE = len(DIGITS)
WIDTH = 8
MIDDLE = BASE**WIDTH // 2
LONGEST = 48
"""Maximum length of a stored key."""
SHORT = 24
"""Maximum length of a key after rebalancing."""


def key_between(low: str | None, high: str | None) -> str:
    """Return a key above ``low`` and below ``high``; None is the end of the column. ``low`` must be below ``high``."""
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
    """Return ``count`` keys between two, in order and as evenly spaced as possible."""
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
    """Digits of a fraction above ``low`` and below ``high`` (None is 1), never ending with 0."""
    digits: list[str] = []
    while True:
        place = len(digits)
        under = DIGITS.index(low[place]) if place < len(low) else 0
        over = BASE if high is None else DIGITS.index(high[place])
        if over - under > 1:
            return "".join(digits) + DIGITS[(under + over) // 2]
        digits.append(DIGITS[under])
        if over != under:
            # Already below `high`, so the remaining digits are unbounded.
            high = None
