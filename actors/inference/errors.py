"""Refusals of the inference service.

```
CommandError
└─ GenerationRefused   a generation was rejected or failed
   └─ ModelRefused     a model was not loaded or unloaded
```
"""

from __future__ import annotations

from actors.errors import CommandError

__all__ = [
    "UNFINISHED",
    "GenerationRefused",
    "ModelRefused",
]


UNFINISHED = "the server is shutting down, and the answer is not finished"
"""Message that subscribers receive with `ErrorCode.SHUTTING_DOWN`, whichever service sends it."""


class GenerationRefused(CommandError):
    """A generation was rejected or failed."""


class ModelRefused(GenerationRefused):
    """A model was not loaded or unloaded; the previous one still serves."""
