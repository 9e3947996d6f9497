"""Converts a checkpoint's tokenizer for the grammar library, so that text is spelled with text tokens only. No I/O.

The library writes fixed text (a `const`, a property's name) with the tokens that the tokenizer yields for it. A
tokenizer recognises the text of its added tokens (`<|im_end|>`, `</s>`) anywhere, so a `const` containing such a text
would end the answer, or be rejected by the grammar that requires it. This conversion gives added tokens names that
occur in no text.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

__all__ = ["GrammarTokenizer", "grammar_tokenizer"]


@frozen
class GrammarTokenizer:
    """Tokenizer as passed to the grammar library."""

    source: str
    """JSON of a `tokenizer.json`."""
    mark_ids: Mapping[str, int]
    """Ids of added tokens that are not text, by name."""
    changes_text: bool
    """True if a normalizer or a replacement for spaces maps different texts to one, so that some cannot be spelled."""


def grammar_tokenizer(content: Mapping[str, Any]) -> GrammarTokenizer:
    """Converts the content of a `tokenizer.json`. Raises `ValueError` if it is not one."""
    try:
        return _made_of(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"tokenizer.json is not a tokenizer: {error!r}") from error


def _made_of(content: Mapping[str, Any]) -> GrammarTokenizer:
    added: list[dict[str, Any]] = list(content.get("added_tokens") or ())
    # Unguessable, because a text containing such a name would become the token again.
    secret = secrets.token_hex(16)
    renamed = {one["content"]: f"<|{secret}-{one['id']}|>" for one in added if _is_mark(one)}
    plain = {"single_word": False, "lstrip": False, "rstrip": False}
    changed = {
        **content,
        "added_tokens": [
            {**one, **plain, "content": renamed[one["content"]], "special": True, "normalized": False}
            if one["content"] in renamed
            else {**one, **plain}
            for one in added
        ],
        "model": _renamed_model(content["model"], renamed),
        # These apply to whole prompts; the grammar spells parts of an answer.
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }
    mark_ids = {one["content"]: int(one["id"]) for one in added if _is_mark(one)}
    changes_text = bool(content.get("normalizer")) or "Metaspace" in json.dumps(content.get("pre_tokenizer"))
    return GrammarTokenizer(json.dumps(changed, ensure_ascii=False), mark_ids, changes_text)


def _is_mark(token: Mapping[str, Any]) -> bool:
    """True for marks as the library defines them: special tokens, and all others in angle brackets."""
    content: str = token["content"]
    return bool(token.get("special")) or (content.startswith("<") and content.endswith(">"))


def _renamed_model(model: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    changed = dict(model)
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        changed["vocab"] = {renamed.get(piece, piece): token_id for piece, token_id in vocabulary.items()}
    elif isinstance(vocabulary, list):
        changed["vocab"] = [[renamed.get(piece, piece), score] for piece, score in vocabulary]
    if model.get("unk_token") in renamed:
        changed["unk_token"] = renamed[model["unk_token"]]
    if model.get("merges"):
        changed["merges"] = list(_merges_of_text(model["merges"], renamed))
    return changed


def _merges_of_text(merges: Iterable[Any], renamed: Mapping[str, str]) -> Iterable[Any]:
    """Drops merges that build a renamed token from its text."""
    for merge in merges:
        first, second = merge.split(" ", 1) if isinstance(merge, str) else merge
        if renamed.keys().isdisjoint((first, second, first + second)):
            yield merge
