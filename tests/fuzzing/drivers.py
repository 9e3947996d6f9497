"""Which inputs each fuzzer sends to which door, and what it cannot let pass in the answer."""

from __future__ import annotations

import itertools
import json
import urllib.request
from collections.abc import Iterator
from typing import Any, Protocol

import trio

from tests.connections.raw_peer import CLOSE, TEXT
from tests.fuzzing.address_inputs import PORT, AddressInputs
from tests.fuzzing.exchange import MOST_AT_ONCE, Answered, http_statuses, play
from tests.fuzzing.harness import DIRECT, Fuzzed, Report
from tests.fuzzing.inputs import Input
from tests.fuzzing.receiver import Receiver
from tests.fuzzing.rest_inputs import RestInputs
from tests.fuzzing.websocket_inputs import LAST_ID, WebSocketInputs

__all__ = [
    "SIDE_BY_SIDE",
    "fuzz_addresses",
    "fuzz_rest",
    "fuzz_websocket",
    "is_generation_over",
    "is_our_fault",
    "judge_rest",
    "judge_websocket",
    "server_frames",
]

SIDE_BY_SIDE = 6
DELIVERY_SECONDS = 60.0
"""For a message to its device, behind tries at addresses where nobody answers."""
OUR_FAULTS = ("internal", "engine_failed", "shutting_down")
"""Error codes that no client may bring about."""
INTERNAL_CLOSE = 1011
WHAT_NOBODY_SPEAKS = (501, 505)
"""Statuses from 500 that say what the client did: a coding or a version of HTTP."""
WILL_PASS = ("model_unavailable", "unavailable")
"""Codes of a 503 that says so."""


class Inputs(Protocol):
    """What makes inputs by their numbers."""

    def make(self, number: int) -> Input: ...


async def fuzz_rest(report: Report, server: Fuzzed, *, first: int = 0, count: int | None = None) -> None:
    """Requests until the time is up, or so many."""
    replace = {b"{TASK}": await trio.to_thread.run_sync(_make_task, server)}

    async def send(one: Input) -> None:
        answered = await play(one, server.host, server.rest_port, is_whole=lambda _: False, replace=replace)
        report.took(one, judge_rest(report, one, answered))

    await _send_on(RestInputs(report.seed), first, count, send)


async def fuzz_websocket(report: Report, server: Fuzzed, *, first: int = 0, count: int | None = None) -> None:
    """Connections until the time is up, or so many."""
    replace = {b"{TASK}": await trio.to_thread.run_sync(_make_task, server)}

    async def send(one: Input) -> None:
        answered = await play(one, server.host, server.websocket_port, is_whole=_has_last, replace=replace)
        report.took(one, judge_websocket(report, one, answered))

    await _send_on(WebSocketInputs(report.seed), first, count, send)


async def fuzz_addresses(
    report: Report, server: Fuzzed, receiver: Receiver, *, first: int = 0, count: int | None = None
) -> None:
    """Registrations and messages; with `push_allow_private` off nobody may connect to the receiver, which is inside."""
    replace = {PORT: str(receiver.port).encode()}
    may_connect = server.settings.get("LEANVIBE_PUSH_ALLOW_PRIVATE") == "true"
    await trio.to_thread.run_sync(_register_honest, server, receiver)

    async def send(one: Input) -> None:
        answered = await play(one, server.host, server.rest_port, is_whole=lambda _: False, replace=replace)
        report.took(one, judge_rest(report, one, answered))
        if receiver.connections and not may_connect:
            report.found("the server connected to an address of its own machine", one)
            receiver.connections = 0

    try:
        await _send_on(AddressInputs(report.seed), first, count, send)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + DELIVERY_SECONDS):
            name = "allowed" if may_connect else "refused"
            if may_connect:
                await _deliver_honestly(report, server, receiver)
            report.figures[f"received_while_{name}"] = dict(receiver.paths.most_common(5))


async def _deliver_honestly(report: Report, server: Fuzzed, receiver: Receiver) -> None:
    """After all of that, and beside what still waits, a message arrives where it should."""
    body = {"template": "message", "fields": {"title": "honest"}, "priority": "critical"}
    before = receiver.paths["/honest"]
    await trio.to_thread.run_sync(_post, server, "/notifications/honest", body)
    with trio.move_on_after(DELIVERY_SECONDS - 5):
        while receiver.paths["/honest"] == before:  # noqa: ASYNC110  the receiver has threads of its own
            await trio.sleep(0.1)
        return
    report.found(f"a message did not arrive at an honest address within {DELIVERY_SECONDS - 5:g} s")


def _register_honest(server: Fuzzed, receiver: Receiver) -> None:
    url = f"https://localhost:{receiver.port}/honest"
    _post(
        server,
        "/notifications/honest/devices",
        {"device_id": "hook", "platform": "webhook", "url": url, "secret": "s" * 16},
    )


