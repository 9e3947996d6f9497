"""The encoder's actor: its request queue, and the one worker process that computes.

The process starts with the first request, or with the server if configured, and ends after `idle_seconds` without a request.
When a worker is lost, the requests of its batch are retried, each alone; a request that loses two workers is refused. An encoder that
cannot be loaded is `failed` with a reason, and later requests retry it at growing intervals.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
import trio
from attrs import define, field, frozen

from actors.inference.checkpoints.encoder import (
    ENCODER_BYTES,
    ENCODER_NAME,
    WEIGHTS,
    encoder_folder,
    encoder_modified,
    is_encoder_present,
)
from actors.inference.embedding_messages import DescribeEncoder, Embedded, EmbeddingRefused, EmbedTexts, EncoderHealth
from actors.inference.encoder.limits import CONTEXT_TOKENS, DIMENSIONS
from actors.inference.encoder.metrics import EncoderMetrics
from actors.inference.encoder.queue import EmbeddingQueue, Job, Piece
from actors.inference.frames import FrameFault, pack
from actors.inference.worker_process import WorkerProcess
from protocol.errors import ErrorCode
from runtime import Actor, Backoff, reject

__all__ = ["Encoder", "EncoderSettings"]

_log = structlog.get_logger("encoder")

TRIES = 2
RETRY_MS = 1000
FETCH_SECONDS = 1000.0
"""Longer than pip's own deadline."""
LOAD_SECONDS = 300.0
"""Loading takes some seconds; the first time on a machine it compiles functions, about half a minute of processor time."""
STEP_SECONDS = 120.0
"""A step takes a second at most, and many times that on a busy machine."""
END_SECONDS = 2.0
WORDS_BYTES = 4000
TOLD_PREFIX = "leanvibe: "
"""Prefix of the line in which a command reports the reason of its failure."""
_BACKOFF = Backoff(base_seconds=1.0, maximum_seconds=60.0, stable_after_seconds=60.0)


@frozen(kw_only=True)
class EncoderSettings:
    """Configuration of the encoder."""

    mode: str
    """`auto` loads it with the first request, `on` at the start, `off` never."""
    cache_folder: Path
    fetch_command: Sequence[str]
    """Command that puts the files into the cache folder."""
    idle_seconds: float = 0.0
    """The process ends after this long without a request; 0 keeps it running."""

    def command(self, pipe: int) -> list[str]:
        """Builds the worker's command line."""
        folder = str(encoder_folder(self.cache_folder))
        words = ["--pipe", str(pipe), "--folder", folder, "--cache-folder", str(self.cache_folder)]
        return [sys.executable, "-m", "actors.inference.encoder.worker", *words]


@define(eq=False)
class _Asked(Job):
    """A request with the part of its answer that is known."""

    message: EmbedTexts | None = None
    vectors: dict[int, bytes] = field(factory=dict)
    tokens: int = 0
    problem: EmbeddingRefused | None = None
    ended: trio.Event = field(factory=trio.Event)

    def end(self, problem: EmbeddingRefused | None = None) -> None:
        """Marks it as answered or refused."""
        if not self.ended.is_set():
            self.problem = problem
            self.ended.set()


class _Lost(Exception):
    """The worker ended or does not answer."""


class _Failed(Exception):
    """The encoder is unavailable; the message is shown to clients too."""

    def __init__(self, problem: str, details: str = "") -> None:
        """``details`` are for the operator only."""
        super().__init__(problem)
        self.details = details


