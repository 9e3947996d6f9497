"""What an application is given of a request's body, and when it may answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from actors.rest import serving
from actors.rest.serving import Exchange

LIMIT = 100
ANSWER = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
REST = {"type": "http.response.body", "body": b""}


def connection(*messages: dict[str, Any]) -> Callable[[], Awaitable[Any]]:
    """What comes from the client; then nothing more."""
    waiting = list(messages)

    async def receive() -> Any:
        await trio.lowlevel.checkpoint()
        if not waiting:
            await trio.sleep_forever()
        return waiting.pop(0)

    return receive


def part(length: int, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": b"a" * length, "more_body": more}


async def send_nothing(message: Any) -> None:
    raise AssertionError(f"nothing is to be sent: {message}")


async def test_a_body_within_the_limit_comes_as_it_was_sent() -> None:
    sent = [part(60, more=True), part(40, more=False), {"type": "http.disconnect"}]
    exchange = Exchange(connection(*sent), send_nothing, LIMIT)
    assert [await exchange.receive() for _ in sent] == sent


async def test_an_application_is_given_no_more_of_a_body_than_it_needs_to_refuse_it() -> None:
    """What it is given it keeps: an endless body would fill the memory until its deadline."""
    endless = [part(60, more=True) for _ in range(1000)]
    exchange = Exchange(connection(*endless, part(60, more=False), {"type": "http.disconnect"}), send_nothing, LIMIT)
    assert await exchange.receive() == part(60, more=True)
    assert await exchange.receive() == part(60, more=False)
    assert await exchange.receive() == {"type": "http.disconnect"}


async def test_the_answer_to_a_body_over_the_limit_does_not_wait_for_its_end(autojump_clock: trio.abc.Clock) -> None:
    answered: list[float] = []

    async def send(message: Any) -> None:
        answered.append(trio.current_time())

    exchange = Exchange(connection(part(LIMIT + 1, more=True)), send, LIMIT)
    began = trio.current_time()
    assert await exchange.receive() == part(LIMIT + 1, more=False)
    await exchange.send(ANSWER)
    assert answered == [pytest.approx(began)]


async def test_the_answer_to_a_body_within_the_limit_waits_for_its_end(autojump_clock: trio.abc.Clock) -> None:
    """So that the connection can be kept for the next request."""
    answered: list[float] = []

    async def send(message: Any) -> None:
        answered.append(trio.current_time())

    parts, take = trio.open_memory_channel[Any](0)
    exchange = Exchange(take.receive, send, LIMIT)
    began = trio.current_time()

    async def read_on() -> None:
        while (await exchange.receive())["type"] != "http.disconnect":
            pass

    async def come() -> None:
        for _ in range(4):
            await trio.sleep(0.5)
            await parts.send(part(20, more=True))
        await parts.send(part(20, more=False))
        await parts.send({"type": "http.disconnect"})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_on)
        nursery.start_soon(come)
        await exchange.send(ANSWER)
    assert answered == [pytest.approx(began + 2)]


async def test_an_answer_that_ends_its_connection_does_not_wait(autojump_clock: trio.abc.Clock) -> None:
    answered: list[float] = []

    async def send(message: Any) -> None:
        answered.append(trio.current_time())

    exchange = Exchange(connection(part(10, more=True)), send, LIMIT)
    began = trio.current_time()
    await exchange.send({**ANSWER, "headers": [(b"Connection", b"close")]})
    await exchange.send(REST)
    assert answered == [pytest.approx(began)] * 2


async def test_the_answer_to_a_body_that_never_ends_waits_for_its_deadline(autojump_clock: trio.abc.Clock) -> None:
    answered: list[float] = []

    async def send(message: Any) -> None:
        answered.append(trio.current_time())

    exchange = Exchange(connection(part(LIMIT, more=True)), send, LIMIT)
    began = trio.current_time()
    assert await exchange.receive() == part(LIMIT, more=True)
    await exchange.send(ANSWER)
    await exchange.send(REST)
    # Once: not again for each part of the response.
    assert answered == [pytest.approx(began + serving.UNREAD_BODY_SECONDS)] * 2
