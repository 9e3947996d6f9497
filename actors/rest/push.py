"""`GET /push`: the page that subscribes a browser to notifications, its service worker, and their public key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quart import Response, jsonify
from quart_trio import QuartTrio

from actors.notifications.messages import DescribePush
from actors.rest.services import Services, identity
from protocol.codec import unstructure

__all__ = ["register_push"]

ANSWER_SECONDS = 10.0
PAGES = Path(__file__).parent / "pages"
CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; worker-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def register_push(app: QuartTrio, services: Services) -> None:
    """Register the page and its assets, which contain no secrets."""
    files = {
        "/push": ("push.html", "text/html; charset=utf-8"),
        "/push/page.js": ("push_page.js", "text/javascript; charset=utf-8"),
        "/push/page.css": ("push_page.css", "text/css; charset=utf-8"),
        "/push/worker.js": ("push_worker.js", "text/javascript; charset=utf-8"),
    }
    for path, (name, kind) in files.items():
        app.add_url_rule(path, f"push_{name}", _page(PAGES.joinpath(name).read_bytes(), kind))

    @app.get("/push/key")
    async def key() -> Any:
        await identity(services)
        return jsonify(unstructure(await services.notifications.ask(DescribePush(), timeout=ANSWER_SECONDS)))


def _page(content: bytes, kind: str) -> Any:
    async def serve() -> Response:
        response = Response(content, content_type=kind)
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-cache"
        return response

    return serve
