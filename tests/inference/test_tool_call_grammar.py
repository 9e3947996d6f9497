"""Serving promise 17: an answer that must call a function can be nothing else than such a call, in the model's own form."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from actors.inference.structured_output import BadSchema, Grammars, Matcher
from actors.inference.text.text_model import CheckpointText
from actors.inference.tools import CallableFunction, GenerateWithTools, ToolCallConstraint, ToolCallFormat
from actors.rest.openai.tool_call_reader import ToolCall, ToolCallReader, whole_calls
from protocol.commands import ChatMessage, Role

from .test_text_model import WITH_TOOLS
from .tiny_text import make_tokenizer, write_text_folder

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "place": {"$ref": "#/$defs/place"},
        "days": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "maxItems": 3},
        "quick": {"type": "boolean"},
    },
    "required": ["place", "days"],
    "$defs": {"place": {"enum": ["Bonn", "</tool_call>", 'a "b"']}},
}
FORMS = [ToolCallFormat.TAGGED, ToolCallFormat.BARRED]


def function(name: str = "weather", parameters: dict[str, Any] | None = None) -> CallableFunction:
    return CallableFunction(name=name, parameters=parameters, path="tools[0].function.parameters")


def rule(
    form: ToolCallFormat = ToolCallFormat.TAGGED, *functions: CallableFunction, **fields: Any
) -> ToolCallConstraint:
    return ToolCallConstraint(
        **{
            "tool_call_format": form,
            "functions": functions or (function(parameters=WEATHER), function("stop")),
            "is_required": True,
            "most_calls": 1,
            "source_field": "tool_choice",
            **fields,
        }
    )


class Peer:
    """A tokenizer, what follows grammars with it, and texts as its tokens."""

    def __init__(self, folder: Path, *, has_marks: bool) -> None:
        write_text_folder(folder)
        tokenizer = make_tokenizer()
        if has_marks:
            for form in FORMS:
                tokenizer.add_special_tokens(list(form.marks))
            tokenizer.save(str(folder / "tokenizer.json"))
        size = tokenizer.get_vocab_size()
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**content, "vocab_size": size}))
        self.tokenizer = tokenizer
        self.has_marks = has_marks
        self.grammars = Grammars(folder / "tokenizer.json", size, [2])

    def ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def allows(self, rule: ToolCallConstraint, text: str) -> bool:
        """True if the grammar allows this text as a complete answer."""
        matcher = self.grammars.matcher(rule, [])
        for token_id in [*self.ids(text), 2]:
            if token_id not in allowed(matcher):
                return False
            matcher.take(token_id)
        return True


@pytest.fixture(scope="module", params=[False, True], ids=["marks are text", "marks are tokens"])
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Peer:
    return Peer(tmp_path_factory.mktemp("tokenizer"), has_marks=request.param)


def allowed(matcher: Matcher) -> list[int]:
    return [
        32 * word + bit for word, bits in enumerate(matcher.mask().tolist()) for bit in range(32) if bits >> bit & 1
    ]


def call(name: str = "weather", form: ToolCallFormat = ToolCallFormat.TAGGED, **arguments: Any) -> str:
    content = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{content}\n</tool_call>" if form is ToolCallFormat.TAGGED else f"<|tool_call|>[{content}]"


FINE = {"place": "Bonn", "days": [1, 2]}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_forced_answer_is_a_call_that_follows_the_parameters_and_nothing_else_promise_17(
    peer: Peer, form: ToolCallFormat
) -> None:
    forced = rule(form)
    assert peer.allows(forced, call(form=form, **FINE))
    assert peer.allows(forced, call("stop", form))
    for wrong in (
        "",
        "Bonn",
        "No. " + call(form=form, **FINE),
        call(form=form, **FINE) + " There.",
        call("other", form, **FINE),
        call(form=form, place="Bonn"),
        call(form=form, **{**FINE, "place": "Köln"}),
        call(form=form, **FINE, more=1),
        call("stop", form, now=True),
        call(form=form, **FINE) + "\n" + call("stop", form),
    ):
        assert not peer.allows(forced, wrong), wrong


def test_several_calls_are_one_behind_the_other_and_no_more_than_are_allowed(peer: Peer) -> None:
    several = rule(most_calls=3)
    assert peer.allows(several, "\n".join([call("stop")] * 3))
    assert not peer.allows(several, "\n".join([call("stop")] * 4))
    barred = rule(ToolCallFormat.BARRED, most_calls=2)
    one = '{"name": "stop", "arguments": {}}'
    assert peer.allows(barred, f"<|tool_call|>[{one}, {one}]<|/tool_call|>")
    assert not peer.allows(barred, f"<|tool_call|>[{one}, {one}, {one}]")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_free_answer_is_any_text_and_at_most_the_calls_that_are_allowed(peer: Peer, form: ToolCallFormat) -> None:
    free = rule(form, is_required=False)
    for fine in ("", "It rains.", "a < b, <tool", "Let me look.\n" + call(form=form, **FINE), call("stop", form)):
        assert peer.allows(free, fine), fine
    for wrong in (call("other", form), call(form=form, place="Bonn"), call("stop", form) + " " + call("stop", form)):
        assert not peer.allows(free, wrong), wrong


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_model_draws_is_read_as_calls_with_valid_arguments_promise_17(
    peer: Peer, form: ToolCallFormat, seed: int
) -> None:
    draw = random.Random(seed)
    matcher = peer.grammars.matcher(rule(form, most_calls=2), [])
    ids: list[int] = []
    while (token_id := draw.choice(allowed(matcher))) != 2:
        matcher.take(token_id)
        ids.append(token_id)
        assert len(ids) < 2000
    text = peer.tokenizer.decode(ids, skip_special_tokens=False)
    reader = ToolCallReader(form, ["weather", "stop"])
    parts = whole_calls(reader.feed(text) + reader.finish())
    assert parts
    for part in parts:
        assert isinstance(part, ToolCall), text
        schema = WEATHER if part.name == "weather" else {"type": "object", "maxProperties": 0}
        jsonschema.validate(json.loads(part.arguments), schema)


def test_a_matcher_of_calls_goes_on_after_what_was_emitted(peer: Peer) -> None:
    ids = peer.ids(call(**FINE))
    fresh = peer.grammars.matcher(rule(), [])
    for cut, token_id in enumerate(ids):
        assert allowed(peer.grammars.matcher(rule(), ids[:cut])) == allowed(fresh)
        fresh.take(token_id)


def test_a_rule_crosses_to_the_worker_unchanged() -> None:
    for one in (rule(), rule(ToolCallFormat.BARRED, is_required=False, most_calls=16)):
        assert ToolCallConstraint.from_text(one.as_text()) == one


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "object"},
        {"properties": {"a": {}}, "required": ["b"]},
        {"$ref": "#/$defs/it", "$defs": {"it": {"type": "object", "properties": {"a": {"type": "integer"}}}}},
        {"type": ["object", "null"], "properties": {"a": {"type": "integer"}}},
        {"anyOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "null"}}}]},
        {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "integer"}},
    ],
    ids=lambda value: json.dumps(value)[:50],
)
def test_parameters_that_are_no_plain_list_of_properties_are_followed_too(
    peer: Peer, parameters: dict[str, Any]
) -> None:
    forced = rule(ToolCallFormat.TAGGED, function(parameters=parameters))
    peer.grammars.check_calls(forced)
    assert peer.allows(forced, call(a=1, b=None) if "required" in parameters else call(a=1))
    assert not peer.allows(forced, '<tool_call>{"name": "weather", "arguments": null}</tool_call>')


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"type": "array"}, "must describe an object"),
        ({"type": "nonsense"}, "must describe an object"),
        ({"type": "object", "properties": {"a": {"type": "nonsense"}}}, "must be a type of JSON Schema"),
        ({"type": "object", "properties": {"a": {"$ref": "http://example.org/x.json"}}}, "not part of the schema"),
        ({"type": "object", "properties": 5}, r"\w"),
        ({"type": "object", "properties": {"a": {"enum": ["x" * 70_000]}}}, "over 65536"),
    ],
    ids=lambda value: json.dumps(value)[:50],
)
def test_bad_and_huge_parameters_are_refused_and_named(peer: Peer, parameters: dict[str, Any], says: str) -> None:
    wrong = CallableFunction(name="wrong", parameters=parameters, path="tools[1].function.parameters")
    with pytest.raises(BadSchema, match=says) as refused:
        peer.grammars.check_calls(rule(ToolCallFormat.TAGGED, function(), wrong))
    assert refused.value.field == "tools[1].function.parameters"


def test_many_parameters_that_are_too_long_together_are_refused(peer: Peer) -> None:
    long = {"type": "object", "properties": {"a": {"enum": ["x" * 20_000]}}}
    functions = [function(f"f{number}", long) for number in range(4)]
    with pytest.raises(BadSchema, match="together") as refused:
        peer.grammars.check_calls(rule(ToolCallFormat.TAGGED, *functions))
    assert refused.value.field == "tools"


def test_a_prompt_with_parameters_that_cannot_be_followed_is_refused_before_it_is_read(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(WITH_TOOLS)
    text = CheckpointText(folder)
    asked = {"messages": [ChatMessage(Role.USER, "x")], "turns": [{"role": "user", "content": "x"}]}
    tools = [{"type": "function", "function": {"name": "weather"}}]
    for parameters in (WEATHER, {"type": "array"}):
        request = GenerateWithTools(
            **asked,
            tools=tools,
            tool_call_format=ToolCallFormat.TAGGED,
            call_rule=rule(ToolCallFormat.TAGGED, function(parameters=parameters)),
        )
        if parameters is WEATHER:
            assert text.encode(request)
            continue
        with pytest.raises(BadSchema) as refused:
            text.encode(request)
        assert refused.value.field == "tools[0].function.parameters"
