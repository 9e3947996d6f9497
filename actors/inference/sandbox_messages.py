"""What the sandbox actor takes, from the inference actor alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from attrs import field, frozen

from actors.inference.text.sandboxed_text import TextReport
from protocol.generation import Generate
from runtime import Request

__all__ = ["EncodePrompt", "EncodedPrompt", "OpenText", "SandboxMessage", "SetOpenTexts"]


@frozen
class OpenText(Request[TextReport]):
    """Read the text side of a checkpoint and try it. Refused with `ModelRefused` naming what is wrong with it."""

    folder: Path


class EncodedPrompt(list[int]):
    """A prompt's token ids, and what of the form that its answer follows is left out of answers."""

    def __init__(self, ids: Iterable[int], left_out: Sequence[str] = ()) -> None:
        super().__init__(ids)
        self.left_out = tuple(left_out)


@frozen(kw_only=True)
class EncodePrompt(Request[EncodedPrompt]):
    """Check the form of the answer and turn the prompt into token ids. Refused with `GenerationRefused`.

    An asker that leaves ends the process that works for it.
    """

    folder: Path | None
    """Of the checkpoint; None for the mock engine."""
    client_id: str
    """Whose turn it is decided by."""
    caller: str = ""
    """Which of those who share the client id asks."""
    generate: Generate = field(repr=False)


@frozen
class SetOpenTexts:
    """These checkpoints are in use; the processes of all others may end. One that is needed again is opened again."""

    folders: frozenset[Path]


SandboxMessage = OpenText | EncodePrompt | SetOpenTexts
