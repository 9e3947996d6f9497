"""Messages of the sandbox actor, sent only by the inference actor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from attrs import field, frozen

from actors.inference.text.token_text import TextReport
from protocol.generation import Generate
from runtime import Request

__all__ = ["EncodePrompt", "EncodedPrompt", "OpenText", "SandboxMessage", "SetOpenTexts"]


@frozen
class OpenText(Request[TextReport]):
    """Loads and checks the text side of a checkpoint. Refused with `ModelRefused` naming what is wrong."""

    folder: Path


class EncodedPrompt(list[int]):
    """Token ids of a prompt, and the parts of its answer's schema that are not supported."""

    def __init__(self, ids: Iterable[int], left_out: Sequence[str] = ()) -> None:
        super().__init__(ids)
        self.left_out = tuple(left_out)


@frozen(kw_only=True)
class EncodePrompt(Request[EncodedPrompt]):
    """Checks the form of the answer and encodes the prompt. Refused with `GenerationRefused`.

    Cancelling the ask ends the process that works on it.
    """

    folder: Path | None
    """Checkpoint folder; None for the mock engine."""
    client_id: str
    """Client whose turn it takes."""
    caller: str = ""
    """Distinguishes callers that share the client id."""
    generate: Generate = field(repr=False)


@frozen
class SetOpenTexts:
    """Sets the checkpoints in use; processes of all others may end. One that is needed later is opened again."""

    folders: frozenset[Path]


SandboxMessage = OpenText | EncodePrompt | SetOpenTexts
