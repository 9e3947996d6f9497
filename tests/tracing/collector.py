"""A collector for OTLP over HTTP: it reads what comes with OpenTelemetry's own classes, or misbehaves as told."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import h11
import trio
from attrs import define, field
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.server_fixture import eventually


@define(eq=False)
class Collector:
    """What came, and what to answer."""

    url: str = ""
    status: int = 200
    hangs: bool = False
    rejected: int = 0
    says: str = ""
    """Told as partial success."""
    requests: list[ExportTraceServiceRequest] = field(factory=list)
    heads: list[tuple[str, dict[str, str]]] = field(factory=list)
    """Path and headers of each request."""

    def spans(self) -> Iterator[Any]:
        """All of them, in the order in which they came."""
        for request in self.requests:
            for of_resource in request.resource_spans:
                for in_scope in of_resource.scope_spans:
                    yield from in_scope.spans

    def of_trace(self, trace_id: str) -> list[Any]:
        """Those of one trace."""
        return [one for one in self.spans() if one.trace_id.hex() == trace_id]

    async def until_named(self, trace_id: str, *names: str) -> dict[str, Any]:
        """Wait until spans of these names have come, and return the trace's by name."""

        def found() -> dict[str, Any] | None:
            by_name = {one.name: one for one in self.of_trace(trace_id)}
            return by_name if set(names) <= set(by_name) else None

        spans: dict[str, Any] = await eventually(found, what=f"spans {names} of {trace_id}")
        return spans


def attributes_of(span: Any) -> dict[str, Any]:
    """As plain values."""
    return {one.key: _plain(one.value) for one in span.attributes}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(one) for one in value.array_value.values]
    return getattr(value, kind)


@asynccontextmanager
async def running_collector() -> AsyncIterator[Collector]:
    """One on a free port, for a block."""
    collector = Collector()

    async def serve(stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                while await _answer(collector, stream, connection):
                    connection.start_next_cycle()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        collector.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        yield collector
        nursery.cancel_scope.cancel()


async def _answer(collector: Collector, stream: trio.SocketStream, connection: h11.Connection) -> bool:
    """One request; whether there may be another."""
    body, head = b"", None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            return False
    assert head is not None
    collector.heads.append((head.target.decode(), {name.decode(): value.decode() for name, value in head.headers}))
    if collector.hangs:
        await trio.sleep_forever()
    if collector.status == 200:
        collector.requests.append(ExportTraceServiceRequest.FromString(body))
    told = ExportTraceServiceResponse()
    if collector.rejected or collector.says:
        told.partial_success.rejected_spans = collector.rejected
        told.partial_success.error_message = collector.says
    answer = told.SerializeToString()
    headers = [("content-type", "application/x-protobuf"), ("content-length", str(len(answer)))]
    await stream.send_all(
        connection.send(h11.Response(status_code=collector.status, headers=headers))
        + connection.send(h11.Data(data=answer))
        + connection.send(h11.EndOfMessage())
    )
    return True
