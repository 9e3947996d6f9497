"""What a job in the sandbox may take. The kernel enforces all of it, whatever native code is doing."""

from __future__ import annotations

import enum

from attrs import frozen

__all__ = [
    "JOB_LIMITS",
    "LONGEST_SECONDS",
    "OPEN_MEMORY_BYTES",
    "OPEN_PROCESSOR_SECONDS",
    "OPEN_SECONDS",
    "JobKind",
    "JobLimits",
]

MEBIBYTE = 1024 * 1024
OPEN_PROCESSOR_SECONDS = 20.0
OPEN_SECONDS = 60.0
"""Reading a tokenizer takes a fraction of a second, or a few on a busy machine."""
OPEN_MEMORY_BYTES = 2048 * MEBIBYTE
"""What reading it may allocate, and its grammars: a template's constants are computed when it is compiled."""
LONGEST_SECONDS = 300.0
"""The most that a fork server is waited for while it gets no processor."""


class JobKind(enum.Enum):
    """What a job does. Each kind has processes and a queue of its own, so that neither waits for the other."""

    PROMPT = "prompt"
    """Render the chat template and tokenize."""
    SCHEMA = "schema"
    """Check a JSON Schema, or the parameters of tools."""


@frozen(kw_only=True)
class JobLimits:
    """Limits of one job, and of all jobs of its kind."""

    processor_seconds: float
    """Processor time of one job, so that a busy machine changes no verdict."""
    wall_seconds: float
    """Time of one job that a process gets no processor for, or sleeps."""
    memory_bytes: int
    """What a job may allocate beyond what its process had before."""
    processes: int
    """Processes of this kind, each with one job at a time."""
    processes_of_client: int
    """How many of them may work for one client, or for one of several callers that share a client id."""
    idle_processes: int
    """How many are kept when there is nothing to do."""
    waiting_of_client: int
    """Jobs of one client that may wait; one more is refused with `overloaded`."""
    niceness: int
    """Against the step loop, which everybody's tokens wait for."""


JOB_LIMITS = {
    JobKind.PROMPT: JobLimits(
        processor_seconds=10.0,
        wall_seconds=30.0,
        memory_bytes=1024 * MEBIBYTE,
        processes=6,
        processes_of_client=3,
        idle_processes=2,
        waiting_of_client=2048,
        niceness=0,
    ),
    JobKind.SCHEMA: JobLimits(
        processor_seconds=1.0,
        wall_seconds=20.0,
        memory_bytes=512 * MEBIBYTE,
        processes=4,
        processes_of_client=2,
        idle_processes=1,
        waiting_of_client=64,
        niceness=5,
    ),
}
