"""What is used of libraries beyond their public face: all of it is named here, so that an upgrade that takes it away says so.

Each library is bounded above in pyproject.toml; a new version comes in with this test.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent

WEBSOCKET = (
    "_reader_task", "_handle_message_event", "_send", "_abort_web_socket", "_send_channel", "_recv_channel",
    "_connection_proposal", "_message_parts", "_close_reason", "_reader_running", "_stream_lock", "_wsproto",
)  # fmt: skip
"""Of trio-websocket's connection, in `actors/connections/websocket.py`."""
REQUESTS = ("_check_protocol", "_maybe_recycle", "_send_error_response", "_send_h11_event", "connection_state")
"""Of hypercorn's HTTP/1.1, in `actors/rest/http_protocol.py`."""
CHUNKS = ("_reader", "_receive_buffer", "_process_error", "their_role")
"""Of h11's connection, in the same file; and of its reader of chunks:"""
CHUNK_READER = ("_bytes_in_chunk", "_reading_trailer", "_bytes_to_discard")
SERVER = ("_read_data", "_close", "idle_task", "protocol", "stream")
"""Of hypercorn's connection, in `actors/rest/http_connection.py`."""
FRAMEWORK = ("_create_request_from_scope", "_send_response", "scope")
"""Of quart's ASGI connection, in `actors/rest/asgi_connection.py`."""
CACHE = ("_idx", "left_padding", "offset", "keys", "values", "filter")
"""Of mlx-lm's batch of keys and values, in the worker and `actors/inference/kernels/forward.py`."""
BOUNDED = ("trio-websocket", "wsproto", "hypercorn", "h11", "quart", "quart-trio", "mlx-lm")


def missing(library_class: type, names: tuple[str, ...]) -> list[str]:
    """Those that are neither members nor set on `self` by the class or its bases."""
    modules = {inspect.getmodule(one) for one in library_class.__mro__ if one is not object}
    sources = "".join(inspect.getsource(one) for one in modules if one is not None)
    return [one for one in names if not hasattr(library_class, one) and not re.search(rf"self\.{one}\b", sources)]


def used(file: str, names: tuple[str, ...]) -> set[str]:
    source = (TOP / file).read_text(encoding="utf-8")
    return {one for one in names if re.search(rf"\b{one}\b", source)}


def test_trio_websocket_has_what_is_used_of_it() -> None:
    from trio_websocket import WebSocketConnection

    assert missing(WebSocketConnection, WEBSOCKET) == []
    assert used("actors/connections/websocket.py", WEBSOCKET) == set(WEBSOCKET)


def test_hypercorn_has_what_is_used_of_it() -> None:
    import h11
    from h11._readers import ChunkedReader
    from h11._receivebuffer import ReceiveBuffer
    from hypercorn.protocol.h11 import H11Protocol
    from hypercorn.trio.tcp_server import TCPServer

    assert missing(H11Protocol, REQUESTS) == []
    assert used("actors/rest/http_protocol.py", REQUESTS) == set(REQUESTS)
    assert (
        missing(h11.Connection, CHUNKS)
        == missing(ChunkedReader, CHUNK_READER)
        == missing(ReceiveBuffer, ("_data",))
        == []
    )
    assert used("actors/rest/http_protocol.py", CHUNKS + CHUNK_READER) == set(CHUNKS + CHUNK_READER)
    assert missing(TCPServer, SERVER) == []
    assert used("actors/rest/http_connection.py", SERVER) == set(SERVER)


def test_quart_has_what_is_used_of_it() -> None:
    from quart_trio.asgi import TrioASGIHTTPConnection

    assert missing(TrioASGIHTTPConnection, FRAMEWORK) == []
    assert used("actors/rest/asgi_connection.py", FRAMEWORK) == set(FRAMEWORK)


@pytest.mark.mlx_real_inference
def test_mlx_lm_has_what_is_used_of_its_cache() -> None:
    from mlx_lm.models.cache import BatchKVCache

    assert missing(BatchKVCache, CACHE) == []


def test_libraries_whose_privates_are_used_are_bounded_above() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {}
    for one in project["dependencies"]:
        name, bounds = re.fullmatch(r"([A-Za-z0-9-]+)(?:\[\w+\])?([^;]*)(?:;.*)?", one).groups()
        if name in BOUNDED:
            found[name] = found.get(name, True) and "<" in bounds
    assert found == dict.fromkeys(BOUNDED, True)
