"""The published schemas, which a stranger would read too."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import protocol

__all__ = ["published_definitions"]


@functools.cache
def published_definitions() -> dict[str, Any]:
    """By name; nobody may change them."""
    content: dict[str, Any] = json.loads(Path(protocol.__file__).with_name("schemas.json").read_text(encoding="utf-8"))
    definitions: dict[str, Any] = content["$defs"]
    return definitions
