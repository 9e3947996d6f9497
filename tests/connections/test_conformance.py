"""P15: conformance frame by frame (RFC 6455): Autobahn's cases, checked with the `websockets` library."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from websockets.frames import Opcode

from protocol.commands import MAXIMUM_FRAME_BYTES
from tests.connections.raw_peer import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawPeer, frame, raw_peer
from tests.server_fixture import RunningServer

pytestmark = pytest.mark.websocket

PING_COMMAND = json.dumps({"type": "ping", "id": "p", "data": "grüße 😀"}, ensure_ascii=False).encode()
PAYLOAD = "grüße 😀"

NO_UTF_8 = {
    "a lone continuation byte": b"\x80",
    "a byte that never occurs": b"\xff",
    "an overlong slash": b"\xc0\xaf",
    "an overlong of three bytes": b"\xe0\x80\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "cut short": b"\xe2\x82",
    "cut short of four": b"\xf0\x9f\x98",
}


async def assert_pong(peer: RawPeer) -> None:
    answer = await peer.message()
    assert (answer["type"], answer["data"]) == ("pong", PAYLOAD)


async def assert_closes(server: RunningServer, cases: dict[str, tuple[bytes, ...]], codes: set[int]) -> None:
    """Assert that each of these, on a connection of its own, is closed with one of the codes, without effect on others."""
    found: dict[str, Any] = {}
    async with raw_peer(server, "bystander") as bystander:
        for name, frames in cases.items():
            async with raw_peer(server) as peer:
                await peer.send(*frames)
                found[name] = await peer.close_code()
        await bystander.send(frame(TEXT, PING_COMMAND))
        await assert_pong(bystander)
    assert {name: code for name, code in found.items() if code not in codes} == {}


# --- what is right ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7])
async def test_p15_a_message_may_come_in_fragments_of_any_size(engineless_server: RunningServer, size: int) -> None:
    """Even in the middle of a character."""
    parts = [PING_COMMAND[begin : begin + size] for begin in range(0, len(PING_COMMAND), size)]
    async with raw_peer(engineless_server) as peer:
        await peer.send(frame(TEXT, parts[0], is_final=False))
        await peer.send(*(frame(CONTINUATION, part, is_final=False) for part in parts[1:-1]))
        await peer.send(frame(CONTINUATION, parts[-1]))
        await assert_pong(peer)


async def test_p15_control_frames_may_come_between_fragments(engineless_server: RunningServer) -> None:
    async with raw_peer(engineless_server) as peer:
        await peer.send(frame(TEXT, PING_COMMAND[:9], is_final=False), frame(PING, b"between"))
        received = await peer.receive()
        assert received is not None
        assert (received.opcode, bytes(received.data)) == (Opcode.PONG, b"between")
        await peer.send(frame(PONG, b"unasked"), frame(CONTINUATION, PING_COMMAND[9:]))
        await assert_pong(peer)


async def test_p15_empty_fragments_are_nothing(engineless_server: RunningServer) -> None:
    async with raw_peer(engineless_server) as peer:
        await peer.send(
            frame(TEXT, b"", is_final=False),
            frame(CONTINUATION, b"", is_final=False),
            frame(CONTINUATION, PING_COMMAND, is_final=False),
            frame(CONTINUATION, b""),
        )
        await assert_pong(peer)


@pytest.mark.parametrize("frames", [(frame(TEXT),), (frame(TEXT, is_final=False), frame(CONTINUATION))])
async def test_p15_an_empty_message_is_an_error_and_the_connection_lives(
    engineless_server: RunningServer, frames: tuple[bytes, ...]
) -> None:
    async with raw_peer(engineless_server) as peer:
        await peer.send(*frames)
        answer = await peer.message()
        assert (answer["type"], answer["data"]["code"]) == ("error", "bad_message")
        await peer.send(frame(TEXT, PING_COMMAND))
        await assert_pong(peer)


async def test_p15_a_ping_is_answered_with_its_own_payload_and_a_pong_with_nothing(
    engineless_server: RunningServer,
) -> None:
    async with raw_peer(engineless_server) as peer:
        for payload in (b"", b"a", bytes(range(125)), b"\xff" * 125):
            await peer.send(frame(PONG, payload), frame(PING, payload))
            received = await peer.receive()
            assert received is not None
            assert (received.opcode, bytes(received.data)) == (Opcode.PONG, payload)
        await peer.send(*(frame(PING, str(number).encode()) for number in range(10)))
        pongs = [await peer.receive() for _ in range(10)]
        assert [bytes(one.data) for one in pongs if one is not None] == [str(number).encode() for number in range(10)]


@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04"])
async def test_p15_any_mask_will_do(engineless_server: RunningServer, mask: bytes) -> None:
    async with raw_peer(engineless_server) as peer:
        await peer.send(frame(TEXT, PING_COMMAND, mask=mask))
        await assert_pong(peer)


async def test_p15_frames_may_arrive_byte_by_byte_and_many_at_once(engineless_server: RunningServer) -> None:
    async with raw_peer(engineless_server) as peer:
        one = frame(TEXT, PING_COMMAND)
        await peer.send(*(one[index : index + 1] for index in range(len(one))))
        await assert_pong(peer)
        await peer.send(one * 20)
        for _ in range(20):
            await assert_pong(peer)


async def test_p15_a_message_of_exactly_a_mebibyte_is_read(engineless_server: RunningServer) -> None:
    async with raw_peer(engineless_server) as peer:
        text = b'{"type":"ping","id":"p","data":"' + b"a" * (MAXIMUM_FRAME_BYTES - 34) + b'"}'
        assert len(text) == MAXIMUM_FRAME_BYTES
        await peer.send(frame(TEXT, text))
        answer = await peer.message()
        assert (answer["type"], answer["data"]["code"]) == ("error", "too_large")
        await peer.send(frame(TEXT, PING_COMMAND))
        await assert_pong(peer)


# --- good-byes ----------------------------------------------------------------------------------------

# 1014 was registered after RFC 6455 and is unknown to wsproto; the RFC lets a server refuse it.
VALID_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999]
INVALID_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]


async def test_p15_every_valid_close_code_is_answered_with_itself(engineless_server: RunningServer) -> None:
    found = {}
    for code, reason in itertools.product(VALID_CODES, (b"", "adieu ü".encode())):
        async with raw_peer(engineless_server) as peer:
            await peer.send(frame(CLOSE, code.to_bytes(2, "big") + reason))
            found[code] = await peer.close_code()
    assert found == {code: code for code in VALID_CODES}


async def test_p15_a_good_bye_without_a_code_is_answered_without_one(engineless_server: RunningServer) -> None:
    async with raw_peer(engineless_server) as peer:
        await peer.send(frame(CLOSE))
        assert await peer.close_code() == 1005


async def test_p15_a_reason_may_have_123_bytes(engineless_server: RunningServer) -> None:
    async with raw_peer(engineless_server) as peer:
        await peer.send(frame(CLOSE, (1000).to_bytes(2, "big") + b"r" * 123))
        assert await peer.close_code() == 1000


async def test_p15_what_comes_after_a_good_bye_is_not_read(engineless_server: RunningServer) -> None:
    async with raw_peer(engineless_server) as peer:
        await peer.send(frame(CLOSE, (1000).to_bytes(2, "big")) + frame(TEXT, PING_COMMAND) + frame(PING))
        assert await peer.close_code() == 1000


async def test_p15_a_good_bye_that_breaks_the_rules_is_a_protocol_error(engineless_server: RunningServer) -> None:
    cases = {str(code): (frame(CLOSE, code.to_bytes(2, "big")),) for code in INVALID_CODES}
    cases["one byte"] = (frame(CLOSE, b"\x03"),)
    await assert_closes(engineless_server, cases, {1002})


async def test_p15_a_reason_that_is_not_utf_8_is_refused(engineless_server: RunningServer) -> None:
    cases = {name: (frame(CLOSE, (1000).to_bytes(2, "big") + text),) for name, text in NO_UTF_8.items()}
    await assert_closes(engineless_server, cases, {1002, 1007})


# --- what is wrong ------------------------------------------------------------------------------------


async def test_p15_text_that_is_not_utf_8_closes_with_1007(engineless_server: RunningServer) -> None:
    cases: dict[str, tuple[bytes, ...]] = {}
    for name, text in NO_UTF_8.items():
        cases[name] = (frame(TEXT, b'"' + text),)
        cases[f"{name}, in the last fragment"] = (frame(TEXT, b'"', is_final=False), frame(CONTINUATION, text))
        cases[f"{name}, byte by byte"] = (
            frame(TEXT, b'"', is_final=False),
            *(frame(CONTINUATION, text[index : index + 1], is_final=False) for index in range(len(text))),
            frame(CONTINUATION, b'"'),
        )
    await assert_closes(engineless_server, cases, {1007})


async def test_p15_bad_utf_8_is_noticed_before_its_message_ends(engineless_server: RunningServer) -> None:
    await assert_closes(engineless_server, {"first fragment": (frame(TEXT, b"\xff", is_final=False),)}, {1007})


async def test_p15_reserved_bits_and_opcodes_are_a_protocol_error(engineless_server: RunningServer) -> None:
    cases: dict[str, tuple[bytes, ...]] = {}
    for bits in range(1, 8):
        cases[f"bits {bits} in text"] = (frame(TEXT, PING_COMMAND, reserved_bits=bits),)
        cases[f"bits {bits} in a ping"] = (frame(PING, b"a", reserved_bits=bits),)
    cases["in a continuation"] = (frame(TEXT, b"a", is_final=False), frame(CONTINUATION, b"b", reserved_bits=4))
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        cases[f"opcode {opcode}"] = (frame(opcode, b"a"),)
        cases[f"empty opcode {opcode}"] = (frame(opcode),)
    await assert_closes(engineless_server, cases, {1002})


async def test_p15_frames_without_a_mask_are_a_protocol_error(engineless_server: RunningServer) -> None:
    cases = {
        "text": (frame(TEXT, PING_COMMAND, mask=None),),
        "ping": (frame(PING, b"a", mask=None),),
        "close": (frame(CLOSE, (1000).to_bytes(2, "big"), mask=None),),
        "a fragment": (frame(TEXT, PING_COMMAND[:5], is_final=False), frame(CONTINUATION, PING_COMMAND[5:], mask=None)),
    }
    await assert_closes(engineless_server, cases, {1002})


async def test_p15_control_frames_that_are_long_or_in_fragments_are_a_protocol_error(
    engineless_server: RunningServer,
) -> None:
    cases: dict[str, tuple[bytes, ...]] = {}
    for name, opcode in {"ping": PING, "pong": PONG, "close": CLOSE}.items():
        data = (1000).to_bytes(2, "big") + b"a" * 124
        cases[f"{name} of 126 bytes"] = (frame(opcode, data),)
        cases[f"{name} of 70000 bytes"] = (frame(opcode, data + b"a" * 70_000),)
        cases[f"{name} in fragments"] = (frame(opcode, data[:3], is_final=False), frame(CONTINUATION, b"a"))
    await assert_closes(engineless_server, cases, {1002})


async def test_p15_fragments_out_of_order_are_a_protocol_error(engineless_server: RunningServer) -> None:
    begun = frame(TEXT, PING_COMMAND[:5], is_final=False)
    cases = {
        "a continuation of nothing": (frame(CONTINUATION, b"a"),),
        "an unfinished continuation of nothing": (frame(CONTINUATION, b"a", is_final=False),),
        "a continuation after the end": (frame(TEXT, b"{}"), frame(CONTINUATION, b"a")),
        "a message in a message": (begun, frame(TEXT, PING_COMMAND)),
        "a beginning in a message": (begun, frame(TEXT, b"a", is_final=False)),
        "a binary frame in a message": (begun, frame(BINARY, b"a")),
    }
    await assert_closes(engineless_server, cases, {1002})


async def test_p15_lengths_that_are_not_written_the_shortest_way_are_a_protocol_error(
    engineless_server: RunningServer,
) -> None:
    cases = {
        "125 in two bytes": (frame(TEXT, b"a" * 125, length_bytes=2),),
        "5 in eight bytes": (frame(TEXT, b"a" * 5, length_bytes=8),),
        "65535 in eight bytes": (frame(TEXT, b"a" * 65_535, length_bytes=8),),
        "the highest bit set": (frame(TEXT, b"a", length_bytes=8, told_length=2**63 + 1),),
    }
    await assert_closes(engineless_server, cases, {1002})


async def test_p15_what_is_over_a_mebibyte_closes_with_1009(engineless_server: RunningServer) -> None:
    quarter = b"a" * (MAXIMUM_FRAME_BYTES // 4)
    cases: dict[str, tuple[bytes, ...]] = {
        "one frame": (frame(TEXT, b"a" * (MAXIMUM_FRAME_BYTES + 1)),),
        "fragments": (
            frame(TEXT, quarter, is_final=False),
            *[frame(CONTINUATION, quarter, is_final=False)] * 3,
            frame(CONTINUATION, b"a"),
        ),
        "in bytes, not in characters": (frame(TEXT, "é".encode() * (MAXIMUM_FRAME_BYTES // 2 + 1)),),
        "a tebibyte that is told and not sent": (frame(TEXT, quarter * 5, told_length=2**40),),
    }
    await assert_closes(engineless_server, cases, {1009})


async def test_p15_a_message_of_fragments_without_end_closes_with_1009(engineless_server: RunningServer) -> None:
    for piece in (b"", b" "):
        cases = {"small": (frame(TEXT, b"{", is_final=False), frame(CONTINUATION, piece, is_final=False) * 5000)}
        await assert_closes(engineless_server, cases, {1009})


async def test_p15_messages_in_small_fragments_without_end_close_with_1009(engineless_server: RunningServer) -> None:
    """Each of them ends, and a pong counts towards no rate."""
    nothing = frame(CONTINUATION, b"", is_final=False)
    pong = frame(TEXT, b'{"type":', is_final=False) + nothing * 100 + frame(CONTINUATION, b'"pong"}')
    await assert_closes(engineless_server, {"pongs": (pong * 10,)}, {1009})


async def test_p15_a_message_may_come_letter_by_letter(engineless_server: RunningServer) -> None:
    async with raw_peer(engineless_server) as peer:
        letters = [bytes([one]) for one in PING_COMMAND + b" " * 200]
        for _ in range(3):
            await peer.send(
                frame(TEXT, letters[0], is_final=False),
                *[frame(CONTINUATION, one, is_final=False) for one in letters[1:]],
                frame(CONTINUATION),
            )
            await assert_pong(peer)
            # Larger pieces make up for small ones.
            half = PING_COMMAND + b" " * 8192
            await peer.send(frame(TEXT, half, is_final=False), frame(CONTINUATION, b" " * 8192))
            await assert_pong(peer)


async def test_p15_small_messages_are_no_small_fragments(engineless_server: RunningServer) -> None:
    """Neither alone, nor as the two frames of a writer that is closed."""
    written = frame(TEXT, b'{"type":"pong"}', is_final=False) + frame(CONTINUATION)
    async with raw_peer(engineless_server) as peer:
        for _ in range(12):
            await peer.send(*[frame(TEXT, b'{"type":"pong"}')] * 100)
            await peer.send(*[written] * 100)
            await peer.send(frame(TEXT, PING_COMMAND))
            await assert_pong(peer)


async def test_p15_binary_messages_are_not_this_protocol(engineless_server: RunningServer) -> None:
    cases = {
        "whole": (frame(BINARY, b"\xff"),),
        "empty": (frame(BINARY),),
        "in fragments": (frame(BINARY, b"\xff", is_final=False), frame(CONTINUATION, b"\xfe")),
    }
    await assert_closes(engineless_server, cases, {4400})
