"""Two actors on the bare runtime: python examples/two_actors.py

A counter keeps numbers and crashes on a bad one; its supervisor starts it again. A teller asks it, and learns of the crash.
"""

import trio
from attrs import frozen

from runtime import Actor, ActorRef, ActorSystem, ChildSpec, Down, Request, SupervisorSpec


@frozen
class Add:
    """Told: an exception in its handler crashes the actor."""

    amount: int


@frozen
class Total(Request[int]):
    """Asked: an exception in its handler is the caller's answer."""


class Counter(Actor[Add | Total]):
    """Adds. Each incarnation begins at zero."""

    def __init__(self) -> None:
        self.total = 0

    async def handle(self, message: Add | Total) -> int | None:
        """Add, or return the total."""
        if isinstance(message, Add):
            if message.amount < 0:
                raise ValueError("a counter only grows")
            self.total += message.amount
            return None
        return self.total


class Teller(Actor[Add]):
    """Passes amounts on and prints the total; monitors the counter."""

    def __init__(self, counter: "ActorRef[Add | Total]") -> None:
        self.counter = counter

    async def started(self) -> None:
        """Be notified when the counter's present incarnation ends."""
        self.context.monitor(self.counter)

    async def handle(self, message: Add) -> None:
        """Pass it on, then ask."""
        await self.counter.tell(message)
        if message.amount >= 0:
            print("total", await self.counter.ask(Total(), timeout=1), "in incarnation", self.counter.incarnation)

    async def down(self, down: Down) -> None:
        """The counter ended."""
        print(f"{down.path} went down: {down.reason.value}")


async def main() -> None:
    """Run the tree, provoke a crash, stop in order."""
    system = ActorSystem()
    counter = system.reference("counter")
    teller = system.reference("teller")
    tree = SupervisorSpec(
        children=[
            ChildSpec(id="counter", start=Counter),
            ChildSpec(id="teller", start=lambda: Teller(counter)),
        ]
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(system.run, tree)
        for amount in (2, 3, -1):
            await teller.tell(Add(amount))
        # A restart has no event of its own outside the tree, so it is looked for.
        while counter.incarnation != 2:
            await trio.sleep(0.01)
        await teller.tell(Add(7))
        # In order: the teller first, once it has handled what waits for it, then the counter.
        system.request_stop("done")


trio.run(main)
