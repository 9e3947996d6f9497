"""Heads and bodies of requests as nobody's library writes them: each has its answer, and its connection the right end."""

from __future__ import annotations

import json
from pathlib import Path

import h11
import pytest
import trio
from trio.testing import MockClock

from actors.rest import http_connection, open_connections
from actors.rest.asgi_connection import FrameworkConnection
from actors.rest.http_protocol import StrictConnection
from protocol.commands import MAXIMUM_FRAME_BYTES
from tests.rest.test_slow_clients import connect, read_to_end
from tests.server_fixture import RunningServer, eventually, running_server

pytestmark = pytest.mark.integration

LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = b'{"type":"poem","content":"x"}'
"""Refused by its field, so that it is known to have been read whole."""


def request(*headers: bytes, first: bytes = b"GET /health/live HTTP/1.1", body: bytes = b"") -> bytes:
    """A request; `Host` is there unless a header says another."""
    host = () if any(one.lower().startswith(b"host") for one in headers) else (b"Host: localhost",)
    return b"\r\n".join([first, *host, *headers, b"", b""]) + body


def post(*headers: bytes, body: bytes = BODY, version: bytes = b"1.1") -> bytes:
    """A post to a route that judges its body."""
    return request(*headers, first=b"POST /ai/process HTTP/" + version, body=body)


def sized(body: bytes = BODY) -> bytes:
    """The header for a body's size."""
    return b"Content-Length: %d" % len(body)


CHUNKED = b"Transfer-Encoding: chunked"
IN_CHUNKS = b"5\r\n" + BODY[:5] + b"\r\n%x\r\n" % (len(BODY) - 5) + BODY[5:] + b"\r\n0\r\n\r\n"

