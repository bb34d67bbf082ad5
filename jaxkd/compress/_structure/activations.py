"""How strongly the units of each group are active, measured in the program itself."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.extend import core
from jaxtyping import Array, Float

from jaxkd._types import Tree
from jaxkd.compress._structure.axes import Layout
from jaxkd.compress._structure.groups import Groups
from jaxkd.compress._structure.program import CALLS, equations, live


def activation_importance(
    variables: Tree, groups: Groups, batches: Iterable[Sequence[Any]]
) -> dict[str, Float[Array, " size"]]:
    r"""How strongly each unit is active, where products and convolutions sum over it.

    .. math::
        s_i = \sum_p \sqrt{\sum_b \Big( \frac{1}{|P|} \sum_{t \in P} |x_{b t i}|
        \Big)^2}

    over the products :math:`p` which sum over the unit, the examples :math:`b`, and the
    positions :math:`t` of an example, divided by its mean over the group. No gradients
    are needed, and no names: the values are read where the program uses them, also in
    loops, which are run step by step.

    Args:
        variables: the values of which the groups were found.
        groups: of :func:`dependency_groups`.
        batches: calibration data, each the inputs of ``apply``, of the shapes with
            which the groups were found; the first axis of the first is the example.

    Returns:
        For each group by name whose units are summed over, their importance, shape
        ``[size]``.

    Raises:
        ValueError: if there is no batch, or one has other shapes.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"up": jnp.array([[1.0, 2.0, -3.0]]), "down": jnp.ones((3, 2))}
        >>> apply = lambda p, x: jax.nn.relu(x @ p["up"]) @ p["down"]
        >>> x = jnp.ones((4, 1))
        >>> groups = compress.dependency_groups(apply, params, x)
        >>> print(compress.activation_importance(params, groups, [(x,)])["up:1"])
        [1. 2. 0.]

    References:
        Muralidharan et al., `Compact Language Models via Pruning and Knowledge
        Distillation <https://arxiv.org/abs/2407.14679>`_, 2024, section 2.2.
    """
    measure = jax.jit(lambda variables, batch: _measure(groups, variables, batch))
    total = None
    for batch in batches:
        _check_shapes(groups, tuple(batch))
        found = measure(variables, tuple(batch))
        total = found if total is None else jax.tree.map(jnp.add, total, found)
    if total is None:
        raise ValueError("`batches` must hold at least one batch.")
    scores = {}
    for group in groups:
        parts = [jnp.sqrt(t[group.leaf]) for t in total.values() if group.leaf in t]
        if parts:
            score = sum(parts[1:], start=parts[0])
            scores[group.name] = score / (jnp.mean(score) + 1e-30)
    return scores


def _check_shapes(groups: Groups, batch: tuple[Any, ...]) -> None:
    shapes = jax.tree.map(np.shape, batch)
    wanted = jax.tree.map(np.shape, groups.program.inputs)
    if shapes != wanted:
        raise ValueError(
            f"a batch has shapes {shapes}, but the groups were found with {wanted}."
        )


def _measure(groups: Groups, variables: Tree, batch: tuple[Any, ...]) -> Any:
    closed = jax.make_jaxpr(groups.program.apply)(variables, *batch)
    fixed = [(x, False) for x in (*closed.consts, *jax.tree.leaves(variables))]
    given = [(x, True) for x in jax.tree.leaves(batch)]
    meter = _Meter(groups)
    meter.run(closed.jaxpr, [*fixed, *given])
    return meter.squares


class _Meter:
    """Runs a program and looks at what products sum over.

    A value comes with whether it depends on the inputs: weights are no activations.
    """

    def __init__(self, groups: Groups) -> None:
        self.squares: dict[int, dict[int, Array]] = {}
        self._program = groups.program
        self._leaves = {group.leaf for group in groups}
        self._at = 0

    def run(self, jaxpr: core.Jaxpr, values: Sequence[Any]) -> list[Any]:
        env = dict(zip((*jaxpr.constvars, *jaxpr.invars), values, strict=True))

        def read(atom: Any) -> Any:
            return (atom.val, False) if isinstance(atom, core.Literal) else env[atom]

        for eqn in live(jaxpr):
            outs = self._apply(eqn, [read(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, outs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _apply(self, eqn: Any, ins: list[Any]) -> list[Any]:
        name = eqn.primitive.name
        if name in CALLS:
            return self._call(eqn.params[CALLS[name]], ins)
        if name == "scan":
            return self._scan(eqn, ins)
        if name == "cond":
            branches = eqn.params["branches"]
            self._at += sum(len(list(equations(branch))) for branch in branches)
        else:
            self._look(eqn, ins)
            self._at += 1
        return self._bind(eqn, ins)

    def _call(self, program: Any, ins: list[Any]) -> list[Any]:
        if isinstance(program, core.ClosedJaxpr):
            consts = [(c, False) for c in program.consts]
            return self.run(program.jaxpr, [*consts, *ins])
        return self.run(program, ins)

    def _bind(self, eqn: Any, ins: list[Any]) -> list[Any]:
        params = eqn.primitive.get_bind_params(eqn.params)
        outs = eqn.primitive.bind(*(x for x, _ in ins), **params)
        depends = any(moving for _, moving in ins)
        outs = outs if eqn.primitive.multiple_results else [outs]
        return [(out, depends) for out in outs]

    def _scan(self, eqn: Any, ins: list[Any]) -> list[Any]:
        consts, carried = eqn.params["num_consts"], eqn.params["num_carry"]
        start, fixed = self._at, ins[:consts]
        carry, scanned = ins[consts:][:carried], ins[consts + carried :]
        steps = range(eqn.params["length"])
        rows = []
        for t in reversed(steps) if eqn.params["reverse"] else steps:
            self._at = start
            now = [(x[t], moving) for x, moving in scanned]
            outs = self._call(eqn.params["jaxpr"], [*fixed, *carry, *now])
            carry, row = outs[:carried], outs[carried:]
            rows.append(row)
        rows = rows[::-1] if eqn.params["reverse"] else rows
        columns = zip(*rows, strict=True)
        stacked = [(jnp.stack([x for x, _ in c]), c[0][1]) for c in columns]
        return [*carry, *stacked]

    def _look(self, eqn: Any, ins: list[Any]) -> None:
        layouts = self._program.steps[self._at].ins
        for i, axes in _summed(eqn):
            value, moving = ins[i]
            for axis in axes if moving else ():
                self._add(value, layouts[i], axis)

    def _add(self, value: Array, layouts: tuple[Layout, ...], axis: int) -> None:
        units = layouts[axis].units()
        for leaf in self._leaves.intersection(units):
            means = _means(value, layouts, axis, units[leaf], self._program.batch)
            found = self.squares.setdefault(self._at, {})
            squares = jnp.sum(jnp.square(means), axis=1)
            found[leaf] = found.get(leaf, jnp.zeros(())) + squares


def _summed(eqn: Any) -> list[tuple[int, Sequence[int]]]:
    """Operands and their axes over which an equation sums."""
    numbers = eqn.params.get("dimension_numbers")
    if eqn.primitive.name == "dot_general":
        return list(enumerate(numbers[0]))
    if eqn.primitive.name == "conv_general_dilated":
        return [(0, (numbers.lhs_spec[1],))]
    return []


def _means(
    value: Array, layouts: tuple[Layout, ...], axis: int, units: np.ndarray, batch: int
) -> Float[Array, "size examples"]:
    """Mean magnitudes of each unit in each example."""
    maps = [units if i == axis else a.units().get(batch) for i, a in enumerate(layouts)]
    kept = [i for i, m in enumerate(maps) if m is not None and i != axis][:1]
    rest = tuple(i for i in range(value.ndim) if i not in (axis, *kept))
    means = jnp.mean(jnp.abs(value).astype(jnp.float32), axis=rest, keepdims=True)
    means = jnp.moveaxis(means, axis, 0).reshape(len(units), -1)
    examples = maps[kept[0]] if kept else np.zeros(means.shape[1], int)
    return _averaged(_averaged(means, units).T, np.asarray(examples)).T


def _averaged(rows: Array, owners: np.ndarray) -> Array:
    """Means of the rows of each owner; rows of none are left out."""
    size = int(owners.max()) + 1
    owners = np.where(owners < 0, size, owners)
    counts = np.maximum(np.bincount(owners, minlength=size + 1), 1)[:size]
    sums = jax.ops.segment_sum(rows, owners, size + 1)[:size]
    return sums / counts.astype(np.float32)[:, None]
