"""Runs in the sandbox's forked processes: one job after another, within limits that the kernel enforces."""

from __future__ import annotations

import array
import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from actors.inference.frames import FrameReader, pack
from actors.inference.sandbox.limits import JobLimits
from actors.inference.sandbox.memory_watch import held_bytes
from actors.inference.sandbox.request_text import request_of
from actors.inference.schema_errors import BadSchema
from actors.inference.text.chat_template import TemplateRefused
from actors.inference.text.text_model import CheckpointText, MockText
from actors.inference.text.token_text import NativePanic
from protocol.generation import ChatMessage, Generate, Role

__all__ = ["memory_bound", "serve_jobs", "set_timers"]

RECEIVE_BYTES = 262_144
RETIRING_BYTES = 64 * 1024 * 1024
"""A process that grew by more than this ends after its job."""
MAXIMUM_PLACES, MAXIMUM_PLACE = 32, 128
"""Most skipped parts of a schema to report, and most characters of each."""
MAXIMUM_PROMPT_TOKENS = 2**21
"""A longer prompt fits no model, and its ids would not fit in a frame."""
_ADDRESS_SPACE = 0
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, prctl(2)
_SAMPLE = "The quick brown fox, 3.14 and naïve café 東京 😀.\n\tdef f(x): return x\n" + "x" * 64


def serve_jobs(
    connection: socket.socket, text: CheckpointText | MockText, limits: JobLimits, *, is_watched: bool = False
) -> None:
    """Serves jobs until the server closes the connection, in a freshly forked process.

    ``is_watched`` means that the fork server watches its memory, because the kernel does not.
    """
    _confine(limits, is_watched=is_watched)
    reader = FrameReader()
    # Memory is seldom returned after a job; a fresh process costs less than the memory that others would lack.
    most_bytes = _resident_bytes() + RETIRING_BYTES
    while data := connection.recv(RECEIVE_BYTES):
        for name, content in reader.feed(data):
            set_timers(content.get("processor_seconds", limits.processor_seconds), limits.wall_seconds)
            answer, told = _answer(text, name, content, lambda step: connection.sendall(pack("step", {"name": step})))
            retires = answer == "died" or _resident_bytes() > most_bytes
            connection.sendall(pack(answer, {**told, "retires": retires}))
            set_timers(0, 0)
            if retires:
                return


def _answer(
    text: CheckpointText | MockText, name: str, content: dict[str, Any], send_step: Callable[[str], None]
) -> tuple[str, dict[str, Any]]:
    step = ""

    def tell(name: str) -> None:
        nonlocal step
        step = name
        send_step(name)

    try:
        return _carry_out(text, name, content, tell)
    except BadSchema as error:
        return "bad_schema", {"field": error.field, "problem": str(error)[:1000]}
    except TemplateRefused as error:
        return "template_refused", {"problem": str(error)[:1000]}
    except MemoryError:
        return "died", {"problem": "out of memory"}
    except BaseException as error:  # noqa: BLE001  isolation boundary: a panic of native code is a `BaseException`
        problem = f"{type(error).__name__}: {error}"[:200]
        if name == "check" and isinstance(error, Exception) and not isinstance(error, NativePanic):
            # A value of a type that the schema reader does not expect there.
            return "bad_schema", {"field": step, "problem": f"it cannot be read ({problem})"}
        return "died", {"problem": problem}


def _carry_out(
    text: CheckpointText | MockText, name: str, content: dict[str, Any], tell: Callable[[str], None]
) -> tuple[str, dict[str, Any]]:
    if name == "probe":
        # A template may refuse this, but must terminate; a tokenizer that panics on it is unusable.
        with contextlib.suppress(TemplateRefused):
            text.encode_prompt(Generate(messages=[ChatMessage(Role.USER, "Hello")]), tell)
        text.encode_prompt(Generate(prompt=_SAMPLE), tell)
        return "probed", {}
    request = request_of(content["request"])
    if name == "check":
        left_out = text.check_form(request, tell)
        return "checked", {"left_out": [one[:MAXIMUM_PLACE] for one in left_out[:MAXIMUM_PLACES]]}
    ids = text.encode_prompt(request, tell)
    if len(ids) > MAXIMUM_PROMPT_TOKENS:
        return "too_long", {"tokens": len(ids)}
    return "encoded", {"ids": array.array("I", ids).tobytes()}


def _confine(limits: JobLimits, *, is_watched: bool) -> None:
    """Drops privileges and resources that a job does not need. Affects only this forked process."""
    if sys.platform == "linux":
        # The kernel kills this process along with the fork server, even inside native code.
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
        if not is_watched:
            bound = _bound_beyond(limits.memory_bytes)
            resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(limits.niceness)
    with Path(os.devnull).open("r+b") as nowhere:
        # Output of native code may quote a client's input, which must not reach any log.
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)


@contextlib.contextmanager
def memory_bound(more_bytes: int) -> Iterator[None]:
    """Allows this process to allocate this much more within a block, where the kernel enforces limits."""
    if sys.platform != "linux":
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_bound_beyond(more_bytes), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _bound_beyond(more_bytes: int) -> int:
    """The address space in use plus ``more_bytes``, within the existing limit."""
    bound = _memory_bytes(_ADDRESS_SPACE) + more_bytes
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return bound if soft == resource.RLIM_INFINITY else min(bound, soft)


def _resident_bytes() -> int:
    return held_bytes(os.getpid()) or 0


def _memory_bytes(column: int) -> int:
    """A column of `/proc/self/statm` (proc(5)) of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[column]) * resource.getpagesize()


def set_timers(processor_seconds: float, wall_seconds: float) -> None:
    """Sets timers whose expiry makes the kernel end this process: the signals are not handled. 0 turns them off."""
    signal.setitimer(signal.ITIMER_PROF, processor_seconds)
    signal.setitimer(signal.ITIMER_REAL, wall_seconds)
