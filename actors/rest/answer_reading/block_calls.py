"""Parses calls in formats that can be read only once a block is complete, from text as it arrives. No I/O."""

from __future__ import annotations

import json

from actors.inference.messages import ToolCallFormat
from actors.rest.answer_reading.by_argument import BlockCall, Schemas, is_inside_argument, read_block
from actors.rest.answer_reading.reasoning import ends_like
from actors.rest.openai.tool_call_reader import CallArguments, CallStart, Part

__all__ = ["MAXIMUM_BLOCK", "BlockReader"]

MAXIMUM_BLOCK = 64 * 1024
"""Maximum length of a block in characters; longer ones are text."""


class BlockReader:
    """Like `ToolCallReader`, but returns each call in one piece."""

    __slots__ = ("_after_call", "_form", "_held", "_looked", "_opened", "_schemas")

    def __init__(self, form: ToolCallFormat, schemas: Schemas) -> None:
        """``schemas`` are the offered functions; a block that calls any other is text."""
        self._form = form
        self._schemas = schemas
        self._held = ""
        self._opened = False
        self._looked = 0
        """Position up to which the block was scanned for its closing mark."""
        self._after_call = False

    def feed(self, piece: str) -> list[Part]:
        """Return the parts that can no longer change."""
        self._held += piece
        parts: list[Part] = []
        while self._read_block(parts) if self._opened else self._read_text(parts):
            pass
        return parts

    def finish(self, *, is_cut: bool = False, is_forced: bool = False) -> list[Part]:
        """Return what was held back, after the last text. If the answer ``is_cut``, a last call is returned
        truncated.
        """
        parts: list[Part] = []
        while self._opened:
            block = self._held[len(self._form.opening) :]
            calls = read_block(self._form, block, self._schemas)
            if calls is not None and (is_cut or all(one.is_whole for one in calls)):
                self._add(calls, parts, is_cut=is_cut)
                self._held, self._opened = "", False
            elif is_cut and not is_forced and calls is None and not block.strip():
                self._held, self._opened = "", False
            else:
                self._give_up(parts)
                while self._read_block(parts) if self._opened else self._read_text(parts):
                    pass
        if not (self._after_call and not self._held.strip()):
            self._release(self._held, parts)
        self._held = ""
        return [one for one in parts if not (is_forced and isinstance(one, str))]

    def _read_text(self, parts: list[Part]) -> bool:
        if self._after_call:
            self._held = self._held.lstrip()
        opening = self._form.opening
        at = self._held.find(opening)
        end = at if at >= 0 else len(self._held) - ends_like(self._held, opening)
        certain = self._held[:end].rstrip()
        self._release(certain, parts)
        self._held = self._held[len(certain) :]
        if at < 0:
            return False
        self._held = self._held.lstrip()
        self._opened, self._looked = True, len(opening)
        return True

    def _read_block(self, parts: list[Part]) -> bool:
        opening, closing = self._form.opening, self._form.closing
        at = self._held.find(closing, self._looked)
        while at >= 0 and is_inside_argument(self._form, self._held[len(opening) : at]):
            self._looked = at + len(closing)
            at = self._held.find(closing, self._looked)
        if at < 0 and len(self._held) <= MAXIMUM_BLOCK:
            self._looked = max(self._looked, len(self._held) - len(closing) + 1)
            return False
        calls = (
            None
            if at < 0 or at > MAXIMUM_BLOCK
            else read_block(self._form, self._held[len(opening) : at], self._schemas)
        )
        if calls is None or not all(one.is_whole for one in calls):
            self._give_up(parts)
            return True
        self._add(calls, parts)
        self._held, self._opened = self._held[at + len(closing) :], False
        return True

    def _add(self, calls: list[BlockCall], parts: list[Part], *, is_cut: bool = False) -> None:
        for place, one in enumerate(calls):
            written = json.dumps(one.arguments, ensure_ascii=False)
            is_last = place == len(calls) - 1
            parts.append(CallStart(one.name))
            # An answer that was cut has part of a JSON text.
            written = written[:-1] if is_cut and is_last and not one.is_whole else written
            parts.append(CallArguments(written))
        self._after_call = True

    def _give_up(self, parts: list[Part]) -> None:
        end = len(self._form.opening)
        self._release(self._held[:end], parts)
        self._held, self._opened = self._held[end:], False

    def _release(self, text: str, parts: list[Part]) -> None:
        if text:
            parts.append(text)
            self._after_call = False
