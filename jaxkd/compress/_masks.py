"""Which weights are pruned: masks are trees of booleans, true where one is kept."""

from collections.abc import Mapping
from typing import TypeAlias

import jax
from jax import core, numpy as jnp
from jaxtyping import Array

from jaxkd import _checks, _names, trees
from jaxkd._types import Number, Params, Tree
from jaxkd.compress._scores import magnitude_scores
from jaxkd.compress._selection import keep_largest, number_kept

#: One fraction of zeros, a traced one too, or one for each path.
Sparsity: TypeAlias = Number | Mapping[str, Number]


def top_masks(
    scores: Tree,
    sparsity: Sparsity,
    *,
    where: str = "kernel$",
    across: bool = False,
) -> Tree:
    """Marks the weights of the highest scores.

    Exactly ``round(sparsity * n)`` of ``n`` weights are dropped (but one is always
    kept), also when scores are tied: of tied weights the earlier ones are kept.

    Args:
        scores: a tree of scores, signed or not, with the shapes of the weights.
        sparsity: the fraction of weights to drop, in ``[0, 1)``; a traced scalar too,
            or one for each path, such as of :func:`erk_sparsities`.
        where: a regular expression for the paths of the leaves to prune.
        across: if true, one threshold for all these leaves together (global pruning);
            if not, one for each.

    Returns:
        A tree of booleans with the structure and shapes of ``scores``; true where a
        weight is kept, and everywhere on leaves that are not pruned.

    Raises:
        ValueError: if ``sparsity`` is outside ``[0, 1)``, no path matches, a path has
            no sparsity, or sparsities by path meet ``across``.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> scores = {"kernel": jnp.array([1.0, -3.0, 0.5, 2.0])}
        >>> print(compress.top_masks(scores, 0.5)["kernel"])
        [ True False False  True]
    """
    if across and isinstance(sparsity, Mapping):
        raise ValueError("`across` sets one threshold, but `sparsity` has many.")
    chosen = pick(scores, where)
    asked = sparsities(sparsity, chosen)
    if across:
        keep = number_kept(sum(x.size for x in chosen.values()), sparsity_of(sparsity))
        kept = keep_largest(list(chosen.values()), keep)
        return spread(scores, dict(zip(chosen, kept, strict=True)))
    return spread(
        scores,
        {
            path: keep_largest([x], number_kept(x.size, asked[path]))[0]
            for path, x in chosen.items()
        },
    )


def magnitude_masks(
    params: Params,
    sparsity: Sparsity,
    *,
    where: str = "kernel$",
    across: bool = False,
) -> Tree:
    """Marks the weights of the largest magnitude.

    Exactly ``round(sparsity * n)`` of ``n`` weights are dropped (but one is always
    kept), also when magnitudes are tied: of tied weights the earlier ones are kept. A
    traced sparsity is a float32: of more than 8 million weights the number is then
    exact to ``n / 2**24``.

    Args:
        params: a tree of arrays.
        sparsity: the fraction of weights to drop, in ``[0, 1)``; a traced scalar too,
            or one for each path, such as of :func:`erk_sparsities`.
        where: a regular expression for the paths of the leaves to prune.
        across: if true, one threshold for all these leaves together (global pruning),
            so that some become sparser than others; if not, one for each.

    Returns:
        A tree of booleans with the structure and shapes of ``params``; true where a
        weight is kept, and everywhere on leaves that are not pruned.

    Raises:
        ValueError: if ``sparsity`` is outside ``[0, 1)``, or no path matches.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"bias": jnp.zeros(2), "kernel": jnp.array([1.0, -3.0, 0.5, 2.0])}
        >>> masks = compress.magnitude_masks(params, 0.5)
        >>> print(masks["bias"], masks["kernel"])
        [ True  True] [False  True False  True]

    References:
        Han et al., `Learning both Weights and Connections for Efficient Neural
        Networks <https://arxiv.org/abs/1506.02626>`_, 2015, section 3.
    """
    return top_masks(magnitude_scores(params), sparsity, where=where, across=across)


def apply_masks(params: Params, masks: Tree) -> Params:
    """Sets the pruned weights to zero.

    Args:
        params: a tree of arrays.
        masks: booleans of the same structure and shapes, true where a weight is kept.

    Returns:
        A tree like ``params``, of the same dtypes.

    Raises:
        ValueError: if the masks are of another tree.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> print(
        ...     compress.apply_masks({"w": jnp.ones(2)}, {"w": jnp.array([1, 0]) > 0})
        ... )
        {'w': Array([1., 0.], dtype=float32)}
    """
    check_masks(params, masks)
    return jax.tree.map(lambda p, m: jnp.where(m, p, jnp.zeros_like(p)), params, masks)