CASES: dict[str, tuple[bytes, list[int], bool]] = {
    # What is sent, the statuses of all answers, and whether the connection stays open for another request.
    "plain": (LIVE, [200], True),
    "pipelined": (LIVE * 3, [200, 200, 200], True),
    "pipelined behind a refusal": (post(sized()) + LIVE, [422, 200], True),
    "an empty line before": (b"\r\n" + LIVE, [200], True),
    "an empty line after a body": (post(sized()) + b"\r\n" + LIVE, [422, 200], True),
    "HEAD": (request(first=b"HEAD /health/live HTTP/1.1"), [200], True),
    "HTTP/1.0": (request(first=b"GET /health/live HTTP/1.0"), [200], False),
    "to be closed": (request(b"Connection: close"), [200], False),
    "chunks": (post(CHUNKED, body=IN_CHUNKS), [422], True),
    "chunk with an extension": (post(CHUNKED, body=b"1d;x=y\r\n" + BODY + b"\r\n0\r\n\r\n"), [422], True),
    "trailers": (post(CHUNKED, body=IN_CHUNKS[:-2] + b"X-Checksum: 1\r\nContent-Length: 4\r\n\r\n"), [422], True),
    "100-continue": (post(b"Expect: 100-continue", sized()), [100, 422], True),
    "OPTIONS *": (request(first=b"OPTIONS * HTTP/1.1"), [204], True),
    "h2c": (request(b"Connection: Upgrade", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"), [200], True),
    # Which request ends where must be said once.
    "Content-Length and chunks": (post(b"Content-Length: 4", CHUNKED, body=IN_CHUNKS) + LIVE, [400], False),
    "chunks and Content-Length": (post(CHUNKED, b"Content-Length: 4", body=IN_CHUNKS) + LIVE, [400], False),
    "two Content-Length": (post(sized(), b"Content-Length: 4") + LIVE, [400], False),
    "twice the same Content-Length": (post(sized(), sized()) + LIVE, [400], False),
    "a list of Content-Length": (post(sized() + b", %d" % len(BODY)) + LIVE, [400], False),
    "Content-Length with a sign": (post(b"Content-Length: +29") + LIVE, [400], False),
    "Content-Length in hexadecimal": (post(b"Content-Length: 0x1d") + LIVE, [400], False),
    "Content-Length with an underscore": (post(b"Content-Length: 2_9") + LIVE, [400], False),
    "no Content-Length in it": (post(b"Content-Length:") + LIVE, [400], False),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked") + LIVE, [501], False),
    "identity": (post(b"Transfer-Encoding: identity") + LIVE, [501], False),
    "chunked twice": (post(b"Transfer-Encoding: chunked, chunked", body=IN_CHUNKS) + LIVE, [501], False),
    "two lines of chunked": (post(CHUNKED, CHUNKED, body=IN_CHUNKS) + LIVE, [400], False),
    "vertical tab before chunked": (post(b"Transfer-Encoding: \x0bchunked", body=IN_CHUNKS) + LIVE, [400], False),
    "chunks in HTTP/1.0": (post(CHUNKED, body=IN_CHUNKS, version=b"1.0") + LIVE, [400], False),
    "no size of a chunk": (post(CHUNKED, body=b"\r\n" + BODY + b"\r\n0\r\n\r\n") + LIVE, [400], False),
    "a chunk's size with a sign": (post(CHUNKED, body=b"+1d\r\n" + BODY + b"\r\n0\r\n\r\n") + LIVE, [400], False),
    "a chunk's size with 0x": (post(CHUNKED, body=b"0x1d\r\n" + BODY + b"\r\n0\r\n\r\n") + LIVE, [400], False),
    "a chunk that is longer": (post(CHUNKED, body=b"2\r\n" + BODY + b"\r\n0\r\n\r\n") + LIVE, [400], False),
    "a chunk's size with LF alone": (post(CHUNKED, body=b"1d\n" + BODY + b"\r\n0\r\n\r\n") + LIVE, [400], False),
    "a huge size of a chunk": (post(CHUNKED, body=b"f" * 21 + b"\r\n" + BODY) + LIVE, [400], False),
    # Told at once: one who waits for what was promised answers 408 after twenty seconds.
    "17 digits of a chunk's size": (post(CHUNKED, body=b"f" * 17 + b"\r\n" + BODY), [400], False),
    "a chunk over the bound": (post(CHUNKED, body=b"%x\r\n" % (MAXIMUM_FRAME_BYTES + 1) + BODY), [413], False),
    # How a head is written.
    "LF alone": (LIVE.replace(b"\r\n", b"\n"), [400], False),
    "one LF alone": (LIVE.replace(b"localhost\r\n", b"localhost\n"), [400], False),
    "CR alone": (request(b"X-Y: a\rb"), [400], False),
    "CR for a line break": (LIVE[:-4] + b"\rX: y\r\n\r\n", [400], False),
    "a folded line": (request(b"X-Y: a", b" b"), [400], False),
    "a folded first line": (b"GET /health/live HTTP/1.1\r\n Host: localhost\r\n\r\n", [400], False),
    "a blank before the colon": (request(b"X-Y : a"), [400], False),
    "a blank before the colon of a length": (post(b"Content-Length : 29") + LIVE, [400], False),
    "no colon": (request(b"X-Y"), [400], False),
    "no name": (request(b": a"), [400], False),
    "NUL in a value": (request(b"X-Y: a\x00b"), [400], False),
    "a name in Latin-1": (request(b"X-\xe9: a"), [400], False),
    "no Host": (b"GET /health/live HTTP/1.1\r\n\r\n", [400], False),
    "two Hosts": (request(b"Host: localhost", b"Host: localhost"), [400], False),
    "101 headers": (request(*[b"X-%d: y" % one for one in range(101)]), [431], False),
    "a long address": (request(first=b"GET /" + b"a" * 9000 + b" HTTP/1.1"), [414], False),
    "a long address that does not end": (b"GET /" + b"a" * 20_000, [414], False),
    "a long head": (request(b"X: " + b"a" * 20_000), [431], False),
    "HTTP/2.0": (request(first=b"GET /health/live HTTP/2.0"), [505], False),
    "HTTP/0.9": (b"GET /health/live\r\n\r\n", [400], False),
    # What is read once is given once.
    **{
        f"two {name.decode()}": (request(name + b": a", name.lower() + b": b"), [400], False)
        for name in (b"Authorization", b"Origin", b"X-Client-Id", b"Idempotency-Key", b"Content-Type", b"X-Request-Id")
    },
    # Methods and targets.
    "get": (request(first=b"get /health/live HTTP/1.1"), [405], False),
    "Post": (request(sized(), first=b"Post /ai/process HTTP/1.1", body=BODY), [405], False),
    "a method that nobody knows": (request(first=b"BREW /health/live HTTP/1.1"), [405], True),
    "CONNECT": (request(b"Host: localhost:443", first=b"CONNECT localhost:443 HTTP/1.1"), [405], False),
    "TRACE": (request(first=b"TRACE /health/live HTTP/1.1"), [405], True),
    "GET *": (request(first=b"GET * HTTP/1.1"), [400], False),
    "another's target": (request(first=b"GET http://elsewhere/health/live HTTP/1.1"), [400], False),
    # What is asked beside.
    "another expectation": (post(b"Expect: the unexpected", sized()), [417], False),
    "too much, before it is sent": (
        post(b"Expect: 100-continue", b"Content-Length: %d" % 10**9, body=b""),
        [413],
        False,
    ),
    "WebSocket": (request(b"Connection: Upgrade", b"Upgrade: websocket"), [400], False),
    "a whole handshake": (
        request(
            b"Connection: keep-alive, Upgrade",
            b"Upgrade: WebSocket",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ),
        [400],
        False,
    ),
    "no WebSocket where they begin": (request(first=b"GET /ws HTTP/1.1"), [426], False),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 50, [400], False),
}


async def statuses(stream: trio.SocketStream, methods: list[bytes], count: int, has_ended: bool) -> list[int]:
    """Statuses of what comes, interim ones too, as h11 reads them: ``count`` of them, or all until the end."""
    found: list[int] = []
    received = b""
    while methods:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=methods.pop(0), target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        if received:
            client.receive_data(received)
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response | h11.InformationalResponse):
                found.append(event.status_code)
                if event.status_code >= 400 and event.status_code not in (405, 422):
                    assert dict(event.headers)[b"content-type"] == b"application/problem+json"
                if event.status_code >= 200:
                    assert dict(event.headers)[b"x-request-id"]
            elif isinstance(event, h11.EndOfMessage):
                received = client.trailing_data[0]
                break
            elif isinstance(event, h11.ConnectionClosed):
                return found
            elif event is h11.NEED_DATA:
                if not has_ended and len(found) >= count and client.their_state is h11.IDLE:
                    return found
                client.receive_data(await stream.receive_some())
    return found


