"""Masks with a pattern: N of M, blocks, channels, and so many in each output."""

import math
from typing import Any

import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd._types import Tree, Whole
from jaxkd.compress._masks import Sparsity, pick, sparsities, spread
from jaxkd.compress._selection import keep_largest, number_kept


def n_of_m_masks(
    scores: Tree,
    *,
    n: Whole = 2,
    m: Whole = 4,
    axis: Whole = -2,
    where: str = "kernel$",
) -> Tree:
    """Keeps the ``n`` highest of every ``m`` scores that follow each other on an axis.

    The axis is the one that a product sums over, as hardware for 2:4 sparsity wants:
    -2 for the kernels of Flax, -1 for weights stored as ``[out, in]``.

    Args:
        scores: a tree of scores with the shapes of the weights.
        n: how many stay.
        m: of how many.
        axis: the axis on which they follow each other.
        where: a regular expression for the paths of the leaves to prune.

    Returns:
        A tree of booleans, true where a weight is kept; of ties the earlier is kept.

    Raises:
        ValueError: if not ``0 < n <= m``, no path matches, or ``m`` does not divide the
            axis of a leaf.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> scores = {"kernel": jnp.array([[3.0], [1.0], [2.0], [0.0]])}
        >>> print(compress.n_of_m_masks(scores)["kernel"].ravel())
        [ True False  True False]

    References:
        Mishra et al., `Accelerating Sparse Deep Neural Networks
        <https://arxiv.org/abs/2104.08378>`_, 2021, section 3.
    """
    if not 0 < n <= m:
        raise ValueError(f"`n` of `m` must stay, 0 < n <= m, got n={n} and m={m}.")

    def one(path: str, score: Array) -> Array:
        if not -score.ndim <= axis < score.ndim:
            raise ValueError(
                f"{path!r} has shape {score.shape} and no axis {axis} to hold runs of "
                f"`m`={m} weights."
            )
        moved = jnp.moveaxis(score, int(axis), -1)
        if moved.shape[-1] % m:
            raise ValueError(
                f"{path!r} has {moved.shape[-1]} weights on axis {axis}, which `m`={m} "
                "does not divide."
            )
        runs = moved.reshape(-1, m)
        order = jnp.argsort(-runs, axis=1, stable=True)
        kept = jnp.argsort(order, axis=1) < n
        return jnp.moveaxis(kept.reshape(moved.shape), -1, int(axis))

    return spread(
        scores, {path: one(path, x) for path, x in pick(scores, where).items()}
    )


def block_masks(
    scores: Tree,
    sparsity: Sparsity,
    *,
    shape: tuple[Whole, Whole] = (4, 4),
    where: str = "kernel$",
) -> Tree:
    """Keeps or drops whole blocks of the last two axes, by the mean of their scores.

    Blocks at the ends may be smaller; their mean is over what they hold.

    Args:
        scores: a tree of scores with the shapes of the weights.
        sparsity: the fraction of blocks to drop, in ``[0, 1)``; see :func:`top_masks`.
        shape: the block on the last two axes; each position of the other axes, such as
            of a convolution's window, has blocks of its own.
        where: a regular expression for the paths of the leaves to prune.

    Returns:
        A tree of booleans, true where a weight is kept.

    Raises:
        ValueError: if ``sparsity`` is outside ``[0, 1)``, no path matches, a block is
            empty, or a leaf has fewer than two axes.
    """
    if min(shape) < 1:
        raise ValueError(f"`shape` of a block must be positive, got {shape}.")
    chosen = pick(scores, where)
    asked = sparsities(sparsity, chosen)

    def one(path: str, score: Array) -> Array:
        if score.ndim < 2:
            raise ValueError(f"{path!r} has shape {score.shape}; blocks need two axes.")
        means = _pooled(score, shape) / _pooled(jnp.ones_like(score), shape)
        keep = number_kept(means.size, asked[path])
        (kept,) = keep_largest([means], keep)
        wide = jnp.repeat(jnp.repeat(kept, shape[0], axis=-2), shape[1], axis=-1)
        return wide[..., : score.shape[-2], : score.shape[-1]]

    return spread(scores, {path: one(path, x) for path, x in chosen.items()})


def channel_masks(
    scores: Tree, sparsity: Sparsity, *, axis: Whole = -1, where: str = "kernel$"
) -> Tree:
    """Keeps or drops whole slices of an axis, by the sum of their scores.

    The arrays keep their shapes; :func:`shrink` makes them smaller.

    Args:
        scores: a tree of scores with the shapes of the weights.
        sparsity: the fraction of slices to drop, in ``[0, 1)``; see :func:`top_masks`.
        axis: -1 for the outputs of every Flax kernel.
        where: a regular expression for the paths of the leaves to prune.

    Returns:
        A tree of booleans, true where a weight is kept.

    Raises:
        ValueError: if ``sparsity`` is outside ``[0, 1)``, or no path matches.

    References:
        Li et al., `Pruning Filters for Efficient ConvNets
        <https://arxiv.org/abs/1608.08710>`_, 2017, section 3.
    """
    chosen = pick(scores, where)
    asked = sparsities(sparsity, chosen)

    def one(path: str, score: Array) -> Array:
        others = tuple(i for i in range(score.ndim) if i != axis % score.ndim)
        sums = jnp.sum(score, axis=others, keepdims=True)
        (kept,) = keep_largest([sums], number_kept(sums.size, asked[path]))
        return jnp.broadcast_to(kept, score.shape)

    return spread(scores, {path: one(path, x) for path, x in chosen.items()})


def output_masks(scores: Tree, sparsity: Sparsity, *, where: str = "kernel$") -> Tree:
    """Keeps the highest scores of each output, all outputs equally many.

    Args:
        scores: a tree of scores with the shapes of the weights; the last axis is the
            output.
        sparsity: the fraction to drop in each, in ``[0, 1)``; see :func:`top_masks`.
        where: a regular expression for the paths of the leaves to prune.

    Returns:
        A tree of booleans, true where a weight is kept.

    Raises:
        ValueError: if ``sparsity`` is outside ``[0, 1)``, or no path matches.
    """
    chosen = pick(scores, where)
    asked = sparsities(sparsity, chosen)

    def one(path: str, score: Array) -> Array:
        rows = score.reshape(-1, score.shape[-1]).T
        keep = number_kept(rows.shape[1], asked[path])
        kept = jax.vmap(lambda row: keep_largest([row], keep)[0])(rows)
        return kept.T.reshape(score.shape)

    return spread(scores, {path: one(path, x) for path, x in chosen.items()})


def _pooled(score: Array, shape: tuple[Whole, Whole]) -> Any:
    """Sums over blocks of the last two axes."""
    rows, columns = (
        math.ceil(n / b) for n, b in zip(score.shape[-2:], shape, strict=True)
    )
    missing = (rows * shape[0] - score.shape[-2], columns * shape[1] - score.shape[-1])
    widths = [(0, 0)] * (score.ndim - 2) + [(0, n) for n in missing]
    padded = jnp.pad(score, widths)
    blocks = padded.reshape(*score.shape[:-2], rows, shape[0], columns, shape[1])
    return jnp.sum(blocks, axis=(-3, -1))