class Encoder(Actor[EmbedTexts | DescribeEncoder]):
    """Owns the queue and the process."""

    mailbox = reject(1024)

    def __init__(self, settings: EncoderSettings, metrics: EncoderMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._queue = EmbeddingQueue()
        self._wake = trio.Event()
        self._asked: set[_Asked] = set()
        self._state = "off" if settings.mode == "off" else "unloaded"
        self._stage: str | None = None
        self._worker: WorkerProcess | None = None
        self._report: Mapping[str, Any] = {}
        self._memory_bytes: float | None = None
        self._restarts = 0
        self._failures = 0
        self._computing = 0
        """Texts in the worker."""
        self._totals: Counter[str] = Counter()

    async def started(self) -> None:
        if self._settings.mode != "off":
            self.context.spawn(self._serve)

    async def handle(self, message: EmbedTexts | DescribeEncoder) -> object:
        match message:
            case EmbedTexts():
                self.context.answer_later(self._embed, message)
            case DescribeEncoder():
                return self._health()
        return None

    def snapshot(self) -> Mapping[str, object]:
        """State, process and queue."""
        return {
            "state": self._state,
            "stage": self._stage,
            "worker_pid": None if self._worker is None else self._worker.pid,
            "restarts": self._restarts,
            "waiting": len(self._queue),
            "asked": len(self._asked),
            "computing": self._computing,
            "totals": dict(self._totals),
        }

    def _health(self) -> EncoderHealth:
        state = self._state
        if state == "unloaded" and not is_encoder_present(encoder_folder(self._settings.cache_folder)):
            state = "absent"
        return EncoderHealth(
            model=ENCODER_NAME,
            state=state,
            stage=self._stage,
            worker_pid=None if self._worker is None else self._worker.pid,
            restarts=self._restarts,
            report=self._report,
            memory_bytes=self._memory_bytes,
            waiting=len(self._asked),
            totals=dict(self._totals),
            context_tokens=CONTEXT_TOKENS,
            dimensions=DIMENSIONS,
            size_bytes=ENCODER_BYTES,
            digest=WEIGHTS.sha256,
            modified_seconds=encoder_modified(encoder_folder(self._settings.cache_folder)),
        )

    # --- requests ---------------------------------------------------------------------------------

    async def _embed(self, message: EmbedTexts) -> Embedded:
        if self._settings.mode == "off":
            raise EmbeddingRefused(
                ErrorCode.NOT_FOUND, "embeddings are disabled: the setting encoder is off", field="model"
            )
        began = trio.current_time()
        # A request without texts only loads the encoder, for which an empty text is computed.
        asked = _Asked(message.client_id, message.caller, message.inputs or ("",), message=message)
        problem = self._queue.problem(asked)
        if problem is not None:
            self._count("refused")
            raise EmbeddingRefused(ErrorCode.OVERLOADED, problem, retry_after_ms=RETRY_MS)
        outcome = "cancelled"
        self._asked.add(asked)
        self._queue.push(asked)
        was_ready = self._state == "ready"
        self._wake.set()
        try:
            await asked.ended.wait()
            outcome = "done" if asked.problem is None else "failed"
        finally:
            asked.ended.set()
            self._asked.discard(asked)
            self._queue.withdraw(asked)
            self._count(outcome)
        if asked.problem is not None:
            raise asked.problem
        return Embedded(
            model=ENCODER_NAME,
            vectors=tuple(asked.vectors[index] for index in range(len(message.inputs))),
            tokens=asked.tokens if message.inputs else 0,
            load_seconds=0.0 if was_ready else min(trio.current_time() - began, float(self._report["load_seconds"])),
        )

    def _count(self, outcome: str) -> None:
        self._totals[outcome] += 1
        self._metrics.requests.labels(outcome).inc()

    # --- the process ------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Runs one worker after another, each on demand."""
        is_wanted = self._settings.mode == "on"
        while True:
            while not is_wanted and not len(self._queue):
                self._wake = trio.Event()
                await self._wake.wait()
            is_wanted = False
            ready_at: float | None = None
            try:
                await self._fetch()
                async with self._started() as worker:
                    ready_at = trio.current_time()
                    self._set_state("ready")
                    await self._answer_batches(worker)
                self._set_state("unloaded")
            except (_Lost, _Failed, OSError) as error:
                uptime = 0.0 if ready_at is None else trio.current_time() - ready_at
                self._failures = _BACKOFF.failures_after(self._failures, uptime)
                self._note_end(error, was_ready=ready_at is not None)
            else:
                self._failures = 0
            if self._failures:
                await self._back_off()

    def _note_end(self, error: Exception, *, was_ready: bool) -> None:
        """Records a worker that was lost or failed to load. Requests that it did not compute wait for the next one."""
        if isinstance(error, _Lost):
            self._restarts += 1
            self._metrics.restarts.inc()
        is_failed = not isinstance(error, _Lost) or (not was_ready and self._failures >= TRIES)
        details = {"details": error.details} if isinstance(error, _Failed) and error.details else {}
        _log.warning("encoder failed" if is_failed else "encoder worker lost", error=str(error), **details)
        self._set_state("failed" if is_failed else "unloaded", str(error))
        if is_failed:
            self._refuse_all(str(error))

    async def _back_off(self) -> None:
        """Waits before the next try. If loading failed, requests that arrive meanwhile are refused at once with the reason."""
        again_at = trio.current_time() + _BACKOFF.delay_seconds(self._failures)
        while (left := again_at - trio.current_time()) > 0:
            if self._state == "failed":
                self._refuse_all(self._stage or "it failed")
            self._wake = trio.Event()
            with trio.move_on_after(left):
                await self._wake.wait()

    def _refuse_all(self, reason: str) -> None:
        for asked in list(self._asked):
            self._queue.withdraw(asked)
            asked.end(EmbeddingRefused(ErrorCode.MODEL_UNAVAILABLE, f"the encoder cannot be loaded: {reason}"))

    def _set_state(self, state: str, stage: str | None = None) -> None:
        self._state, self._stage = state, stage
        if state != "ready":
            self._memory_bytes = None
        self.context.note_problem(f"no embeddings: {stage}" if state == "failed" else None)

    async def _fetch(self) -> None:
        """Downloads the files into the cache folder if they are missing. Raises `_Failed`. Cancellation ends the download program."""
        if is_encoder_present(encoder_folder(self._settings.cache_folder)):
            return
        self._set_state("fetching", "downloading the encoder, 84 MB")
        process = await trio.lowlevel.open_process(
            list(self._settings.fetch_command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stderr is not None
        said = b""
        try:
            with trio.move_on_after(FETCH_SECONDS):
                async for chunk in process.stderr:
                    said = (said + chunk)[-WORDS_BYTES:]
                await process.wait()
        finally:
            if process.returncode is None:
                # Kill the whole group: the program has started pip.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with trio.move_on_after(END_SECONDS, shield=True):
                    await process.wait()
            await trio.aclose_forcefully(process.stderr)
        if process.returncode:
            lines = said.decode("utf-8", "replace").strip().splitlines()
            # The last line is written for clients; the rest, from pip or Python, names hosts and folders of this machine.
            is_told = bool(lines) and lines[-1].startswith(TOLD_PREFIX)
            problem = lines.pop().removeprefix(TOLD_PREFIX) if is_told else "it could not be fetched; the log says why"
            raise _Failed(problem, "\n".join(lines))

    @contextlib.asynccontextmanager
    async def _started(self) -> Any:
        """A worker that is ready, for the duration of a block. Raises `_Lost`, `_Failed` or `OSError`; its process ends with
        the block."""
        self._set_state("loading", "starting")
        worker = self._worker = await WorkerProcess.start(self._settings.command)
        try:
            problem: _Lost | _Failed | None = None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.drain_output)
                try:
                    await self._until_ready(worker)
                    yield worker
                except (_Lost, _Failed) as error:
                    problem = error
                nursery.cancel_scope.cancel(reason="the worker is of no more use")
            if problem is not None:
                raise problem
        finally:
            self._worker = None
            await worker.end()

    async def _until_ready(self, worker: WorkerProcess) -> None:
        with trio.move_on_after(LOAD_SECONDS):
            while frames := await _receive(worker):
                for name, told in frames:
                    match name:
                        case "loading":
                            self._set_state("loading", str(told["stage"]))
                        case "load_failed":
                            raise _Failed(str(told["error"]))
                        case "ready":
                            self._report = told["report"]
                            self._note_memory(told)
                            _log.info("encoder ready", worker_pid=worker.pid)
                            return
            raise _Lost(_last_words(worker))
        raise _Failed(f"worker {worker.pid} did not load in time")

    async def _answer_batches(self, worker: WorkerProcess) -> None:
        """Answers batches until no request has arrived for `idle_seconds`. Raises `_Lost`."""
        while True:
            pieces = self._queue.take()
            if pieces:
                await self._answer_batch(worker, pieces)
            elif not await self._until_asked(worker):
                return

    async def _answer_batch(self, worker: WorkerProcess, pieces: list[Piece]) -> None:
        began = trio.current_time()
        is_done = False
        self._computing = sum(one.count for one in pieces)
        try:
            answer = await _computed(worker, {"pieces": [_frame_of(one) for one in pieces]})
            is_done = True
        finally:
            self._computing = 0
            if not is_done:
                self._try_again(pieces)
        self._metrics.seconds.observe(trio.current_time() - began)
        self._note_memory(answer)
        for piece, one in zip(pieces, answer["pieces"], strict=True):
            self._take_answer(piece, one)

    def _try_again(self, pieces: list[Piece]) -> None:
        """Requeues the pieces of a lost worker, in reverse so that a job's first piece is first again."""
        counted: set[Job] = set()
        for piece in reversed(pieces):
            asked = piece.job
            assert isinstance(asked, _Asked)
            if asked not in counted:
                counted.add(asked)
                asked.tries += 1
            if asked.ended.is_set():
                continue
            if asked.tries >= TRIES:
                self._queue.withdraw(asked)
                message = "the encoder's process was lost twice with this request"
                asked.end(EmbeddingRefused(ErrorCode.UNAVAILABLE, message, retry_after_ms=RETRY_MS))
            else:
                self._queue.push_back(piece)

    def _take_answer(self, piece: Piece, answer: Mapping[str, Any]) -> None:
        asked = piece.job
        assert isinstance(asked, _Asked)
        problem = _problem(piece, answer)
        if problem is not None:
            self._queue.withdraw(asked)
            asked.end(problem)
            return
        asked.vectors.update(enumerate(answer["vectors"], piece.first))
        asked.tokens += answer["tokens"]
        self._totals["texts"] += piece.count
        self._totals["tokens"] += answer["tokens"]
        self._metrics.texts.inc(piece.count)
        self._metrics.tokens.inc(answer["tokens"])
        if len(asked.vectors) == len(asked.inputs):
            asked.end()

    async def _until_asked(self, worker: WorkerProcess) -> bool:
        """Waits for a request; False if none came in time. Raises `_Lost` if the worker ends meanwhile."""
        wake = self._wake = trio.Event()
        is_lost = False

        async def watch() -> None:
            nonlocal is_lost
            # It sends nothing unasked, so any frame or end of file means its end.
            await _receive(worker)
            is_lost = True
            nursery.cancel_scope.cancel(reason="the worker is gone")

        seconds = self._settings.idle_seconds or float("inf")
        with trio.move_on_after(seconds) as waited:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                await wake.wait()
                nursery.cancel_scope.cancel(reason="there is something to do")
        if is_lost:
            raise _Lost(_last_words(worker))
        return not waited.cancelled_caught or bool(len(self._queue))

    def _note_memory(self, told: Mapping[str, Any]) -> None:
        self._memory_bytes = float(told["memory"])
        self._metrics.memory.set(self._memory_bytes)


async def _receive(worker: WorkerProcess) -> list[tuple[str, dict[str, Any]]]:
    """Receives the next frames; none at the end of the stream. Raises `_Lost`."""
    try:
        return await worker.receive()
    except FrameFault as error:
        raise _Lost(str(error)) from None


async def _computed(worker: WorkerProcess, batch: dict[str, Any]) -> dict[str, Any]:
    """Sends a batch and returns its answer; each step has a deadline. Raises `_Lost`."""
    try:
        with trio.fail_after(STEP_SECONDS):
            await worker.stream.send_all(pack("batch", batch))
        while True:
            with trio.fail_after(STEP_SECONDS):
                frames = await _receive(worker)
            if not frames:
                raise _Lost(_last_words(worker))
            for name, told in frames:
                if name == "batch":
                    return told
    except trio.TooSlowError:
        raise _Lost(f"worker {worker.pid} made no step in {STEP_SECONDS:g} s") from None
    except trio.BrokenResourceError:
        raise _Lost(_last_words(worker)) from None


def _frame_of(piece: Piece) -> dict[str, Any]:
    asked = piece.job
    assert isinstance(asked, _Asked)
    assert asked.message is not None
    return {
        "inputs": list(piece.inputs),
        "truncates": asked.message.truncates,
        "dimensions": asked.message.dimensions,
        "is_base64": asked.message.is_base64,
    }


def _problem(piece: Piece, answer: Mapping[str, Any]) -> EmbeddingRefused | None:
    """The error that the worker reported for a request; None for vectors."""
    if "too_long" in answer:
        index = piece.first + answer["too_long"]
        message = f"a text has {answer['tokens']} tokens, and {ENCODER_NAME} accepts {CONTEXT_TOKENS}"
        return EmbeddingRefused(ErrorCode.CONTEXT_LENGTH_EXCEEDED, message, field=f"inputs[{index}]")
    if "unknown_id" in answer:
        index = piece.first + answer["unknown_id"]
        message = f"{answer['id']} is not a token id of {ENCODER_NAME}, which has a vocabulary of its own"
        return EmbeddingRefused(ErrorCode.INVALID_FIELD, message, field=f"inputs[{index}]")
    if "failed" in answer:
        return EmbeddingRefused(
            ErrorCode.ENGINE_FAILED, f"the encoder failed: {answer['failed']}", retry_after_ms=RETRY_MS
        )
    return None


def _last_words(worker: WorkerProcess) -> str:
    words = "; ".join(list(worker.output)[-3:])
    return f"worker {worker.pid} ended" + (f": {words}" if words else "")