def magnitude_prune(
    params: Params, sparsity: Sparsity, *, where: str = "kernel$", across: bool = False
) -> tuple[Params, Tree]:
    """Sets the weights of the smallest magnitude to zero.

    Args:
        params: a tree of arrays.
        sparsity: the fraction of weights to drop, in ``[0, 1)``.
        where: a regular expression for the paths of the leaves to prune.
        across: one threshold for all these leaves together; see
            :func:`magnitude_masks`.

    Returns:
        The pruned parameters, and the masks (true where a weight is kept).

    Raises:
        ValueError: if ``sparsity`` is outside ``[0, 1)``, or no path matches.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"kernel": jnp.array([1.0, -3.0, 0.5, 2.0])}
        >>> pruned, masks = compress.magnitude_prune(params, 0.5)
        >>> print(pruned["kernel"])
        [ 0. -3.  0.  2.]

    References:
        Han et al., `Learning both Weights and Connections for Efficient Neural
        Networks <https://arxiv.org/abs/1506.02626>`_, 2015, section 3.
    """
    masks = magnitude_masks(params, sparsity, where=where, across=across)
    return apply_masks(params, masks), masks


def straight_through_prune(
    params: Params,
    sparsity: Sparsity,
    *,
    where: str = "kernel$",
    across: bool = False,
) -> Params:
    """Prunes in the forward pass only; gradients reach all weights as if kept.

    The masks are drawn anew at each call, and dense weights go on training, so a weight
    can come back. Call it inside the loss.

    Args:
        params: a tree of arrays.
        sparsity: the fraction of weights to drop; see :func:`magnitude_masks`.
        where: a regular expression for the paths of the leaves to prune.
        across: one threshold for all these leaves together.

    Returns:
        The pruned parameters.

    Raises:
        ValueError: if ``sparsity`` is outside ``[0, 1)``, or no path matches.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import compress
        >>> loss = lambda p: jnp.sum(compress.straight_through_prune(p, 0.5)["kernel"])
        >>> print(jax.grad(loss)({"kernel": jnp.array([1.0, 2.0])})["kernel"])
        [1. 1.]

    References:
        Bengio et al., `Estimating or Propagating Gradients Through Stochastic Neurons
        for Conditional Computation <https://arxiv.org/abs/1308.3432>`_, 2013.
    """
    fixed = jax.lax.stop_gradient(params)
    masks = magnitude_masks(fixed, sparsity, where=where, across=across)
    # p - fixed is exactly 0, so that pruned weights are, too.
    through = lambda p, f, m: jnp.where(m, f, jnp.zeros_like(f)) + (p - f)
    return jax.tree.map(through, params, fixed, masks)


def check_masks(params: Params, masks: Tree) -> None:
    """Raises unless the masks are of this tree.

    Args:
        params: a tree of arrays.
        masks: a tree of booleans.

    Raises:
        ValueError: if the structures or shapes differ; the path is named.
    """
    have, want = trees.flatten(masks), trees.flatten(params)
    for path in [*want, *have]:
        if path not in have or path not in want:
            side = "masks" if path not in have else "parameters"
            raise ValueError(
                f"the {side} have no leaf {path!r}: masks of another tree?"
            )
        if jnp.shape(have[path]) != jnp.shape(want[path]):
            raise ValueError(
                f"the mask of {path!r} has shape {jnp.shape(have[path])}, but the "
                f"parameter has shape {jnp.shape(want[path])}."
            )


def pick(scores: Tree, where: str) -> dict[str, Array]:
    """The leaves to prune, by path."""
    marked = trees.flatten(trees.mask(scores, where))
    return {path: x for path, x in trees.flatten(scores).items() if marked[path]}


def spread(scores: Tree, masks: Mapping[str, Array]) -> Tree:
    """Masks by path as a tree, all true on the leaves which have none."""
    all_true = lambda x: jnp.ones(jnp.shape(x), bool)
    one = lambda path, x: masks[path] if path in masks else all_true(x)
    return trees.map_with_path(one, scores)


def sparsity_of(sparsity: Sparsity) -> Number:
    """Checks the one fraction of zeros."""
    if isinstance(sparsity, Mapping):
        raise ValueError("`sparsity` must be one number here, got one for each path.")
    if not isinstance(sparsity, core.Tracer):
        _checks.check_sparsity(sparsity)
    return sparsity


def sparsities(sparsity: Sparsity, chosen: Mapping[str, Array]) -> dict[str, Number]:
    """The fraction of zeros of each leaf to prune."""
    if not isinstance(sparsity, Mapping):
        return dict.fromkeys(chosen, sparsity_of(sparsity))
    for path in chosen:
        if path not in sparsity:
            raise ValueError(f"`sparsity` has no number for the leaf {path!r}.")
    for path in sparsity:
        if path not in chosen:
            raise ValueError(
                f"`sparsity` has a number for {path!r}, which is not among the leaves "
                f"to prune; {_names.nearest(path, chosen)}"
            )
    return {path: sparsity_of(sparsity[path]) for path in chosen}
