"""The sandbox actor: everything that a client or a checkpoint supplies is run in a process that may be killed.

There is one fork server per checkpoint, jobs run in processes that it forks, and verdicts are cached. Every wait here has a
deadline, and no job's end harms another: a process that dies costs its own job, a fork server that dies costs a second try.
"""

from __future__ import annotations

import array
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio
from attrs import define, field

from actors.inference.frames import FrameFault
from actors.inference.messages import GenerationRefused, ModelRefused
from actors.inference.sandbox.fork_server import (
    KILLED_FROM_OUTSIDE,
    ForkServerGone,
    ForkServerProcess,
    GrammarsLate,
    OpenFailed,
    SlotEnded,
)
from actors.inference.sandbox.limits import JOB_LIMITS, OPEN_PROCESSOR_SECONDS, JobKind, JobLimits
from actors.inference.sandbox.request_text import text_of
from actors.inference.sandbox.turns import Asker, Turns
from actors.inference.sandbox.verdicts import Refusal, Verdicts, digest
from actors.inference.sandbox_messages import EncodedPrompt, EncodePrompt, OpenText, SandboxMessage, SetOpenTexts
from actors.inference.text.token_text import TextReport
from actors.inference.tools import GenerateWithTools, ReasoningForm, ToolCallFormat
from protocol.errors import ErrorCode
from protocol.generation import Generate
from runtime import Actor, block

__all__ = ["Sandbox"]

_log = structlog.get_logger("sandbox")

MAXIMUM_FORK_SERVERS = 4
"""The most engines there can be; the least recently used fork server ends."""
PROBE_CLIENT = ":probe"
"""Client id that probes of a checkpoint are queued under; no client can have it."""
TRIES = 2
"""Attempts at a job whose process was killed from outside, or whose fork server was lost."""
PROBE_PROCESSOR_SECONDS = 2.0
"""For a short chat and a few words, which take a millisecond."""
RETRY_MS = 1000


@define(eq=False)
class _Turn:
    """A job that waits for a process."""

    asker: Asker
    came: trio.Event = field(factory=trio.Event)
    """Set once the job may run or was evicted."""
    is_put_out: bool = False
    """True if the job was evicted from the queue."""


@define(eq=False)
class _Opening:
    """A fork server that is running or starting."""

    is_over: trio.Event = field(factory=trio.Event)
    server: ForkServerProcess | None = None
    report: TextReport | None = None
    problem: Exception | None = None
    used_at: float = 0.0
    working: int = 0
    """Number of jobs that depend on it."""


