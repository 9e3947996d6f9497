"""Radix tree of token sequences with cached blocks: true LRU eviction, bounded in bytes. No I/O.

It knows tokens and sizes; the caller chooses the type of blocks. Each node holds the block of a span of
at most `SPAN` tokens. Sequences with a common prefix share its nodes, and a sequence that diverges within a
span splits it. Lookup costs one comparison per span, so it is linear in the prompt.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["SPAN", "RadixTree"]

SPAN = 64

Piece = TypeVar("Piece")


class _Node(Generic[Piece]):
    __slots__ = ("children", "parent", "piece", "size", "tokens")

    def __init__(self, tokens: list[int], piece: Piece | None, size: int, parent: _Node[Piece] | None) -> None:
        self.tokens = tokens
        self.piece = piece
        self.size = size
        self.parent = parent
        self.children: dict[int, _Node[Piece]] = {}


class RadixTree(Generic[Piece]):
    """Blocks keyed by the tokens that lead to them; one tree per security domain."""

    def __init__(
        self, maximum_bytes: int, *, size_of: Callable[[Piece], int], cut: Callable[[Piece, int, int], Piece]
    ) -> None:
        """``size_of`` returns the bytes held by a block; ``cut(piece, start, stop)`` copies part of a block into a new one."""
        self.maximum_bytes = maximum_bytes
        self.bytes = 0
        """Bytes held by all blocks."""
        self._size_of = size_of
        self._cut = cut
        self._roots: dict[str, _Node[Piece]] = {}
        self._recent: OrderedDict[_Node[Piece], None] = OrderedDict()

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._recent)

    def find(self, domain: str, tokens: Sequence[int], limit: int) -> tuple[list[Piece], int]:
        """The blocks that cover the longest known prefix of ``tokens[:limit]``, and its length.

        The last block is cut if the prefix ends inside it.
        """
        path, matched, inside = self._walk(domain, tokens, limit)
        pieces = [node.piece for node in path if node.piece is not None]
        if inside is not None:
            node, length = inside
            assert node.piece is not None
            pieces.append(self._cut(node.piece, 0, length))
            path = [*path, node]
        self._touch(path)
        return pieces, matched

    def known(self, domain: str, tokens: Sequence[int], limit: int) -> int:
        """Number of tokens of ``tokens[:limit]`` that `find` would cover. Does not affect recency."""
        return self._walk(domain, tokens, limit)[1]

    def insert(self, domain: str, tokens: Sequence[int], make: Callable[[int, int], Piece]) -> int:
        """Caches a sequence; ``make(start, stop)`` builds the block of a part that is not known yet.

        Returns the number of new tokens. May evict others, or part of this sequence if it exceeds the bound.
        """
        path, matched, inside = self._walk(domain, tokens, len(tokens))
        if inside is not None:
            path = [*path, self._split(*inside)]
        # From here on the ends of this path are evicted only after everything else.
        self._touch(path)
        parent = path[-1]
        for start in range(matched, len(tokens), SPAN):
            stop = min(start + SPAN, len(tokens))
            piece = make(start, stop)
            node = _Node(list(tokens[start:stop]), piece, self._size_of(piece), parent)
            parent.children[node.tokens[0]] = node
            self.bytes += node.size
            self._recent[node] = None
            parent = node
            path.append(node)
            # Evict after each block, so that at most one block exceeds the bound at any time.
            self._evict()
            if node not in self._recent:
                break
        self._touch(path)
        self._evict()
        return len(tokens) - matched

    def clear(self) -> None:
        """Drops everything."""
        self._roots.clear()
        self._recent.clear()
        self.bytes = 0

    def shrink(self, maximum_bytes: int) -> None:
        """Evicts, once, until no more than this is held. The bound stays."""
        kept, self.maximum_bytes = self.maximum_bytes, maximum_bytes
        self._evict()
        self.maximum_bytes = kept

    def _walk(
        self, domain: str, tokens: Sequence[int], limit: int
    ) -> tuple[list[_Node[Piece]], int, tuple[_Node[Piece], int] | None]:
        """Whole nodes from the root, the number of matched tokens, and the node in which the match ends midway, if it does."""
        node = self._roots.setdefault(domain, _Node([], None, 0, None))
        path, matched = [node], 0
        while matched < limit:
            child = node.children.get(tokens[matched])
            if child is None:
                break
            length = len(child.tokens)
            if matched + length <= limit and list(tokens[matched : matched + length]) == child.tokens:
                path.append(child)
                matched += length
                node = child
                continue
            common = _common_length(child.tokens, tokens[matched:limit])
            return path, matched + common, (child, common)
        return path, matched, None

    def _split(self, node: _Node[Piece], at: int) -> _Node[Piece]:
        """Splits off the first ``at`` tokens of a node into a node of their own, and returns that node."""
        assert node.parent is not None
        assert node.piece is not None
        head_piece = self._cut(node.piece, 0, at)
        tail_piece = self._cut(node.piece, at, len(node.tokens))
        head = _Node(node.tokens[:at], head_piece, self._size_of(head_piece), node.parent)
        node.parent.children[head.tokens[0]] = head
        self.bytes += head.size - node.size
        node.tokens, node.piece, node.size = node.tokens[at:], tail_piece, self._size_of(tail_piece)
        node.parent = head
        head.children[node.tokens[0]] = node
        self.bytes += node.size
        self._recent[head] = None
        return head

    def _touch(self, path: list[_Node[Piece]]) -> None:
        """Makes a path the most recent, its beginning last, so that ends are evicted before beginnings."""
        for node in reversed(path):
            if node in self._recent:
                self._recent.move_to_end(node)

    def _evict(self) -> None:
        while self.bytes > self.maximum_bytes and self._recent:
            # A beginning is always more recent than its ends, so the scan reaches a childless node quickly.
            oldest = next(node for node in self._recent if not node.children)
            del self._recent[oldest]
            self.bytes -= oldest.size
            if oldest.parent is not None:
                oldest.parent.children.pop(oldest.tokens[0], None)


def _common_length(one: Sequence[int], other: Sequence[int]) -> int:
    length = 0
    for first, second in zip(one, other, strict=False):
        if first != second:
            break
        length += 1
    return length
