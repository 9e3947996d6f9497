"""The table of fields as a page: `.venv/bin/python -m actors.rest.anthropic.reference > docs/anthropic-fields.md` writes it again."""

from __future__ import annotations

import sys

from actors.rest.anthropic.fields import FIELDS
from actors.rest.openai.fields import IGNORED_HEADER, field_lines

__all__ = ["reference"]

_HEAD = f"""# Fields of `/v1/messages` and `/v1/messages/count_tokens`

Made by `python -m actors.rest.anthropic.reference` from the table that the server itself obeys (`actors/rest/anthropic/fields.py`).

*Taken* fields are carried out, or are labels that nothing depends on. *Ignored* ones change how and not what is answered: they are passed
over and named in the response's header `{IGNORED_HEADER}`, as is every field that is not listed here. *Refused* ones would make the answer
another than was asked for; the error names them. Null and the values under *asks for nothing* are neither named nor refused.

"""
_TAIL = """
## Headers

`x-api-key` or `Authorization: Bearer` carries a token, where the server has tokens. `anthropic-version` may be left out; `2026-10-21`,
`2023-06-01` and `2023-01-01` are taken, any other is refused. `anthropic-beta` is taken and switches nothing on. Answers have `request-id`.

## Messages and blocks

| block | in turns of | becomes |
|---|---|---|
| `text` | all, and `system` | a paragraph of the turn |
| `tool_use` | `assistant` | a call, as the model's template writes it |
| `tool_result` | `user` | a result of that call; text only; with `is_error` it begins with `Error:` |
| `thinking`, `redacted_thinking` | `assistant` | nothing: taken back and not shown to the model |

Every other block (images, documents, searches, results of tools that Anthropic's servers run) is refused, and so are tools without an
`input_schema`. Turns of one speaker that follow one another are one turn. A message of the role `system` behind a question is part of the user's turn, because
most chat templates have a place for the system at the beginning alone. The last one must not be the assistant's.

## Usage

A prompt's length is `input_tokens` + `cache_read_input_tokens`, which is what `count_tokens` answers for the same request;
`cache_read_input_tokens` is measured: tokens whose keys and values were kept from an earlier prompt. A stream tells it with
`message_delta`, because it is not known when `message_start` goes out (there it is null, and `input_tokens` is the whole prompt).
`cache_creation_input_tokens` is 0: nothing is written to a cache on request.

## Errors

`{"type": "error", "error": {"type", "message"}}`, whichever part of the server refuses: 400 and 405, 415 `invalid_request_error`, 401
`authentication_error`, 403 `permission_error`, 404 `not_found_error`, 413 `request_too_large`, 429 `rate_limit_error`, 503 `overloaded_error`,
504 `timeout_error`, other 5xx `api_error`. A prompt beyond the context is told as `prompt is too long: N tokens > M maximum`, which Claude
Code looks for to shorten the chat. In a stream an error is an event `error`, and the last one.
"""


def reference() -> str:
    """The page."""
    return _HEAD + field_lines(FIELDS) + _TAIL


if __name__ == "__main__":
    sys.stdout.write(reference())
