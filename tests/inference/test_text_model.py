"""Text in and out of a model: templates, tokens, characters that are never split, files that are wrong."""

import json
from pathlib import Path

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.inference.text.chat_template import ChatTemplate, TemplateRefused
from actors.inference.text.text_model import CheckpointText, MockText
from actors.inference.tools import GenerateWithTools, ToolCallFormat
from protocol.commands import ChatMessage, Generate, Role

from .tiny_text import TEMPLATE, make_tokenizer, write_text_folder

USER = [ChatMessage(Role.USER, "hello")]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> CheckpointText:
    return CheckpointText(write_text_folder(tmp_path_factory.mktemp("text")))


# --- out --------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(ids=st.lists(st.integers(0, 319), max_size=20))
def test_the_pieces_of_any_tokens_add_up_to_the_whole_text(text: CheckpointText, ids: list[int]) -> None:
    ids = [one for one in ids if one < text.vocabulary_size]
    detokenizer = text.detokenizer()
    pieces = [detokenizer.feed(one) for one in ids]
    assert "".join(pieces) + detokenizer.finish() == text.decode(ids)


@given(st.text(max_size=20))
def test_no_character_is_ever_split(text: CheckpointText, answer: str) -> None:
    ids = make_ids(text, answer)
    detokenizer = text.detokenizer()
    so_far = ""
    for one in ids:
        so_far += detokenizer.feed(one)
        assert answer.startswith(so_far), "a piece holds whole characters or waits"
    assert so_far + detokenizer.finish() == answer


@given(st.binary(max_size=24))
def test_the_mock_text_of_any_bytes_adds_up_to_the_whole(content: bytes) -> None:
    detokenizer = MockText().detokenizer()
    pieces = [detokenizer.feed(byte) for byte in content]
    assert "".join(pieces) + detokenizer.finish() == content.decode("utf-8", "replace")


def test_an_incomplete_character_at_the_end_becomes_a_replacement_character(text: CheckpointText) -> None:
    ids = make_ids(text, "😀" * 3)
    detokenizer = text.detokenizer()
    pieces = "".join(detokenizer.feed(one) for one in ids[:-1])
    assert pieces in ("😀😀", "😀")
    assert detokenizer.finish().endswith("\ufffd")


def test_special_tokens_are_not_text(text: CheckpointText) -> None:
    detokenizer = text.detokenizer()
    assert "".join(detokenizer.feed(one) for one in [*make_ids(text, "hello"), 2, 0]) + detokenizer.finish() == "hello"


def make_ids(text: CheckpointText, content: str) -> list[int]:
    # Added tokens in the content would be taken for what they are, so the tokens of a plain text are made here.
    return make_tokenizer_cached().encode(content, add_special_tokens=False).ids if content else []


def make_tokenizer_cached(_cache: list[object] = []):  # type: ignore[no-untyped-def]  # noqa: B006  the cache is meant
    if not _cache:
        _cache.append(make_tokenizer())
    return _cache[0]


# --- in ---------------------------------------------------------------------------------------------


def test_a_chat_is_rendered_by_the_models_template(text: CheckpointText) -> None:
    chat = [ChatMessage(Role.SYSTEM, "be kind"), ChatMessage(Role.USER, "hello")]
    ids = text.encode(Generate(messages=chat))
    whole = make_tokenizer_cached().decode(ids, skip_special_tokens=False)
    assert whole == "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert ids[0] == 1, "the template's markers are single tokens"


def test_a_plain_prompt_is_taken_as_it_stands(text: CheckpointText) -> None:
    assert text.encode(Generate(prompt="hello world")) == make_tokenizer_cached().encode("hello world").ids


def test_the_mock_takes_the_last_message() -> None:
    chat = [*USER, ChatMessage(Role.ASSISTANT, "hm"), ChatMessage(Role.USER, "né")]
    assert bytes(MockText().encode(Generate(messages=chat))).decode() == "né"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('only user and assistant may speak') }}", "only user and assistant may speak"),
        ("{{ messages[0].nothing.at_all }}", "nothing"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ messages[0]['role'] + 3 }}", "str"),
        ("{{ ().__class__.__mro__ }}", "unsafe"),
    ],
)
def test_whatever_goes_wrong_in_a_template_is_a_refusal_in_its_words(source: str, reason: str) -> None:
    with pytest.raises(TemplateRefused, match=reason):
        ChatTemplate(source, {}).render(USER)


