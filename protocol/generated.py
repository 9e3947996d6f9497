"""The files generated from the message classes, by their names in this folder."""

from __future__ import annotations

import json

from protocol.asyncapi import asyncapi
from protocol.schema import schemas
from protocol.typescript import typescript

__all__ = ["generated_files"]


def generated_files() -> dict[str, str]:
    """Maps each file name to its complete text."""
    document = schemas()
    return {
        "schemas.json": json.dumps(document, indent=2, ensure_ascii=False) + "\n",
        "asyncapi.json": json.dumps(asyncapi(), indent=2, ensure_ascii=False) + "\n",
        "javascript/messages.d.ts": typescript(document),
    }
