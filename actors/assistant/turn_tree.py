"""The branches of a conversation: each turn has a parent, and one branch is active. Pure functions.

Numbers rise along every branch, so a branch is read in order by number. The parent of a turn may have been forgotten;
the turn is then a first one, and remains a sibling of the others with the same parent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import define, field, frozen

from actors.assistant import conversation_rules
from actors.assistant.conversation_rules import first_kept

__all__ = ["SAID", "TurnNode", "TurnTree"]

SAID = ("user", "assistant")
"""Roles of messages; turns with other roles are steps."""


@frozen
class TurnNode:
    """A turn without its content."""

    number: int
    parent: int
    """Number of the preceding turn; 0 for a first turn."""
    role: str
    bytes: int = 0

    @property
    def is_said(self) -> bool:
        """True for messages, False for steps such as a call and its result."""
        return self.role in SAID


@define
class TurnTree:
    """The stored turns of a conversation."""

    nodes: Mapping[int, TurnNode]
    _children: dict[int, list[int]] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        for number in sorted(self.nodes):
            self._children.setdefault(self.nodes[number].parent, []).append(number)

    @classmethod
    def of(cls, nodes: Iterable[TurnNode]) -> TurnTree:
        """Build the tree from nodes in any order."""
        return cls({one.number: one for one in nodes})

    def way_to(self, leaf: int) -> list[int]:
        """The numbers from a first turn to this one, ascending; empty if it does not exist."""
        way: list[int] = []
        while (node := self.nodes.get(leaf)) is not None:
            way.append(leaf)
            leaf = node.parent
        way.reverse()
        return way

    def is_place(self, parent: int) -> bool:
        """True if a turn can be added here: after an existing turn, or as a sibling of the first ones."""
        return parent == 0 or parent in self.nodes or parent in self._children

    def beside(self, number: int) -> list[int]:
        """The messages with the same parent, including this one, ascending."""
        return [one for one in self._children.get(self.nodes[number].parent, ()) if self.nodes[one].is_said]

    def newest_end(self, number: int) -> int:
        """The newest descendant of this turn, or the turn itself."""
        newest, below = number, [number]
        while below:
            one = below.pop()
            newest = max(newest, one)
            below += self._children.get(one, ())
        return newest

    def subtree(self, number: int) -> set[int]:
        """This turn and all its descendants."""
        found, below = set(), [number]
        while below:
            one = below.pop()
            found.add(one)
            below += self._children.get(one, ())
        return found

    def outgrown(self, way: Sequence[int]) -> set[int]:
        """The turns to forget if a conversation exceeds its limits.

        First those on inactive branches, oldest first, until the rest fits. Then the older half of the active branch
        at once, so that prompts keep a common prefix for as long as possible.
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
