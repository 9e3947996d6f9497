"""The tables of fields as a page: `./scripts/generate_docs` writes it."""

from __future__ import annotations

from actors.rest.ollama.fields import CHAT, EMBED, EMBEDDINGS, GENERATE, OPTIONS
from actors.rest.ollama.routes import API_VERSION
from actors.rest.openai.fields import IGNORED_HEADER, field_lines

__all__ = ["reference"]

_HEAD = f"""# Fields of Ollama's API

Made by `./scripts/generate_docs` from the tables that the server itself obeys (`actors/rest/ollama/fields.py`).

*Taken* fields are carried out. *Ignored* ones change how and not what is answered: they are passed over and named in the response's header
`{IGNORED_HEADER}`, as is every field that is not listed here. *Refused* ones would make the answer another than was asked for; the error names
them. Null and the values under *asks for nothing* are neither named nor refused.

| route | answers |
|---|---|
| `GET /api/version` | `{API_VERSION}`, the version of Ollama's API that is spoken here |
| `GET /api/tags` | the models of this machine for an operator, the model in use for everybody else; `state` says whether one is loaded |
| `GET /api/ps` | the model in use, where it is loaded, with `context_length` |
| `POST /api/show` | `details`, `capabilities`, and `model_info` with the context's length; templates and parameters are not shown |
| `POST /api/chat`, `POST /api/generate` | an answer; a request without messages or prompt loads the model |
| `POST /api/pull`, `DELETE /api/delete` | for operators: `leanvibe model pull` (from the Hugging Face hub, with progress) and `remove`; loading is `POST /models/NAME/load` |
| `POST /api/embed`, `POST /api/embeddings` | vectors of the encoder, `all-minilm-l6-v2`; see [embeddings](guides/embeddings.md) |

Durations are nanoseconds: `load_duration` is the time until the request was admitted, `prompt_eval_duration` from there to the first token. Errors
are `{{"error": "…"}}`, also as the last line of a stream. While a prompt waits or is read, a stream has an empty line of an answer at least
every 10 s.

"""


def reference() -> str:
    """The page."""
    parts = [
        ("/api/chat", CHAT),
        ("/api/generate", GENERATE),
        ("options", OPTIONS),
        ("/api/embed", EMBED),
        ("/api/embeddings", EMBEDDINGS),
    ]
    return _HEAD + "\n".join(f"## `{name}`\n\n{field_lines(rules)}" for name, rules in parts)
