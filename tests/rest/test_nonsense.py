"""What nonsense costs: bodies are refused at the first thing that is wrong, and whoever sends many of them waits."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import structlog
import trio
from trio.testing import MockClock

from actors import nonsense
from actors.logging import LINES, WINDOW_SECONDS, LineSampler
from actors.nonsense import NonsenseLedger, Sender
from actors.rest import bodies
from protocol.json_text import MAXIMUM_VALUES, object_in_steps
from tests.rest.test_slow_clients import connect
from tests.server_fixture import RunningServer, eventually

MEBIBYTE = 1024 * 1024


def sender(client_id: str = "a", address: str = "10.0.0.1") -> Sender:
    return Sender(address, "", client_id)


# --- rules --------------------------------------------------------------------------------------------


def test_a_sender_waits_once_its_charges_are_over_what_may_be_open() -> None:
    ledger = NonsenseLedger()
    allowed = int(nonsense.BURST / nonsense.UNREADABLE)
    for _ in range(allowed):
        assert ledger.wait_seconds(sender(), 0.0) is None
        ledger.charge(sender(), 10, 0.0, is_readable=False)
    assert ledger.wait_seconds(sender(), 0.0) is None
    ledger.charge(sender(), 10, 0.0, is_readable=False)
    seconds = ledger.wait_seconds(sender(), 0.0)
    assert seconds == nonsense.UNREADABLE / nonsense.FADE_PER_SECOND
    # What it was told is true.
    assert ledger.wait_seconds(sender(), seconds) is None


def test_a_large_body_costs_as_much_as_many_small_ones_also_where_it_can_be_read() -> None:
    for is_readable in (False, True):
        ledger = NonsenseLedger()
        ledger.charge(sender(), MEBIBYTE, 0.0, is_readable=is_readable)
        ledger.charge(sender(), MEBIBYTE, 0.0, is_readable=is_readable)
        wait = ledger.wait_seconds(sender(), 0.0)
        assert wait is not None
        assert wait > 1


def test_nobody_else_waits() -> None:
    ledger = NonsenseLedger()
    for _ in range(50):
        ledger.charge(sender(), 10, 0.0, is_readable=False)
    assert ledger.wait_seconds(sender(), 0.0) is not None
    for other in (sender("b"), sender(address="10.0.0.2"), Sender("10.0.0.1", "token", "a")):
        assert ledger.wait_seconds(other, 0.0) is None


def test_names_made_up_one_after_the_other_share_what_their_address_may() -> None:
    """And those who sent something of use from there go on."""
    ledger = NonsenseLedger()
    ledger.took(sender("known"))
    for number in range(1000):
        made_up = sender(f"n{number}")
        if ledger.wait_seconds(made_up, 0.0) is not None:
            break
        ledger.charge(made_up, 10, 0.0, is_readable=False)
    assert number == nonsense.BURST * nonsense.ADDRESS_SHARE / nonsense.UNREADABLE + 1
    assert ledger.wait_seconds(sender("known"), 0.0) is None
    assert ledger.wait_seconds(sender(address="10.0.0.2"), 0.0) is None


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonsense, "MAXIMUM_SENDERS", 10)
    ledger = NonsenseLedger()
    for number in range(100):
        ledger.charge(sender(f"n{number}"), 10, 0.0, is_readable=False)
        ledger.took(sender(f"n{number}"))
    assert len(ledger._accounts) == len(ledger._known) == 10


def test_of_the_same_refusals_a_few_are_logged_and_the_rest_counted() -> None:
    now = 0.0
    sampler = LineSampler(lambda: now)

    def write(event: str) -> dict[str, Any] | None:
        try:
            return dict(sampler(None, "info", {"event": event}))
        except structlog.DropEvent:
            return None

    assert [write("entry refused") is not None for _ in range(100)] == [True] * LINES + [False] * (100 - LINES)
    assert write("connection refused") is not None
    assert all(write("engine ready") == {"event": "engine ready"} for _ in range(100))
    now += WINDOW_SECONDS
    assert write("entry refused") == {"event": "entry refused", "left_out": 100 - LINES}
    assert write("entry refused") == {"event": "entry refused"}


# --- over the wire ------------------------------------------------------------------------------------

NONSENSE = {
    "no JSON": b"{" * 100,
    "too deep": b'{"a":' * 65 + b"1" + b"}" * 65,
    "a name twice": b'{"type":"message","type":"message"}',
    "no UTF-8": b'{"content":"\xff"}',
    "too many values": b'{"a":[' + b",".join([b"1"] * (MAXIMUM_VALUES + 1)) + b"]}",
}


async def until_it_waits(
    http: httpx.AsyncClient, body: bytes, most: int, **arguments: Any
) -> tuple[int, httpx.Response]:
    """Post until it is told to wait: how many were judged before, and the answer."""
    for count in range(most + 1):
        answer = await http.post("/ai/process", content=body, **arguments)
        if answer.status_code == 429:
            return count, answer
        assert answer.status_code in (400, 413, 415), answer.text
    raise AssertionError(f"{most} were taken")


@pytest.mark.integration
@pytest.mark.parametrize("name", sorted(NONSENSE))
async def test_whoever_sends_nonsense_waits_and_others_do_not(
    mock_clock: MockClock, engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(bodies, "PAUSE_SECONDS", 0.0)
    async with engineless_server.http() as http:
        count, answer = await until_it_waits(http, NONSENSE[name], 60, headers={"X-Client-Id": "mad"})
        assert count > 5
        body = answer.json()
        assert (body["code"], body["temporary"]) == ("rate_limited", True)
        assert 1 <= int(answer.headers["retry-after"]) <= 30
        assert answer.headers["connection"] == "close"
        assert mock_clock.rate == 0
        # What has no body costs nothing, and nobody else is meant.
        assert (await http.get("/tasks/mad", headers={"X-Client-Id": "mad"})).status_code == 200
        assert (await http.post("/tasks/sane", json={"title": "x"})).status_code == 201
        assert (await http.post("/tasks/mad", json={"title": "x"})).status_code == 429


@pytest.mark.integration
async def test_who_has_waited_is_heard_again(
    mock_clock: MockClock, engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "PAUSE_SECONDS", 0.0)
    async with engineless_server.http() as http:
        _, answer = await until_it_waits(http, b"{", 60)
        assert (await http.post("/tasks/local", json={"title": "x"})).status_code == 429
        mock_clock.jump(float(answer.headers["retry-after"]))
        assert (await http.post("/tasks/local", json={"title": "x"})).status_code == 201


@pytest.mark.integration
async def test_a_body_that_is_not_read_is_not_waited_for(
    mock_clock: MockClock, engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its sender, who would ask again at once, waits for the refusal."""
    monkeypatch.setattr(bodies, "PAUSE_SECONDS", 0.0)
    async with engineless_server.http() as http:
        await until_it_waits(http, b"{", 60)
    monkeypatch.setattr(bodies, "PAUSE_SECONDS", 0.25)
    async with await connect(engineless_server) as stream:
        await stream.send_all(b"POST /ai/process HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{")
        async with trio.open_nursery() as nursery:
            received: list[bytes] = []

            async def read() -> None:
                received.append(await stream.receive_some())

            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert received == []
            mock_clock.jump(0.25)
            await eventually(lambda: received)
    assert received[0].startswith(b"HTTP/1.1 429 ")


