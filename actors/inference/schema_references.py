"""Resolves references inside one JSON Schema: pointers, anchors and identifiers. No I/O; nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from actors.inference.schema_errors import BadSchema

__all__ = ["References"]

_DATA = frozenset({"const", "enum", "default", "examples", "example"})
LONGEST_CHAIN = 100


class References:
    """Resolves a schema's references."""

    def __init__(self, root: dict[str, Any]) -> None:
        """Takes time proportional to the size of the schema."""
        self._root = root
        self._places: dict[str, str] = {"": ""}
        self._bases: dict[str, str] = {"": ""}
        self._read_identifiers()

    def _read_identifiers(self) -> None:
        waiting: list[tuple[Any, str, str]] = [(self._root, "", "")]
        while waiting:
            one, pointer, base = waiting.pop()
            if isinstance(one, list):
                waiting.extend((inner, f"{pointer}/{place}", base) for place, inner in enumerate(one))
            if not isinstance(one, dict):
                continue
            identifier = one.get("$id", one.get("id"))
            if isinstance(identifier, str) and identifier and not pointer.endswith("/properties"):
                if identifier.startswith("#"):
                    self._places.setdefault(base + identifier, pointer)
                else:
                    base = urldefrag(urljoin(base, identifier)).url
                    self._places.setdefault(base, pointer)
                    self._bases[pointer] = base
            for name in ("$anchor", "$dynamicAnchor"):
                if isinstance(one.get(name), str):
                    self._places.setdefault(f"{base}#{one[name]}", pointer)
            waiting.extend(
                (inner, f"{pointer}/{_escaped(name)}", base) for name, inner in one.items() if name not in _DATA
            )

    def pointer_of(self, reference: Any, path: str) -> str:
        """JSON pointer of a reference's target; ``path`` is the reference's own place. Raises `BadSchema` if the target
        is not in the schema."""
        if not isinstance(reference, str):
            raise BadSchema(f"{path} must be a string")
        target, fragment = urldefrag(urljoin(self._base_of(path), reference))
        fragment = unquote(fragment)
        if target not in self._places:
            if reference.startswith("#"):
                target = ""
            else:
                raise BadSchema(
                    f"{path} refers to {reference[:100]!r}, which is not part of the schema: nothing is fetched"
                )
        if fragment and not fragment.startswith("/"):
            place = self._places.get(f"{target}#{fragment}", self._places.get(f"#{fragment}"))
            if place is None:
                raise BadSchema(f"{path} refers to {reference[:100]!r}, which is not part of the schema")
            return place
        pointer = self._places[target] + fragment.rstrip("/")
        try:
            self.at(pointer)
        except LookupError:
            raise BadSchema(f"{path} refers to {reference[:100]!r}, which is not part of the schema") from None
        return pointer

    def _base_of(self, path: str) -> str:
        """Identifier of the nearest enclosing schema that has one."""
        while path not in self._bases:
            path = path.rpartition("/")[0]
        return self._bases[path]

    def at(self, pointer: str) -> Any:
        """Value at a JSON pointer. Raises `LookupError`."""
        found: Any = self._root
        for part in pointer.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            found = found[int(name)] if isinstance(found, list) and name.isdigit() else found[name]
        return found

    def followed(self, schema: Any, path: str) -> Any:
        """Follows references until a schema is more than a reference. Raises `BadSchema`."""
        for _ in range(LONGEST_CHAIN):
            if not isinstance(schema, dict) or schema.keys() - {"$ref", "description", "title"} or "$ref" not in schema:
                return schema
            schema = self.at(self.pointer_of(schema["$ref"], path))
        raise BadSchema(f"{path} refers to itself")

    def conjuncts(self, schema: Any) -> Iterator[dict[str, Any]]:
        """The schema and all that apply with it, through `allOf` and references. Does not yield False."""
        seen: set[int] = set()
        waiting = [schema]
        while waiting:
            one = waiting.pop()
            if not isinstance(one, dict) or id(one) in seen:
                continue
            seen.add(id(one))
            yield one
            if isinstance(one.get("allOf"), list):
                waiting.extend(one["allOf"])
            names = [name for name in ("$ref", "$dynamicRef", "$recursiveRef") if name in one]
            waiting.extend(self._at_reference(one[name]) for name in names)

    def _at_reference(self, reference: Any) -> Any:
        if len(self._bases) > 1:
            # Its target depends on its location, which is not known here.
            return {}
        try:
            return self.at(self.pointer_of(reference, ""))
        except (BadSchema, LookupError):
            # Reported when the reference itself is prepared; here it contributes nothing.
            return {}


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
