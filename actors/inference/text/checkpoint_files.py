"""Reads the files next to the weights that affect prompts: special tokens, chat templates and tokenizer settings.

Every setting that changes a prompt is either applied as transformers applies it (`tokenization_utils_tokenizers.py`) or
refused by name, so that a checkpoint gives the same tokens here as where it was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from actors.inference.checkpoints.reading import (
    MAXIMUM_JSON_BYTES,
    MAXIMUM_TEMPLATE_BYTES,
    MAXIMUM_TOKENIZER_BYTES,
    UnreadableFile,
    read_json_object,
    read_text,
)

__all__ = ["chat_templates", "read_object", "read_tokenizer", "special_tokens", "tokenizer_content"]

_SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_WRITTEN_NAMES = frozenset({"bos_token", "eos_token"})
"""Tokens that templates and post-processors write into prompts; a vocabulary may lack the others."""
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_MAXIMUM_TEMPLATES = 32


def read_object(path: Path, *, is_optional: bool = False, maximum_bytes: int = MAXIMUM_JSON_BYTES) -> dict[str, Any]:
    """Reads a JSON object; empty if an optional file is missing. Raises `FileNotFoundError` or `ValueError` naming the
    file."""
    try:
        return read_json_object(path, maximum_bytes)
    except FileNotFoundError:
        if is_optional:
            return {}
        raise FileNotFoundError(f"{path.name} is missing in {path.parent}") from None
    except UnreadableFile as error:
        raise ValueError(f"{path.name} in {path.parent} is damaged: it {error}") from None
    except OSError as error:
        raise ValueError(f"{path.name} in {path.parent} cannot be read: {error.strerror}") from None


def read_tokenizer(path: Path) -> dict[str, Any]:
    """Reads `tokenizer.json`, like `read_object`."""
    return read_object(path, maximum_bytes=MAXIMUM_TOKENIZER_BYTES)


def chat_templates(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Template sources by name: `default`, often `tool_use`. Raises `ValueError` if there is no default.

    Separate files take precedence over `tokenizer_config.json`, whose content is ``settings``.
    """
    found: dict[str, str] = {}
    try:
        if (folder / "chat_template.jinja").exists():
            found["default"] = read_text(folder / "chat_template.jinja", MAXIMUM_TEMPLATE_BYTES)
        more = folder / "additional_chat_templates"
        if found and more.is_dir():
            for path in sorted(more.glob("*.jinja"))[:_MAXIMUM_TEMPLATES]:
                found[path.stem] = read_text(path, MAXIMUM_TEMPLATE_BYTES)
    except (OSError, UnreadableFile) as error:
        raise ValueError(f"a chat template in {folder} cannot be read: it {error}") from None
    if not found:
        found = dict(_templates_of(settings.get("chat_template")))
    if "default" not in found:
        raise ValueError(f"{folder} has no chat template (chat_template.jinja, or in tokenizer_config.json)")
    return found


def _templates_of(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield "default", value
    for one in value[:_MAXIMUM_TEMPLATES] if isinstance(value, list) else ():
        if isinstance(one, dict) and isinstance(one.get("name"), str) and isinstance(one.get("template"), str):
            yield one["name"], one["template"]


def special_tokens(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token` and the like as templates name them, only those that are set: templates test for them."""
    older = read_object(folder / "special_tokens_map.json", is_optional=True)
    tokens = {}
    for name in _SPECIAL_NAMES:
        text = _content(settings[name] if name in settings else older.get(name))
        if text is not None:
            tokens[name] = text
    return tokens


def tokenizer_content(
    content: Mapping[str, Any], settings: Mapping[str, Any], named: Mapping[str, str]
) -> dict[str, Any]:
    """Combines `tokenizer.json` with `tokenizer_config.json` as transformers does.

    Truncation and padding are dropped: they are left over from training. Raises `ValueError`, naming the setting, for
    settings that would change a prompt's tokens in an unsupported way.
    """
    if settings.get("split_special_tokens"):
        raise ValueError("tokenizer_config.json sets split_special_tokens, which would spell the template's own marks")
    model = content.get("model")
    if not isinstance(model, dict):
        raise ValueError("tokenizer.json has no model")
    if model.get("dropout"):
        raise ValueError(
            "tokenizer.json has a model with dropout, which gives different tokens for the same text each time"
        )
    added = {
        one["content"]: one for one in content.get("added_tokens") or () if isinstance(one, dict) and "content" in one
    }
    vocabulary = model.get("vocab")
    known = dict(vocabulary) if isinstance(vocabulary, dict) else {}
    known |= {text: one.get("id") for text, one in added.items()}
    for number, token in _declared(settings):
        text = token["content"]
        if known.get(text, number) != number:
            raise ValueError(
                f"tokenizer_config.json has {text!r} as token {number}, and tokenizer.json as {known[text]}"
            )
        if text in known:
            added[text] = {**_flags(added.get(text, {})), **_flags(token), "id": number, "content": text}
    for name, text in named.items():
        if text in added:
            continue
        if text in known:
            added[text] = {**_flags({"special": True}), "id": known[text], "content": text}
        elif name in _WRITTEN_NAMES:
            raise ValueError(f"tokenizer_config.json names {text!r} as {name}, which is not in the vocabulary")
    # `add_bos_token` and `add_eos_token` apply only to old tokenizers without this file; its post-processor determines
    # what is added.
    return {
        **content,
        "added_tokens": sorted(added.values(), key=lambda one: int(one["id"])),
        "truncation": None,
        "padding": None,
    }


def _declared(settings: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    declared = settings.get("added_tokens_decoder")
    for key, token in declared.items() if isinstance(declared, dict) else ():
        if isinstance(token, dict) and isinstance(token.get("content"), str) and str(key).isdecimal():
            yield int(key), token


def _flags(token: Mapping[str, Any]) -> dict[str, bool]:
    return {name: bool(token.get(name, False)) for name in _FLAGS}


def _content(token: Any) -> str | None:
    """A token's text; some configurations write tokens as objects."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None