async def test_each_head_has_its_answer_and_its_connection_the_right_end(engineless_server: RunningServer) -> None:
    async def try_one(name: str) -> None:
        sent, wanted, stays_open = CASES[name]
        method = b"HEAD" if name == "HEAD" else b"GET"
        with trio.fail_after(60):
            async with await connect(engineless_server) as stream:
                await stream.send_all(sent)
                answers = [one for one in wanted if one >= 200]
                found = await statuses(stream, [method] * len(answers), len(wanted), not stays_open)
                if stays_open:
                    await stream.send_all(LIVE)
                    found += await statuses(stream, [b"GET"], 1, False)
                    wanted = [*wanted, 200]
                else:
                    assert await read_to_end(stream) == b"", f"{name}: more came"
        results[name] = found
        expected[name] = wanted

    results: dict[str, list[int]] = {}
    expected: dict[str, list[int]] = {}
    for name in CASES:
        await try_one(name)
    assert results == expected


CHUNKS: dict[str, tuple[bytes, int | None]] = {
    # What comes of a body, and the status of its refusal; None where more is waited for, or nothing is wrong.
    "17 digits": (b"f" * 17 + b"\r\n", 400),
    "17 digits of a small number": (b"0" * 16 + b"1\r\n{\r\n0\r\n\r\n", 400),
    "17 digits without an end": (b"f" * 17, 400),
    "17 digits of the second chunk": (b"1\r\n{\r\n" + b"0" * 17, 400),
    "17 digits of the last chunk": (b"1\r\n{\r\n" + b"0" * 17 + b"\r\n\r\n", 400),
    "16 digits": (b"f" * 16 + b"\r\n", 413),
    "16 digits that may go on": (b"f" * 16, None),
    "16 digits of a small number": (b"0" * 15 + b"1\r\n{\r\n0\r\n\r\n", None),
    "over the bound": (b"%x\r\n" % (MAXIMUM_FRAME_BYTES + 1), 413),
    "over the bound with an extension that has no end": (b"ffffffff;x=", 413),
    "at the bound": (b"%x\r\n" % MAXIMUM_FRAME_BYTES, None),
    "an extension": (b"1;x=y\r\n{\r\n0\r\n\r\n", None),
    "an extension without an end": (b"1;x=" + b"y" * 2000, 400),
    "extensions in all but the bound": (b"1;x=" + b"y" * 900 + b"\r\n{\r\n0\r\n\r\n", None),
    "more extensions than anybody needs": ((b"1;x=" + b"y" * 1000 + b"\r\n{\r\n") * 17, 400),
    "no number": (b"x\r\n", 400),
}


@pytest.mark.parametrize("name", CHUNKS)
@pytest.mark.parametrize("size", [1, 65_536], ids=["byte by byte", "at once"])
def test_ht43_a_chunk_is_judged_by_its_line_and_not_waited_for(name: str, size: int) -> None:
    sent, status = CHUNKS[name]
    connection = StrictConnection(h11.SERVER)
    text = post(CHUNKED, body=sent)
    refused = None
    for start in range(0, len(text), size):
        connection.receive_data(text[start : start + size])
        try:
            while connection.next_event() not in (h11.NEED_DATA, h11.PAUSED):
                pass
        except h11.RemoteProtocolError as refusal:
            refused = refusal.error_status_hint
            break
    assert refused == status
    assert (connection.their_state is h11.ERROR) == (status is not None)


