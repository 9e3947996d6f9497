"""Builds the grammar of an answer that calls functions in one model's format. No I/O.

The grammar is in llguidance's own language (its `docs/syntax.md`). Each function's parameters form a separate document
in it, so that a `$ref` finds its definitions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from actors.inference.answer_forms import ARGUMENT_SYNTAXES, ArgumentSyntax, ToolCallFormat
from actors.inference.json_schema import prepared_schema
from actors.inference.schema_errors import BadSchema, NotSupported
from actors.inference.text_arguments import TextArguments, choices_of, quoted_pattern
from actors.inference.tools import CallableFunction, ToolCallConstraint

__all__ = ["COMPACT", "NotAnObject", "arguments_schema", "call_grammar"]

SPACED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Templates write past calls this way, so models learned it: one space after each comma and colon and no other."""
COMPACT: Any = {"whitespace_flexible": False}
"""No white space between JSON tokens: a model that may emit some may emit it endlessly."""
_ONLY_PROPERTIES = frozenset(
    {"type", "properties", "required", "title", "description", "$schema", "$defs", "definitions", "examples", "default"}
)


_BESIDE_PROPERTIES = frozenset(
    {"patternProperties", "propertyNames", "minProperties", "maxProperties", "dependencies", "dependentRequired"}
    | {"dependentSchemas", "allOf", "anyOf", "oneOf", "not", "if", "$ref", "$dynamicRef", "enum", "const"}
    | {"unevaluatedProperties"}
)
"""Keywords that constrain more than one property at a time, which is not supported."""
UNHELD = 'calls are unconstrained with tool_choice "auto", no strict function, no response_format and parallel_tool_calls left out'
"""Advice for parameters that this model's format of calls cannot be constrained to."""
_CDATA = r"/\s*<!\[CDATA\[(?s:.*)\]\]>\s*/"
"""A string that parsers replace by its content."""


_MARKS = re.compile(r"(<[^<>\s]*>|\[[A-Z_]+\])")
"""Parts of a literal that may be a token."""


class NotAnObject(ValueError):
    """Parameters that do not describe an object, although arguments always are one, or an object the format cannot
    express."""

    def __init__(self, problem: str, *, path: str = "") -> None:
        """``path`` is the name of the parameters in the request, if known."""
        super().__init__(problem)
        self.path = path


def call_grammar(
    rule: ToolCallConstraint, mark: Callable[[str], str], tell_text: Callable[[str, str], None] = lambda _, __: None
) -> str:
    """Builds the answer's grammar. Raises `NotAnObject` or `BadSchema`.

    ``mark`` returns the terminal of a mark, quoted text or a token. ``tell_text`` is called with the location and
    terminal of each verbatim string, to check that it can be matched; a `BadSchema` that it raises is attributed to the
    function.
    """
    form = rule.tool_call_format
    grammar = _Grammar(rule, mark, tell_text)
    syntax = ARGUMENT_SYNTAXES.get(form)
    if syntax is not None:
        calls = grammar.calls_by_argument(syntax)
    elif form in (ToolCallFormat.TAGGED, ToolCallFormat.BARRED, ToolCallFormat.LLAMA):
        calls = grammar.calls_as_objects()
    else:
        calls = grammar.calls_with_a_head()
    return "\n".join([*grammar.start(), f"calls: {calls}", *grammar.lines]) + "\n"


