"""Programming languages by the names that code fences use, with their file extensions."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from attrs import Attribute

from protocol.validation import FieldFault

__all__ = ["LANGUAGES", "known_language", "language_of_file"]

LANGUAGES: dict[str, tuple[str, ...]] = {
    "bash": ("sh", "bash", "zsh"),
    "c": ("c", "h"),
    "clojure": ("clj", "cljs"),
    "cpp": ("cc", "cpp", "cxx", "hh", "hpp"),
    "csharp": ("cs",),
    "css": ("css", "scss"),
    "dart": ("dart",),
    "elixir": ("ex", "exs"),
    "erlang": ("erl", "hrl"),
    "go": ("go",),
    "haskell": ("hs",),
    "html": ("html", "htm"),
    "java": ("java",),
    "javascript": ("js", "cjs", "mjs", "jsx"),
    "json": ("json",),
    "julia": ("jl",),
    "kotlin": ("kt", "kts"),
    "lua": ("lua",),
    "markdown": ("md",),
    "objectivec": ("m", "mm"),
    "ocaml": ("ml", "mli"),
    "perl": ("pl", "pm"),
    "php": ("php",),
    "powershell": ("ps1",),
    "python": ("py", "pyi"),
    "r": ("r",),
    "ruby": ("rb",),
    "rust": ("rs",),
    "scala": ("scala",),
    "sql": ("sql",),
    "swift": ("swift",),
    "text": ("txt",),
    "toml": ("toml",),
    "typescript": ("ts", "tsx"),
    "vue": ("vue",),
    "xml": ("xml",),
    "yaml": ("yaml", "yml"),
    "zig": ("zig",),
}
"""Extensions in lower case, without the dot."""

_BY_ENDING = {ending: name for name, endings in LANGUAGES.items() for ending in endings}


def language_of_file(path: str) -> str | None:
    """The language that a file's name indicates, or None. The file is never opened."""
    return _BY_ENDING.get(PurePosixPath(path.replace("\\", "/")).suffix[1:].lower())


def known_language(_: object, attribute: Attribute[Any], value: str | None) -> None:
    """Validator: one of `LANGUAGES`; None passes."""
    if value is not None and value not in LANGUAGES:
        raise FieldFault(attribute.name, f"must be one of {', '.join(LANGUAGES)}, not {value[:40]!r}")
