"""Groups of axes that must shrink together, found in the program of a model."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from jaxkd import _names, trees
from jaxkd._types import Tree
from jaxkd.compress._structure.axes import Layout
from jaxkd.compress._structure.program import Step, Walker, trace
from jaxkd.compress._structure.rules import Value

#: For each group by name, which of its units stay: booleans, shape ``[size]``.
Kept: TypeAlias = Mapping[str, np.ndarray]


class Member(NamedTuple):
    """One axis of one array, as part of a group.

    Attributes:
        path: the array.
        axis: its axis.
        units: for each position on the axis, the unit of the group that owns it, or -1
            where the position belongs to none.
    """

    path: str
    axis: int
    units: np.ndarray

    @property
    def offset(self) -> int:
        """The first position of the group on the axis."""
        return int(np.argmax(self.units == 0))

    @property
    def stride(self) -> int:
        """The distance from one unit to the next."""
        return int(np.argmax(self.units == 1)) - self.offset

    def __str__(self) -> str:
        at = f"{self.path}:{self.axis}"
        plain = np.array_equal(self.units, np.arange(len(self.units)))
        return at if plain else f"{at}[{self.offset}::{self.stride}]"


@dataclasses.dataclass(frozen=True)
class Group:
    """Axes that lose the same units at once.

    Attributes:
        name: a path and an axis that make the units, ``"dense1/kernel:1"``.
        size: the number of units.
        members: the axes.
        leaf: its number in the layouts.
        frozen: why no unit can be removed; empty if they can.
        inexact: why removal changes more than zeroing would; empty if it does not.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    leaf: int
    frozen: str = ""
    inexact: str = ""

    @property
    def exact(self) -> bool:
        """Whether nothing runs over the units but products that sum them."""
        return not self.inexact

    def __str__(self) -> str:
        members = ", ".join(map(str, self.members))
        reason = self.frozen or self.inexact
        return f"{self.name} ({self.size}): {members}" + (reason and f"; {reason}")


@dataclasses.dataclass(frozen=True)
class Groups:
    """What :func:`dependency_groups` finds; iterates over the groups that can shrink.

    Attributes:
        prunable: the groups of which units can be removed.
        frozen: those which must stay, each with its reason.
        shapes: of each array, the layout of its axes and the bytes of a number.
        products: of each product or convolution, the layouts of the axes which it runs
            over; its multiplications are the product of their lengths.
        program: what the shrunk program is checked against.
    """

    prunable: tuple[Group, ...]
    frozen: tuple[Group, ...]
    shapes: Mapping[str, tuple[tuple[Layout, ...], int]] = dataclasses.field(repr=False)
    products: tuple[tuple[Layout, ...], ...] = dataclasses.field(repr=False)
    program: "Program" = dataclasses.field(repr=False)

    def __iter__(self) -> Iterator[Group]:
        return iter(self.prunable)

    def __len__(self) -> int:
        return len(self.prunable)

    def __getitem__(self, name: str) -> Group:
        found = {group.name: group for group in self.prunable}
        if name not in found:
            raise KeyError(f"no group {name!r} can shrink; {self._reason(name, found)}")
        return found[name]

    def __str__(self) -> str:
        lines = [str(group) for group in self.prunable]
        stuck = [f"frozen: {group}" for group in self.frozen]
        return "\n".join([*lines, *stuck])

    def _reason(self, name: str, found: Mapping[str, Group]) -> str:
        for group in self.frozen:
            if name in (group.name, *(f"{m.path}:{m.axis}" for m in group.members)):
                return f"it is frozen: {group.frozen}"
        return _names.nearest(name, found)


class Traced(NamedTuple):
    """One equation of the program.

    Attributes:
        primitive: its name.
        where: the primitive and the line of the model.
        outs: the layouts of its outputs.
        ins: the layouts of its inputs.
        literals: the numbers written into it.
    """

    primitive: str
    where: str
    outs: tuple[tuple[Layout, ...], ...]
    ins: tuple[tuple[Layout, ...], ...]
    literals: tuple[float, ...]


class Program(NamedTuple):
    """The traced function.

    Attributes:
        apply: the function.
        inputs: the shapes of its inputs.
        steps: its equations, those of nested programs among them.
        outputs: the shapes of its outputs.
        batch: the leaf of the first axis of the first input, or -1.
    """

    apply: Callable[..., Any]
    inputs: tuple[Any, ...]
    steps: tuple[Traced, ...]
    outputs: Tree
    batch: int


