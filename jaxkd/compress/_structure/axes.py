"""Axes that must shrink together, as a union-find whose nodes can be taken apart.

An axis is a leaf, a product of axes (heads × head width, after a reshape) or a sum of
axes (after a concatenation). Uniting two axes aligns their parts, and takes leaves
apart where one side is finer. What cannot be aligned is frozen, never guessed.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
    """How an axis is made up of leaves.

    Attributes:
        kind: ``"leaf"``, ``"product"`` (the last part varies fastest) or ``"sum"``.
        leaf: the number of the leaf, if it is one.
        size: the length of the axis before anything is removed.
        parts: the parts, if it is not a leaf.
    """

    kind: str
    leaf: int
    size: int
    parts: tuple["Layout", ...] = ()

    def length(self, widths: dict[int, int]) -> int:
        """The length with these leaves' widths; other leaves keep theirs."""
        if self.kind == "leaf":
            return widths.get(self.leaf, self.size)
        lengths = (part.length(widths) for part in self.parts)
        return math.prod(lengths) if self.kind == "product" else sum(lengths)

    def units(self) -> dict[int, np.ndarray]:
        """For each leaf, which of its units owns each position; -1 for none."""
        if self.kind == "leaf":
            return {self.leaf: np.arange(self.size)}
        found: dict[int, np.ndarray] = {}
        before = 0
        for part in self.parts:
            for leaf, units in part.units().items():
                if self.kind == "sum":
                    all_units = found.setdefault(leaf, np.full(self.size, -1))
                    all_units[before : before + part.size] = units
                else:
                    after = self.size // (max(before, 1) * part.size)
                    found[leaf] = np.tile(np.repeat(units, after), max(before, 1))
            if self.kind == "sum":
                before += part.size
            else:
                before = max(before, 1) * part.size
        return found


