"""Authentication middleware: one check before every route, so that a new route cannot omit it, and CORS headers on
every answer.
"""

from __future__ import annotations

from quart import Response, current_app, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import NotFound

from actors.access.messages import AuthenticationError, CheckOrigin
from actors.errors import CommandError
from actors.rest.answers import empty_answer
from actors.rest.console_files import PAGE_PATHS, console_files
from actors.rest.cross_origin import answer_headers, preflight_headers
from actors.rest.request_heads import METHODS
from actors.rest.services import ACCESS_SECONDS, Services, identity
from protocol.errors import ErrorCode
from protocol.json_text import NO_NUL
from runtime import RuntimeFault

__all__ = ["ENTRY_PATH", "OPERATOR_PREFIXES", "PUBLIC_PATHS", "needs_operator", "register_entry"]

PUBLIC_PATHS = frozenset(
    {
        # Probes of process monitors, which have no token.
        "/health/live",
        "/health/ready",
        # Pages where a token can be entered, and their assets: the same for everybody, without secrets.
        "/docs",
        "/docs/start.js",
        "/docs/swagger-ui-bundle.js",
        "/docs/swagger-ui.css",
        "/openapi.json",
        "/push",
        "/push/page.css",
        "/push/page.js",
        "/push/worker.js",
        *PAGE_PATHS,
        *console_files(),
    }
)
"""Paths that need no token."""
ENTRY_PATH = "/console/enter"
"""Path where the console exchanges the code of a link for a token; it checks the code itself."""
HEALTH_PATHS = frozenset({"/health", "/health/live", "/health/mlx", "/health/ready"})
"""Paths that answer in time even while the access actor hangs."""
HEALTH_ACCESS_SECONDS = 0.5
OPERATOR_PREFIXES = ("/models", "/metrics", "/api/pull", "/api/delete")
"""Paths that change the server for everybody, or reveal data about everybody."""
_PATH_FIELDS = {"client_id": "client_id", "name": "path.conversation"}
"""Names of path parameters in the routes' own errors, where they differ from the route's variable."""


def needs_operator(path: str) -> bool:
    """True if this path is reserved for operators."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in OPERATOR_PREFIXES)


def register_entry(app: QuartTrio, services: Services) -> None:
    """Check origin, token and role of every request, including requests that match no route."""
    # A path with an empty segment or an extra slash is a different path, and does not exist.
    app.url_map.merge_slashes = False

    @app.before_request
    async def check_entry() -> Response | None:
        is_health = request.path in HEALTH_PATHS
        g.access_seconds = HEALTH_ACCESS_SECONDS if is_health else ACCESS_SECONDS
        try:
            await services.access.ask(
                CheckOrigin(
                    host=request.headers.get("Host"),
                    origin=request.headers.get("Origin"),
                    query=request.query_string.decode("latin-1"),
                ),
                timeout=g.access_seconds,
            )
        except AuthenticationError as refusal:
            raise CommandError(ErrorCode.FORBIDDEN, str(refusal)) from None
        except RuntimeFault as error:
            if not is_health:
                raise
            # The client cannot be identified, so it gets the public part only.
            g.access_problem = str(error)
            return None
        g.allowed_origin = request.headers.get("Origin")
        if request.method == "OPTIONS" and (answer := _options()) is not None:
            return answer
        if request.scope["raw_path"].startswith(b"//"):
            # The framework would treat it as the path with one slash.
            raise NotFound
        if request.path in PUBLIC_PATHS or request.path == ENTRY_PATH:
            return None
        try:
            who = await identity(services, (request.view_args or {}).get("client_id"))
        except RuntimeFault as error:
            if not is_health:
                raise
            g.access_problem = str(error)
            return None
        if needs_operator(request.path) and not who.is_operator:
            raise CommandError(ErrorCode.FORBIDDEN, "this needs a token with the role operator")
        _refuse_nul()
        return None

    @app.after_request
    async def say_to_pages(response: Response) -> Response:
        if "Access-Control-Allow-Methods" not in response.headers:
            for name, value in answer_headers(g.get("allowed_origin")).items():
                response.headers.add(name, value)
        return response


def _options() -> Response | None:
    """Answer OPTIONS requests that need no token: preflights, to which browsers add none, and `OPTIONS *`."""
    if request.scope["raw_path"] == b"*":
        return empty_answer(204, {"Allow": ", ".join(METHODS)})
    origin = request.headers.get("Origin")
    if origin is None or "Access-Control-Request-Method" not in request.headers:
        return None
    adapter = current_app.create_url_adapter(request)
    methods = set() if adapter is None else set(adapter.allowed_methods())
    headers = preflight_headers(
        origin,
        # For an unknown path the actual request is to report the error.
        methods or METHODS,
        request.headers.get("Access-Control-Request-Headers"),
        asks_for_private_network=request.headers.get("Access-Control-Request-Private-Network") == "true",
    )
    return empty_answer(204, headers)


def _refuse_nul() -> None:
    """Apply to path and query the rule that bodies obey (`protocol.json_text.nul_refused_in_steps`): no U+0000."""
    parts = [(_PATH_FIELDS.get(name, f"path.{name}"), str(value)) for name, value in (request.view_args or {}).items()]
    parts += [(f"query.{name[:64]}", name + value) for name, value in request.args.items(multi=True)]
    for field, value in parts:
        if "\0" in value:
            shown = field.replace("\0", "\ufffd")
            raise CommandError(ErrorCode.INVALID_FIELD, f"{shown} {NO_NUL}", field=shown)