def dependency_groups(
    apply: Callable[..., Any], variables: Tree, *inputs: Any
) -> Groups:
    """Finds which axes of which arrays must shrink together, in the program itself.

    The jaxpr of ``apply`` is walked once, and the axes of all its values are united as
    each primitive demands: the outputs of a layer with the inputs of the next, with the
    statistics of a BatchNorm, with what a residual sum adds to them. Axes are followed
    through reshapes (flattening, attention heads), concatenations, slices, nested
    ``jit``, ``custom_jvp``, ``remat`` and the bodies of ``scan`` and ``cond``. What is
    not understood is frozen, with the primitive and its line as the reason; so are the
    axes of inputs and outputs.

    Trace the evaluation mode, and let ``apply`` return the outputs alone: what else it
    returns is frozen, too.

    Args:
        apply: ``(variables, *inputs) -> outputs``, any pure function.
        variables: all its values: parameters, BatchNorm statistics.
        *inputs: example inputs, arrays or :class:`jax.ShapeDtypeStruct`; only their
            shapes are used.

    Returns:
        The :class:`Groups`.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"up": jnp.ones((3, 16)), "down": jnp.ones((16, 2))}
        >>> apply = lambda p, x: jax.nn.relu(x @ p["up"]) @ p["down"]
        >>> print(compress.dependency_groups(apply, params, jnp.ones((1, 3))))
        up:1 (16): down:0, up:1
        frozen: down:1 (2): down:1; it is an axis of the outputs
        frozen: up:0 (3): up:0; it is an axis of the inputs

    References:
        Fang et al., `DepGraph: Towards Any Structural Pruning
        <https://arxiv.org/abs/2301.12900>`_, 2023, section 3.
    """
    closed = trace(apply, variables, inputs)
    walk, leaves = Walker(), trees.flatten(variables)
    values = {path: _fresh(walk, leaf) for path, leaf in leaves.items()}
    given = [_fresh(walk, leaf) for leaf in jax.tree.leaves(inputs)]
    _freeze(walk, given, "it is an axis of the inputs")
    outs = walk.run(closed, [*values.values(), *given])
    _freeze(walk, outs, "it is an axis of the outputs")
    _freeze_repeated(walk, values)
    _freeze_unused(walk, values)
    found = list(_collect(walk, values))
    layouts = lambda value: tuple(walk.axes.layout(a) for a in value)
    sizes = {path: np.dtype(_dtype(leaf)).itemsize for path, leaf in leaves.items()}
    return Groups(
        prunable=tuple(group for group in found if not group.frozen),
        frozen=tuple(group for group in found if group.frozen),
        shapes={path: (layouts(v), sizes[path]) for path, v in values.items()},
        products=tuple(map(layouts, walk.products)),
        program=Program(
            apply,
            jax.tree.map(_shape, inputs),
            tuple(_traced(step, layouts) for step in walk.steps),
            jax.tree.map(np.shape, jax.eval_shape(apply, variables, *inputs)),
            walk.axes.find(given[0][0]) if given and given[0] else -1,
        ),
    )


def _traced(step: Step, layouts: Callable[[Value], tuple[Layout, ...]]) -> Traced:
    outs, ins = (tuple(map(layouts, values)) for values in (step.outs, step.ins))
    return Traced(step.primitive, step.where, outs, ins, step.literals)


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(x), jax.numpy.result_type(x))


def _dtype(leaf: Any) -> Any:
    dtype = jax.numpy.result_type(leaf)
    typed_key = jax.numpy.issubdtype(dtype, jax.dtypes.prng_key)
    return np.uint32 if typed_key else dtype


def _fresh(walk: Walker, leaf: Any) -> Value:
    return tuple(walk.axes.new(n) for n in np.shape(leaf))


def _freeze(walk: Walker, values: Sequence[Value], reason: str) -> None:
    for axis in (a for value in values for a in value):
        walk.axes.freeze(axis, reason)


def _freeze_repeated(walk: Walker, values: Mapping[str, Value]) -> None:
    for axis in (a for value in values.values() for a in value):
        walk.axes.freeze_repeated(axis)


def _freeze_unused(walk: Walker, values: Mapping[str, Value]) -> None:
    """Positions of a table beyond the inputs' length are not for the taking."""
    used = {
        leaf for axes in walk.products for a in axes for leaf in walk.axes.leaves(a)
    }
    for axis in (a for value in values.values() for a in value):
        for leaf in walk.axes.leaves(axis):
            if leaf not in used and leaf not in walk.axes.inexact:
                walk.axes.freeze(leaf, "no product of the program uses it")


def _collect(walk: Walker, values: Mapping[str, Value]) -> Iterator[Group]:
    members: dict[int, list[Member]] = {}
    makers: dict[int, list[tuple[bool, bool, bool, str]]] = {}
    for path, value in values.items():
        for i, axis in enumerate(value):
            layout = walk.axes.layout(axis)
            for leaf, units in layout.units().items() if layout.size > 1 else ():
                members.setdefault(leaf, []).append(Member(path, i, units))
                vector, summed = len(value) < 2, axis in walk.summed
                rank = (axis not in walk.made, vector, summed, f"{path}:{i}")
                makers.setdefault(leaf, []).append(rank)
    taken: set[str] = set()
    for leaf, found in members.items():
        name = min(makers[leaf], key=lambda rank: rank[:3])[3]
        while name in taken:  # two groups share an axis: heads and their width
            name += "'"
        taken.add(name)
        size = max(int(m.units.max()) for m in found) + 1
        reasons = walk.axes.frozen.get(leaf, ""), walk.axes.inexact.get(leaf, "")
        yield Group(name, size, tuple(found), leaf, *reasons)