async def _send_on(inputs: Inputs, first: int, count: int | None, send: object) -> None:
    numbers: Iterator[int] = itertools.count(first) if count is None else iter(range(first, first + count))

    async def go_on() -> None:
        for number in numbers:
            await send(inputs.make(number))  # type: ignore[operator]

    async with trio.open_nursery() as nursery:
        for _ in range(SIDE_BY_SIDE):
            nursery.start_soon(go_on)


def judge_rest(report: Report, one: Input, answered: Answered) -> str:
    """Note what must not be, and return what the outcome is called."""
    if answered.could_not_connect is not None:
        report.found(f"no connection: {answered.could_not_connect}", one)
        return "no connection"
    if answered.is_late:
        report.found("not answered before the deadline", one)
        return "late"
    statuses = http_statuses(answered.data)
    for status, body in statuses:
        if is_our_fault(status, body):
            report.found(f"answered {status}: {body[:300]!r}", one)
    if not statuses:
        if one.must_answer:
            report.found(f"the connection was ended without an answer: {answered.data[:100]!r}", one)
        return "nothing"
    return str(statuses[0][0])


def judge_websocket(report: Report, one: Input, answered: Answered) -> str:
    """The same for a WebSocket."""
    if answered.could_not_connect is not None:
        report.found(f"no connection: {answered.could_not_connect}", one)
        return "no connection"
    statuses = http_statuses(answered.data)
    if statuses and is_our_fault(*statuses[0]):
        report.found(f"the handshake was answered {statuses[0]}", one)
    outcome = "101" if answered.data.startswith(b"HTTP/1.1 101") else str(statuses[0][0]) if statuses else "nothing"
    for opcode, content in server_frames(answered.data):
        if opcode == TEXT:
            message = json.loads(content)
            code = message.get("data", {}).get("code") if message.get("type") in ("error", "failed") else None
            if code in OUR_FAULTS:
                report.found(f"answered {content[:300]!r}", one)
            if code is not None:
                outcome = f"refused, {code}"
            elif message.get("re") == LAST_ID and not outcome.startswith("refused"):
                outcome = "served"
        elif opcode == CLOSE:
            outcome = f"closed {int.from_bytes(content[:2], 'big')}"
            if content[:2] == INTERNAL_CLOSE.to_bytes(2, "big"):
                report.found(f"the connection was closed with {content!r}", one)
    if answered.is_late:
        report.found("neither answered nor closed before the deadline", one)
        return "late"
    if one.must_answer and outcome in ("101", "nothing"):
        report.found(f"the connection was ended without a word: {answered.data[-200:]!r}", one)
    return outcome


def is_generation_over(data: bytes) -> bool:
    """The command was refused, or its stream has ended."""
    if not _has_last(data):
        return False
    kinds = [json.loads(content).get("type") for opcode, content in server_frames(data) if opcode == TEXT]
    return any(kind in ("done", "failed", "cancelled", "error") for kind in kinds)


def _has_last(data: bytes) -> bool:
    # It may have come with what was behind it, which is no more than is read at once.
    return f'"re":"{LAST_ID}"'.encode() in data[-MOST_AT_ONCE - 200 :]


def server_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and content of each whole frame behind the handshake; a server's are never in parts and never masked."""
    if not data.startswith(b"HTTP/1.1 101"):
        return
    at = data.find(b"\r\n\r\n") + 4
    while at + 2 <= len(data):
        length, head = data[at + 1], 2
        if length >= 126:
            head = 4 if length == 126 else 10
            length = int.from_bytes(data[at + 2 : at + head], "big")
        if at + head + length > len(data):
            return
        yield data[at] & 0x0F, data[at + head : at + head + length]
        at += head + length


def is_our_fault(status: int, body: bytes) -> bool:
    """Whether this answer is one that no client may bring about."""
    if status < 500 or status in WHAT_NOBODY_SPEAKS:
        return False
    # Readiness says for a while that the loop was held, as it is on a machine that has too much to do.
    return status != 503 or not (body == b"" or _is_health(body) or _code_of(body) in WILL_PASS)


def _is_health(body: bytes) -> bool:
    try:
        return json.loads(body).get("status") in ("not_ready", "degraded")
    except (ValueError, AttributeError):
        return False


def _code_of(body: bytes) -> str | None:
    if b"\r\n" in body[:10]:
        body = body.partition(b"\r\n")[2].rpartition(b"}")[0] + b"}"
    try:
        said = json.loads(body)
    except ValueError:
        return None
    error = said.get("error")
    if isinstance(error, str) or (isinstance(error, dict) and error.get("type") == "overloaded_error"):
        # Ollama's and Anthropic's shapes have no code of ours; a 503 in them is what all other doors call unavailable.
        return WILL_PASS[-1]
    return str(said.get("code") or (error or {}).get("code"))


def _post(server: Fuzzed, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{server.rest_url}{path}", data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with DIRECT.open(request, timeout=30) as response:
        return dict(json.load(response))


def _make_task(server: Fuzzed) -> bytes:
    made = _post(server, "/tasks/me", {"title": "there"})
    return str(made.get("task_id") or made["id"]).encode()
