"""The files of the console, the paths they are served under, and the hash over all of them.

The hash is part of every path, so that files can be cached indefinitely, and a page loaded before an upgrade of the server
can be distinguished from a current one.
"""

from __future__ import annotations

import hashlib
import zlib
from functools import cache
from pathlib import Path

from attrs import field, frozen

import protocol

__all__ = ["PAGE_PATHS", "ConsoleFile", "console_bundle", "console_files", "console_page"]

FOLDER = Path(__file__).parent / "pages" / "console"
CLIENT = Path(protocol.__file__).parent / "javascript" / "leanvibe.js"
PAGE = "index.html"
PAGE_PATHS = ("/", "/console/version")
"""Paths of the console that have no hash in them."""
_BUNDLE = b"{bundle}"
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".html": "text/html; charset=utf-8",
}
_GZIP = 16 + zlib.MAX_WBITS


@frozen(kw_only=True)
class ConsoleFile:
    """One file as it is served."""

    kind: str
    """Its media type."""
    content: bytes = field(repr=False)
    compressed: bytes = field(repr=False)
    """The same by gzip, without a time in it."""


def _served(content: bytes, name: str) -> ConsoleFile:
    packer = zlib.compressobj(9, zlib.DEFLATED, _GZIP)
    return ConsoleFile(
        kind=_TYPES[Path(name).suffix], content=content, compressed=packer.compress(content) + packer.flush()
    )


@cache
def _contents() -> dict[str, bytes]:
    """By name within the folder, the page too; what is no part of the page (VENDORED.toml) is left out."""
    found = {
        one.relative_to(FOLDER).as_posix(): one.read_bytes()
        for one in sorted(FOLDER.rglob("*"))
        if one.is_file() and one.suffix in _TYPES
    }
    return {**found, CLIENT.name: CLIENT.read_bytes()}


@cache
def console_bundle() -> str:
    """Hash of all files with their names, 16 hexadecimal digits. Blocking the first time."""
    told = hashlib.sha256()
    for name, content in sorted(_contents().items()):
        told.update(f"{name}\0{len(content)}\0".encode() + content)
    return told.hexdigest()[:16]


@cache
def console_files() -> dict[str, ConsoleFile]:
    """Every file but the page by its whole path. Blocking the first time."""
    return {
        f"/console/{console_bundle()}/{name}": _served(content, name)
        for name, content in _contents().items()
        if name != PAGE
    }


@cache
def console_page() -> ConsoleFile:
    """The page at `/`, with the paths of its files in it. Blocking the first time."""
    return _served(_contents()[PAGE].replace(_BUNDLE, console_bundle().encode()), PAGE)