class _Grammar:
    """Builds the rules of one answer."""

    def __init__(
        self, rule: ToolCallConstraint, mark: Callable[[str], str], tell_text: Callable[[str, str], None]
    ) -> None:
        self._rule = rule
        self._form = rule.tool_call_format
        self._mark, self._tell_text = mark, tell_text
        self._more = rule.most_calls - 1
        self.lines = ["call: " + " | ".join(f"call_{number}" for number in range(len(rule.functions)))]

    def start(self) -> list[str]:
        """Start rules: calls after their opening mark, and other answers that are allowed."""
        if self._form is ToolCallFormat.HARMONY:
            return self._start_of_channels()
        pieces = self._pieces(self._form.opening)
        if self._form is ToolCallFormat.KIMI_K2:
            pieces = [self._mark("<|tool_calls_section_begin|>"), *pieces]
        opening = " ".join(pieces)
        if self._rule.is_required:
            return [f"start: {opening} calls"]
        if self._rule.answer_schema is not None:
            return [f"start: {opening} calls | answer", *self._answer()]
        if not opening.startswith('"'):
            # A token for the mark is not text, so the text ends before it.
            return [f"start: TEXT? ({opening} calls)?", "TEXT: /(?s:.*)/"]
        text = quoted_pattern(json.loads(pieces[0]))
        return [
            " ".join(["start: TEXT | text_before", *pieces[1:], "calls"]),
            "TEXT: /(?s:.*)/",
            f"text_before[lazy]: /(?s:.*){text}/",
        ]

    def _answer(self) -> list[str]:
        assert self._rule.answer_schema is not None
        schema = json.dumps({**prepared_schema(self._rule.answer_schema).schema, "x-guidance": COMPACT})
        return [f"answer: %json {schema}"]

    def _start_of_channels(self) -> list[str]:
        channel, message, end, begin = (
            self._mark(one) for one in ("<|channel|>", "<|message|>", "<|end|>", "<|start|>")
        )
        calls = f'{channel} "commentary to=" calls'
        if self._rule.is_required:
            return [f"start: {calls}"]
        thought = f'({channel} "analysis" {message} TEXT? {end} {begin} "assistant")?'
        if self._rule.answer_schema is not None:
            return [
                f'start: {thought} ({channel} "final" {message} answer | {calls})',
                "TEXT: /(?s:.*)/",
                *self._answer(),
            ]
        return [f'start: {thought} ({channel} "final" {message} TEXT? | {calls})', "TEXT: /(?s:.*)/"]

    def calls_as_objects(self) -> str:
        """Rules of formats in which a call is one JSON object."""
        opening, closing = self._mark(self._form.opening), self._mark(self._form.closing)
        more = self._more
        arguments = "parameters" if self._form is ToolCallFormat.LLAMA else "arguments"
        for number, function in enumerate(self._rule.functions):
            head = json.dumps(f'{{"name": {json.dumps(function.name)}, "{arguments}": ')
            self._add_json_call(number, function, head, '"}"')
        if self._form is ToolCallFormat.TAGGED:
            inside = f'"\\n"? call "\\n"? {closing}'
            return inside + (f' ("\\n"? {opening} {inside}){{0,{more}}} "\\n"?' if more else "")
        if self._form is ToolCallFormat.LLAMA:
            return "call" + (f' ("; " call){{0,{more}}}' if more else "")
        others = f' (", " call){{0,{more}}}' if more else ""
        return f'"[" call{others} "]" {closing}?'

    def calls_with_a_head(self) -> str:
        """Rules of formats in which a name precedes a JSON object."""
        marks = {
            ToolCallFormat.MISTRAL: ("", "[ARGS]", ""),
            ToolCallFormat.KIMI_K2: ("functions.", ":0<|tool_call_argument_begin|>", "<|tool_call_end|>"),
            # Its closing mark ends the answer and stops the model.
            ToolCallFormat.HARMONY: ("functions.", " <|constrain|>json<|message|>", ""),
        }[self._form]
        for number, function in enumerate(self._rule.functions):
            head = self._literal(f"{marks[0]}{function.name}{marks[1]}")
            self._add_json_call(number, function, head, self._literal(marks[2]))
        opening = self._mark(self._form.opening)
        again = {ToolCallFormat.HARMONY: 0}.get(self._form, self._more)
        calls = "call" + (f" ({opening} call){{0,{again}}}" if again else "")
        return f"{calls} {self._mark('<|tool_calls_section_end|>')}" if self._form is ToolCallFormat.KIMI_K2 else calls

    def calls_by_argument(self, syntax: ArgumentSyntax) -> str:
        """Rules of formats that write arguments one by one."""
        before, behind = syntax.named
        is_list = self._form is ToolCallFormat.PYTHONIC
        for number, function in enumerate(self._rule.functions):
            head = self._literal(f"{'' if is_list else before}{function.name}{behind}")
            try:
                inside = self._arguments(number, function, syntax)
            except NotAnObject as error:
                raise NotAnObject(str(error), path=function.path) from None
            self.lines.append(f"call_{number}: {head} {inside} {self._literal(syntax.called)}")
        closing = self._literal(syntax.closed + self._form.closing)
        if is_list:
            others = f' (", " call){{0,{self._more}}}' if self._more else ""
            return f'"[" call{others} {closing}'
        if len(before) > 1 and self._form not in (ToolCallFormat.GEMMA, ToolCallFormat.FUNCTION_GEMMA):
            return f"call{f'{{1,{self._more + 1}}}' if self._more else ''} {closing}"
        opening = self._literal(self._form.opening)
        return f"call {closing}" + (f' ("\\n"? {opening} call {closing}){{0,{self._more}}}' if self._more else "")

    def _add_json_call(self, number: int, function: CallableFunction, head: str, end: str) -> None:
        self.lines.append(f"call_{number}: {head} arguments_{number} {end}")
        schema = {**prepared_schema(arguments_schema(function)).schema, "x-guidance": SPACED}
        self.lines.append(f"arguments_{number}: %json {json.dumps(schema)}")

    def _arguments(self, number: int, function: CallableFunction, syntax: ArgumentSyntax) -> str:
        """Rule for the properties in order; those not required are optional."""
        schema = arguments_schema(function)
        properties = schema.get("properties", {})
        if beside := sorted(_BESIDE_PROPERTIES.intersection(schema)):
            raise NotAnObject(
                f"must be a plain list of properties, without {beside[0]}: this model writes arguments one by one; {UNHELD}"
            )
        definitions: dict[str, Any] = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
        required = list(schema.get("required", ()))
        others = schema.get("additionalProperties", True)
        texts = TextArguments(schema)
        names = []
        for place, key in enumerate(dict.fromkeys([*properties, *required])):
            one = properties.get(key, others)
            if one is False and key not in required:
                continue
            name = f"argument_{number}_{place}"
            try:
                self._add_argument(name, key, one, definitions, syntax, texts)
            except BadSchema as error:
                if key in required or syntax.is_plain_text(one):
                    raise NotAnObject(f"properties.{key}: {error}") from None
                # Answers leave it out, as `Grammars.check` reports.
                continue
            names.append((name, key in required))
        if not syntax.between:
            return " ".join(name if needed else f"{name}?" for name, needed in names)
        return self._between(number, names, json.dumps(syntax.between))

    def _between(self, number: int, names: list[tuple[str, bool]], comma: str) -> str:
        """The same with a separator: any property that may come first, followed by the rest."""
        rests = [
            " ".join(f"({comma} {name}){'' if needed else '?'}" for name, needed in names[at + 1 :])
            for at in range(len(names))
        ]
        firsts = []
        for at, (name, needed) in enumerate(names):
            firsts.append(f"{name} {rests[at]}".rstrip())
            if needed:
                break
        else:
            firsts.append('""')
        self.lines.append(f"arguments_{number}: " + " | ".join(firsts))
        return f"arguments_{number}"

    def _add_argument(
        self,
        name: str,
        key: str,
        schema: Any,
        definitions: dict[str, Any],
        syntax: ArgumentSyntax,
        texts: TextArguments,
    ) -> None:
        if schema is False:
            raise NotAnObject(f"properties.{key} is required but cannot have a value")
        schema = schema if isinstance(schema, dict) else {}
        is_text = syntax.is_plain_text(schema)
        value_begins = (syntax.text_value if is_text else None) or syntax.value
        end = (syntax.text_end if is_text else None) or syntax.end
        fences = syntax.fences(self._form, is_text=is_text)
        self._check_fits(key, schema, syntax, fences)
        opened = " ".join([*self._pieces(syntax.key), json.dumps(key), *self._pieces(value_begins)])
        if not is_text:
            value = json.dumps({**prepared_schema({**schema, **definitions}).schema, "x-guidance": COMPACT})
            self.lines += [f"{name}: {opened} {name}_value {self._literal(end)}", f"{name}_value: %json {value}"]
            return
        try:
            text = texts.terminal(schema, f"/properties/{key}", without=fences, is_trimmed=syntax.strips_texts)
        except NotSupported as problem:
            raise NotAnObject(f"{problem} in this model's calls; {UNHELD}") from None
        if not syntax.between and choices_of(schema) is None:
            text = f"{text} & ~{_CDATA}"
        self._tell_text(f"properties.{key}", text)
        terminal = f"{name}_text".upper()
        self.lines.append(f"{terminal}: {text}")
        pieces = self._pieces(end)
        if not pieces[0].startswith('"'):
            # A token for the mark is not text, so the text ends before it.
            self.lines.append(f"{name}: {opened} {terminal} {' '.join(pieces)}")
            return
        self.lines += [
            " ".join([f"{name}: {opened} {name}_text", *pieces[1:]]),
            f"{name}_text[lazy]: {terminal} /{quoted_pattern(json.loads(pieces[0]))}/",
        ]

    def _check_fits(self, key: str, schema: dict[str, Any], syntax: ArgumentSyntax, fences: tuple[str, ...]) -> None:
        """Rejects values that a parser could not tell from the marks around them."""
        if not re.fullmatch(syntax.key_pattern, key):
            raise NotAnObject(f"properties cannot be named {json.dumps(key)}: this model has no way to write it")
        for mark in fences:
            if any(mark in one for one in _fixed_texts(schema)):
                raise NotAnObject(
                    f"properties.{key} cannot require a string containing {mark}, a mark of this model's calls"
                )

    def _literal(self, text: str) -> str:
        return " ".join(self._pieces(text))

    def _pieces(self, text: str) -> list[str]:
        """Splits a text into terminals: marks that are tokens, and the text between them."""
        pieces: list[str] = []
        for one in _MARKS.split(text):
            terminal = self._mark(one) if one else ""
            if not one:
                continue
            if pieces and terminal.startswith('"') and pieces[-1].startswith('"'):
                pieces[-1] = json.dumps(json.loads(pieces[-1]) + one)
            else:
                pieces.append(terminal)
        return pieces


