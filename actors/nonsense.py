"""What nonsense costs whoever sends it: who has sent much of it lately waits before more is read. Pure.

A body that cannot be read takes the event loop as long as its size allows, and a client that sends one after the other
would have it to itself. So each such body is charged to its sender by its size, and charges fade with time.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, frozen

__all__ = ["NonsenseLedger", "Sender"]

BURST = 400.0
"""Charges that may be open before a sender has to wait."""
FADE_PER_SECOND = 20.0
ADDRESS_SHARE = 8.0
"""An address may have open so many times as much, under all the names that it says."""
UNREADABLE = 10.0
"""For a body that is no JSON of ours, whatever its size."""
WRONG = 0.5
"""For one that can be read and is refused."""
BYTES_A_CHARGE = 4096
MAXIMUM_SENDERS = 4096
"""Remembered at once; the one that was charged longest ago is forgotten first."""


@frozen
class Sender:
    """Who sends, as far as that can be known before a body is read."""

    address: str
    domain: str
    """Of its token; empty on a server without."""
    client_id: str


@define
class _Account:
    charges: float
    at: float

    def charges_at(self, now: float) -> float:
        return max(0.0, self.charges - FADE_PER_SECOND * (now - self.at))


class NonsenseLedger:
    """Who has sent how much nonsense lately."""

    def __init__(self) -> None:
        self._accounts: OrderedDict[Sender | str, _Account] = OrderedDict()
        # Who has sent something that was taken: not to be mistaken for a name that its address made up.
        self._known: OrderedDict[Sender, None] = OrderedDict()

    def wait_seconds(self, sender: Sender, now: float) -> float | None:
        """How long this one has to wait; None where its body may be read."""
        waits = [self._over(sender, BURST, now)]
        if sender not in self._known:
            waits.append(self._over(sender.address, BURST * ADDRESS_SHARE, now))
        over = max(waits)
        return over / FADE_PER_SECOND if over > 0 else None

    def charge(self, sender: Sender, size: int, now: float, *, is_readable: bool) -> None:
        """A body of this size, bytes, was refused."""
        price = (WRONG if is_readable else UNREADABLE) + size // BYTES_A_CHARGE
        for account in (sender, sender.address):
            found = self._accounts.pop(account, None)
            before = 0.0 if found is None else found.charges_at(now)
            self._accounts[account] = _Account(before + price, now)
        while len(self._accounts) > MAXIMUM_SENDERS:
            self._accounts.popitem(last=False)

    def took(self, sender: Sender) -> None:
        """A body of this one was taken."""
        self._known[sender] = None
        self._known.move_to_end(sender)
        if len(self._known) > MAXIMUM_SENDERS:
            self._known.popitem(last=False)

    def _over(self, account: Sender | str, allowed: float, now: float) -> float:
        found = self._accounts.get(account)
        return 0.0 if found is None else found.charges_at(now) - allowed
