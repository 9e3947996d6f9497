"""Resource limits of sandbox jobs. The kernel enforces all of them, whatever native code is doing."""

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
"""Reading a tokenizer takes a fraction of a second, or a few seconds on a busy machine."""
OPEN_MEMORY_BYTES = 2048 * MEBIBYTE
"""Memory limit for reading it and loading its grammars: compiling a template computes its constants."""
LONGEST_SECONDS = 300.0
"""Longest wait for a fork server that gets no processor."""


class JobKind(enum.Enum):
    """Kinds of jobs. Each has its own processes and queue, so that neither waits for the other."""

    PROMPT = "prompt"
    """Renders the chat template and tokenizes."""
    SCHEMA = "schema"
    """Checks a JSON Schema, or the parameters of tools."""


@frozen(kw_only=True)
class JobLimits:
    """Limits of one job, and of all jobs of its kind."""

    processor_seconds: float
    """Processor time of one job; wall time would make the verdict depend on the machine's load."""
    wall_seconds: float
    """Wall time of one job, which bounds waiting and sleeping."""
    memory_bytes: int
    """Memory that a job may allocate beyond what its process had before."""
    processes: int
    """Processes of this kind, each with one job at a time."""
    processes_of_client: int
    """Processes that may work for one client, or for one of several callers that share a client id."""
    idle_processes: int
    """Idle processes to keep."""
    waiting_of_client: int
    """Most waiting jobs of one client; one more is refused with `overloaded`."""
    niceness: int
    """Lower priority than the step loop, which delays every client's tokens."""


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
