"""Forced calls in the forms of Mistral, Kimi K2 and gpt-oss over HTTP, with marks of the form in the texts of arguments.

The marks are tokens of the served tokenizer, as they are in those models', and text in what a client asks for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest

from actors.inference.answer_forms import ToolCallFormat
from tests.rest.embedded_under_template import serving_under
from tests.rest.test_forced_calls import TEMPLATE
from tests.system.serving_process import ServingProcess

pytestmark = [pytest.mark.mlx_real_inference, pytest.mark.integration]

F = ToolCallFormat
SAMPLES = {F.MISTRAL: "[TOOL_CALLS]", F.KIMI_K2: "<|tool_calls_section_begin|>", F.HARMONY: "<|channel|><|message|>"}
"""What a template has by which its form is known."""
ASKED: list[Any] = [{"role": "user", "content": "Note what was said."}]


@pytest.fixture(scope="module", params=list(SAMPLES), ids=lambda form: form.name)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ToolCallFormat, ServingProcess]]:
    form: ToolCallFormat = request.param
    template = f"{{# {SAMPLES[form]} #}}{TEMPLATE.replace('<tool_call>', '').replace('</tool_call>', '')}"
    marks = [one for one in form.marks if one != "[CALL_ID]"]
    with serving_under(tmp_path_factory.mktemp(form.name), "marked", template, marks=marks) as server:
        yield form, server


def parameters(form: ToolCallFormat) -> dict[str, Any]:
    marked = [f"a {one} b" for one in (*form.marks, form.closing, "<|im_end|>", '"}]')]
    return {
        "type": "object",
        "properties": {
            "note": {"const": "".join(form.marks) + "}</s>"},
            "which": {"enum": marked},
            "free": {"type": "string", "minLength": 3, "maxLength": 12},
            "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
            "count": {"type": "integer", "minimum": 1, "maximum": 99},
        },
        "required": ["note", "which", "free", "code", "count"],
        "additionalProperties": False,
    }


def test_gr50_forced_calls_of_marked_forms_are_whole_over_http(served: tuple[ToolCallFormat, ServingProcess]) -> None:
    form, server = served
    schema = parameters(form)
    tools: list[Any] = [{"type": "function", "function": {"name": "note", "parameters": schema}}]
    with openai.OpenAI(
        base_url=f"{server.about['rest_url']}/v1", api_key="unused", max_retries=0, timeout=120
    ) as client:
        asked: dict[str, Any] = {
            "model": "marked", "messages": ASKED, "tools": tools, "tool_choice": "required", "temperature": 1.4,
            "seed": 5, "max_tokens": 300, "parallel_tool_calls": False,
        }  # fmt: skip
        whole = client.chat.completions.create(**asked).choices[0]
        assert (whole.message.content, whole.finish_reason) == (None, "tool_calls")
        assert whole.message.tool_calls is not None
        (call,) = whole.message.tool_calls
        assert call.type == "function"
        jsonschema.validate(json.loads(call.function.arguments), schema)
        choices = [one.choices[0] for one in client.chat.completions.create(**asked, stream=True) if one.choices]
        pieces = [piece for one in choices for piece in one.delta.tool_calls or ()]
        assert [piece.function.name for piece in pieces if piece.id] == ["note"]
        assert "".join(piece.function.arguments or "" for piece in pieces) == call.function.arguments
        assert not any(one.delta.content for one in choices)
        assert choices[-1].finish_reason == "tool_calls"
