"""Penalises senders of malformed input: one that sent much of it recently waits before more is read. No I/O.

A malformed body holds the event loop in proportion to its size, and a client that sends one after another would monopolise
it. So each such body is charged to its sender by size, and charges decay with time.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, frozen

__all__ = ["NonsenseLedger", "Sender"]

BURST = 400.0
"""Outstanding charge above which a sender must wait."""
FADE_PER_SECOND = 20.0
ADDRESS_SHARE = 8.0
"""Multiple of `BURST` that an address may have outstanding over all its client ids."""
UNREADABLE = 10.0
"""Charge for a body that cannot be decoded, regardless of size."""
WRONG = 0.5
"""Charge for a body that is decoded and refused."""
BYTES_A_CHARGE = 4096
MAXIMUM_SENDERS = 4096
"""Senders remembered; the one charged longest ago is evicted first."""


@frozen
class Sender:
    """A sender, as identified before its body is read."""

    address: str
    domain: str
    """Security domain of its token; empty on a server without tokens."""
    client_id: str


@define
class _Account:
    charges: float
    at: float

    def charges_at(self, now: float) -> float:
        return max(0.0, self.charges - FADE_PER_SECOND * (now - self.at))


class NonsenseLedger:
    """Recent charges by sender."""

    def __init__(self) -> None:
        self._accounts: OrderedDict[Sender | str, _Account] = OrderedDict()
        # Who has sent something that was taken: not to be mistaken for a name that its address made up.
        self._known: OrderedDict[Sender, None] = OrderedDict()

    def wait_seconds(self, sender: Sender, now: float) -> float | None:
        """Return how long the sender must wait, or None if its body may be read."""
        waits = [self._over(sender, BURST, now)]
        if sender not in self._known:
            waits.append(self._over(sender.address, BURST * ADDRESS_SHARE, now))
        over = max(waits)
        return over / FADE_PER_SECOND if over > 0 else None

    def charge(self, sender: Sender, size: int, now: float, *, is_readable: bool) -> None:
        """Charge a refused body of ``size`` bytes."""
        price = (WRONG if is_readable else UNREADABLE) + size // BYTES_A_CHARGE
        for account in (sender, sender.address):
            found = self._accounts.pop(account, None)
            before = 0.0 if found is None else found.charges_at(now)
            self._accounts[account] = _Account(before + price, now)
        while len(self._accounts) > MAXIMUM_SENDERS:
            self._accounts.popitem(last=False)

    def took(self, sender: Sender) -> None:
        """Note that a body of this sender was accepted."""
        self._known[sender] = None
        self._known.move_to_end(sender)
        if len(self._known) > MAXIMUM_SENDERS:
            self._known.popitem(last=False)

    def _over(self, account: Sender | str, allowed: float, now: float) -> float:
        found = self._accounts.get(account)
        return 0.0 if found is None else found.charges_at(now) - allowed
