"""The opening handshake by RFC 6455 (4.2) and RFC 9112, rule by rule, with handwritten requests, over TLS too."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trustme
from attrs import frozen
from trio.testing import MockClock

from actors.connections.handshake import HEAD_BYTES, HandshakeReader, Offer, Refusal
from actors.inference.worker_config import WorkerConfig
from runtime.inspection import suspend
from runtime.testing import crash
from tests.connections.raw_peer import TEXT, frame
from tests.server_fixture import PATIENCE_SECONDS, RunningServer, eventually, running_server

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE, CONNECTION = "Upgrade: websocket", "Connection: Upgrade"
VERSION, SENT_KEY = "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}"
SOUND = (UPGRADE, CONNECTION, VERSION, SENT_KEY)
HOST = "Host: 127.0.0.1"
SUBPROTOCOL = "leanvibe.v1+json"


def without(*skipped: str) -> tuple[str, ...]:
    return tuple(one for one in SOUND if one not in skipped)


@frozen(kw_only=True)
class Case:
    """One request head, and the expected result."""

    status: int
    lines: tuple[str, ...] = SOUND
    request_line: str = "GET /ws HTTP/1.1"
    host: tuple[str, ...] = (HOST,)
    says: str = ""
    """Lower-case words of the reason."""
    headers: tuple[tuple[str, str], ...] = ()
    """Expected headers of the response."""

    def encode(self) -> bytes:
        return "\r\n".join([self.request_line, *self.host, *self.lines, "", ""]).encode("latin-1")


UPGRADE_HEADERS = (("upgrade", "websocket"), ("sec-websocket-version", "13"))

TAKEN: dict[str, Case] = {
    "as in the RFC": Case(status=101),
    "names in any case": Case(
        status=101,
        lines=("uPGRADE: websocket", "CONNECTION: Upgrade", "sec-websocket-version: 13", f"SEC-WEBSOCKET-KEY: {KEY}"),
    ),
    "tokens in any case": Case(status=101, lines=("Upgrade: WebSocket", "Connection: uPgRaDe", VERSION, SENT_KEY)),
    "blanks around values": Case(
        status=101,
        lines=("Upgrade: \t websocket \t", "Connection:Upgrade", "Sec-WebSocket-Version:13 ", f"{SENT_KEY}  "),
    ),
    "Connection as a list": Case(status=101, lines=(*without(CONNECTION), "Connection: keep-alive, Upgrade")),
    "Connection in two lines": Case(status=101, lines=(*SOUND, "Connection: keep-alive")),
    "Connection in two lines, the other way": Case(
        status=101, lines=("Connection: keep-alive", *without(CONNECTION), CONNECTION)
    ),
    "empty elements": Case(status=101, lines=(*without(CONNECTION), "Connection: ,, Upgrade ,", "Upgrade: ,")),
    "Upgrade as a list": Case(status=101, lines=(*without(UPGRADE), "Upgrade: websocket, foo/2")),
    "Upgrade in two lines": Case(status=101, lines=("Upgrade: h2c", *SOUND)),
    "Upgrade with a version": Case(status=101, lines=(*without(UPGRADE), "Upgrade: websocket/13")),
    "a whole address": Case(status=101, request_line="GET http://127.0.0.1/ws HTTP/1.1"),
    "a whole address with a port": Case(status=101, request_line="GET http://localhost:8765/ws?x=1 HTTP/1.1"),
    "a whole address counts, not Host": Case(
        status=101, request_line="GET http://localhost/ws HTTP/1.1", host=("Host: evil.example",)
    ),
    "an escaped letter of the path": Case(status=101, request_line="GET /w%73 HTTP/1.1"),
    "a query": Case(status=101, request_line="GET /ws?a=%20b&c HTTP/1.1"),
    "a later minor version": Case(status=101, request_line="GET /ws HTTP/1.2"),
    "an empty line before": Case(status=101, request_line="\r\nGET /ws HTTP/1.1"),
    "Content-Length 0": Case(status=101, lines=(*SOUND, "Content-Length: 0")),
    "headers nobody knows": Case(status=101, lines=(*SOUND, "X-Whatever: \xfc", "Cookie: a=b", "Cookie: c=d")),
    "an IPv6 Host": Case(status=101, host=("Host: [::1]:8765",)),
    "a Host in capitals": Case(status=101, host=("Host: LOCALHOST",)),
    "our subprotocol": Case(
        status=101,
        lines=(*SOUND, f"Sec-WebSocket-Protocol: {SUBPROTOCOL}"),
        headers=(("sec-websocket-protocol", SUBPROTOCOL),),
    ),
    "our subprotocol in a list": Case(
        status=101,
        lines=(*SOUND, f"Sec-WebSocket-Protocol: chat , {SUBPROTOCOL}"),
        headers=(("sec-websocket-protocol", SUBPROTOCOL),),
    ),
    "our subprotocol in a second line": Case(
        status=101,
        lines=(*SOUND, "Sec-WebSocket-Protocol: chat", f"Sec-WebSocket-Protocol: {SUBPROTOCOL}"),
        headers=(("sec-websocket-protocol", SUBPROTOCOL),),
    ),
    "extensions, which are declined": Case(
        status=101,
        lines=(
            *SOUND,
            'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x; a="b"',
            "Sec-WebSocket-Extensions: bbf-usp-protocol",
        ),
    ),
    "an origin of this machine": Case(status=101, lines=(*SOUND, "Origin: http://localhost:3000")),
    "a head just below the bound": Case(status=101, lines=(*SOUND, "X-Long: " + "x" * (HEAD_BYTES - 1024))),
}

REFUSED: dict[str, Case] = {
    # the message (RFC 9112)
    "HTTP/1.0": Case(status=505, request_line="GET /ws HTTP/1.0", says="http/1.1"),
    "HTTP/2.0": Case(status=505, request_line="GET /ws HTTP/2.0"),
    "HTTP/0.9": Case(status=400, request_line="GET /ws"),
    "no HTTP version": Case(status=400, request_line="GET /ws HTTP/11"),
    "http in small letters": Case(status=400, request_line="GET /ws http/1.1"),
    "two blanks": Case(status=400, request_line="GET  /ws HTTP/1.1"),
    "a control character in the target": Case(status=400, request_line="GET /w\x01s HTTP/1.1"),
    "a letter beyond ASCII in the target": Case(status=400, request_line="GET /w\xfcs HTTP/1.1"),
    "no Host": Case(status=400, host=(), says="host"),
    "no Host in HTTP/1.2": Case(status=400, host=(), request_line="GET /ws HTTP/1.2", says="host"),
    "an empty Host": Case(status=400, host=("Host:",), says="host"),
    "two Hosts": Case(status=400, host=(HOST, "Host: evil.example"), says="host"),
    "the same Host twice": Case(status=400, host=(HOST, HOST), says="host"),
    "a Host that is not ASCII": Case(status=400, host=("Host: b\xfccher.example",), says="ascii"),
    "a Host that is UTF-8": Case(status=400, host=("Host: b\xc3\xbccher.example",), says="ascii"),
    "a Host with a user": Case(status=400, host=("Host: me@127.0.0.1",), says="host"),
    "a Host with a path": Case(status=400, host=("Host: 127.0.0.1/x",), says="host"),
    "a Host with a blank": Case(status=400, host=("Host: 127.0.0.1 x",), says="host"),
    "a Host with a port that is none": Case(status=400, host=("Host: 127.0.0.1:x",), says="host"),
    "a Host in broken punycode": Case(status=403, host=("Host: xn--999999999",), says="not served"),
    "a foreign Host": Case(status=403, host=("Host: evil.example",), says="not served"),
    "a folded header": Case(status=400, lines=(*SOUND, "X-Folded: a\r\n b"), says="folded"),
    "a folded key": Case(status=400, lines=(*without(SENT_KEY), f"Sec-WebSocket-Key:\r\n\t{KEY}"), says="folded"),
    "a blank before the colon": Case(status=400, lines=(*SOUND, "X-Blank : a")),
    "a blank before the first header": Case(status=400, host=(" Host: 127.0.0.1",)),
    "a header without a name": Case(status=400, lines=(*SOUND, ": a")),
    "a header without a colon": Case(status=400, lines=(*SOUND, "nonsense")),
    "a NUL in a header": Case(status=400, lines=(*SOUND, "X-Nul: a\0b")),
    "a body": Case(status=400, lines=(*SOUND, "Content-Length: 5"), says="body"),
    "two lengths": Case(status=400, lines=(*SOUND, "Content-Length: 0", "Content-Length: 5")),
    "a chunked body": Case(status=400, lines=(*SOUND, "Transfer-Encoding: chunked"), says="body"),
    "a coding nobody knows": Case(status=501, lines=(*SOUND, "Transfer-Encoding: gzip")),
    "a head over the bound": Case(status=431, lines=(*SOUND, "X-Long: " + "x" * HEAD_BYTES)),
    "a head without an end": Case(status=431, lines=("X-Long: " + "x" * 200_000,)),
    # the requested protocol
    "POST": Case(status=405, request_line="POST /ws HTTP/1.1", headers=(("allow", "GET"),), says="get"),
    "HEAD": Case(status=405, request_line="HEAD /ws HTTP/1.1", headers=(("allow", "GET"),)),
    "OPTIONS": Case(status=405, request_line="OPTIONS /ws HTTP/1.1", headers=(("allow", "GET"),)),
    "get in small letters": Case(status=405, request_line="get /ws HTTP/1.1", headers=(("allow", "GET"),)),
    "CONNECT": Case(status=405, request_line="CONNECT 127.0.0.1:80 HTTP/1.1", headers=(("allow", "GET"),)),
    "no Upgrade": Case(status=426, lines=without(UPGRADE), headers=UPGRADE_HEADERS, says="upgrade"),
    "another Upgrade": Case(status=426, lines=(*without(UPGRADE), "Upgrade: h2c"), headers=UPGRADE_HEADERS),
    "an empty Upgrade": Case(status=426, lines=(*without(UPGRADE), "Upgrade:"), headers=UPGRADE_HEADERS),
    "an Upgrade that only contains the word": Case(
        status=426, lines=(*without(UPGRADE), "Upgrade: websockets"), headers=UPGRADE_HEADERS
    ),
    "no Connection": Case(status=426, lines=without(CONNECTION), headers=UPGRADE_HEADERS, says="connection"),
    "a Connection that names something else": Case(
        status=426, lines=(*without(CONNECTION), "Connection: keep-alive"), headers=UPGRADE_HEADERS
    ),
    "a Connection that only contains the word": Case(
        status=426, lines=(*without(CONNECTION), "Connection: no-upgrade"), headers=UPGRADE_HEADERS
    ),
    "no version": Case(status=400, lines=without(VERSION), headers=UPGRADE_HEADERS[1:], says="version"),
    "an old version": Case(
        status=426, lines=(*without(VERSION), "Sec-WebSocket-Version: 8"), headers=UPGRADE_HEADERS, says="13"
    ),
    "a version to come": Case(
        status=426, lines=(*without(VERSION), "Sec-WebSocket-Version: 14"), headers=UPGRADE_HEADERS
    ),
    "a list of versions": Case(
        status=426, lines=(*without(VERSION), "Sec-WebSocket-Version: 13, 8"), headers=UPGRADE_HEADERS
    ),
    "a version with a zero before": Case(status=426, lines=(*without(VERSION), "Sec-WebSocket-Version: 013")),
    "an empty version": Case(status=426, lines=(*without(VERSION), "Sec-WebSocket-Version:"), headers=UPGRADE_HEADERS),
    "two versions": Case(status=400, lines=("Sec-WebSocket-Version: 8", *SOUND), says="version"),
    "no key": Case(status=400, lines=without(SENT_KEY), says="key"),
    "a key that is no base64": Case(status=400, lines=(*without(SENT_KEY), "Sec-WebSocket-Key: !!!!"), says="key"),
    "a key of 8 bytes": Case(status=400, lines=(*without(SENT_KEY), "Sec-WebSocket-Key: OCBieXRlcyE="), says="key"),
    "a key of 17 bytes": Case(
        status=400, lines=(*without(SENT_KEY), f"Sec-WebSocket-Key: {base64.b64encode(b'x' * 17).decode()}"), says="key"
    ),
    "a key without its padding": Case(
        status=400, lines=(*without(SENT_KEY), f"Sec-WebSocket-Key: {KEY.rstrip('=')}"), says="key"
    ),
    "a key with a blank in it": Case(
        status=400, lines=(*without(SENT_KEY), f"Sec-WebSocket-Key: {KEY[:8]} {KEY[8:]}"), says="key"
    ),
    "a key that is not ASCII": Case(status=400, lines=(*without(SENT_KEY), f"Sec-WebSocket-Key: \xfc{KEY[1:]}")),
    "an empty key": Case(status=400, lines=(*without(SENT_KEY), "Sec-WebSocket-Key: "), says="key"),
    "two keys": Case(status=400, lines=(*SOUND, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), says="key"),
    "two keys in one line": Case(status=400, lines=(*without(SENT_KEY), f"{SENT_KEY}, {KEY}"), says="key"),
    "a subprotocol that is no token": Case(
        status=400, lines=(*SOUND, f"Sec-WebSocket-Protocol: {SUBPROTOCOL}, a b"), says="protocol"
    ),
    "a subprotocol twice": Case(
        status=400,
        lines=(*SOUND, f"Sec-WebSocket-Protocol: {SUBPROTOCOL}", f"Sec-WebSocket-Protocol: {SUBPROTOCOL}"),
        says="twice",
    ),
    "no subprotocol in the header for it": Case(
        status=400, lines=(*SOUND, "Sec-WebSocket-Protocol: ,"), says="protocol"
    ),
    "other subprotocols": Case(
        status=400, lines=(*SOUND, "Sec-WebSocket-Protocol: graphql-ws, LEANVIBE.V1+JSON"), says=SUBPROTOCOL
    ),
    "an extension that is none": Case(
        status=400, lines=(*SOUND, "Sec-WebSocket-Extensions: permessage-deflate; ="), says="extension"
    ),
    # target and origin
    "another path": Case(status=404, request_line="GET /wsx HTTP/1.1", says="/ws"),
    "an escaped slash": Case(status=404, request_line="GET /%2Fws HTTP/1.1"),
    "an escape that is no UTF-8": Case(status=404, request_line="GET /ws%ff HTTP/1.1"),
    "a bad escape": Case(status=400, request_line="GET /ws%zz HTTP/1.1", says="%"),
    "a bad escape at the end": Case(status=400, request_line="GET /ws?a=% HTTP/1.1", says="%"),
    "a fragment": Case(status=400, request_line="GET /ws#here HTTP/1.1", says="fragment"),
    "an asterisk": Case(status=400, request_line="GET * HTTP/1.1", says="target"),
    "a target without a slash": Case(status=400, request_line="GET ws HTTP/1.1", says="target"),
    "an address without a host": Case(status=400, request_line="GET http:///ws HTTP/1.1", says="target"),
    "an address with a user": Case(status=400, request_line="GET http://me@127.0.0.1/ws HTTP/1.1", says="target"),
    "an address of ftp": Case(status=400, request_line="GET ftp://127.0.0.1/ws HTTP/1.1", says="target"),
    "a foreign address": Case(status=403, request_line="GET http://evil.example/ws HTTP/1.1", says="not served"),
    "an address without a path": Case(status=404, request_line="GET http://127.0.0.1 HTTP/1.1", says="/ws"),
    "a foreign origin": Case(status=403, lines=(*SOUND, "Origin: http://evil.example"), says="origin"),
    "an origin that is not ASCII": Case(status=403, lines=(*SOUND, "Origin: http://b\xfccher.example"), says="origin"),
    "two origins, a foreign one first": Case(
        status=400, lines=(*SOUND, "Origin: http://evil.example", "Origin: http://localhost:3000"), says="origin"
    ),
    "two origins, a foreign one last": Case(
        status=400, lines=(*SOUND, "Origin: http://localhost:3000", "Origin: http://evil.example"), says="origin"
    ),
    **{
        f"two {name}": Case(
            status=400, lines=(*SOUND, f"{name}: Bearer x", f"{name.upper()}: Bearer y"), says=name.lower()
        )
        for name in ("Authorization", "X-Api-Key", "X-Client-Id")
    },
    "a token in the address": Case(status=403, request_line="GET /ws?token=x HTTP/1.1", says="token"),
}


async def read_answer(stream: trio.abc.ReceiveStream, *, until_end: bool) -> tuple[int, dict[str, str], str]:
    """Return status, headers and body; with ``until_end`` the connection must end after it."""
    received = b""
    with trio.fail_after(PATIENCE_SECONDS):
        while until_end or b"\r\n\r\n" not in received:
            try:
                data = await stream.receive_some()
            except trio.BrokenResourceError:
                break  # TLS cannot close properly towards a peer that has sent more than was read
            if not data:
                break
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    version, status, _ = status_line.split(" ", 2)
    assert version == "HTTP/1.1"
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status), headers, body.decode()


async def judge(
    stream: trio.abc.HalfCloseableStream | trio.SSLStream[trio.SocketStream], name: str, case: Case
) -> None:
    """Send a head and compare the response with the RFCs."""
    await stream.send_all(case.encode())
    status, headers, body = await read_answer(stream, until_end=case.status != 101)
    assert (name, status) == (name, case.status), body
    for header, value in case.headers:
        assert (name, header, headers.get(header)) == (name, header, value)
    assert "date" in headers
    if status == 101:
        accept = hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
        assert headers["sec-websocket-accept"] == base64.b64encode(accept).decode()
        assert (headers["upgrade"], headers["connection"].lower()) == ("websocket", "upgrade")
        assert "sec-websocket-extensions" not in headers
        assert ("sec-websocket-protocol" in headers) == any("Protocol" in one for one in case.lines)
        return
    assert "close" in headers["connection"].lower()
    is_head = case.request_line.startswith("HEAD")
    assert len(body.encode()) == (0 if is_head else int(headers["content-length"]))
    assert int(headers["content-length"]) > 1, f"{name}: no reason told"
    assert case.says in body.lower()


def port_of(server: RunningServer) -> int:
    return int(server.about.websocket_url.rsplit(":", 1)[1].split("/")[0])


@pytest.mark.websocket
@pytest.mark.parametrize("cases", [TAKEN, REFUSED], ids=["taken", "refused"])
async def test_hs1_every_rule_of_the_handshake_is_kept(
    engineless_server: RunningServer, cases: dict[str, Case]
) -> None:
    for name, case in cases.items():
        async with await trio.open_tcp_stream("127.0.0.1", port_of(engineless_server)) as stream:
            await judge(stream, name, case)
    await eventually(lambda: not engineless_server.connections())
    assert engineless_server.incarnations()["connections/listener"] == 1


@asynccontextmanager
async def secure_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[RunningServer, ssl.SSLContext]]:
    """Run a server with TLS. Yields it and a context that trusts it."""
    monkeypatch.setattr(WorkerConfig, "command", lambda *_: ["sleep", "60"])
    authority, chain = trustme.CA(), folder / "chain.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(chain))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with running_server(folder, wait=False, tls_certificate=chain) as server:
        yield server, context


@pytest.mark.websocket
async def test_hs1_the_same_holds_behind_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with secure_server(tmp_path, monkeypatch) as (server, context):
        for name, case in {**TAKEN, **REFUSED}.items():
            tcp = await trio.open_tcp_stream("127.0.0.1", port_of(server))
            stream = trio.SSLStream(tcp, context, server_hostname="localhost")
            try:
                await judge(stream, name, case)
            finally:
                await trio.aclose_forcefully(stream)
        await eventually(lambda: not server.connections())


def rest_port_of(server: RunningServer) -> int:
    return int(server.about.rest_url.rsplit(":", 1)[1])


def asks_plainly(case: Case) -> bool:
    """True if REST, which first checks the syntax of the head, takes it for a WebSocket request."""
    names = any(one.lower().startswith("upgrade") and "websocket" in one.lower().split() for one in case.lines)
    return names and case.status in (101, 403, 405, 426) and not case.request_line.startswith("CONNECT")


@pytest.mark.websocket
async def test_hs4_the_rest_port_takes_the_same_handshakes(engineless_server: RunningServer) -> None:
    cases = {name: case for name, case in {**TAKEN, **REFUSED}.items() if asks_plainly(case)}
    assert len(cases) > 40
    for name, case in cases.items():
        async with await trio.open_tcp_stream("127.0.0.1", rest_port_of(engineless_server)) as stream:
            await judge(stream, name, case)
    await eventually(lambda: not engineless_server.connections())
    assert engineless_server.incarnations()["rest"] == engineless_server.incarnations()["connections/listener"] == 1


HELLO = frame(TEXT, json.dumps({"type": "hello", "id": "h", "data": {"client_id": "me"}}).encode())


async def welcomed(stream: trio.abc.ReceiveStream) -> bytes:
    """Return all bytes up to the answer of hello."""
    received = b""
    with trio.fail_after(PATIENCE_SECONDS):
        while b'"welcome"' not in received:
            data = await stream.receive_some()
            assert data
            received += data
    return received


@pytest.mark.websocket
async def test_hs4_one_kept_connection_carries_requests_and_then_a_websocket(engineless_server: RunningServer) -> None:
    live = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = Case(status=101).encode()
    for pieces in (
        [live, live, head, HELLO],
        [live + head + HELLO],
        [live + head[:9], head[9:] + HELLO[:4], HELLO[4:]],
    ):
        async with await trio.open_tcp_stream("127.0.0.1", rest_port_of(engineless_server)) as stream:
            for piece in pieces:
                await stream.send_all(piece)
            received = await welcomed(stream)
        assert received.count(b"HTTP/1.1 200 ") == sum(one.count(live) or (live in one) for one in pieces)
        assert received.count(b"HTTP/1.1 101 ") == 1


@pytest.mark.websocket
async def test_hs4_it_outlives_a_crash_of_rest(server: RunningServer) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", rest_port_of(server)) as stream:
        await stream.send_all(Case(status=101).encode() + HELLO)
        await welcomed(stream)
        crash(server.system, "rest", RuntimeError("lost on purpose"))
        await eventually(lambda: server.incarnations()["rest"] == 2)
        await stream.send_all(frame(TEXT, b'{"type": "ping", "id": "p"}'))
        with trio.fail_after(PATIENCE_SECONDS):
            assert b'"pong"' in await stream.receive_some()


@pytest.mark.websocket
async def test_hs4_the_same_holds_behind_tls_and_for_a_whole_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with secure_server(tmp_path, monkeypatch) as (server, context):
        for name, case in {"as in the RFC": TAKEN["as in the RFC"], "POST": REFUSED["POST"]}.items():
            tcp = await trio.open_tcp_stream("127.0.0.1", rest_port_of(server))
            async with trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True) as stream:
                await judge(stream, name, case)
        async with await trio.open_tcp_stream("127.0.0.1", rest_port_of(server)) as tcp:
            stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
            await stream.send_all(Case(status=101).encode() + HELLO)
            await welcomed(stream)
        await eventually(lambda: not server.connections())


@pytest.mark.websocket
@pytest.mark.parametrize(
    ("line", "status"), [("Upgrade: h2c", 426), ("X-Nothing: x", 426)], ids=["another upgrade", "no upgrade"]
)
async def test_hs4_what_is_no_upgrade_is_told_so_and_its_connection_ends(
    engineless_server: RunningServer, line: str, status: int
) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", rest_port_of(engineless_server)) as stream:
        await stream.send_all(f"GET /ws HTTP/1.1\r\n{HOST}\r\n{line}\r\n{CONNECTION}\r\n\r\n".encode())
        found, headers, body = await read_answer(stream, until_end=True)
    assert (found, headers["upgrade"], headers["sec-websocket-version"]) == (status, "websocket", "13")
    assert json.loads(body)["field"] == "Upgrade"


@pytest.mark.websocket
async def test_hs4_where_no_connection_can_be_taken_the_socket_is_answered_and_closed(
    engineless_server: RunningServer,
) -> None:
    suspend(engineless_server.system, "connections/listener", suspended=True)
    try:
        async with await trio.open_tcp_stream("127.0.0.1", rest_port_of(engineless_server)) as stream:
            await stream.send_all(Case(status=101).encode())
            found, headers, _ = await read_answer(stream, until_end=True)
        assert (found, headers["retry-after"]) == (503, "1")
    finally:
        suspend(engineless_server.system, "connections/listener", suspended=False)


@pytest.mark.websocket
async def test_hs2_a_head_may_come_byte_by_byte_and_frames_right_behind_it(engineless_server: RunningServer) -> None:
    hello = frame(TEXT, json.dumps({"type": "hello", "id": "h", "data": {"client_id": "me"}}).encode())
    head = Case(status=101).encode()
    for pieces in ([bytes([one]) for one in head] + [hello], [head + hello], [head + hello[:5], hello[5:]]):
        async with await trio.open_tcp_stream("127.0.0.1", port_of(engineless_server)) as stream:
            for piece in pieces:
                await stream.send_all(piece)
            received = b""
            with trio.fail_after(PATIENCE_SECONDS):
                while b'"welcome"' not in received:
                    data = await stream.receive_some()
                    assert data
                    received += data
            assert received.startswith(b"HTTP/1.1 101 ")


@pytest.mark.websocket
async def test_hs2_a_head_that_comes_too_slowly_is_told_so(mock_clock: MockClock, server: RunningServer) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port_of(server)) as stream:
        await stream.send_all(b"GET /ws HTTP/1.1\r\nHost: 127")
        await eventually(server.connections)
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(10.5)
        received = b""
        while b"\r\n\r\n" not in received:
            data = await stream.receive_some()
            assert data
            received += data
        assert received.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("cases", [TAKEN, REFUSED], ids=["taken", "refused"])
def test_hs2_where_a_head_is_cut_makes_no_difference(cases: dict[str, Case]) -> None:
    for name, case in cases.items():
        whole, in_two = HandshakeReader().receive(case.encode()), HandshakeReader()
        head = case.encode()
        found = in_two.receive(head[:40]) or in_two.receive(head[40:])
        assert (name, type(found)) == (name, type(whole))
        if isinstance(found, Refusal) and isinstance(whole, Refusal):
            assert found.status == whole.status
        else:
            assert isinstance(found, Offer)