@pytest.mark.integration
async def test_of_long_bodies_that_come_at_once_no_more_are_read_than_of_those_that_come_one_by_one(
    mock_clock: MockClock, engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each was let in before the first was found to be nonsense."""
    monkeypatch.setattr(bodies, "PAUSE_SECONDS", 0.0)
    begun = 0

    def counted(text: bytes, **how: Any) -> Any:
        def steps() -> Any:
            nonlocal begun
            begun += 1
            return (yield from object_in_steps(text, **how))

        return steps()

    monkeypatch.setattr(bodies, "object_in_steps", counted)
    body = b'{"type":"message","content":"' + b"x" * (MEBIBYTE // 2)
    statuses: list[int] = []
    async with engineless_server.http(limits=httpx.Limits(max_connections=20)) as http, trio.open_nursery() as nursery:

        async def post() -> None:
            answer = await http.post("/ai/process", content=body, headers={"X-Client-Id": "mad"})
            statuses.append(answer.status_code)

        for _ in range(20):
            nursery.start_soon(post)
    price = nonsense.UNREADABLE + len(body) // nonsense.BYTES_A_CHARGE
    assert begun == nonsense.BURST // price + 1
    assert sorted(statuses) == [400] * begun + [429] * (20 - begun)


@pytest.mark.integration
async def test_small_mistakes_cost_nothing(engineless_server: RunningServer) -> None:
    """Somebody who writes a client makes them by the dozen."""
    async with engineless_server.http() as http:
        for wrong in ({"title": ""}, {"title": "x", "colour": "red"}, []):
            for _ in range(45):
                assert (await http.post("/tasks/me", json=wrong)).status_code in (400, 422)
        for wrong in (
            {},
            {"model": "mock", "messages": []},
            {"model": "nothing", "messages": [{"role": "user", "content": "x"}]},
        ):
            for _ in range(25):
                assert (await http.post("/v1/chat/completions", json=wrong)).status_code in (400, 404)
        assert (await http.post("/tasks/me", json={"title": "x"})).status_code == 201


@pytest.mark.integration
@pytest.mark.parametrize(
    ("media_type", "is_taken"),
    [
        (None, True),
        ("application/json", True),
        ("application/json; charset=UTF-8", True),
        ("Application/JSON", True),
        ("application/x-www-form-urlencoded", True),
        ("text/plain;charset=UTF-8", True),
        ("application/merge-patch+json", True),
        ("application/json; charset=latin-1", False),
        ("application/json-patch+json", False),
        ("application/xml", False),
        ("multipart/form-data; boundary=x", False),
        ("application/octet-stream", False),
    ],
)
async def test_a_body_is_json_or_called_nothing_in_particular(
    engineless_server: RunningServer, media_type: str | None, is_taken: bool
) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    async with engineless_server.http() as http:
        made = await http.post("/tasks/me", content=b'{"title":"x"}', headers=headers)
        here = (await http.post("/tasks/me", json={"title": "x"})).headers["location"]
        changed = await http.patch(here, content=json.dumps({"title": "y"}), headers={**headers, "If-Match": '"1"'})
        assert (made.status_code, changed.status_code) == ((201, 200) if is_taken else (415, 415))
        if not is_taken:
            assert made.json()["field"] == "Content-Type"
            assert "application/merge-patch+json" in changed.headers["accept-patch"]
