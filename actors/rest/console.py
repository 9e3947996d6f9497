"""`GET /`: the console and its files. None of them holds a secret."""

from __future__ import annotations

from typing import Any

from quart import Response, jsonify, request
from quart_trio import QuartTrio

from actors.clock import now_milliseconds
from actors.rest.console_files import ConsoleFile, console_bundle, console_files, console_page
from actors.rest.services import Services
from actors.version import VERSION

__all__ = ["CONTENT_SECURITY", "register_console"]

CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "manifest-src 'self'; worker-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from elsewhere, and no text that becomes markup or a script: there is no policy that would make one trusted."""
FOR_GOOD = "public, max-age=31536000, immutable"
ABOUT = {
    "service": "leanvibe",
    "version": VERSION,
    "pages": {"console": "/", "rest": "/docs", "notifications": "/push"},
    "openapi": "/openapi.json",
    "health": "/health",
}
"""Answer to a program that requests `/`."""


def register_console(app: QuartTrio, services: Services) -> None:
    """The page, its files under the hash of them all, and that hash. Blocking: reads and compresses them once."""
    page = console_page()

    @app.get("/")
    async def console() -> Response:
        # Programs say */* or application/json, browsers name HTML first.
        accepted = request.accept_mimetypes
        is_browser = accepted["text/html"] > accepted["application/json"]
        response = _answer(page, "no-cache") if is_browser else jsonify(ABOUT)
        response.headers.add("Vary", "Accept")
        return response

    @app.get("/console/version")
    async def console_version() -> Response:
        response: Response = jsonify({"bundle": console_bundle(), "version": VERSION, "time_ms": now_milliseconds()})
        response.headers["Cache-Control"] = "no-store"
        return response

    # A fixed list: no path from a client is ever opened.
    for path, file in console_files().items():
        app.add_url_rule(path, f"console_{path}", _file_route(file))


def _file_route(file: ConsoleFile) -> Any:
    async def serve() -> Response:
        return _answer(file, FOR_GOOD)

    return serve


def _answer(file: ConsoleFile, kept: str) -> Response:
    is_compressed = request.accept_encodings["gzip"] > 0
    response = Response(file.compressed if is_compressed else file.content, content_type=file.kind)
    if is_compressed:
        response.headers["Content-Encoding"] = "gzip"
    response.headers.add("Vary", "Accept-Encoding")
    response.headers["Cache-Control"] = kept
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
