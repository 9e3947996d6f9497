"""Frames are written at once and whole, one after the other, whoever writes and however slowly they are read."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import memory_stream_pair, wait_all_tasks_blocked
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import AcceptConnection, Message, Ping, Pong, Request, TextMessage

from actors.connections.connection import HELLO_SECONDS
from actors.connections.handshake import HandshakeReader, Offer, switching
from actors.connections.websocket import BufferedStream, ServedWebSocket, text_frame
from tests.connections.deaf_client import deaf_client
from tests.server_fixture import RunningServer, eventually, running_server


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_a_frame_is_what_wsproto_makes_of_the_same_text(size: int) -> None:
    text = ("grüße " * size)[:size]
    assert text_frame(text.encode()) == Connection(ConnectionType.SERVER).send(TextMessage(text))


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """Open both ends of a connection with small buffers."""
    sockets = [trio.socket.from_stdlib_socket(one) for one in socket.socketpair()]
    sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    async with trio.SocketStream(sockets[0]) as ours, trio.SocketStream(sockets[1]) as theirs:
        yield ours, theirs


async def read_exactly(stream: trio.SocketStream, size: int) -> bytes:
    found = b""
    with trio.fail_after(60):
        while len(found) < size:
            found += await stream.receive_some(size - len(found))
    return found


async def test_what_the_socket_does_not_take_goes_before_whatever_is_sent_next() -> None:
    async with pair() as (ours, theirs), trio.open_nursery() as nursery:
        kept = BufferedStream(ours)
        assert kept.send_now(b"first ")
        much = bytes(range(256)) * 400
        assert not kept.send_now(much)
        assert not kept.send_now(b" second "), "nothing may overtake the rest"
        nursery.start_soon(kept.send_all, b"last")
        assert await read_exactly(theirs, len(much) + 18) == b"first " + much + b" second last"


async def test_a_socket_that_is_gone_is_told_by_the_write_that_can_wait() -> None:
    async with pair() as (ours, theirs):
        kept = BufferedStream(ours)
        await theirs.aclose()
        assert not kept.send_now(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await kept.send_all(b"")
        await ours.aclose()
        assert not BufferedStream(ours).send_now(b"x")


async def served(stream: Any, take: Any) -> None:
    """Serve as `WebSocketTransport` does: the handshake first."""
    reader = HandshakeReader()
    offer = reader.receive(bytes(await stream.receive_some(65_536)))
    assert isinstance(offer, Offer), offer
    await stream.send_all(switching(offer, None))
    await ServedWebSocket(stream, take, offer.rest).read()


@pytest.mark.parametrize("error", [KeyError("ours"), trio.ClosedResourceError(), ValueError("ours")])
async def test_an_error_of_ours_is_never_taken_for_one_of_the_library(error: Exception) -> None:
    """trio-websocket's reader would log the first as an unknown event, swallow the second, and read on."""
    ours, theirs = memory_stream_pair()
    client = WSConnection(ConnectionType.CLIENT)

    async def take(_: str | bytes) -> None:
        raise error

    async def speak() -> None:
        await theirs.send_all(client.send(Request(host="here", target="/")))
        client.receive_data(bytes(await theirs.receive_some(65_536)))
        assert isinstance(next(client.events()), AcceptConnection)
        await theirs.send_all(client.send(TextMessage("x")))

    with pytest.RaisesGroup(ValueError if isinstance(error, ValueError) else RuntimeError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak)
            nursery.start_soon(served, ours, take)


async def test_what_the_network_cuts_is_no_small_fragment() -> None:
    ours, theirs = memory_stream_pair()
    client = WSConnection(ConnectionType.CLIENT)
    taken: list[str | bytes] = []

    async def take(message: str | bytes) -> None:
        taken.append(message)
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(served, ours, take)
        await theirs.send_all(client.send(Request(host="here", target="/")))
        client.receive_data(bytes(await theirs.receive_some(65_536)))
        for byte in client.send(TextMessage("x" * 600)):
            await theirs.send_all(bytes([byte]))
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert taken == ["x" * 600]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_a_message_in_fragments_is_taken_whole(sizes: list[int]) -> None:
    text = "".join(chr(97 + number % 26) * size for number, size in enumerate(sizes))
    taken: list[str | bytes] = []

    async def main() -> None:
        ours, theirs = memory_stream_pair()
        client = WSConnection(ConnectionType.CLIENT)

        async def take(message: str | bytes) -> None:
            taken.append(message)
            await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(served, ours, take)
            await theirs.send_all(client.send(Request(host="here", target="/")))
            client.receive_data(bytes(await theirs.receive_some(65_536)))
            assert isinstance(next(client.events()), AcceptConnection)
            at = 0
            for number, size in enumerate(sizes):
                part = text[at : at + size]
                is_last = number == len(sizes) - 1
                await theirs.send_all(client.send(Message(data=part, message_finished=is_last)))
                at += size
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert taken == [text]


# --- the real server ----------------------------------------------------------------------------------


@pytest.mark.websocket
@pytest.mark.integration
async def test_a_pong_is_never_within_a_frame_that_the_socket_took_in_part(tmp_path: Path) -> None:
    """The server's and the library's frames share a socket; a reader that takes single bytes must see each whole."""
    async with running_server(tmp_path, send_buffer_bytes=4096, wait=False) as server, deaf_client(server) as deaf:
        text = ""
        answers: list[str] = []
        pongs: list[bytes] = []

        async def ask() -> None:
            for number in range(6):
                await deaf.say("ping", str(number) * 60_000, str(number))
                await deaf.stream.send_all(deaf.frames.send(Ping(b"%d" % number)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            with trio.fail_after(60):
                while len(answers) < 6 or len(pongs) < 6:
                    deaf.frames.receive_data(bytes(await deaf.stream.receive_some(3000)))
                    for event in deaf.frames.events():
                        if isinstance(event, Pong):
                            pongs.append(bytes(event.payload))
                        else:
                            assert isinstance(event, TextMessage), event
                            text += event.data
                            if event.message_finished:
                                message = json.loads(text)
                                text = ""
                                # Besides `welcome` and changes of the engine's state meanwhile.
                                answers += [message["data"]] if message["type"] == "pong" else []
        assert pongs == [b"%d" % number for number in range(6)]
        assert answers == [str(number) * 60_000 for number in range(6)]


def tasks_of(path: str) -> list[str]:
    """Return the names of the tasks that belong to an actor."""
    found: list[str] = []
    tasks = [trio.lowlevel.current_root_task()]
    while tasks:
        task = tasks.pop()
        if task is not None:
            if task.name == path or task.name.startswith(f"{path}:"):
                found.append(task.name.removeprefix(path))
            tasks.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
    return sorted(found)


@pytest.mark.websocket
@pytest.mark.integration
async def test_a_connection_at_rest_has_its_actor_and_its_reader_and_no_other_task(
    engineless_server: RunningServer,
) -> None:
    """Each further task of two thousand connections costs some mebibytes."""
    async with engineless_server.peer() as peer:
        assert (await peer.ask("ping", "1", "x"))["data"] == "x"
        (path,) = engineless_server.connections()
        # Well before the task that waits for hello would end by itself.
        await eventually(lambda: len(tasks_of(path)) <= 2, seconds=HELLO_SECONDS / 2)
        assert tasks_of(path) == ["", ":_serve"]
