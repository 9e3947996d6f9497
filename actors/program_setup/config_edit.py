"""Changes single values in other programs' JSON, TOML and YAML, preserving everything else, comments included. No I/O.

A change is a path of keys and a value. In a list, an entry that is a mapping with the same ``same`` field is replaced; one that
is not there is appended.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from typing import Any

from attrs import frozen

__all__ = ["Change", "Unreadable", "edited"]

MAXIMUM_DEPTH = 64


class Unreadable(ValueError):
    """The file is not valid for its program."""


@frozen(kw_only=True)
class Change:
    """A value to set."""

    path: tuple[str, ...]
    """Keys from the outermost; empty for the whole document, which must be a list."""
    value: Any
    same: str | None = None
    """For a list: the field that identifies an entry. The value is one entry."""
    only_if_missing: bool = False
    """Keep an existing value; for YAML."""


def edited(text: str, form: str, changes: Sequence[Change]) -> str:
    """Return the text with these changes; ``form`` is `json`, `toml` or `yaml`. Raises `Unreadable`."""
    for change in changes:
        text = {"json": _json, "toml": _toml, "yaml": _yaml}[form](text, change)
    return text


def _json(text: str, change: Change) -> str:
    if not text.strip():
        text = "{}\n" if change.path else "[]\n"
    document = _Document(text)
    value = change.value
    path = change.path
    if change.same is not None:
        listed = document.value_at(path)
        if listed is not None and not isinstance(listed, list):
            raise Unreadable(f"{'.'.join(path) or 'it'} is not a list")
        value = _with_entry(listed or [], value, change.same)
    return document.with_value(path, value)


def _with_entry(listed: list[Any], entry: Any, same: str) -> list[Any]:
    kept = list(listed)
    for place, one in enumerate(kept):
        if isinstance(one, dict) and one.get(same) == entry[same]:
            kept[place] = entry
            return kept
    return [*kept, entry]


_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/|[{}\[\]:,]|[^\s{}\[\]:,"/]+', re.DOTALL)


class _Document:
    """JSON with comments and trailing commas, as editors accept it, with the position of each value."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._scan()
        self._at = 0
        self._spans: dict[tuple[str, ...], tuple[int, int]] = {}
        self._values: dict[tuple[str, ...], Any] = {}
        self._read((), 0)
        if self._at != len(self._tokens):
            raise Unreadable(f"line {self._line(self._tokens[self._at][0])}: something stands behind its end")

    def value_at(self, path: tuple[str, ...]) -> Any:
        """Return the value at a path, or None."""
        return self._values.get(path)

    def with_value(self, path: tuple[str, ...], value: Any) -> str:
        """Return the text with this value set, creating missing parent objects."""
        if path in self._spans:
            start, end = self._spans[path]
            return self._text[:start] + self._written(value, start) + self._text[end:]
        depth = next(depth for depth in range(len(path) - 1, -1, -1) if path[:depth] in self._spans)
        above = path[:depth]
        if not isinstance(self._values[above], dict):
            raise Unreadable(f"{'.'.join(above) or 'it'} is not an object")
        for name in reversed(path[depth + 1 :]):
            value = {name: value}
        return self._inserted(above, path[depth], value)

    def _inserted(self, above: tuple[str, ...], name: str, value: Any) -> str:
        """Insert a member after the last one, before the white space in front of the closing bracket."""
        start, end = self._spans[above]
        inside = self._indent(start) + self._step()
        lasts = [span for path, span in self._spans.items() if path[:-1] == above and path]
        member = f"{json.dumps(name, ensure_ascii=False)}: {self._dumped(value, inside)}"
        if not lasts:
            rest = self._text[start + 1 : end - 1].rstrip()
            return f"{self._text[: start + 1]}{rest}\n{inside}{member}\n{self._indent(start)}{self._text[end - 1 :]}"
        last = max(one[1] for one in lasts)
        tail = self._text[last : end - 1]
        comma = next(
            (token[0] for token in self._tokens if last <= token[0] < end - 1 and self._text[token[0]] == ","), None
        )
        body = tail.rstrip()
        before = self._text[:last] + ("," if comma is None else "") + body
        return f"{before}\n{inside}{member}\n{self._indent(start)}{self._text[end - 1 :]}"

    def _written(self, value: Any, at: int) -> str:
        return self._dumped(value, self._indent(at))

    def _dumped(self, value: Any, indent: str) -> str:
        return json.dumps(value, ensure_ascii=False, indent=self._step()).replace("\n", f"\n{indent}")

    def _indent(self, at: int) -> str:
        line = self._text[self._text.rfind("\n", 0, at) + 1 : at]
        return line[: len(line) - len(line.lstrip())]

    def _step(self) -> str:
        found = re.search(r"\n([ \t]+)\S", self._text)
        return found[1] if found else "  "

    def _scan(self) -> list[tuple[int, int]]:
        tokens, at = [], 0
        while at < len(self._text):
            if self._text[at].isspace() or self._text[at] == "\ufeff":
                at += 1
                continue
            found = _TOKEN.match(self._text, at)
            if found is None:
                raise Unreadable(f"line {self._line(at)}: {self._text[at : at + 10]!r} is no JSON")
            if not found[0].startswith(("//", "/*")):
                tokens.append(found.span())
            at = found.end()
        return tokens

    def _line(self, at: int) -> int:
        return self._text.count("\n", 0, at) + 1

    def _next(self) -> tuple[int, int, str]:
        if self._at >= len(self._tokens):
            raise Unreadable("it ends too early")
        start, end = self._tokens[self._at]
        self._at += 1
        return start, end, self._text[start:end]

    def _peek(self) -> str:
        start, end = self._tokens[self._at] if self._at < len(self._tokens) else (0, 0)
        return self._text[start:end]

    def _read(self, path: tuple[str, ...], depth: int) -> Any:
        if depth > MAXIMUM_DEPTH:
            raise Unreadable("it is nested too deep")
        start, end, word = self._next()
        value: Any
        if word == "{":
            value = {}
            while self._peek() != "}":
                at, _, name = self._next()
                key = self._scalar(name, at)
                if not isinstance(key, str) or self._next()[2] != ":":
                    raise Unreadable(f"line {self._line(at)}: no key and colon")
                value[key] = self._read((*path, key), depth + 1)
                self._comma("}")
            end = self._next()[1]
        elif word == "[":
            value = []
            while self._peek() != "]":
                value.append(self._read((*path, f"\0{len(value)}"), depth + 1))
                self._comma("]")
            end = self._next()[1]
        else:
            value = self._scalar(word, start)
        self._spans[path], self._values[path] = (start, end), value
        return value

    def _comma(self, ending: str) -> None:
        if self._peek() == ending:
            return
        at, _, word = self._next()
        if word != ",":
            raise Unreadable(f"line {self._line(at)}: no comma before {word[:10]!r}")

    def _scalar(self, token: str, at: int) -> Any:
        try:
            return json.loads(token)
        except ValueError:
            raise Unreadable(f"line {self._line(at)}: {token[:20]!r} is no JSON") from None


