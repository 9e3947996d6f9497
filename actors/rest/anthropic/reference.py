"""Renders the table of fields: `.venv/bin/python -m actors.rest.anthropic.reference > docs/anthropic-fields.md`."""

from __future__ import annotations

import sys

from actors.rest.anthropic.fields import FIELDS
from actors.rest.openai.fields import IGNORED_HEADER, field_lines

__all__ = ["reference"]

_HEAD = f"""# Fields of `/v1/messages` and `/v1/messages/count_tokens`

Made by `python -m actors.rest.anthropic.reference` from the table that the server itself uses (`actors/rest/anthropic/fields.py`).

*Taken* fields are applied, or are labels without effect. *Ignored* fields affect how an answer is produced, not its content:
they are named in the response's header `{IGNORED_HEADER}`, as is every field that is not listed here. *Refused* fields would change the content of
the answer if they were ignored; the error names them. Null and the values under *no effect* are neither named nor refused.

"""
_TAIL = """
## Headers

`x-api-key` or `Authorization: Bearer` carries a token, if the server has tokens. `anthropic-version` may be left out; `2026-10-21`,
`2023-06-01` and `2023-01-01` are accepted, any other is refused. `anthropic-beta` is accepted and has no effect. Answers have `request-id`.

## Messages and blocks

| block | in turns of | becomes |
|---|---|---|
| `text` | all, and `system` | a paragraph of the turn |
| `tool_use` | `assistant` | a call, as the model's template writes it |
| `tool_result` | `user` | a result of that call; text only; with `is_error` it begins with `Error:` |
| `thinking`, `redacted_thinking` | `assistant` | nothing: accepted and not shown to the model |

Every other block (images, documents, searches, results of tools that Anthropic's servers run) is refused, and so are tools without an
`input_schema`. Turns of one speaker that follow one another are one turn. A message of the role `system` behind a question is part of the user's turn, because
most chat templates accept a system turn only at the beginning. The last one must not be the assistant's.

## Usage

A prompt's length is `input_tokens` + `cache_read_input_tokens`, which is what `count_tokens` returns for the same request;
`cache_read_input_tokens` is measured: tokens whose keys and values were cached from an earlier prompt. A stream reports it with
`message_delta`, because it is not known when `message_start` goes out (there it is null, and `input_tokens` is the whole prompt).
`cache_creation_input_tokens` is 0: clients cannot request cache writes.

## Errors

`{"type": "error", "error": {"type", "message"}}`, for every error: 400 and 405, 415 `invalid_request_error`, 401
`authentication_error`, 403 `permission_error`, 404 `not_found_error`, 413 `request_too_large`, 429 `rate_limit_error`, 503 `overloaded_error`,
504 `timeout_error`, other 5xx `api_error`. A prompt beyond the context is reported as `prompt is too long: N tokens > M maximum`, which Claude
Code looks for to shorten the chat. In a stream an error is an event `error`, and the last one.
"""


def reference() -> str:
    """Render the page."""
    return _HEAD + field_lines(FIELDS) + _TAIL


if __name__ == "__main__":
    sys.stdout.write(reference())
