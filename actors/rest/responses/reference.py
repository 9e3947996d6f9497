"""Renders the table of fields: `.venv/bin/python -m actors.rest.responses.reference > docs/responses-fields.md`."""

from __future__ import annotations

import sys

from actors.rest.openai.fields import IGNORED_HEADER, field_lines
from actors.rest.responses.fields import FIELDS, IGNORED_TOOLS

__all__ = ["reference"]

_HEAD = f"""# Fields of `/v1/responses`

Made by `python -m actors.rest.responses.reference` from the table that the server itself uses (`actors/rest/responses/fields.py`).

*Taken* fields are applied, or are labels without effect. *Ignored* fields affect how an answer is produced, not its content:
they are named in the response's header `{IGNORED_HEADER}`, as is every field that is not listed here. *Refused* fields would change the content of
the answer if they were ignored; the error names them in `param`. Null and the values under *no effect* are neither named nor refused.

"""
_TAIL = f"""
## Items

| type in `input` | is |
|---|---|
| `message`, also without a type | read; roles `user`, `system`, `developer`, `assistant`; a text, or parts of the types `input_text`, `output_text`, `text`, `refusal` |
| `function_call`, `function_call_output` | read; a result needs the `call_id` of a call before it |
| `custom_tool_call`, `custom_tool_call_output` | read as a function with the argument `input` |
| `item_reference` | read as the item of a stored response with this id |
| `reasoning`, `compaction` | ignored silently |
| `input_image`, `input_file`, `input_audio`, and parts of these types | refused |
| all others (`web_search_call` …) | ignored and named |

Tools of types other than `function` are ignored and named: {", ".join(f"`{one}`" for one in IGNORED_TOOLS)}, and any unknown type.

## Events

Events have the types and the order of OpenAI's reference, and `sequence_number` counts them from 0 without a gap. A delta is a word with the
white space before it. Types and numbers depend on the text alone, so `GET /v1/responses/{{id}}?stream=true&starting_after=N` continues with event
N + 1, whether the response is in progress, has ended, or is being generated again after a restart. A response that was cancelled ends with
`response.incomplete` and the status `cancelled`.

## Errors

OpenAI's shape with `param` and `code`. A response of another client is reported as missing (404). `starting_after` beyond the last
event of a response that has ended is refused (400).
"""


def reference() -> str:
    """Render the page."""
    return _HEAD + field_lines(FIELDS) + _TAIL


if __name__ == "__main__":
    sys.stdout.write(reference())
