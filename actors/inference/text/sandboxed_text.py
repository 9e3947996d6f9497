"""The server's part of a checkpoint's text side: its facts and the decoder. Encoding happens in the sandbox."""

from __future__ import annotations

from pathlib import Path

from attrs import field, frozen

from actors.inference.text.token_text import TokenText
from actors.inference.tools import ReasoningForm, ToolCallFormat
from protocol.generation import Generate

__all__ = ["SandboxedText", "TextReport"]


@frozen(kw_only=True)
class TextReport:
    """Facts that the fork server read from a checkpoint."""

    vocabulary_size: int
    context_tokens: int
    stop_token_ids: frozenset[int]
    tool_call_format: ToolCallFormat
    has_tools: bool
    reasoning: ReasoningForm
    decoding: str = field(repr=False)
    """Input of `TokenText.of_json`."""


class SandboxedText(TokenText):
    """A `TextModel` whose prompts are encoded by the sandbox."""

    def __init__(self, folder: Path, report: TextReport) -> None:
        """Blocking. Raises `ValueError`."""
        super().__init__(TokenText.of_json(report.decoding)._tokenizer)
        self.folder = folder
        self.vocabulary_size = report.vocabulary_size
        self.context_tokens = report.context_tokens
        self.stop_token_ids = report.stop_token_ids
        self.tool_call_format, self.has_tools = report.tool_call_format, report.has_tools
        self.reasoning = report.reasoning

    def encode(self, request: Generate) -> list[int]:
        """Never called: `PromptEncoder` asks the sandbox."""
        raise RuntimeError("prompts of checkpoints are encoded in the sandbox")
