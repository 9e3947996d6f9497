"""Swagger UI at `/docs`. All of its files come from the installed package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import trio
from quart import Response, jsonify, send_from_directory
from quart_trio import QuartTrio

from actors.rest.openapi import openapi

__all__ = ["register_swagger_ui"]

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>LeanVibe</title><link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body>
</html>
"""
START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#page", validatorUrl: null});\n'
SERVED = frozenset({"swagger-ui.css", "swagger-ui-bundle.js"})
# Nothing from other origins and no inline scripts; Swagger UI sets styles and shows icons from data URLs.
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"


def register_swagger_ui(app: QuartTrio, version: str) -> None:
    """Register `/openapi.json` and `/docs`."""
    # Built on first use, in a thread: it parses the source of every wire class.
    document: dict[str, Any] = {}
    # Once: two threads in Python's parser at a time fail ("AST constructor recursion depth mismatch", CPython 3.11).
    making = trio.Lock()

    @app.get("/openapi.json")
    async def read_document() -> Response:
        async with making:
            if not document:
                document.update(await trio.to_thread.run_sync(openapi, version))
        response: Response = jsonify(document)
        return response

    @app.get("/docs")
    async def read_page() -> Response:
        return Response(PAGE, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": POLICY})

    @app.get("/docs/start.js")
    async def read_start() -> Response:
        return Response(START, content_type="text/javascript; charset=utf-8")

    @app.get("/docs/<name>")
    async def read_file(name: str) -> Response:
        return await send_from_directory(_folder(), name if name in SERVED else "")


def _folder() -> Path:
    """Return the folder of the package's assets without importing it, which would import Flask."""
    spec = find_spec("flask_swagger_ui")
    assert spec is not None, "it is installed with this program"
    assert spec.submodule_search_locations is not None, "it is a package"
    return Path(next(iter(spec.submodule_search_locations))) / "dist"
