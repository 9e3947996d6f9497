"""Limits of the encoder, shared by the actor, the worker, the routes and the documents."""

from __future__ import annotations

__all__ = [
    "BATCH_BYTES",
    "BATCH_TEXTS",
    "CONTEXT_TOKENS",
    "DIMENSIONS",
    "MEMORY_BYTES",
    "STEP_TOKENS",
    "WAITING_BYTES",
    "WAITING_OF_CLIENT",
    "WAITING_REQUESTS",
]

MEBIBYTE = 1024 * 1024
CONTEXT_TOKENS = 256
"""Longest text in tokens, including [CLS] and [SEP]. The model has positions for 512 and was trained on 128; its own card
says that texts beyond 256 are cut, and so does the reference."""
DIMENSIONS = 384
"""Numbers per vector."""
BATCH_TEXTS = 64
"""Most texts sent to the worker in one frame, from one or several requests."""
BATCH_BYTES = 16 * 1024
"""Their total size, unless a single text is larger: some 4,000 tokens of English, which take about a second."""
STEP_TOKENS = 2048
"""Tokens computed at once: the arrays then take 30 MiB, whatever the request."""
WAITING_OF_CLIENT = 64
"""Most waiting requests of one client; more are refused."""
WAITING_REQUESTS = 1024
"""The same for all clients together."""
WAITING_BYTES = 64 * MEBIBYTE
"""Most bytes of their texts together."""
MEMORY_BYTES = 1536 * MEBIBYTE
"""Memory limit of the worker, where the kernel enforces it; it holds some 250 MiB."""
