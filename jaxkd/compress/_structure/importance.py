"""How important the units of each group are; the least important go first."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxkd import trees
from jaxkd._types import PRNGKey, Tree
from jaxkd.compress._structure.groups import Group, Groups, Member


def l2_importance(
    variables: Tree, groups: Groups, *, where: str | None = None
) -> dict[str, Float[Array, " size"]]:
    r"""The squared weights of each unit, a mean over the arrays of its group.

    .. math::
        s_i = \frac{1}{|M|} \sum_{m \in M} \sum_{w \in m_i} w^2
        \Big/ \frac{1}{n} \sum_j s_j

    Each group is divided by its mean, so that groups can be compared.

    Args:
        variables: the values of which the groups were found.
        groups: of :func:`dependency_groups`.
        where: a regular expression for the paths of the arrays that count; by default
            all floating-point arrays of two axes or more.

    Returns:
        For each group by name, the importance of its units, shape ``[size]``.

    Raises:
        ValueError: if ``where`` matches no path, or no array of a group counts.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"up": jnp.array([[1.0, 2.0, 3.0]]), "down": jnp.ones((3, 2))}
        >>> apply = lambda p, x: jax.nn.relu(x @ p["up"]) @ p["down"]
        >>> groups = compress.dependency_groups(apply, params, jnp.ones((1, 1)))
        >>> print(compress.l2_importance(params, groups)["up:1"].round(2))
        [0.45 0.9  1.65]

    References:
        Fang et al., `DepGraph: Towards Any Structural Pruning
        <https://arxiv.org/abs/2301.12900>`_, 2023, section 3.3.
    """
    score = lambda x, member: _per_unit(jnp.square(x), member)
    return _normalized(_means(variables, groups, where, score))


def taylor_importance(
    variables: Tree, gradients: Tree, groups: Groups, *, where: str | None = None
) -> dict[str, Float[Array, " size"]]:
    r"""How much the loss would change to first order if a unit were zeroed.

    .. math::
        s_i = \frac{1}{|M|} \sum_{m \in M} \Big| \sum_{w \in m_i} w \, g_w \Big|

    divided by its mean over the group.

    Args:
        variables: the values of which the groups were found.
        gradients: of the loss, a tree of the same structure (zeros for what is not
            trained).
        groups: of :func:`dependency_groups`.
        where: the paths of the arrays that count; see :func:`l2_importance`.

    Returns:
        For each group by name, the importance of its units, shape ``[size]``.

    Raises:
        ValueError: if ``where`` matches no path, or no array of a group counts.

    References:
        Molchanov et al., `Importance Estimation for Neural Network Pruning
        <https://arxiv.org/abs/1906.10771>`_, 2019, section 3.1.
    """
    products = jax.tree.map(lambda w, g: w * g, variables, gradients)
    score = lambda x, member: jnp.abs(_per_unit(x, member))
    return _normalized(_means(products, groups, where, score))


def scale_importance(
    variables: Tree, groups: Groups, *, where: str = "scale$"
) -> dict[str, Float[Array, " size"]]:
    r"""The magnitude of BatchNorm's scale, :math:`s_i = |\gamma_i|`.

    Args:
        variables: the values of which the groups were found.
        groups: of :func:`dependency_groups`.
        where: a regular expression for the paths of the scales.

    Returns:
        For each group by name which has scales, the mean over them, shape ``[size]``.

    Raises:
        ValueError: if ``where`` matches no path.

    References:
        Liu et al., `Learning Efficient Convolutional Networks through Network Slimming
        <https://arxiv.org/abs/1708.06519>`_, 2017, section 3.
    """
    score = lambda x, member: _per_unit(jnp.abs(x), member)
    chosen = _chosen(variables, where)
    having = [g for g in groups if any(m.path in chosen for m in g.members)]
    leaves = trees.flatten(variables)
    return {g.name: _mean(leaves, chosen, g, score) for g in having}


def median_importance(
    variables: Tree, groups: Groups, *, where: str | None = None
) -> dict[str, Float[Array, " size"]]:
    r"""How far the weights of a unit are from those of all others.

    .. math::
        s_i = \frac{1}{|M|} \sum_{m \in M} \sum_j \lVert m_i - m_j \rVert_2

    divided by its mean over the group. A unit near the geometric median of its group
    can be replaced by others.

    Args:
        variables: the values of which the groups were found.
        groups: of :func:`dependency_groups`.
        where: the paths of the arrays that count; see :func:`l2_importance`.

    Returns:
        For each group by name, the importance of its units, shape ``[size]``.

    Raises:
        ValueError: if ``where`` matches no path, or no array of a group counts.

    References:
        He et al., `Filter Pruning via Geometric Median for Deep Convolutional Neural
        Networks Acceleration <https://arxiv.org/abs/1811.00250>`_, 2019, section 3.3.
    """
    return _normalized(_means(variables, groups, where, _distances))


def random_importance(groups: Groups, key: PRNGKey) -> dict[str, Float[Array, " size"]]:
    """Importance drawn from :math:`[0, 1)`: what a method must beat.

    Args:
        groups: of :func:`dependency_groups`.
        key: a typed key.

    Returns:
        For each group by name, the importance of its units, shape ``[size]``.
    """
    keys = jax.random.split(key, max(len(groups), 1))
    return {
        group.name: jax.random.uniform(k, (group.size,))
        for group, k in zip(groups, keys, strict=False)
    }


Score = Callable[[Any, Member], Array]


def _per_unit(x: Any, member: Member) -> Float[Array, " size"]:
    """Sums over all that belongs to each unit."""
    x = jnp.asarray(x, jnp.float32)
    rest = tuple(i for i in range(x.ndim) if i != member.axis)
    return _gathered(jnp.sum(x, axis=rest), member.units)


def _gathered(sums: Array, units: np.ndarray) -> Array:
    size = int(units.max()) + 1
    return jax.ops.segment_sum(sums, np.where(units < 0, size, units), size + 1)[:size]


def _distances(x: Any, member: Member) -> Float[Array, " size"]:
    x = jnp.moveaxis(jnp.asarray(x, jnp.float32), member.axis, 0)
    order = np.argsort(member.units, kind="stable")
    order = order[np.sum(member.units < 0) :]
    size = int(member.units.max()) + 1
    rows = x[order].reshape(size, -1)
    squares = jnp.sum(rows**2, axis=1)
    between = squares[:, None] + squares[None, :] - 2 * rows @ rows.T
    positive = between > 0
    roots = jnp.sqrt(jnp.where(positive, between, 1.0))
    return jnp.sum(jnp.where(positive, roots, 0.0), axis=1)


def _chosen(variables: Tree, where: str | None) -> set[str]:
    leaves = trees.flatten(variables)
    if where is not None:
        marked = trees.flatten(trees.mask(variables, where))
        return {path for path in leaves if marked[path]}
    weighty = lambda x: np.ndim(x) > 1 and jnp.issubdtype(x.dtype, jnp.floating)
    return {path for path, x in leaves.items() if weighty(x)}


def _means(tree: Tree, groups: Groups, where: str | None, score: Score) -> Any:
    chosen, leaves = _chosen(tree, where), trees.flatten(tree)
    return {group.name: _mean(leaves, chosen, group, score) for group in groups}


def _mean(leaves: Any, chosen: set[str], group: Group, score: Score) -> Array:
    found = [score(leaves[m.path], m) for m in group.members if m.path in chosen]
    if not found:
        raise ValueError(f"no array of the group {group.name!r} counts; see `where`.")
    return sum(found[1:], start=found[0]) / len(found)


def _normalized(scores: dict[str, Array]) -> dict[str, Array]:
    return {name: s / (jnp.mean(s) + 1e-30) for name, s in scores.items()}
