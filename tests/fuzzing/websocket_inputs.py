"""WebSocket connections: commands made from the published schemas, frames that no library sends, handshakes, cut sockets."""

from __future__ import annotations

import json
import random
from typing import Any

import protocol
from tests.connections.raw_peer import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from tests.fuzzing.definitions import published_definitions
from tests.fuzzing.inputs import CUT, END, Input, Step, cut_in_pieces, draw_for
from tests.fuzzing.values import RAW, HostileValues

__all__ = ["LAST_ID", "NOT_SENT", "WebSocketInputs", "opening", "ping_at_the_end"]

LAST_ID = "the-last"
"""Id of the ping behind all commands: its pong says that the connection has lived through them."""
NOT_SENT = frozenset({"hello", "actor_restart", "actor_suspend", "engine_kill", "token_create", "token_revoke"})
"""The first opens each connection. The others do what they say to the server under test, and that is no fault."""
HANDSHAKE = (
    ("Host", "localhost"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Protocol", protocol.SUBPROTOCOL),
)
BAD_LINES = (
    ("Host", "evil.example"), ("Host", ""), ("Upgrade", "h2c"), ("Connection", "close"), ("Sec-WebSocket-Key", ""), ("Sec-WebSocket-Key", "x" * 3000),
    ("Sec-WebSocket-Key", "\xff"), ("Sec-WebSocket-Version", "8"), ("Sec-WebSocket-Version", "13, 8"), ("Sec-WebSocket-Protocol", "chat"),
    ("Sec-WebSocket-Protocol", ",,,"), ("Sec-WebSocket-Protocol", "x" * 9000), ("Sec-WebSocket-Extensions", "permessage-deflate; x=\"\\\""),
    ("Sec-WebSocket-Extensions", ",;="), ("Origin", "https://evil.example"), ("Origin", "null"), ("Origin", "http://[::1"), ("Authorization", "Bearer x"),
    ("Authorization", "Basic \xff"), ("Content-Length", "5"), ("Content-Length", "99999999999"), ("Transfer-Encoding", "chunked"), ("Expect", "100-continue"),
    ("X-Client-Id", "me"), ("Cookie", "a" * 9000), ("a b", "c"), ("", ""), ("X", "\0"),
)  # fmt: skip


class WebSocketInputs:
    """`make(number)` is the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._definitions = published_definitions()
        self._commands = sorted(
            one
            for one in self._definitions
            if one.startswith("command.") and one.removeprefix("command.") not in NOT_SENT
        )

    def make(self, number: int) -> Input:
        """The input of this number."""
        draw = draw_for(self.seed, number)
        values = HostileValues(draw, self._definitions)
        kind = draw.choices(
            (self._of_commands, self._of_frames, self._of_handshakes, self._of_silence), weights=(65, 20, 10, 5)
        )[0]
        return kind(number, draw, values)

    def _of_commands(self, number: int, draw: random.Random, values: HostileValues) -> Input:
        names, data = [], opening(number)
        for at in range(draw.choice((1, 2, 4, 8))):
            name = draw.choice(self._commands)
            if draw.random() < 0.25:
                name = draw.choice(
                    (
                        "command.generate",
                        "command.task_create",
                        "command.subscribe",
                        "command.resume",
                        "command.device_register",
                    )
                )
            made = values.of(self._definitions[name], wrong=draw.choice((0.0, 0.03, 0.2)))
            if isinstance(made, dict) and draw.random() < 0.9:
                # Now and then one that its client has used before, which is refused for that alone.
                made["id"] = f"c{at}" if draw.random() < 0.1 else f"c{number}-{at}"
                inner = made.get("data")
                if isinstance(inner, dict) and name in ("command.generate", "command.assist") and draw.random() < 0.9:
                    inner.pop("on_disconnect", None)
                    inner["max_tokens" if name == "command.generate" else "intent"] = (
                        6 if name == "command.generate" else "ask"
                    )
            names.append(name.removeprefix("command."))
            data += self._in_frames(draw, values.raw(made))
        data += ping_at_the_end()
        return Input(number, f"websocket {' '.join(names)}", cut_in_pieces(draw, data), must_answer=True)

    def _of_frames(self, number: int, draw: random.Random, values: HostileValues) -> Input:
        data = opening(number) if draw.random() < 0.8 else handshake(list(HANDSHAKE))
        for _ in range(draw.choice((1, 1, 2, 5, 50))):
            content = draw.choice(
                (b"", b"a" * 125, b"a" * 126, b"\xff\xfe", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x03", b"\x03\xe8", b"\x03\xe8\xff", b"\x00\x00bye",
                 b"\x10\x00", b"\xff\xff", draw.choice(RAW)[:70_000], json.dumps({"type": "ping", "id": "a"}).encode(), values.raw(values.anything())[:70_000])
            )  # fmt: skip
            data += frame(
                draw.choice((CONTINUATION, TEXT, TEXT, BINARY, CLOSE, PING, PONG, 3, 7, 11, 15)),
                content,
                is_final=draw.random() < 0.7,
                reserved_bits=draw.choice((0, 0, 0, 0, 1, 4, 7)),
                mask=draw.choice((b"\x01\x80\xff\x37",) * 6 + (b"\0\0\0\0", None)),
                length_bytes=draw.choice((None,) * 6 + (2, 8)) if len(content) < 65_536 else None,
                told_length=None if draw.random() < 0.9 else draw.choice((0, 5, 125)),
            )
        if draw.random() < 0.2:
            data += draw.choice(
                (
                    b"\x81\xff" + b"\xff" * 8,
                    b"\x81\xff\x7f" + b"\xff" * 7,
                    b"\x81\xfe",
                    b"\x89\xfe\xff\xff",
                    bytes(draw.randrange(256) for _ in range(60)),
                )
            )
        steps: list[Step] = list(cut_in_pieces(draw, data))
        steps += draw.choice(([], [], [END], [CUT], [0.05, CUT]))
        return Input(number, "websocket-frames", tuple(steps))

    def _of_handshakes(self, number: int, draw: random.Random, values: HostileValues) -> Input:
        lines = list(HANDSHAKE)
        for _ in range(draw.choice((1, 1, 2, 5))):
            name, value = draw.choice(BAD_LINES)
            kind = draw.random()
            if kind < 0.5:
                lines = [(one, value if one == name else before) for one, before in lines]
            if kind > 0.3:
                lines.insert(draw.randrange(len(lines) + 1), (name, value))
        if draw.random() < 0.2:
            lines.pop(draw.randrange(len(lines)))
        data = handshake(
            lines,
            method=draw.choice(("GET",) * 8 + ("POST", "get", "", "G T")),
            path=draw.choice(
                (protocol.PATH,) * 8
                + ("/", "/ws?token=x", "/ws/", "*", "/%", "//ws", "http://a/ws", "/" + "a" * 9000, "/\xff")
            ),
            version=draw.choice(("HTTP/1.1",) * 8 + ("HTTP/1.0", "HTTP/2", "")),
        )
        kind = draw.randrange(5)
        if kind == 0:
            data = data[: draw.randrange(1, len(data))]
        elif kind == 1:
            at = draw.randrange(len(data))
            data = data[:at] + bytes(draw.randrange(256) for _ in range(3)) + data[at:]
        elif kind == 2:
            data = data.replace(b"\r\n", draw.choice((b"\n", b"\r", b"\r\n ")), draw.choice((1, -1)))
        if draw.random() < 0.3:
            data += values.raw(values.anything())[:20_000]
        steps: list[Step] = list(cut_in_pieces(draw, data))
        steps += draw.choice(([], [], [END], [CUT]))
        return Input(number, "websocket-handshake", tuple(steps))

    def _of_silence(self, number: int, draw: random.Random, _values: HostileValues) -> Input:
        data = opening(number)
        for at in range(draw.choice((1, 5, 20))):
            command: dict[str, Any] = {"prompt": f"count to {draw.choice((10, 500, 2000))}", "max_tokens": 3000}
            if draw.random() < 0.3:
                command["on_disconnect"] = "detach"
            data += frame(TEXT, json.dumps({"type": "generate", "id": f"g{at}", "data": command}).encode())
        return Input(
            number, "websocket-silence", (data, draw.choice((0.1, 0.5, 2.0)), draw.choice((CUT, END))), reads=False
        )

    @staticmethod
    def _in_frames(draw: random.Random, data: bytes) -> bytes:
        if draw.random() < 0.8 or len(data) < 2:
            return frame(TEXT, data)
        at = draw.randrange(1, len(data))
        between = frame(PING, b"p") if draw.random() < 0.5 else b""
        return frame(TEXT, data[:at], is_final=False) + between + frame(CONTINUATION, data[at:])


def opening(number: int) -> bytes:
    """A sound handshake, and a hello of one of a few clients."""
    hello = {"type": "hello", "id": "hello", "data": {"client_id": f"w{number % 20}", "device_id": f"d{number % 7}"}}
    return handshake(list(HANDSHAKE)) + frame(TEXT, json.dumps(hello).encode())


def ping_at_the_end() -> bytes:
    """What is answered once all before it has been read."""
    return frame(TEXT, json.dumps({"type": "ping", "id": LAST_ID}).encode())


def handshake(
    lines: list[tuple[str, str]], *, method: str = "GET", path: str = protocol.PATH, version: str = "HTTP/1.1"
) -> bytes:
    """The request that opens a WebSocket, or nearly."""
    text = f"{method} {path} {version}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
    return text.encode("latin-1", "replace")