async def test_a_refusal_says_which_header_is_at_fault(engineless_server: RunningServer) -> None:
    for sent, field in (
        (request(b"Authorization: a", b"Authorization: b"), "Authorization"),
        (request(b"origin: http://localhost", b"ORIGIN: http://localhost"), "Origin"),
        (post(b"Content-Length: 4", CHUNKED, body=b""), "Content-Length"),
        (post(b"Content-Length: %d" % (MAXIMUM_FRAME_BYTES + 1), body=b""), "body"),
        (request(b"Connection: Upgrade", b"Upgrade: websocket"), "Upgrade"),
    ):
        async with await connect(engineless_server) as stream:
            await stream.send_all(sent)
            with trio.fail_after(60):
                head, _, body = (await read_to_end(stream)).partition(b"\r\n\r\n")
        assert b"connection: close" in head.lower()
        assert json.loads(body)["field"] == field


async def test_refused_upgrades_leave_no_connection_behind(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that never close held one each, until nobody else could come."""
    monkeypatch.setattr(open_connections, "CONNECTIONS", 8)
    streams = []
    try:
        for _ in range(20):
            streams.append(await connect(engineless_server))
            await streams[-1].send_all(request(b"Connection: Upgrade", b"Upgrade: websocket"))
            with trio.fail_after(60):
                assert (await streams[-1].receive_some()).startswith(b"HTTP/1.1 400 ")
        async with engineless_server.http() as http:
            assert (await http.get("/health/live")).status_code == 200
    finally:
        for stream in streams:
            await stream.aclose()


async def test_one_address_cannot_take_all_connections(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_connections, "ADDRESS_CONNECTIONS", 3)
    port = int(engineless_server.about.rest_url.rsplit(":", 1)[1])
    another = await trio.open_tcp_stream("127.0.0.1", port, local_address="127.0.0.2")
    async with another:
        streams = [await connect(engineless_server) for _ in range(5)]
        try:
            with trio.fail_after(60):
                # The first two made room for the last two; the other address lost none.
                assert [await read_to_end(one) for one in streams[:2]] == [b"", b""]
                for stream in (another, *streams[2:]):
                    await stream.send_all(LIVE)
                    assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        finally:
            for stream in streams:
                await stream.aclose()


async def test_a_client_that_ended_its_half_is_answered(tmp_path: Path) -> None:
    body = b'{"type":"message","content":"count to 5"}'
    async with running_server(tmp_path) as server, await connect(server) as stream:
        await stream.send_all(post(sized(body), body=body) + LIVE)
        await stream.send_eof()
        with trio.fail_after(60):
            received = await read_to_end(stream)
    assert received.count(b"HTTP/1.1 200 ") == 2
    assert b'"content":"1 2 3 4 5"' in received


async def test_a_client_that_ended_its_half_may_wait_and_one_that_has_gone_is_let_go(
    mock_clock: MockClock, engineless_server: RunningServer
) -> None:
    async def waiting() -> int:
        return int((await engineless_server.snapshot("inference/inference"))["waiting"])

    async def jump(seconds: float) -> None:
        mock_clock.jump(seconds)
        await trio.testing.wait_all_tasks_blocked(0.01)

    body = b'{"type":"message","content":"x"}'
    async with await connect(engineless_server) as stream:
        await stream.send_all(post(sized(body), body=body))
        await stream.send_eof()
        await eventually(waiting)
        for _ in range(4):
            await jump(http_connection.PROBE_SECONDS)
            await jump(http_connection.PROBE_ANSWER_SECONDS)
        assert await waiting() == 1
        # A word that every client knows to skip.
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")

    async def has_been_let_go() -> bool:
        await jump(http_connection.PROBE_SECONDS)
        return await waiting() == 0

    await eventually(has_been_let_go)


async def test_an_application_that_fails_altogether_is_a_problem_too(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("no handler of errors is in reach")

    monkeypatch.setattr(FrameworkConnection, "handle_request", fail)
    async with engineless_server.http() as http:
        answer = await http.get("/health/live")
        assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
        assert answer.headers["connection"] == "close"
        assert answer.json()["code"] == "internal"
        assert "reach" not in answer.text
        assert (await http.head("/health/live")).status_code == 500
        assert (await http.get("/v1/models")).json()["error"]["type"] == "server_error"