def test_templates_have_the_functions_that_checkpoints_use() -> None:
    source = (
        "{{ bos_token }}{{ messages | tojson }}{% for m in messages %}{% break %}{% endfor %}{{ strftime_now('%Y') }}"
    )
    rendered = ChatTemplate(source, {"bos_token": "<s>"}).render([ChatMessage(Role.USER, "<é>")])
    assert rendered.startswith('<s>[{"role": "user", "content": "<é>"}]20')


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        ("{{ tools | tojson }}", '[{"b": "é", "a": 1}]'),
        ("{{ tools | tojson(ensure_ascii=False) }}", '[{"b": "é", "a": 1}]'),
        ("{{ tools | tojson(ensure_ascii=true) }}", '[{"b": "\\u00e9", "a": 1}]'),
        ("{{ tools | tojson(true) }}", '[{"b": "\\u00e9", "a": 1}]'),
        ("{{ tools | tojson(separators=(',', ':')) }}", '[{"b":"é","a":1}]'),
        ("{{ tools | tojson(sort_keys=True) }}", '[{"a": 1, "b": "é"}]'),
        ("{{ tools | tojson(indent=1) }}", '[\n {\n  "b": "é",\n  "a": 1\n }\n]'),
        ("{% for m in messages %}{% generation %}<{{ m.content }}>{% endgeneration %}{% endfor %}", "<hello>"),
        ("{% if messages[0].tool_calls is defined %}calls{% endif %}{{ messages[0].content }}", "hello"),
    ],
)
def test_tk26_templates_write_json_in_every_way_that_the_reference_has(source: str, rendered: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    tools = [{"b": "é", "a": 1}]
    turns: list[dict[str, object]] = [{"role": "user", "content": "hello", "tool_calls": None}]
    assert ChatTemplate(source, {})._render(turns, tools) == rendered
    theirs, _ = render_jinja_template([[{"role": "user", "content": "hello"}]], tools=tools, chat_template=source)
    assert theirs == [rendered]


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0] | tojson }}",
        "{{ messages[0].content | upper }}",
        "{% for line in messages[0].content.split('\n') %}> {{ line }}\n{% endfor %}",
    ],
)
def test_md13_a_system_message_that_the_template_writes_in_its_own_way_is_taken(source: str) -> None:
    assert ChatTemplate(source, {}).render([ChatMessage(Role.SYSTEM, 'be "kind"\nand short'), *USER])


PHI3_WITHOUT_SYSTEM = (
    "{% for message in messages %}{% if message['role'] == 'user' %}<|user|>\n{{ message['content'] | trim }}<|end|>\n"
    "{% elif message['role'] == 'assistant' %}<|assistant|>\n{{ message['content'] }}<|end|>\n{% endif %}{% endfor %}"
    "<|assistant|>\n"
)


def test_md13_a_system_message_that_the_template_would_pass_over_is_refused_in_words() -> None:
    template = ChatTemplate(PHI3_WITHOUT_SYSTEM, {})
    user = ChatMessage(Role.USER, "  hello ")
    assert template.render([user]) == "<|user|>\nhello<|end|>\n<|assistant|>"
    with pytest.raises(TemplateRefused, match="no place for a system message"):
        template.render([ChatMessage(Role.SYSTEM, "be kind"), user])


def test_a_template_cannot_change_what_it_was_given() -> None:
    with pytest.raises(TemplateRefused):
        ChatTemplate("{{ messages.append(1) }}", {}).render(USER)


# --- files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_text_folder(tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        CheckpointText(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", ["{", "[]", '"x"'])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    folder = write_text_folder(tmp_path / "model")
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=name):
        CheckpointText(folder)


@pytest.mark.parametrize("missing", ["vocab_size", "max_position_embeddings"])
def test_a_number_that_the_config_lacks_is_named(tmp_path: Path, missing: str) -> None:
    folder = write_text_folder(tmp_path / "model", **{missing: None})
    with pytest.raises(ValueError, match=missing):
        CheckpointText(folder)