def _toml(text: str, change: Change) -> str:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document: Any = tomlkit.parse(text)
        table = document
        for name in change.path[:-1]:
            if name not in table:
                is_super = name != change.path[-2]
                table[name] = tomlkit.table(is_super)
            table = table[name]
        table[change.path[-1]] = change.value
        return str(tomlkit.dumps(document))
    except TOMLKitError as error:
        raise Unreadable(str(error)) from None
    except (TypeError, AttributeError) as error:
        raise Unreadable(f"{'.'.join(change.path)} is something else there: {error}") from None


def _yaml(text: str, change: Change) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    try:
        document = yaml.load(text)
    except YAMLError as error:
        raise Unreadable(str(error).replace("\n", " ")[:300]) from None
    document = {} if document is None else document
    if not isinstance(document, dict):
        raise Unreadable("it is not a mapping")
    above = document
    for name in change.path[:-1]:
        above = above.setdefault(name, {})
        if not isinstance(above, dict):
            raise Unreadable(f"{name} is not a mapping")
    last = change.path[-1]
    if change.only_if_missing:
        above.setdefault(last, change.value)
    elif change.same is None:
        above[last] = change.value
    else:
        listed = above.setdefault(last, [])
        if not isinstance(listed, list):
            raise Unreadable(f"{last} is not a list")
        places = [
            at
            for at, one in enumerate(listed)
            if isinstance(one, dict) and one.get(change.same) == change.value[change.same]
        ]
        if places:
            listed[places[0]] = change.value
        else:
            listed.append(change.value)
    written = io.StringIO()
    yaml.dump(document, written)
    return written.getvalue()
