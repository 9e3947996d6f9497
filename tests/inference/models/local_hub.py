"""A server on loopback that speaks as much of the hub's API as fetching a model takes, and breaks on demand."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import attrs

LARGE_BYTES = 4000
"""From this size on a file is listed as the hub lists those in large file storage: with its SHA-256."""


def git_hash(content: bytes) -> str:
    """Git's blob id of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@attrs.define
class Hub:
    """The server's files, its faults, and the requests that it received."""

    files: dict[str, bytes] = attrs.field(factory=dict)
    model: str = "someone/small"
    commit: str = "c" * 40
    is_gated: bool = False
    cuts: dict[str, list[int]] = attrs.field(factory=dict)
    """For a file: after how many bytes each of the next answers breaks off."""
    corrupt: set[str] = attrs.field(factory=set)
    """Files sent with a wrong byte in the middle."""
    status: int | None = None
    """What everything is answered with, where it is set."""
    asked: list[tuple[str, str, str | None]] = attrs.field(factory=list)
    """Method, path and Range of every request."""
    url: str = ""

    def add_folder(self, folder: Path) -> None:
        """Serve a folder's files."""
        self.files |= {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    def listing(self) -> dict[str, Any]:
        """The answer of `/api/models`."""
        siblings = []
        for name, content in self.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git_hash(content)}
            if len(content) >= LARGE_BYTES:
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        return {
            "_id": "0" * 24, "id": self.model, "modelId": self.model, "sha": self.commit, "private": False,
            "gated": "auto" if self.is_gated else False, "disabled": False, "downloads": 0, "likes": 0, "tags": [],
            "siblings": siblings,
        }  # fmt: skip


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Run the server in a thread for as long as the block lasts."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_arguments: Any) -> None:
        """Writes nothing to stderr."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.hub, unquote(urlparse(self.path).path)
        hub.asked.append((self.command, path, self.headers.get("Range")))
        if hub.status is not None:
            return self._error(hub.status, "Other")
        api, resolve = f"/api/models/{hub.model}", f"/{hub.model}/resolve/"
        if path == api or path.startswith(f"{api}/revision/"):
            revision = path.removeprefix(api).removeprefix("/revision/") or "main"
            if revision not in ("main", hub.commit):
                return self._error(404, "RevisionNotFound")
            return self._send(json.dumps(hub.listing()).encode(), {"Content-Type": "application/json"})
        if not path.startswith(resolve):
            return self._error(404, "RepoNotFound")
        if hub.is_gated:
            return self._error(403, "GatedRepo")
        _revision, _, name = path.removeprefix(resolve).partition("/")
        if name not in hub.files:
            return self._error(404, "EntryNotFound")
        return self._send_file(name)

    def _send_file(self, name: str) -> None:
        content = self.hub.files[name]
        headers = {"X-Repo-Commit": self.hub.commit, "ETag": f'"{git_hash(content)}"', "Accept-Ranges": "bytes"}
        if len(content) >= LARGE_BYTES:
            headers |= {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
        if name in self.hub.corrupt:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        start, status, whole = 0, 200, len(content)
        wanted = self.headers.get("Range")
        if wanted:
            start, status = int(wanted.removeprefix("bytes=").partition("-")[0]), 206
            headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        cuts = self.hub.cuts.get(name)
        cut = cuts.pop(0) if cuts and self.command == "GET" else None
        self._send(content[start:], headers, status, cut)

    def _send(self, body: bytes, headers: dict[str, str], status: int = 200, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)

    def _error(self, status: int, code: str) -> None:
        self._send(b"{}", {"X-Error-Code": code, "X-Error-Message": code, "Content-Type": "application/json"}, status)
