"""Schemas of other people's packages, read where they are installed."""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["schemas_below", "schemas_of_openai"]

PARTS_OF_EACH = 4
"""Definitions of a file that are schemas of their own besides."""
FILES_OF_EACH = 60
"""Of one folder: some packages have hundreds of a kind."""
MODULES_IN_TWELVE = 12
"""One module in so many gives its models; there are some 2,700."""
_SIGNS = frozenset({"properties", "$ref", "definitions", "$defs", "type", "oneOf", "anyOf"})


def schemas_of_openai(most: int) -> dict[str, Any]:
    """Return schemas of Pydantic models of requests and answers, the same ones on each run."""
    import openai.types
    import pydantic

    found: dict[str, Any] = {}
    for module in pkgutil.walk_packages(openai.types.__path__, "openai.types."):
        if _number_of(module.name) % MODULES_IN_TWELVE:
            continue
        content = importlib.import_module(module.name)
        for name, one in vars(content).items():
            is_model = isinstance(one, type) and issubclass(one, pydantic.BaseModel) and one.__module__ == module.name
            if is_model and len(found) < most:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found[f"{module.name}.{name}"] = one.model_json_schema()
    return found


def schemas_below(folder: Path) -> dict[str, Any]:
    """JSON Schemas of files whose path says so, and some definitions of each."""
    found: dict[str, Any] = {}
    folders: dict[Path, list[Path]] = {}
    for path in folder.rglob("*.json"):
        if "schema" in str(path.relative_to(folder)):
            folders.setdefault(path.parent, []).append(path)
    chosen = [sorted(one, key=lambda path: _number_of(path.name))[:FILES_OF_EACH] for one in folders.values()]
    for path in sorted(path for group in chosen for path in group):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if isinstance(content, dict) and _SIGNS & content.keys():
            name = "/".join(path.parts[-3:])
            found[name] = content
            found |= dict(_parts(name, content))
    return found


def _parts(name: str, content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for group in ("definitions", "$defs"):
        given = {key: one for key, one in content.get(group, {}).items() if isinstance(one, dict)}
        for key in sorted(given, key=lambda one: _number_of(name + one))[:PARTS_OF_EACH]:
            needed, waiting = {key}, [key]
            while waiting:
                for other in re.findall(rf'"#/{re.escape(group)}/([^"/]+)', json.dumps(given[waiting.pop()])):
                    if other in given and other not in needed:
                        needed.add(other)
                        waiting.append(other)
            draft = content.get("$schema", "https://json-schema.org/draft/2020-12/schema")
            yield (
                f"{name}#{key}",
                {
                    "$schema": draft,
                    "$ref": f"#/{group}/{key}",
                    group: {one: given[one] for one in sorted(needed)},
                },
            )


def _number_of(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)
