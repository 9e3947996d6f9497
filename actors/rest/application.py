"""The quart-trio application: its routes and limits, and the mapping from outcomes to responses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from quart import Response, g, jsonify, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from actors.errors import CommandError, error_from_fault
from actors.inference.messages import DescribeEngine, EngineHealth
from actors.process_memory import NO_MEMORY, RETRY_MS, is_shortage, note_shortage
from actors.rest.asgi_connection import BODY_MEMORY, BodyMemory, FrameworkConnection
from actors.rest.auth import register_entry
from actors.rest.bodies import register_bodies
from actors.rest.conditional import register_conditions
from actors.rest.dialects import register_shaped_errors
from actors.rest.health import HEALTHY_STATUSES, describe_encoder, engine_status, mlx_health, unknown_engine
from actors.rest.models import encoder_health, register_models
from actors.rest.problems import problem
from actors.rest.readiness import describe_readiness, may_know, register_readiness
from actors.rest.request_spans import register_route_notes
from actors.rest.services import Services
from actors.rest.swagger_ui import register_swagger_ui
from protocol.commands import MAXIMUM_FRAME_BYTES
from protocol.errors import BadMessage, ErrorCode, NotAnObject, ProtocolFault, TooLarge
from runtime import RuntimeFault
from runtime.inspection import Readiness

__all__ = ["make_application"]

_log = structlog.get_logger("rest")

HEALTH_SECONDS = 1.0
READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that never write. After any other, a failed request may still have been carried out."""
BODY_SECONDS = 1200.0
"""Time allowed for a whole body. The largest body takes this long at the slowest permitted pace (`write_pace`), which
the connection enforces; the connection is cut a little later.
"""


def make_application(
    *,
    services: Services,
    registry: CollectorRegistry,
    readiness: Callable[[], Readiness],
    about: dict[str, str],
    parts: Sequence[Callable[[QuartTrio, Services], None]] = (),
) -> QuartTrio:
    """Build the application. ``readiness`` reads the runtime's records and never waits.

    Each of ``parts`` registers the routes of one service.
    """
    inference = services.inference
    # By default quart serves a static folder below the current directory, which may no longer exist.
    app = QuartTrio("leanvibe", static_folder=None, root_path=str(Path(__file__).parent))
    app.asgi_http_class = FrameworkConnection
    app.extensions[BODY_MEMORY] = BodyMemory()
    app.config["MAX_CONTENT_LENGTH"] = MAXIMUM_FRAME_BYTES
    app.config["BODY_TIMEOUT"] = BODY_SECONDS
    # quart would end a response after 60 idle seconds; our own deadlines answer with an error instead.
    app.config["RESPONSE_TIMEOUT"] = None

    async def describe_engine() -> EngineHealth:
        try:
            return await inference.ask(DescribeEngine(with_memory=True), timeout=HEALTH_SECONDS)
        except RuntimeFault as error:
            # Health reports an unreachable engine instead of failing with it. Messages of unexpected errors go to the
            # log only.
            refusal = error_from_fault(error, writes=False)
            return unknown_engine("the server failed to query the engine" if refusal is None else refusal.message)

    # Registered before anything that may reject a request.
    register_route_notes(app)
    register_entry(app, services)
    register_bodies(app, services)

    @app.get("/health/live")
    async def live() -> Any:
        # Reaching this line is the proof: the event loop runs and requests are routed.
        return jsonify({"status": "live"})

    register_readiness(app, services, readiness)

    async def encoder() -> dict[str, Any]:
        try:
            return describe_encoder(await encoder_health(services))
        except RuntimeFault:
            # The encoder is being restarted; the rest of the report does not depend on it.
            return describe_encoder(None)

    @app.get("/health/mlx")
    async def mlx() -> Any:
        if g.get("access_problem") is not None:
            # The client cannot be identified, so it gets the public part only.
            return jsonify({"status": "degraded", "reasons": ["access"]}), 503
        body = mlx_health(await describe_engine())
        return jsonify({**body, "encoder": await encoder()}), 200 if body["status"] in HEALTHY_STATUSES else 503

    @app.get("/health")
    async def health() -> Any:
        report = await describe_readiness(services, readiness())
        if not await may_know(services):
            return jsonify({**about, **report.as_data(in_full=False), "status": "degraded"}), 503
        engine = await describe_engine()
        status = engine_status(engine)
        if any(word != "engine" for word, _ in report.reasons) and status in HEALTHY_STATUSES:
            status = "degraded"
        body = {**about, **report.as_data(in_full=True), "status": status, "engine": mlx_health(engine)}
        return jsonify({**body, "encoder": await encoder()})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    register_shaped_errors(app)
    register_models(app, inference)
    for register in parts:
        register(app, services)
    register_swagger_ui(app, about["version"])
    _register_errors(app)
    register_conditions(app)
    return app


def _register_errors(app: QuartTrio) -> None:
    """Map every failure to a problem. Unlisted exceptions are our fault and reveal no details."""

    @app.errorhandler(ProtocolFault)
    async def protocol_fault(error: ProtocolFault) -> Response:
        g.is_readable = not isinstance(error, BadMessage | TooLarge) or isinstance(error, NotAnObject)
        return problem(error.code, error.message, field=error.field)

    @app.errorhandler(CommandError)
    async def refused(error: CommandError) -> Response:
        g.is_readable = True
        return problem(
            error.code, error.message, field=error.field, retry_after_ms=error.retry_after_ms, current=error.current
        )

    @app.errorhandler(RuntimeFault)
    async def fault(error: RuntimeFault) -> Response:
        told = error_from_fault(error, writes=request.method not in READING_METHODS)
        if told is not None:
            return problem(told.code, told.message, retry_after_ms=told.retry_after_ms)
        _log.error("request failed", path=request.path, request_id=_request_id(), exc_info=error)
        return problem(ErrorCode.INTERNAL, "the server failed to carry this out")

    @app.errorhandler(RequestEntityTooLarge)
    async def too_large(error: RequestEntityTooLarge) -> Response:
        return problem(ErrorCode.TOO_LARGE, f"a body may have at most {MAXIMUM_FRAME_BYTES} bytes", field="body")

    @app.errorhandler(HTTPException)
    async def http(error: HTTPException) -> Response:
        status = error.code or 500
        code = ErrorCode.NOT_FOUND if status == 404 else ErrorCode.BAD_MESSAGE
        response = problem(code, error.description or error.name, status=status)
        for name, value in error.get_headers():
            if name == "Allow":
                response.headers[name] = value
        return response

    @app.errorhandler(MemoryError)
    async def no_memory(_: Exception) -> Response:
        note_shortage()
        return problem(ErrorCode.UNAVAILABLE, NO_MEMORY, retry_after_ms=RETRY_MS)

    @app.errorhandler(Exception)
    async def unexpected(error: Exception) -> Response:
        if is_shortage(error):
            return await no_memory(error)
        _log.error("request failed", path=request.path, request_id=_request_id(), exc_info=error)
        return problem(ErrorCode.INTERNAL, "the server failed to carry this out")


def _request_id() -> str | None:
    """The value of the response's `X-Request-Id` header."""
    found: str | None = request.scope["state"].get("request_id")
    return found
