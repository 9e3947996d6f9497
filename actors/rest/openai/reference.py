"""Renders the table of fields: `.venv/bin/python -m actors.rest.openai.reference > docs/openai-fields.md`."""

from __future__ import annotations

import json
import sys

from actors.rest.openai.fields import EMBEDDINGS, FIELDS, IGNORED_HEADER, Endpoint, FieldRule

__all__ = ["reference"]

_HEAD = f"""# Fields of `/v1/chat/completions`, `/v1/completions` and `/v1/embeddings`

Made by `python -m actors.rest.openai.reference` from the table that the server itself uses (`actors/rest/openai/fields.py`).

*Taken* fields are applied, or are labels without effect. *Ignored* fields affect how an answer is produced, not its content:
they are named in the response's header `{IGNORED_HEADER}`, as is every field that is not listed here. *Refused* fields would change the content of
the answer if they were ignored; the error names them in `param`. Optional parts of a schema that cannot be enforced (a property, an
alternative) are left out of answers, and the same header names their places: `response_format/properties/a`. Null and the values under *no effect* are neither named nor refused.

| field | of | is | no effect | |
|---|---|---|---|---|
"""
_MESSAGES = r"""
## Messages

These fields of a message are read: `role` (`system`, `developer`, `user`, `assistant`, `tool`, `function`), `content` (a text, or an array of parts of the
types `text`, `input_text`, `output_text` and `refusal`), `name`, `tool_calls`, `tool_call_id`, `function_call` and `refusal`. A `name` has up to 64 characters
without white space and `<|\/>`; the model sees it if its template prints it. Known fields of other servers and clients
(`reasoning_content`, `annotations`, `audio`, `parsed`, `id` …) are ignored. Refused are parts other than text, `images`, and `prefix` or
`partial` set to true.
"""


_EMBEDDINGS = """
## `/v1/embeddings`

| field | is | no effect | |
|---|---|---|---|
"""


def reference() -> str:
    """Render the page."""
    embeddings = "".join(f"| `{rule.name}` | {_rest(rule)}\n" for rule in EMBEDDINGS)
    return _HEAD + "".join(f"{_line(rule)}\n" for rule in FIELDS) + _MESSAGES + _EMBEDDINGS + embeddings


def _line(rule: FieldRule) -> str:
    where = "both" if rule.endpoints == frozenset(Endpoint) else ", ".join(one.value for one in rule.endpoints)
    return f"| `{rule.name}` | {where} | {_rest(rule)}"


def _rest(rule: FieldRule) -> str:
    quiet = ", ".join(f"`{json.dumps(one)}`" for one in rule.quiet)
    return f"{rule.treatment.value} | {quiet} | {rule.note} |"


if __name__ == "__main__":
    sys.stdout.write(reference())
