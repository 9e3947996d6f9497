"""Ways of a conversation: each turn follows another, and one way through them is the chosen one. Pure.

A number rises along every way, so a way is read in order by its numbers. What a turn follows may be forgotten; then it is a
first one, and still stands beside the others that followed the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import define, field, frozen

from actors.assistant import conversation_rules
from actors.assistant.conversation_rules import first_kept

__all__ = ["SAID", "TurnNode", "TurnTree"]

SAID = ("user", "assistant")
"""Roles of turns that somebody said."""


@frozen
class TurnNode:
    """A turn without what it says."""

    number: int
    parent: int
    """Number of the turn that it follows; 0 of a first one."""
    role: str
    bytes: int = 0

    @property
    def is_said(self) -> bool:
        """Whether somebody said it; a call of a function and its result nobody did."""
        return self.role in SAID


@define
class TurnTree:
    """All turns of a conversation that are kept."""

    nodes: Mapping[int, TurnNode]
    _children: dict[int, list[int]] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        for number in sorted(self.nodes):
            self._children.setdefault(self.nodes[number].parent, []).append(number)

    @classmethod
    def of(cls, nodes: Iterable[TurnNode]) -> TurnTree:
        """Of nodes in any order."""
        return cls({one.number: one for one in nodes})

    def way_to(self, leaf: int) -> list[int]:
        """The numbers from a first turn to this one, rising; empty where it is not there."""
        way: list[int] = []
        while (node := self.nodes.get(leaf)) is not None:
            way.append(leaf)
            leaf = node.parent
        way.reverse()
        return way

    def is_place(self, parent: int) -> bool:
        """Whether something may be said behind this: a turn, or what the first turns follow."""
        return parent == 0 or parent in self.nodes or parent in self._children

    def beside(self, number: int) -> list[int]:
        """The turns that were said in the same place, this one among them, rising."""
        return [one for one in self._children.get(self.nodes[number].parent, ()) if self.nodes[one].is_said]

    def newest_end(self, number: int) -> int:
        """The newest turn below this one, or itself."""
        newest, below = number, [number]
        while below:
            one = below.pop()
            newest = max(newest, one)
            below += self._children.get(one, ())
        return newest

    def subtree(self, number: int) -> set[int]:
        """This turn and all that follows from it."""
        found, below = set(), [number]
        while below:
            one = below.pop()
            found.add(one)
            below += self._children.get(one, ())
        return found

    def outgrown(self, way: Sequence[int]) -> set[int]:
        """What to forget of a conversation that has outgrown its bounds.

        First what is on no chosen way, oldest first, until the rest fits; then the older half of the way at once, so that
        the model's prompts begin alike for as long as they can.
        """
        left, on_way = set(self.nodes), set(way)
        size = sum(one.bytes for one in self.nodes.values())
        for number in sorted(left - on_way):
            if len(left) <= conversation_rules.MAXIMUM_TURNS and size <= conversation_rules.MAXIMUM_BYTES:
                break
            gone = self.subtree(number) & left
            size -= sum(self.nodes[one].bytes for one in gone)
            left -= gone
        first = first_kept([(one, self.nodes[one].bytes) for one in way])
        if first is not None:
            left = {one for one in left if one >= first}
        return set(self.nodes) - left
