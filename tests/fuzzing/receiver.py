"""A receiver of webhooks on loopback: it counts who connects, and what is asked for."""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme
from attrs import define, field

__all__ = ["Receiver", "receiving"]


@define
class Receiver:
    """What came."""

    port: int = 0
    ca_file: Path = field(factory=Path)
    connections: int = 0
    paths: Counter[str] = field(factory=Counter)


@contextmanager
def receiving(folder: Path) -> Iterator[Receiver]:
    """Listen with a certificate for `localhost`, at a port of five digits, until the block ends."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1", "::1").configure_cert(context)
    found = Receiver(ca_file=folder / "ca.pem")

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def setup(self) -> None:
            self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def do_POST(self) -> None:
            found.paths[self.path] += 1
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def process_request(self, request: Any, client_address: Any) -> None:
            found.connections += 1
            super().process_request(request, client_address)

        def handle_error(self, *_: Any) -> None:
            """A handshake that failed is the other side's business."""

    server = None
    while server is None:
        with suppress(OSError):
            server = Server(("127.0.0.1", 0), Handler)
        if server is not None and server.server_address[1] < 10_000:
            server.server_close()
            server = None
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
