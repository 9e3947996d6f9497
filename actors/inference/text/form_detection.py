"""Detects a model's tool-call and reasoning formats from its chat template and tokens. Pure functions.

The template is parsed, not run: it is a program from the checkpoint and runs only in sandbox jobs.
"""

from __future__ import annotations

from collections.abc import Collection

import jinja2.nodes

from actors.inference.answer_forms import ReasoningForm, ReasoningMarks, ToolCallFormat

__all__ = ["closed_reasoning", "reasoning_form", "tool_call_format_of", "visible_marks", "without_reasoning"]

_FINAL = "<|channel|>final<|message|>"


def tool_call_format_of(source: str, tokens: Collection[str]) -> ToolCallFormat | None:
    """Tool-call format of a template that has tools; None if it is not a supported one."""
    form = ToolCallFormat
    # In mlx-lm's order: some formats share their marks.
    found = [
        (form.HARMONY, "<|channel|>" in source and "<|message|>" in source),
        (form.MINIMAX, "<minimax:tool_call>" in source),
        (form.GEMMA, "<|tool_call>" in source and "<tool_call|>" in source),
        (form.FUNCTION_GEMMA, "<start_function_call>" in source),
        (form.LONGCAT, "<longcat_tool_call>" in source),
        (form.GLM, "<arg_key>" in source),
        (form.PYTHONIC, "<|tool_list_start|>" in source or "<|tool_call_start|>" in source),
        (form.QWEN_CODER, "<tool_call>" in source and "<function=" in source),
        (form.KIMI_K2, "<|tool_calls_section_begin|>" in source),
        (form.MINICPM, '<function name="' in source and '<param name="' in source),
        (form.MISTRAL, "[TOOL_CALLS]" in source),
        (form.MUSE, "<atem:function_calls>" in source),
        (form.TAGGED, "<tool_call>" in source),
        (form.BARRED, "<|tool_call|>" in source),
        (form.KIMI_K3, {"<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>"}.issubset(tokens)),
        (form.PYTHONIC, {"<|tool_call_start|>", "<|tool_call_end|>"}.issubset(tokens)),
        (form.LLAMA, "<|python_tag|>" in source or "<|python_tag|>" in tokens),
    ]
    return next((one for one, is_it in found if is_it), None)


def reasoning_form(
    tree: jinja2.nodes.Template, source: str, variables: Collection[str], tokens: Collection[str]
) -> ReasoningForm:
    """Reasoning form of a model with this template. Even one that does not mention reasoning may open an answer with
    `<think>`."""
    known = next((one for one in ReasoningMarks if _is_known(one, source, tokens)), None)
    marks = known or ReasoningMarks.THINK
    written = [one for block in tree.find_all(jinja2.nodes.If) if _asks_for_prompt(block) for one in _texts(block)]
    written += [
        one for block in tree.find_all(jinja2.nodes.CondExpr) if _asks_for_prompt(block) for one in _texts(block)
    ]
    opened = [one for one in written if one.rstrip().endswith(marks.opening)]
    return ReasoningForm(
        marks=marks,
        is_known=known is not None,
        is_opened=bool(opened) and marks is not ReasoningMarks.HARMONY,
        has_switch="enable_thinking" in variables or "thinking" in variables,
        is_asked_for="thinking" in variables and "enable_thinking" not in variables,
    )


def _is_known(marks: ReasoningMarks, source: str, tokens: Collection[str]) -> bool:
    if marks is ReasoningMarks.HARMONY:
        return "<|channel|>" in source and "<|message|>" in source
    if marks is ReasoningMarks.GEMMA:
        return {"<|channel>", "<channel|>"}.issubset(tokens)
    if marks is ReasoningMarks.KIMI_K3:
        return {"<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>"}.issubset(tokens)
    return marks.closing in source or marks.opening in source or {marks.opening, marks.closing}.issubset(tokens)


def visible_marks(marks: ReasoningMarks) -> tuple[str, ...]:
    """Marks that a tokenizer may have as tokens and that must remain visible in an answer's text."""
    if marks is ReasoningMarks.HARMONY:
        return ToolCallFormat.HARMONY.marks
    if marks is ReasoningMarks.GEMMA:
        return ("<|channel>", "<channel|>")
    if marks is ReasoningMarks.KIMI_K3:
        return ToolCallFormat.KIMI_K3.marks
    return (marks.opening, marks.closing)


def closed_reasoning(text: str, form: ReasoningForm, *, has_call: bool) -> str:
    """Appends an empty thought to a prompt in which the template has begun one, so that the model does not reason.

    For gpt-oss it opens the answer channel, unless ``has_call``: calls have a channel of their own.
    """
    marks = form.marks
    if marks is ReasoningMarks.HARMONY:
        return text if has_call else text + _FINAL
    return f"{text.rstrip()}\n\n{marks.closing}\n\n" if text.rstrip().endswith(marks.opening) else text


def without_reasoning(text: str, marks: ReasoningMarks) -> str:
    """Removes the reasoning from a past answer."""
    if marks is ReasoningMarks.HARMONY:
        return text.rpartition(_FINAL)[2] if text.startswith("<|channel|>") else text
    start = text.lstrip()
    if not start.startswith(marks.opening):
        return text
    _, mark, rest = start.partition(marks.closing)
    return rest.lstrip() if mark else text


def _asks_for_prompt(node: jinja2.nodes.If | jinja2.nodes.CondExpr) -> bool:
    names = [
        one.name for one in (node.test, *node.test.find_all(jinja2.nodes.Name)) if isinstance(one, jinja2.nodes.Name)
    ]
    return "add_generation_prompt" in names


def _texts(node: jinja2.nodes.Node) -> list[str]:
    """Texts in the node's own branch, not in the opposite one."""
    branches = (
        node.body
        if isinstance(node, jinja2.nodes.If)
        else [node.expr1]
        if isinstance(node, jinja2.nodes.CondExpr)
        else []
    )
    found: list[str] = []
    for one in branches:
        for inner in (one, *one.find_all((jinja2.nodes.Const, jinja2.nodes.TemplateData))):
            if isinstance(inner, jinja2.nodes.TemplateData):
                found.append(inner.data)
            elif isinstance(inner, jinja2.nodes.Const) and isinstance(inner.value, str):
                found.append(inner.value)
    return found