def _fixed_texts(schema: Any) -> Iterator[str]:
    """Strings that an answer contains because the schema requires them."""
    if isinstance(schema, list):
        for one in schema:
            yield from _fixed_texts(one)
    elif isinstance(schema, dict):
        for keyword, one in schema.items():
            if keyword in ("const", "enum"):
                yield json.dumps(one, ensure_ascii=False)
                yield from (text for text in (one if isinstance(one, list) else [one]) if isinstance(text, str))
            elif keyword in ("properties", "$defs", "definitions") and isinstance(one, dict):
                yield from one
                yield from _fixed_texts(list(one.values()))
            elif keyword not in ("default", "examples"):
                yield from _fixed_texts(one)


def arguments_schema(function: CallableFunction) -> dict[str, Any]:
    """Schema of a function's arguments: an object that its parameters allow. Raises `NotAnObject`.

    If the parameters are a plain list of properties, the object has no others: JSON Schema would allow any, and a model
    that may invent names does so.
    """
    given = {"properties": {}} if function.parameters is None else function.parameters
    kind = given.get("type", "object")
    if "object" not in (kind if isinstance(kind, list) else [kind]):
        raise NotAnObject('must describe an object: its type must be "object"')
    schema = {**given, "type": "object"}
    names, required = given.get("properties"), given.get("required", [])
    if not _ONLY_PROPERTIES.issuperset(given) or not isinstance(names, dict) or not isinstance(required, list):
        return schema
    if all(one in names for one in required if isinstance(one, str)):
        schema["additionalProperties"] = False
    return schema
