"""Whole layers: how much each changes what runs through it, and a tree without some."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxkd import _checks, _names, trees
from jaxkd._types import Tree, Whole


def layer_importance(
    layers: Mapping[str, tuple[Array | np.ndarray, Array | np.ndarray]],
    *,
    where: Bool[Array | np.ndarray, "..."] | None = None,
) -> dict[str, Float[Array, ""]]:
    r"""How much each layer turns what runs through it.

    .. math::
        s_l = 1 - \frac{1}{T} \sum_t
        \frac{x_t \cdot y_t}{\lVert x_t \rVert \, \lVert y_t \rVert}

    over the positions :math:`t` of all examples, with the input :math:`x` and the
    output :math:`y` of the layer. A layer with 0 only scales its input, and can go
    first. Where a norm is 0, the cosine counts as 0. Over several batches of one size,
    take the mean.

    Args:
        layers: for each layer by name, its input and its output, both of shape
            ``[*positions, width]``, such as the features of the block before and its
            own.
        where: true for the positions that count, shape ``[*positions]``.

    Returns:
        For each layer by name, a number in ``[0, 2]``.

    Raises:
        ValueError: if the shapes of an input and an output differ, or ``where`` does
            not fit.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> x, y = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 3.0]])
        >>> scores = compress.layer_importance({"turns": (x, y), "scales": (y, 2 * y)})
        >>> {name: float(score) for name, score in scores.items()}
        {'turns': 1.0, 'scales': 0.0}

    References:
        Muralidharan et al., `Compact Language Models via Pruning and Knowledge
        Distillation <https://arxiv.org/abs/2407.14679>`_, 2024, section 2.2.
    """
    for name, (x, y) in layers.items():
        _checks.check_same_shape(**{f"input of {name}": x, f"output of {name}": y})
        if where is not None:
            _checks.check_where(x, where)
    return {name: 1.0 - _mean_cosine(x, y, where) for name, (x, y) in layers.items()}


def take_layers(
    tree: Tree, layers: Sequence[Whole] | np.ndarray, *, where: str
) -> Tree:
    r"""A tree with some of its layers only, renumbered from where they began.

    Layers are numbered by a part of their paths, ``block0``, ``block1``, or by the
    index of a list; or they are stacked along the first axis of arrays, as
    :func:`jax.lax.scan` wants them. The trees of optimizers and masks are cut alike.

    Args:
        tree: dicts, lists and tuples of arrays, such as the variables of a model.
        layers: the numbers of the layers that stay, as they are in the paths or from 0
            in stacked arrays; the result has them in this order.
        where: a regular expression for the paths, with one group for the number,
            ``r"/block(\d+)/"``; or without a group, for arrays that hold all layers.

    Returns:
        A tree of the same kind with fewer layers.

    Raises:
        ValueError: if the pattern matches no path, has several groups, or a layer is
            named twice or does not exist.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"block1": {"w": 1}, "block2": {"w": 2}, "block3": {"w": 3}}
        >>> compress.take_layers(params, [1, 3], where=r"^block(\d+)/")
        {'block1': {'w': 1}, 'block2': {'w': 3}}
        >>> stacked = {"blocks": jnp.arange(3.0), "head": jnp.ones(2)}
        >>> print(compress.take_layers(stacked, [0, 2], where="^blocks")["blocks"])
        [0. 2.]
    """
    layers, pattern = [int(n) for n in layers], re.compile(where)
    paths = [path for path in trees.flatten(tree) if pattern.search(path)]
    if not paths or pattern.groups > 1 or len(set(layers)) < len(layers):
        raise ValueError(
            "`where` must match a path, with one group at most, and `layers` must "
            f"name each once; got {where!r} and {list(layers)}. "
            f"{_names.nearest(where, trees.flatten(tree))}"
        )
    if not pattern.groups:
        return _take_stacked(tree, layers, pattern)
    found = (pattern.search(path) for path in paths)
    there = sorted({int(match[1]) for match in found if match})
    _check_there(layers, there)
    numbers = {old: there[0] + new for new, old in enumerate(layers)}
    return _renumbered(tree, "", pattern, numbers)


def _mean_cosine(x: Any, y: Any, where: Any) -> Float[Array, ""]:
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    norms = jnp.sum(x * x, axis=-1) * jnp.sum(y * y, axis=-1)
    roots = jnp.sqrt(jnp.where(norms > 0, norms, 1.0))
    cosines = jnp.where(norms > 0, jnp.sum(x * y, axis=-1) / roots, 0.0)
    counts = jnp.ones(cosines.shape) if where is None else where.astype(jnp.float32)
    return jnp.sum(cosines * counts) / jnp.maximum(jnp.sum(counts), 1.0)


def _check_there(layers: Sequence[int], there: Sequence[int]) -> None:
    missing = [n for n in layers if n not in there]
    if missing or not layers:
        raise ValueError(f"`layers` must be some of {list(there)}, got {list(layers)}.")


def _take_stacked(tree: Tree, layers: Sequence[int], pattern: re.Pattern[str]) -> Tree:
    for path, x in trees.flatten(tree).items():
        if pattern.search(path):
            _check_there(layers, range(np.shape(x)[0] if np.ndim(x) else 0))
    rows = np.asarray(layers)
    return trees.map_with_path(
        lambda path, x: jnp.asarray(x)[rows] if pattern.search(path) else x, tree
    )


def _renumbered(
    node: Any, path: str, pattern: re.Pattern[str], numbers: Mapping[int, int]
) -> Any:
    """The node without the layers that go; numbers in keys are changed."""
    children = _children(node)
    if children is None:
        return node
    kept: dict[Any, Any] = {}
    for key, child in children.items():
        at = f"{path}{key}/"
        number = _number(child, at, len(path), pattern)
        if number is None:
            kept[key] = _renumbered(child, at, pattern, numbers)
        elif int(number[1]) in numbers:
            a, b = (place - len(path) for place in number.span(1))
            new = f"{str(key)[:a]}{numbers[int(number[1])]}{str(key)[b:]}"
            kept[type(key)(new)] = child
    build: Any = type(node)
    if hasattr(node, "_fields"):
        return build(**kept)
    return build(kept if isinstance(node, Mapping) else [kept[k] for k in sorted(kept)])


def _children(node: Any) -> Mapping[Any, Any] | None:
    if isinstance(node, Mapping):
        return node
    if hasattr(node, "_fields"):  # the states of optimizers
        return node._asdict()
    return dict(enumerate(node)) if isinstance(node, list | tuple) else None


def _number(
    child: Any, at: str, shift: int, pattern: re.Pattern[str]
) -> re.Match[str] | None:
    """The match whose number stands in the last key of the path, if there is one."""
    for path in trees.flatten(child):
        match = pattern.search(at + path)
        if match and shift <= match.start(1) and match.end(1) < len(at):
            return match
    return None
