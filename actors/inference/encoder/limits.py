"""What the encoder takes and how much of it at once: one table for the actor, the worker, the routes and the documents."""

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
"""The longest text, [CLS] and [SEP] among its tokens. The model has positions for 512 and was trained on 128; beyond 256 its own card
says that texts are cut, and so does the reference."""
DIMENSIONS = 384
"""Numbers of a vector."""
BATCH_TEXTS = 64
"""Texts that go to the worker in one frame, of one request or of several."""
BATCH_BYTES = 16 * 1024
"""Their size together, unless one text alone is larger: some 4,000 tokens of English, which take about a second."""
STEP_TOKENS = 2048
"""What the worker computes at once: its arrays take 30 MiB then, whatever is asked."""
WAITING_OF_CLIENT = 64
"""Requests of one client that may wait; one more is refused."""
WAITING_REQUESTS = 1024
"""The same of all clients."""
WAITING_BYTES = 64 * MEBIBYTE
"""What their texts may hold together."""
MEMORY_BYTES = 1536 * MEBIBYTE
"""What the worker may allocate, where the kernel enforces it; it holds some 250 MiB."""