def test_a_missing_or_damaged_template_is_named(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{% if %}")
    with pytest.raises(ValueError, match=r"chat template.*line 1") as caught:
        CheckpointText(folder)
    assert isinstance(caught.value.__cause__, jinja2.TemplateSyntaxError)
    for source in ("{% break %}", "{{" + "(" * 3000 + "1" + ")" * 3000 + "}}", "{{ 10 ** 5000 }}"):
        (folder / "chat_template.jinja").write_text(source)
        with pytest.raises(ValueError, match=r"the chat template in .* cannot be compiled"):
            CheckpointText(folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match=r"chat_template\.jinja"):
        CheckpointText(folder)


def test_the_template_may_lie_in_the_tokenizers_settings(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    settings = {"chat_template": "{{ bos_token }}" + TEMPLATE, "bos_token": {"content": "<|endoftext|>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert CheckpointText(folder).encode(Generate(messages=USER))[:2] == [0, 1]


def test_stop_tokens_come_from_both_configs(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 2]}')
    assert CheckpointText(folder).stop_token_ids == {0, 2}


# --- tools ------------------------------------------------------------------------------------------

WITH_TOOLS = (
    "{% for tool in tools %}<tools>{{ tool | tojson }}</tools>{% endfor %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls %}<tool_call>"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


def with_tools(form: ToolCallFormat = ToolCallFormat.TAGGED) -> GenerateWithTools:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": {"place": "Bonn"}}}
    return GenerateWithTools(
        messages=[ChatMessage(Role.USER, "hello"), ChatMessage(Role.ASSISTANT, ""), ChatMessage(Role.USER, "rain")],
        turns=[
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "rain", "tool_call_id": "c", "name": "look"},
        ],
        tools=[{"type": "function", "function": {"name": "look"}}],
        tool_call_format=form,
    )


@pytest.mark.parametrize(
    ("source", "form"),
    [
        (WITH_TOOLS, ToolCallFormat.TAGGED),
        (WITH_TOOLS.replace("<tool_call>", "<|tool_call|>"), ToolCallFormat.BARRED),
        ("{% if not tools is defined %}{% set tools = none %}{% endif %}" + WITH_TOOLS, ToolCallFormat.TAGGED),
        (TEMPLATE, None),
        (TEMPLATE + "{# tools <tool_call> #}", None),
        (WITH_TOOLS.replace("<tool_call>", "[CALL]"), None),
        (WITH_TOOLS + "{# <function=name> #}", ToolCallFormat.QWEN_CODER),
    ],
    ids=["tagged", "barred", "with a default", "none", "only mentioned", "another form", "XML"],
)
def test_the_form_of_tool_calls_is_read_from_the_template_promise_17(source: str, form: ToolCallFormat | None) -> None:
    template = ChatTemplate(source, {})
    assert template.has_tools == (form is not None)
    # Without tools of its own a model is asked for the form that most know.
    assert template.tool_call_format is (form or ToolCallFormat.TAGGED)


def test_tools_calls_and_results_are_given_to_the_template() -> None:
    text = ChatTemplate(WITH_TOOLS, {}).render_with_tools(with_tools())
    assert '<tools>{"type": "function", "function": {"name": "look"}}</tools>' in text
    assert '<tool_call>{"name": "look", "arguments": {"place": "Bonn"}}</tool_call>' in text
    assert "<|im_start|>tool\nrain<|im_end|>" in text


def test_a_template_with_calls_of_another_form_or_that_leaves_functions_out_refuses_them() -> None:
    with pytest.raises(TemplateRefused, match="another form"):
        ChatTemplate(WITH_TOOLS, {}).render_with_tools(with_tools(ToolCallFormat.BARRED))
    with pytest.raises(TemplateRefused, match="drops the function look"):
        ChatTemplate("{{ tools | length }}<tool_call>", {}).render_with_tools(with_tools())
    with pytest.raises(TemplateRefused, match="another form"):
        MockText().encode(with_tools(ToolCallFormat.BARRED))


@pytest.mark.parametrize("template", [TEMPLATE, WITH_TOOLS], ids=["without", "with tools"])
def test_marks_of_calls_that_are_special_tokens_are_seen(tmp_path: Path, template: str) -> None:
    folder = write_text_folder(tmp_path / "model")
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens(list(ToolCallFormat.TAGGED.marks))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(template)
    text = CheckpointText(folder)
    detokenizer = text.detokenizer()
    ids = text.encode(Generate(prompt="<tool_call>{}</tool_call>"))
    seen = "".join(detokenizer.feed(one) for one in ids) + detokenizer.finish()
    assert seen == "<tool_call>{}</tool_call>"
    assert text.encode(with_tools())
