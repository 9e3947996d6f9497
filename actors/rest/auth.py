"""The door of REST: one check before every route, so that a new route cannot forget it, and what every answer says."""

from __future__ import annotations

from quart import Response, current_app, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import NotFound

from actors.access.messages import AuthenticationError, CheckOrigin
from actors.refusals import CommandRefused
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
        # Asked by whatever watches over the process, which has no token.
        "/health/live",
        "/health/ready",
        # Pages on which a token can be given, and what they are made of: the same for everybody, and no secret in it.
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
"""Answered without a token."""
ENTRY_PATH = "/console/enter"
"""Asked by a page that has no token yet, to get one; it judges itself who may."""
HEALTH_PATHS = frozenset({"/health", "/health/live", "/health/mlx", "/health/ready"})
"""Answered in time whatever hangs, the actor too that knows who asks."""
HEALTH_ACCESS_SECONDS = 0.5
OPERATOR_PREFIXES = ("/models", "/metrics", "/api/pull", "/api/delete")
"""They change the server for everybody, or tell about everybody."""
_PATH_FIELDS = {"client_id": "client_id", "name": "path.conversation"}
"""What routes call parts of their path where they refuse them themselves."""


def needs_operator(path: str) -> bool:
    """Whether this path is for operators alone."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in OPERATOR_PREFIXES)


def register_entry(app: QuartTrio, services: Services) -> None:
    """Check door, token and role of every request, those for routes that are not there too."""
    # A path with an empty part, or with a slash too many, is another path: it is not there.
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
            raise CommandRefused(ErrorCode.FORBIDDEN, str(refusal)) from None
        except RuntimeFault as error:
            if not is_health:
                raise
            # Nobody can tell who asks: what these say then is for everybody.
            g.access_problem = str(error)
            return None
        g.allowed_origin = request.headers.get("Origin")
        if request.method == "OPTIONS" and (answer := _options()) is not None:
            return answer
        if request.scope["raw_path"].startswith(b"//"):
            # The framework would take it for the path with one slash.
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
            raise CommandRefused(ErrorCode.FORBIDDEN, "this needs a token with the role operator")
        _refuse_nul()
        return None

    @app.after_request
    async def say_to_pages(response: Response) -> Response:
        if "Access-Control-Allow-Methods" not in response.headers:
            for name, value in answer_headers(g.get("allowed_origin")).items():
                response.headers.add(name, value)
        return response


def _options() -> Response | None:
    """What is answered to everybody: a preflight, which no browser sends a token with, and the server as a whole."""
    if request.scope["raw_path"] == b"*":
        return empty_answer(204, {"Allow": ", ".join(METHODS)})
    origin = request.headers.get("Origin")
    if origin is None or "Access-Control-Request-Method" not in request.headers:
        return None
    adapter = current_app.create_url_adapter(request)
    methods = set() if adapter is None else set(adapter.allowed_methods())
    headers = preflight_headers(
        origin,
        # Of a path that is not there the answer itself shall tell.
        methods or METHODS,
        request.headers.get("Access-Control-Request-Headers"),
        asks_for_private_network=request.headers.get("Access-Control-Request-Private-Network") == "true",
    )
    return empty_answer(204, headers)


def _refuse_nul() -> None:
    """What the body may not hold (`protocol.json_text.nul_refused_in_steps`), path and query may not hold either."""
    parts = [(_PATH_FIELDS.get(name, f"path.{name}"), str(value)) for name, value in (request.view_args or {}).items()]
    parts += [(f"query.{name[:64]}", name + value) for name, value in request.args.items(multi=True)]
    for field, value in parts:
        if "\0" in value:
            shown = field.replace("\0", "\ufffd")
            raise CommandRefused(ErrorCode.INVALID_FIELD, f"{shown} {NO_NUL}", field=shown)