class Axes:
    """All axes of a program; an axis is known by its number."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._size: list[int] = []
        self._kind: list[str] = []
        self._parts: list[tuple[int, ...]] = []
        self.frozen: dict[int, str] = {}
        self.inexact: dict[int, str] = {}

    def new(self, size: int) -> int:
        """A leaf, united with nothing."""
        return self._node(size, "leaf", ())

    def product(self, axes: Sequence[int]) -> int:
        """The axis that a reshape makes of these; axes of length 1 do not count."""
        parts = [a for a in axes if self.size(a) != 1]
        if len(parts) < 2:
            return parts[0] if parts else self.new(1)
        size = math.prod(self.size(a) for a in parts)
        return self._node(size, "product", tuple(parts))

    def sum(self, axes: Sequence[int]) -> int:
        """The axis that a concatenation makes of these."""
        parts = [a for a in axes if self.size(a) != 0]
        if len(parts) < 2:
            return parts[0] if parts else self.new(0)
        return self._node(sum(self.size(a) for a in parts), "sum", tuple(parts))

    def size(self, axis: int) -> int:
        """The length of an axis."""
        return self._size[axis]

    def find(self, axis: int) -> int:
        """The representative of all axes united with this one."""
        while self._parent[axis] != axis:
            self._parent[axis] = self._parent[self._parent[axis]]
            axis = self._parent[axis]
        return axis

    def freeze(self, axis: int, reason: str) -> None:
        """Forbids to shrink an axis; the first reason is remembered."""
        self._mark(self.frozen, axis, reason)

    def note(self, axis: int, reason: str) -> None:
        """Says why removing units of an axis changes more than the units."""
        self._mark(self.inexact, axis, reason)

    def unite(self, a: int, b: int, reason: str) -> None:
        """Makes two axes shrink together, or freezes both, for a reason."""
        a, b = self.find(a), self.find(b)
        if a == b:
            return
        if self._size[a] != self._size[b]:
            self._freeze_both([a], [b], f"lengths differ in {reason}")
        elif self._kind[a] == "leaf":
            self._link(a, b)
        elif self._kind[b] == "leaf":
            self._link(b, a)
        else:
            self._align(a, b, reason)

    def partition(self, axis: int, cuts: Sequence[int], reason: str) -> list[int]:
        """Cuts an axis into pieces that are removed from one by one."""
        bounds = [0, *cuts, self.size(axis)]
        pieces = [self.new(n - m) for m, n in itertools.pairwise(bounds)]
        self.unite(axis, self.sum(pieces), reason)
        return pieces

    def layout(self, axis: int) -> Layout:
        """What the axis is made of."""
        axis = self.find(axis)
        parts = tuple(self.layout(p) for p in self._parts[axis])
        leaf = axis if not parts else -1
        return Layout(self._kind[axis], leaf, self._size[axis], parts)

    def freeze_repeated(self, axis: int) -> None:
        """Freezes leaves that a product holds twice: their units overlap."""
        axis = self.find(axis)
        seen: set[int] = set()
        for part in self._parts[axis]:
            self.freeze_repeated(part)
            leaves = set(self.leaves(part))
            if self._kind[axis] == "product":
                for leaf in leaves & seen:
                    self.freeze(leaf, "an axis holds its product with itself")
            seen |= leaves

    def leaves(self, axis: int) -> list[int]:
        """The leaves that an axis is made of."""
        axis = self.find(axis)
        if self._kind[axis] == "leaf":
            return [axis]
        return [leaf for part in self._parts[axis] for leaf in self.leaves(part)]

    def _node(self, size: int, kind: str, parts: tuple[int, ...]) -> int:
        self._parent.append(len(self._parent))
        self._size.append(size)
        self._kind.append(kind)
        self._parts.append(parts)
        return len(self._parent) - 1

    def _mark(self, marks: dict[int, str], axis: int, reason: str) -> None:
        for leaf in self.leaves(axis):
            marks.setdefault(leaf, reason)

    def _link(self, leaf: int, other: int) -> None:
        self._parent[leaf] = other
        for marks in (self.frozen, self.inexact):
            if leaf in marks:
                self._mark(marks, other, marks.pop(leaf))

    def _freeze_both(self, a: Sequence[int], b: Sequence[int], reason: str) -> None:
        for axis in (*a, *b):
            self.freeze(axis, reason)

    def _align(self, a: int, b: int, reason: str) -> None:
        kinds = self._kind[a], self._kind[b]
        if kinds == ("product", "product"):
            self._align_factors(self._flat(a), self._flat(b), reason)
        elif kinds == ("sum", "sum"):
            self._align_terms(self._flat(a), self._flat(b), reason)
        else:
            product, total = (a, b) if kinds[0] == "product" else (b, a)
            self._align_mixed(product, total, reason)
            a, b = total, product
        a, b = self.find(a), self.find(b)
        if a != b and self._kind[a] == self._kind[b]:
            self._parent[a] = b

    def _flat(self, axis: int) -> list[int]:
        """The parts of an axis, those of parts of the same kind among them."""
        axis, flat = self.find(axis), []
        for part in self._parts[axis]:
            part = self.find(part)
            same = self._kind[part] == self._kind[axis]
            flat += self._flat(part) if same else [part]
        return flat

    def _align_factors(self, a: list[int], b: list[int], reason: str) -> None:
        """From the fastest factor on; a leaf is split where the other side is finer."""
        while a and b:
            x, y = self.find(a.pop()), self.find(b.pop())
            if self._size[x] == self._size[y]:
                self.unite(x, y, reason)
                continue
            if self._size[x] < self._size[y]:
                a, b, x, y = b, a, y, x
            outer, rest = divmod(self._size[x], self._size[y])
            if rest or self._kind[x] == "sum":
                self._freeze_both([*a, x], [*b, y], f"factors do not align in {reason}")
                return
            self.unite(x, self.product([self.new(outer), self.new(self._size[y])]), "")
            a += self._flat(x)
            b.append(y)

    def _align_terms(self, a: list[int], b: list[int], reason: str) -> None:
        """From the first term on; a leaf is cut where the other side is finer."""
        a, b = a[::-1], b[::-1]
        while a and b:
            x, y = self.find(a.pop()), self.find(b.pop())
            if self._size[x] == self._size[y]:
                self.unite(x, y, reason)
                continue
            if self._size[x] < self._size[y]:
                a, b, x, y = b, a, y, x
            if self._kind[x] != "leaf":
                self._freeze_both([*a, x], [*b, y], f"pieces do not align in {reason}")
                return
            first = self._size[y]
            cut = self.sum([self.new(first), self.new(self._size[x] - first)])
            self.unite(x, cut, "")
            a += self._flat(x)[::-1]
            b.append(y)

    def _align_mixed(self, product: int, total: int, reason: str) -> None:
        """A sum of equal pieces is a product; each piece is then cut alike."""
        pieces = self._flat(total)
        sizes = {self._size[p] for p in pieces}
        factors = self._flat(product)
        inner = self.product(factors[1:])
        if sizes != {self._size[inner]}:
            self._freeze_both([product], [total], f"axes do not align in {reason}")
            return
        self.freeze(factors[0], f"it counts the pieces that {reason} joins")
        for piece in pieces:
            self.unite(piece, inner, reason)
