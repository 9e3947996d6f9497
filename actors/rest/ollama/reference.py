"""Renders the tables of fields for `./scripts/generate_docs`."""

from __future__ import annotations

from actors.rest.ollama.fields import CHAT, EMBED, EMBEDDINGS, GENERATE, OPTIONS
from actors.rest.ollama.routes import API_VERSION
from actors.rest.openai.fields import IGNORED_HEADER, field_lines

__all__ = ["reference"]

_HEAD = f"""# Fields of Ollama's API

Made by `./scripts/generate_docs` from the tables that the server itself uses (`actors/rest/ollama/fields.py`).

*Taken* fields are applied. *Ignored* fields affect how an answer is produced, not its content: they are named in the response's
header `{IGNORED_HEADER}`, as is every field that is not listed here. *Refused* fields would change the content of the answer if they were
ignored; the error names them. Null and the values under *no effect* are neither named nor refused.

| route | answers |
|---|---|
| `GET /api/version` | `{API_VERSION}`, the supported version of Ollama's API |
| `GET /api/tags` | the models of this machine for an operator, the model in use for everybody else; `state` tells if it is loaded |
| `GET /api/ps` | the model in use, if it is loaded, with `context_length` |
| `POST /api/show` | `details`, `capabilities`, and `model_info` with the context's length; templates and parameters are not shown |
| `POST /api/chat`, `POST /api/generate` | an answer; a request without messages or prompt loads the model |
| `POST /api/pull`, `DELETE /api/delete` | for operators: `leanvibe model pull` (from the Hugging Face hub, with progress) and `remove`; loading is `POST /models/NAME/load` |
| `POST /api/embed`, `POST /api/embeddings` | vectors of the encoder, `all-minilm-l6-v2`; see [embeddings](guides/embeddings.md) |

Durations are nanoseconds: `load_duration` is the time until the request was admitted, `prompt_eval_duration` from there to the first token. Errors
are `{{"error": "…"}}`, also as the last line of a stream. While a prompt is queued or prefilled, a stream has an empty line of an answer at least
every 10 s.

"""


def reference() -> str:
    """Render the page."""
    parts = [
        ("/api/chat", CHAT),
        ("/api/generate", GENERATE),
        ("options", OPTIONS),
        ("/api/embed", EMBED),
        ("/api/embeddings", EMBEDDINGS),
    ]
    return _HEAD + "\n".join(f"## `{name}`\n\n{field_lines(rules)}" for name, rules in parts)