class _Overran(Exception):
    """A job ended its process; carries the reason and the step it was in."""

    def __init__(self, problem: str, step: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.step = step


class Sandbox(Actor[SandboxMessage]):
    """Owns all fork servers."""

    mailbox = block(4096)

    def __init__(
        self,
        limits: Mapping[JobKind, JobLimits] = JOB_LIMITS,
        *,
        open_processor_seconds: float = OPEN_PROCESSOR_SECONDS,
        opens_first: Path | None = None,
        grammars_at_need: bool = False,
        watches_memory: bool = sys.platform != "linux",
    ) -> None:
        """``open_processor_seconds`` limits reading a checkpoint's text side.

        ``watches_memory`` makes the fork servers measure their jobs, where the kernel enforces no memory limit.
        ``opens_first`` will be needed soon, so it is opened while other parts of the server start. With ``grammars_at_need``
        grammars are
        loaded for the first schema, which waits for them: a second of processor time.
        """
        self._grammars_at_need = grammars_at_need
        self._opens_first = opens_first
        self._watches_memory = watches_memory
        self._limits = limits
        self._open_processor_seconds = open_processor_seconds
        self._openings: dict[Path | None, _Opening] = {}
        self._turns: dict[JobKind, Turns[_Turn]] = {kind: Turns(one) for kind, one in limits.items()}
        self._verdicts = Verdicts()
        self._without_grammars: set[Path | None] = set()
        """Checkpoints whose grammars have ended a fork server."""
        self._ended_jobs = 0

    async def started(self) -> None:
        """Starts opening the first checkpoint; callers that need it wait for the result."""
        if self._opens_first is not None:
            opening = self._openings[self._opens_first] = _Opening()
            self.context.spawn(self._start, self._opens_first, opening)

    async def handle(self, message: SandboxMessage) -> object:
        match message:
            case OpenText(folder):
                self.context.answer_later(self._open_text, folder)
            case EncodePrompt():
                self.context.answer_later(self._encode, message)
            case SetOpenTexts(folders):
                self._end_unused(folders)
        return None

    async def stopping(self) -> None:
        """Ends the fork servers. They also end with their pipes, which `ForkServerProcess.serve` guarantees."""
        for opening in self._openings.values():
            if opening.server is not None:
                opening.server.end()

    def snapshot(self) -> Mapping[str, object]:
        """Processes, and jobs by kind."""
        servers = [one.server for one in self._openings.values() if one.server is not None]
        return {
            "fork_servers": [
                {
                    "pid": one.pid,
                    "processes": {
                        kind.value: [s.pid for s in one.slots.values() if s.kind is kind] for kind in JobKind
                    },
                }
                for one in servers
                if not one.is_gone
            ],
            "running": {kind.value: turns.running for kind, turns in self._turns.items()},
            "waiting": {kind.value: turns.waiting for kind, turns in self._turns.items()},
            "verdicts": len(self._verdicts),
            "ended_jobs": self._ended_jobs,
        }

    # --- checkpoints ------------------------------------------------------------------------------

    async def _open_text(self, folder: Path) -> TextReport:
        try:
            async with self._opened(folder) as opening:
                assert opening.report is not None
                return opening.report
        except (OpenFailed, ForkServerGone, OSError) as error:
            raise ModelRefused(ErrorCode.MODEL_UNAVAILABLE, str(error)) from None

    @asynccontextmanager
    async def _opened(self, folder: Path | None) -> AsyncIterator[_Opening]:
        """The fork server of a checkpoint, started if necessary. Raises what `_start` raises."""
        opening = self._openings.get(folder)
        if opening is None or (opening.server is not None and opening.server.is_gone):
            opening = self._openings[folder] = _Opening()
            # A task of the actor, so that a caller that leaves does not leave it half started.
            self.context.spawn(self._start, folder, opening)
        opening.used_at = time.monotonic()
        opening.working += 1
        try:
            await opening.is_over.wait()
            if opening.problem is not None:
                raise opening.problem
            yield opening
        finally:
            opening.working -= 1

    async def _start(self, folder: Path | None, opening: _Opening) -> None:
        """Starts a server, reads the checkpoint and probes it, then serves until the process ends. Failures reach the waiting
        callers."""
        problem: ForkServerGone | None = None
        try:
            server = await ForkServerProcess.start(folder, self._limits, watches_memory=self._watches_memory)
            opening.server = server
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.serve)
                try:
                    await server.open(self._open_processor_seconds)
                    opening.report = _report_of(server.report)
                    await self._probe(server)
                except Exception:
                    server.end()
                    raise
                opening.is_over.set()
                self._end_beyond(MAXIMUM_FORK_SERVERS)
                _log.info("fork server ready", sandbox_pid=server.pid)
                if folder in self._without_grammars:
                    server.skip_grammars()
                elif not self._grammars_at_need or await server.needs_grammars():
                    try:
                        await server.load_grammars()
                    except ForkServerGone as error:
                        problem = error
            if problem is not None:
                self._note_without_grammars(folder, server, problem)
        except* (OpenFailed, ForkServerGone, OSError) as group:
            opening.problem = _first(group)
        finally:
            opening.is_over.set()
            if self._openings.get(folder) is opening:
                # A failed checkpoint is tried again on the next request.
                del self._openings[folder]

    def _note_without_grammars(self, folder: Path | None, server: ForkServerProcess, problem: ForkServerGone) -> None:
        """Makes each later job load its own grammars, so that it harms no other; not if the server was killed from outside."""
        if isinstance(problem, GrammarsLate) or server.ended_itself:
            self._without_grammars.add(folder)
            _log.warning("grammars could not be loaded", sandbox_pid=server.pid, error=str(problem))

    async def _probe(self, server: ForkServerProcess) -> None:
        """Tries template and tokenizer once, so that a checkpoint that never terminates is rejected and not served."""
        limits = self._limits[JobKind.PROMPT]
        limits = attrs.evolve(limits, processor_seconds=min(PROBE_PROCESSOR_SECONDS, limits.processor_seconds))
        slot = await server.take_slot(JobKind.PROMPT)
        step, is_whole = "template", False

        def note(name: str) -> None:
            nonlocal step
            step = name

        try:
            answer, told = await slot.run("probe", {"processor_seconds": limits.processor_seconds}, note)
            is_whole = answer == "probed" and not told["retires"]
        except (SlotEnded, FrameFault) as error:
            reason = _reason(error.status, limits) if isinstance(error, SlotEnded) else str(error)
            raise OpenFailed(f"its {_STEP_NAMES.get(step, step)} {reason}") from None
        finally:
            if not is_whole:
                slot.close()
        if answer != "probed":
            raise OpenFailed(f"its {_STEP_NAMES.get(step, step)} fails: {told.get('problem')}")
        if is_whole:
            server.put_back(slot)

    def _end_unused(self, in_use: frozenset[Path]) -> None:
        for folder, opening in list(self._openings.items()):
            if folder is not None and folder not in in_use and not opening.working and opening.server is not None:
                opening.server.end()

    def _end_beyond(self, most: int) -> None:
        idle = sorted(
            (one for one in self._openings.values() if not one.working and one.server is not None),
            key=lambda one: one.used_at,
        )
        for opening in idle[: max(0, len(self._openings) - most)]:
            assert opening.server is not None
            opening.server.end()

    # --- jobs -------------------------------------------------------------------------------------

    async def _encode(self, message: EncodePrompt) -> EncodedPrompt:
        generate = message.generate
        request = text_of(generate)
        place = str(message.folder).encode()
        form = _form_of(generate)
        if form is not None:
            key = digest((b"form", place, form))
            await self._judge(message, key, JobKind.SCHEMA, "check", request)
            left_out = self._verdicts.left_out(key)
        else:
            left_out = ()
        key = digest((b"prompt", place, request))
        ids = _ids_of(await self._judge(message, key, JobKind.PROMPT, "encode", request), message.generate)
        return EncodedPrompt(ids, left_out)

    async def _judge(
        self, message: EncodePrompt, key: bytes, kind: JobKind, name: str, request: bytes
    ) -> tuple[str, dict[str, Any]]:
        """Runs a job, or refuses it on a cached verdict. Raises `GenerationRefused`."""
        if self._verdicts.is_known(key):
            refusal = self._verdicts.refusal(key)
            if refusal is not None:
                raise _refused(refusal)
            return "checked", {}
        try:
            answer, told = await self._run(message, kind, name, {"request": request})
        except _Overran as error:
            refusal = _refusal_of(error, kind, message.generate)
            self._verdicts.note(key, refusal)
            self._ended_jobs += 1
            _log.warning("a job ended its process", kind=kind.value, step=error.step, problem=error.problem)
            raise _refused(refusal) from None
        if answer == "bad_schema":
            raise _refused(Refusal(field=told["field"], problem=told["problem"]))
        if answer == "template_refused":
            problem = f"the model's chat template rejects this: {told['problem']}"
            raise GenerationRefused(ErrorCode.INVALID_FIELD, problem, field="data.messages")
        if answer == "checked":
            self._verdicts.note(key, None, told["left_out"])
        return answer, told

    async def _run(
        self, message: EncodePrompt, kind: JobKind, name: str, content: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """Runs a job, and retries it if it was not the cause of its end. Raises `GenerationRefused` or `_Overran`."""
        async with self._turn(kind, Asker(message.client_id, message.caller)):
            for _ in range(TRIES):
                try:
                    async with self._opened(message.folder) as opening:
                        assert opening.server is not None
                        answer = await self._try(opening.server, kind, name, content)
                except OpenFailed as error:
                    raise GenerationRefused(ErrorCode.MODEL_UNAVAILABLE, str(error)) from None
                except (ForkServerGone, OSError) as error:
                    _log.warning("a job lost its process", kind=kind.value, error=str(error))
                    answer = None
                if answer is not None:
                    return answer
        raise GenerationRefused(
            ErrorCode.OVERLOADED, "the process that reads prompts was lost", retry_after_ms=RETRY_MS
        )

    async def _try(
        self, server: ForkServerProcess, kind: JobKind, name: str, content: dict[str, Any]
    ) -> tuple[str, dict[str, Any]] | None:
        """The job's answer; None if its process was ended from outside. Raises `_Overran` or `ForkServerGone`."""
        slot = await server.take_slot(kind)
        step = ""

        def note(name: str) -> None:
            nonlocal step
            step = name

        is_whole = False
        try:
            answer, told = await slot.run(name, content, note)
            is_whole = not told["retires"]
        except SlotEnded as ended:
            if server.is_gone:
                raise ForkServerGone("it has ended") from None
            if ended.status in KILLED_FROM_OUTSIDE:
                return None
            if ended.status == -signal.SIGALRM:
                # It got no processor time for that long: the machine's fault, not the job's.
                raise GenerationRefused(
                    ErrorCode.OVERLOADED, "the machine is too busy to read this", retry_after_ms=RETRY_MS
                ) from None
            raise _Overran(_reason(ended.status, self._limits[kind]), step) from None
        except FrameFault as fault:
            raise _Overran(f"corrupts the process that reads it ({fault})", step) from None
        finally:
            if is_whole:
                server.put_back(slot)
            else:
                await server.end_slot(slot)
        if answer == "died":
            raise _Overran(_died(told["problem"]), step)
        return answer, told

    @asynccontextmanager
    async def _turn(self, kind: JobKind, asker: Asker) -> AsyncIterator[None]:
        """Waits for a free process in fair order. Raises `GenerationRefused` if too many of the caller's jobs wait."""
        turns, turn = self._turns[kind], _Turn(asker)
        if not turns.may_wait(asker):
            greedy = turns.make_room(asker)
            if greedy is None:
                raise _too_many()
            greedy[1].is_put_out = True
            greedy[1].came.set()
        turns.push(asker, turn)
        self._start_jobs(turns)
        try:
            await turn.came.wait()
            if turn.is_put_out:
                raise _too_many()
            yield
        finally:
            if not turn.is_put_out and not turns.withdraw(asker, turn):
                turns.end(asker)
                self._start_jobs(turns)

    def _start_jobs(self, turns: Turns[_Turn]) -> None:
        while (turn := turns.start_next()) is not None:
            turn.came.set()


def _too_many() -> GenerationRefused:
    return GenerationRefused(
        ErrorCode.OVERLOADED, "too many requests of this client are waiting to be read", retry_after_ms=RETRY_MS
    )


_STEP_NAMES = {"template": "chat template", "tokenizer": "tokenizer"}


def _report_of(told: dict[str, Any]) -> TextReport:
    return TextReport(
        vocabulary_size=told["vocabulary_size"],
        context_tokens=told["context_tokens"],
        stop_token_ids=frozenset(told["stop_token_ids"]),
        tool_call_format=ToolCallFormat[told["tool_call_format"]],
        has_tools=told["has_tools"],
        reasoning=ReasoningForm.from_json(told["reasoning"]),
        decoding=told["decoding"],
    )


def _form_of(generate: Generate) -> bytes | None:
    """The constraint on the answer, as bytes that are equal for equal constraints; None if unconstrained."""
    rule = generate.call_rule if isinstance(generate, GenerateWithTools) else None
    if generate.response_schema is None and rule is None:
        return None
    return json.dumps([generate.response_schema, None if rule is None else rule.as_text()]).encode("ascii")


def _reason(status: int, limits: JobLimits) -> str:
    if status == -signal.SIGPROF:
        return f"takes more than {limits.processor_seconds:g} s of processor time"
    if status == -signal.SIGALRM:
        return f"is not done after {limits.wall_seconds:g} s"
    if status == -signal.SIGABRT:
        return f"takes too much memory (over {limits.memory_bytes >> 20} MiB), or aborts"
    return f"ends the process that works on it (status {status})"


def _died(problem: str) -> str:
    return "takes too much memory" if problem == "out of memory" else f"fails in native code ({problem})"


def _refusal_of(error: _Overran, kind: JobKind, generate: Generate) -> Refusal:
    if kind is JobKind.SCHEMA:
        field_name = error.step or "response_schema"
        return Refusal(field=field_name, problem=f"this {error.problem} when it is prepared")
    field_name = "prompt" if generate.messages is None else "messages"
    name = "the model's chat template" if error.step == "template" else "the model's tokenizer"
    return Refusal(field=field_name, problem=f"{name} {error.problem} with this")


def _refused(refusal: Refusal) -> GenerationRefused:
    name = f"data.{refusal.field}"
    return GenerationRefused(ErrorCode.INVALID_FIELD, f"{name}: {refusal.problem}", field=name)


def _ids_of(answer: tuple[str, dict[str, Any]], generate: Generate) -> list[int]:
    name, told = answer
    if name == "too_long":
        raise GenerationRefused(
            ErrorCode.CONTEXT_LENGTH_EXCEEDED,
            f"the prompt has {told['tokens']} tokens, more than any model accepts",
            field="data.messages" if generate.messages else "data.prompt",
        )
    return array.array("I", told["ids"]).tolist()


def _first(group: BaseExceptionGroup[Any]) -> Exception:
    found: Any = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, Exception)
    return found
