"""Sends schemas to a server, and to a pool of sandboxed processes beside it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import trio

from actors.inference.messages import GenerationRefused
from actors.inference.sandbox.actor import Sandbox
from actors.inference.sandbox.limits import JOB_LIMITS, JobKind, JobLimits
from actors.inference.sandbox_messages import EncodePrompt, OpenText
from protocol.errors import ErrorCode
from runtime import ActorSystem, ChildSpec, SupervisorSpec
from runtime.inspection import actor_snapshot
from runtime.testing import running
from tests.fuzzing.drivers import SIDE_BY_SIDE, is_generation_over, judge_rest, judge_websocket
from tests.fuzzing.exchange import play
from tests.fuzzing.harness import Fuzzed, Report
from tests.fuzzing.inputs import Input
from tests.fuzzing.schema_inputs import PoolInput, SchemaInputs, Way, way_of

__all__ = ["fuzz_schemas"]

OPEN_SECONDS = 120.0
JUDGE_SECONDS = 300.0
"""For one schema behind those of others; its own limits are far below, and end it."""
POOL_PROCESSOR_SECONDS = 0.25
"""A quarter of what the server allows: what never ends is most of the cost here, and its end is the same."""


async def fuzz_schemas(
    report: Report,
    server: Fuzzed,
    *,
    ways: frozenset[Way],
    pool_folder: Path | None = None,
    first: int = 0,
    count: int | None = None,
) -> None:
    """Inputs of these ways until the time is up, or those of so many numbers. The pool reads the checkpoint in ``pool_folder``."""
    inputs = SchemaInputs(report.seed)

    def numbers_of(*some: Way) -> Iterator[int]:
        numbers = itertools.count(first) if count is None else iter(range(first, first + count))
        return (number for number in numbers if way_of(number) in some and way_of(number) in ways)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_to_server, report, server, inputs, numbers_of(Way.EMBEDDED, Way.MOCK))
        if Way.POOL in ways:
            assert pool_folder is not None
            nursery.start_soon(_to_pool, report, inputs, numbers_of(Way.POOL), pool_folder)


async def _to_server(report: Report, server: Fuzzed, inputs: SchemaInputs, numbers: Iterator[int]) -> None:
    async def send_on() -> None:
        for number in numbers:
            one = inputs.make(number)
            assert isinstance(one, Input)
            if one.kind.startswith("websocket"):
                answered = await play(one, server.host, server.websocket_port, is_whole=is_generation_over, replace={})
                report.took(one, judge_websocket(report, one, answered))
            else:
                answered = await play(one, server.host, server.rest_port, is_whole=lambda _: False, replace={})
                report.took(one, judge_rest(report, one, answered))

    await _side_by_side(send_on)


async def _to_pool(report: Report, inputs: SchemaInputs, numbers: Iterator[int], folder: Path) -> None:
    """Each is taken, or refused as an invalid field with its name, and the fork server behind them stays the same process."""
    spec = ChildSpec(id="sandbox", start=lambda: Sandbox(_limits()))
    async with running(SupervisorSpec(children=(spec,))) as system:
        sandbox = system.reference("sandbox")
        await sandbox.ask(OpenText(folder), timeout=OPEN_SECONDS)
        before = await _fork_servers(system)

        async def judge_on(client: int) -> None:
            for number in numbers:
                one = inputs.make(number)
                assert isinstance(one, PoolInput)
                message = EncodePrompt(folder=folder, client_id=f"c{client}", generate=one.generate)
                try:
                    await sandbox.ask(message, timeout=JUDGE_SECONDS)
                    outcome = "pool took"
                except GenerationRefused as refusal:
                    outcome = _outcome(report, one, refusal)
                except Exception as error:
                    report.found(f"the sandbox failed: {error!r}", one)
                    outcome = "pool failed"
                report.took(one, outcome)

        try:
            await _side_by_side(*(lambda client=client: judge_on(client) for client in range(SIDE_BY_SIDE)))
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + OPEN_SECONDS):
                after = await _fork_servers(system)
                if after != before:
                    report.found(f"the fork server was {before} and is {after}")
                figures = await actor_snapshot(system, "sandbox", timeout=60)
                assert figures is not None
                report.figures["pool_processes_ended"] = figures["ended_jobs"]


async def _side_by_side(*some: Callable[[], object]) -> None:
    async with trio.open_nursery() as nursery:
        for one in some if len(some) > 1 else some * SIDE_BY_SIDE:
            nursery.start_soon(one)  # type: ignore[arg-type]


def _outcome(report: Report, one: PoolInput, refusal: GenerationRefused) -> str:
    if refusal.code is ErrorCode.OVERLOADED:
        # The machine gave it no processor time for as long.
        return "pool too busy"
    if refusal.code is not ErrorCode.INVALID_FIELD or not _is_named(one, refusal.field or ""):
        report.found(f"refused with {refusal.code.value} of {refusal.field}: {refusal.message[:300]}", one)
    return "pool ended its process" if "when it is prepared" in refusal.message else "pool refused"


def _is_named(one: PoolInput, field: str) -> bool:
    if one.kind == "pool-schema":
        return field == "data.response_schema"
    return field.startswith("data.tools") or field in ("data.tool_choice", "data.response_schema", "data.messages")


def _limits() -> dict[JobKind, JobLimits]:
    schemas = attrs.evolve(JOB_LIMITS[JobKind.SCHEMA], processor_seconds=POOL_PROCESSOR_SECONDS)
    return {**JOB_LIMITS, JobKind.SCHEMA: schemas}


async def _fork_servers(system: ActorSystem) -> list[int]:
    with contextlib.suppress(TypeError):
        figures = await actor_snapshot(system, "sandbox", timeout=60)
        return [one["pid"] for one in figures["fork_servers"]]  # type: ignore[index,union-attr,attr-defined]
    return []
