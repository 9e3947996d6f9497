"""The sandbox actor: everything that a client or a checkpoint chose is run in a process that may be ended.

One fork server for each checkpoint, jobs in processes that it forked, and a memory of what was tried before. Nothing here
waits for more than its deadline, and no job's end harms another: a process that dies costs its own job, a fork server that
dies costs a second try.
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
from actors.inference.text.sandboxed_text import TextReport
from actors.inference.tools import GenerateWithTools, ReasoningForm, ToolCallFormat
from protocol.errors import ErrorCode
from protocol.generation import Generate
from runtime import Actor, block

__all__ = ["Sandbox"]

_log = structlog.get_logger("sandbox")

MAXIMUM_FORK_SERVERS = 4
"""As many as there are engines at most; the one that was not used for longest ends."""
PROBE_CLIENT = ":probe"
"""Whose turn the tries of a checkpoint are; no client can be called so."""
TRIES = 2
"""A job whose process was killed from outside, or whose fork server was lost, is tried once more."""
PROBE_PROCESSOR_SECONDS = 2.0
"""For a short chat and a few words, which take a millisecond."""
RETRY_MS = 1000


@define(eq=False)
class _Turn:
    """A job that waits for a process."""

    asker: Asker
    came: trio.Event = field(factory=trio.Event)
    """It may run, or has to go."""
    is_put_out: bool = False
    """It has to go."""


@define(eq=False)
class _Opening:
    """A fork server that is there or is being started."""

    is_over: trio.Event = field(factory=trio.Event)
    server: ForkServerProcess | None = None
    report: TextReport | None = None
    problem: Exception | None = None
    used_at: float = 0.0
    working: int = 0
    """Jobs that count on it."""


class _Overran(Exception):
    """A job ended its process; carries why and what it was working on."""

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
        """``open_processor_seconds`` is what reading a checkpoint's text side may take.

        ``watches_memory`` has the fork servers measure their jobs, where the kernel enforces no limit of memory.
        ``opens_first`` will be asked for soon; it is opened while other parts of the server start. With ``grammars_at_need`` what
        checks schemas is made for the first that comes, which waits for it: a second of processor time.
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
        """Checkpoints whose grammars ended a fork server."""
        self._ended_jobs = 0

    async def started(self) -> None:
        """Begin to open what will be asked for; whoever asks hears how that ends."""
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
        """The fork servers end with their pipes; `ForkServerProcess.serve` makes sure of it."""
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
        """The fork server of a checkpoint, started where there is none. Raises what `_start` raises."""
        opening = self._openings.get(folder)
        if opening is None or (opening.server is not None and opening.server.is_gone):
            opening = self._openings[folder] = _Opening()
            # A task of the actor: an asker that leaves must not leave half of it behind.
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
        """Start, read, try; then serve until the process ends. What goes wrong is told to those who wait."""
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
                # What failed is tried again when it is asked for again.
                del self._openings[folder]

    def _note_without_grammars(self, folder: Path | None, server: ForkServerProcess, problem: ForkServerGone) -> None:
        """From now on each job that needs them loads its own, and ends nobody else; unless it was killed from outside."""
        if isinstance(problem, GrammarsLate) or server.ended_itself:
            self._without_grammars.add(folder)
            _log.warning("no grammars", sandbox_pid=server.pid, error=str(problem))

    async def _probe(self, server: ForkServerProcess) -> None:
        """Try template and tokenizer once, so that a checkpoint that never ends is refused and not served."""
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
        """Do a job, or refuse it for what is known of it. Raises `GenerationRefused`."""
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
            problem = f"the model's chat template refuses this: {told['problem']}"
            raise GenerationRefused(ErrorCode.INVALID_FIELD, problem, field="data.messages")
        if answer == "checked":
            self._verdicts.note(key, None, told["left_out"])
        return answer, told

    async def _run(
        self, message: EncodePrompt, kind: JobKind, name: str, content: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """One job, tried again where its end was not its doing. Raises `GenerationRefused` or `_Overran`."""
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
        """The job's answer; None where its process was ended by somebody else. Raises `_Overran` or `ForkServerGone`."""
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
                # Without processor time for as long: that is the machine's doing.
                raise GenerationRefused(
                    ErrorCode.OVERLOADED, "the machine is too busy to read this", retry_after_ms=RETRY_MS
                ) from None
            raise _Overran(_reason(ended.status, self._limits[kind]), step) from None
        except FrameFault as fault:
            raise _Overran(f"garbles the process that reads it ({fault})", step) from None
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
        """Wait for a process to be free for this asker. Raises `GenerationRefused` where too many of its jobs wait."""
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
        ErrorCode.OVERLOADED, "too many requests of this client wait to be read", retry_after_ms=RETRY_MS
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
    """What the answer is held to, as bytes that are equal for equal forms; None where it is free."""
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
        return f"takes too much memory (over {limits.memory_bytes >> 20} MiB), or gives up"
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
            f"the prompt has {told['tokens']} tokens, more than any model takes",
            field="data.messages" if generate.messages else "data.prompt",
        )
    return array.array("I", told["ids"]).tolist()


def _first(group: BaseExceptionGroup[Any]) -> Exception:
    found: Any = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, Exception)
    return found
