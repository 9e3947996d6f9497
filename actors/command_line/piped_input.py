"""The question of `leanvibe ask`: the words of the command line, and piped input."""

from __future__ import annotations

import os
import select
import sys

import click

from actors.command_line.options import fail
from actors.command_line.printing import print_line
from protocol.commands import MAXIMUM_FRAME_BYTES

__all__ = ["MAXIMUM_BYTES", "whole_question"]

MAXIMUM_BYTES = MAXIMUM_FRAME_BYTES - 64 * 1024
"""Of what is piped in: a question is one frame, and JSON writes some characters longer."""
NOTICE_SECONDS = 1.0
FIRST_BYTE_SECONDS = 10.0
"""Time to wait for a silent pipe if there is a question; commands are often started with a pipe that has no writer."""
CHUNK_BYTES = 64 * 1024


def whole_question(words: tuple[str, ...]) -> str:
    """Words and piped text, an empty line between them. Ends the command where there is neither. Blocking."""
    question = " ".join(words).strip()
    piped = _piped(is_needed=not question)
    if not question and not piped.strip():
        raise click.UsageError("Ask something: leanvibe ask QUESTION, or pipe a text into it.")
    return f"{question}\n\n{piped}" if question and piped.strip() else question or piped


def _piped(*, is_needed: bool) -> str:
    """Return the contents of standard input; empty if it is a terminal, closed or silent."""
    try:
        descriptor = sys.stdin.fileno() if sys.stdin is not None else -1
    except (OSError, ValueError):
        return ""
    if descriptor < 0 or os.isatty(descriptor):
        return ""
    try:
        if not is_needed and not _begins(descriptor):
            return ""
        parts, size = [], 0
        while part := os.read(descriptor, CHUNK_BYTES):
            parts.append(part)
            size += len(part)
            if size > MAXIMUM_BYTES:
                fail(f"what is piped in is larger than {MAXIMUM_BYTES:,} bytes; send a part of it", status=2)
    except OSError:
        # Opened for writing only, or a folder: nothing can be read there.
        return ""
    try:
        return b"".join(parts).decode()
    except UnicodeDecodeError:
        fail("what is piped in is not UTF-8 text", status=2)


def _begins(descriptor: int) -> bool:
    """Return whether input or its end arrives."""
    if select.select([descriptor], [], [], NOTICE_SECONDS)[0]:
        return True
    print_line("leanvibe: waiting for standard input …", style="yellow", err=True)
    if select.select([descriptor], [], [], FIRST_BYTE_SECONDS - NOTICE_SECONDS)[0]:
        return True
    print_line(f"leanvibe: nothing came on standard input within {FIRST_BYTE_SECONDS:g} s; asking without it", err=True)
    return False
