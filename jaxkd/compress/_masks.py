"""Which weights are pruned: masks are trees of booleans, true where a weight is kept.

The threshold between kept and pruned weights is found by bisection on the bits of the
scores. Non-negative floats are ordered as their bits are, so 31 counting passes find
the exact k-th largest score: no sort, and on sharded arrays only scalars travel.
"""

from collections.abc import Sequence

import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxkd import _checks, trees
from jaxkd._types import Params, Tree


def magnitude_masks(
    params: Params,
    sparsity: float | Array,
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
        sparsity: the fraction of weights to drop, in ``[0, 1)``; a traced scalar too.
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
    if not isinstance(sparsity, jax.Array):
        _checks.check_sparsity(sparsity)
    chosen = trees.mask(params, where)
    leaves, treedef = jax.tree.flatten(params)
    picked = [i for i, m in enumerate(jax.tree.leaves(chosen)) if m]
    scores = [jnp.abs(leaves[i]).astype(jnp.float32) for i in picked]
    groups = [scores] if across else [[score] for score in scores]
    kept = [mask for group in groups for mask in _keep_largest(group, sparsity)]
    masks = [jnp.ones(jnp.shape(leaf), bool) for leaf in leaves]
    for i, mask in zip(picked, kept, strict=True):
        masks[i] = mask
    return jax.tree.unflatten(treedef, masks)


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
    params: Params, sparsity: float, *, where: str = "kernel$", across: bool = False
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


def _keep_largest(
    scores: Sequence[Float[Array, "..."]], sparsity: float | Array
) -> list[Bool[Array, "..."]]:
    """Keeps the largest of all scores together; of ties, the earlier ones."""
    n = sum(score.size for score in scores)
    if isinstance(sparsity, jax.Array):
        drop = jnp.round(sparsity * n).astype(jnp.int32)
    else:
        drop = jnp.int32(round(sparsity * n))
    keep = jnp.maximum(n - drop, 1)
    threshold = _kth_largest(scores, keep)
    masks, ties_left = [], keep - _count(scores, threshold + 1)
    for score in scores:
        bits = _order(score)
        tied = (bits == threshold).reshape(-1)
        rank = jnp.cumsum(tied) - 1
        wins = (tied & (rank < ties_left)).reshape(score.shape)
        masks.append((bits > threshold) | wins)
        ties_left = ties_left - jnp.sum(tied)
    return masks


def _order(score: Float[Array, "..."]) -> Int[Array, "..."]:
    """Non-negative floats as integers of the same order."""
    return jax.lax.bitcast_convert_type(score, jnp.int32)


def _count(scores: Sequence[Array], threshold: Int[Array, ""]) -> Int[Array, ""]:
    return sum(
        (jnp.sum(_order(s) >= threshold, dtype=jnp.int32) for s in scores),
        start=jnp.zeros((), jnp.int32),
    )


def _kth_largest(scores: Sequence[Array], k: Int[Array, ""]) -> Int[Array, ""]:
    """The largest threshold with ``k`` scores at or above it, one bit at a time."""

    def set_bit(i: Int[Array, ""], found: Int[Array, ""]) -> Int[Array, ""]:
        candidate = found | (jnp.int32(1) << (30 - i))
        return jnp.where(_count(scores, candidate) >= k, candidate, found)

    return jax.lax.fori_loop(0, 31, set_bit, jnp.zeros((), jnp.int32))
