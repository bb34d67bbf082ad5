"""Units zeroed or taken out of arrays, and of trees that follow the arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jax import numpy as jnp

from jaxkd import trees
from jaxkd._types import Tree
from jaxkd.compress._structure.groups import Groups, Kept


def zero_units(variables: Tree, groups: Groups, kept: Kept) -> Tree:
    """Sets what belongs to removed units to zero, in arrays of unchanged shape.

    The model with these variables is what :func:`shrink` gives, where groups are exact:
    one program tries out any choice of units.

    Args:
        variables: the values of which the groups were found.
        groups: of :func:`dependency_groups`.
        kept: for each group by name, true for the units that stay; others keep all.

    Returns:
        A tree like ``variables``.

    Raises:
        ValueError: if the variables are not those of the groups, or a choice has the
            wrong shape.
        KeyError: if a group is not known.
    """
    keep = positions(variables, groups, kept)

    def zero(path: str, x: Any) -> Any:
        for axis, stays in keep.get(path, {}).items():
            shape = [-1 if i == axis else 1 for i in range(np.ndim(x))]
            on = _place(x)
            x = on.where(stays.reshape(shape), x, on.zeros_like(x))
        return x

    return trees.map_with_path(zero, variables)


def take_units(variables: Tree, groups: Groups, kept: Kept) -> Tree:
    """Takes the removed units out of all arrays.

    Args:
        variables: the values of which the groups were found.
        groups: of :func:`dependency_groups`.
        kept: for each group by name, true for the units that stay; others keep all.

    Returns:
        A tree of the same structure with smaller arrays, those of numpy on the host.

    Raises:
        ValueError: if the variables are not those of the groups, or a choice has the
            wrong shape.
        KeyError: if a group is not known.
    """
    keep = positions(variables, groups, kept)
    return trees.map_with_path(lambda path, x: _take(x, keep.get(path, {})), variables)


def take_units_along(tree: Tree, groups: Groups, kept: Kept) -> Tree:
    """Takes the removed units out of a tree that follows the variables.

    An optimizer's state holds arrays under the paths of the parameters, after its own
    names; so do moving averages and masks. A leaf follows the array whose path, with or
    without the collection it begins with, is the end of its own.

    Args:
        tree: such a tree; leaves of one number and those that follow nothing stay.
        groups: of :func:`dependency_groups`.
        kept: for each group by name, true for the units that stay.

    Returns:
        A tree of the same structure with smaller arrays.

    Raises:
        ValueError: if a leaf stands at the path of an array that shrinks, but has
            another shape, as the factored moments of Adafactor have: initialise such a
            state anew.
        KeyError: if a group is not known.

    Examples:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxkd import compress
        >>> params = {"up": jnp.ones((3, 16)), "down": jnp.ones((16, 2))}
        >>> apply = lambda p, x: jax.nn.relu(x @ p["up"]) @ p["down"]
        >>> groups = compress.dependency_groups(apply, params, jnp.ones((1, 3)))
        >>> state = optax.adam(0.1).init(params)
        >>> kept = {"up:1": jnp.arange(16) < 5}
        >>> compress.take_units_along(state, groups, kept)[0].mu["up"].shape
        (3, 5)
    """
    keep = _keep(groups, kept)
    shapes = {p: tuple(a.size for a in axes) for p, (axes, _) in groups.shapes.items()}

    def follow(path: str, x: Any) -> Any:
        source = _followed(path, shapes)
        if source is None or not keep.get(source) or np.size(x) <= 1:
            return x
        if np.shape(x) != shapes[source]:
            raise ValueError(
                f"{path!r} has shape {np.shape(x)}, but {source!r}, which it follows, "
                f"has shape {shapes[source]}: initialise this state anew."
            )
        return _take(x, keep[source])

    return trees.map_with_path(follow, tree)


def positions(
    variables: Tree, groups: Groups, kept: Kept
) -> dict[str, dict[int, np.ndarray]]:
    """For each array that shrinks, which positions stay on which axes."""
    leaves = trees.flatten(variables)
    for path, (axes, _) in groups.shapes.items():
        shape = tuple(axis.size for axis in axes)
        if path not in leaves or np.shape(leaves[path]) != shape:
            got = (
                f"shape {np.shape(leaves[path])}" if path in leaves else "no such leaf"
            )
            raise ValueError(
                f"the groups were found on an array {path!r} of shape {shape}, but the "
                f"variables have {got} there: find the groups of these variables."
            )
    return _keep(groups, kept)


def _keep(groups: Groups, kept: Kept) -> dict[str, dict[int, np.ndarray]]:
    keep: dict[str, dict[int, np.ndarray]] = {}
    for name, chosen in kept.items():
        group, stays = groups[name], np.asarray(chosen)
        if stays.shape != (group.size,) or stays.dtype != bool:
            raise ValueError(
                f"the units kept of {name!r} must be booleans of shape "
                f"({group.size},), got {stays.dtype} of shape {stays.shape}."
            )
        if stays.all():
            continue
        for path, axis, units in group.members:
            here = keep.setdefault(path, {}).setdefault(axis, np.ones(len(units), bool))
            here &= (units < 0) | stays[units]
    return keep


def _take(x: Any, keep: Mapping[int, np.ndarray]) -> Any:
    on = _place(x)
    for axis, stays in keep.items():
        x = on.take(on.asarray(x), np.flatnonzero(stays), axis=axis)
    return x


def _place(x: Any) -> Any:
    """Arrays of numpy stay so, on the host."""
    return np if isinstance(x, np.ndarray) else jnp


def _followed(path: str, shapes: Mapping[str, Any]) -> str | None:
    """The array whose path, perhaps without its collection, ends this one."""
    names, best = path.split("/"), (0, 0, "")
    for source in shapes:
        own = source.split("/")
        for left_out in range(min(2, len(own))):
            tail = own[left_out:]
            if names[-len(tail) :] == tail:
                best = max(best, (len(tail), -left_out, source))
    return best[2] or None
