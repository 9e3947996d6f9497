"""Chat templates: the model's own Jinja template, rendered in a sandbox."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox

from protocol.commands import ChatMessage, Role

__all__ = ["ChatTemplate", "TemplateRefused"]


_LEFT_OUT = "this model has no place for a message of the role system; put what it says into a user message"


class TemplateRefused(ValueError):
    """The model's template cannot take these messages; the text says why, in the template's words."""


class ChatTemplate:
    """One model's template, compiled once. The settings are those that checkpoints are written for."""

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        """``special_tokens`` has `bos_token` and the like, as templates name them.

        Raises `jinja2.TemplateSyntaxError` for a template that does not compile.
        """
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _now
        self._template = environment.from_string(source)
        self._special_tokens = special_tokens

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt text, ending where the assistant's answer begins.

        Raises `TemplateRefused`, also for a system message that the template would leave out: some have no place
        for one and pass over it without a word.
        """
        try:
            text = self._template.render(
                messages=[{"role": one.role.value, "content": one.content} for one in messages],
                add_generation_prompt=True,
                **self._special_tokens,
            )
        except Exception as error:
            # Border: the template is the checkpoint's program, and may fail as programs do.
            raise TemplateRefused(str(error) or type(error).__name__) from error
        for one in messages:
            # Templates trim what they are given.
            if one.role is Role.SYSTEM and one.content.strip() not in text:
                raise TemplateRefused(_LEFT_OUT)
        return text


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.datetime.now().astimezone().strftime(form)
