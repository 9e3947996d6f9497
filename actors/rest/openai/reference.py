"""The table of fields as a page: `.venv/bin/python -m actors.rest.openai.reference > docs/openai-fields.md` writes it anew."""

from __future__ import annotations

import json
import sys

from actors.rest.openai.fields import EMBEDDINGS, FIELDS, IGNORED_HEADER, Endpoint, FieldRule

__all__ = ["reference"]

_HEAD = f"""# Fields of `/v1/chat/completions`, `/v1/completions` and `/v1/embeddings`

Made by `python -m actors.rest.openai.reference` from the table that the server itself obeys (`actors/rest/openai/fields.py`).

*Taken* fields are carried out, or are labels that nothing depends on. *Ignored* ones change how and not what is answered: they are passed
over and named in the response's header `{IGNORED_HEADER}`, as is every field that is not listed here. *Refused* ones would make the answer
another than was asked for; the error names them in `param`. What of a schema cannot be followed and need not be there (an optional property, an
alternative) is never in an answer, and the same header names its place: `response_format/properties/a`. Null and the values under *asks for nothing* are neither named nor refused.

| field | of | is | asks for nothing | |
|---|---|---|---|---|
"""
_MESSAGES = r"""
## Messages

Of a message these are read: `role` (`system`, `developer`, `user`, `assistant`, `tool`, `function`), `content` (a text, or an array of parts of the
types `text`, `input_text`, `output_text` and `refusal`), `name`, `tool_calls`, `tool_call_id`, `function_call` and `refusal`. A `name` has up to 64 characters
without white space and `<|\/>`; the model sees it where its template prints it. What servers and clients are known to put beside these
(`reasoning_content`, `annotations`, `audio`, `parsed`, `id` …) is passed over. Refused are parts that are no text, `images`, and `prefix` or
`partial` that are true.
"""


_EMBEDDINGS = """
## `/v1/embeddings`

| field | is | asks for nothing | |
|---|---|---|---|
"""


def reference() -> str:
    """The page."""
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
