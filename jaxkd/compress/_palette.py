"""Weights that share a few values: a palette, and the index of each weight in it."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
from jax import numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from jaxkd import _checks, trees
from jaxkd._types import Params, Tree, Whole
from jaxkd.compress._records import Palette, check_uncompressed

Start: TypeAlias = Callable[[Float[Array, " n"], int], Float[Array, " k"]]


def linear_start(weights: Float[Array, " n"], k: int) -> Float[Array, " k"]:
    """Centroids at even distances from the smallest to the largest weight.

    Args:
        weights: the weights.
        k: how many centroids.

    Returns:
        The centroids, ascending.

    References:
        Han et al., `Deep Compression <https://arxiv.org/abs/1510.00149>`_, 2016,
        section 3.2.
    """
    return jnp.linspace(jnp.min(weights), jnp.max(weights), k)


def density_start(weights: Float[Array, " n"], k: int) -> Float[Array, " k"]:
    """Centroids at even steps of the distribution, as many weights around each.

    Args:
        weights: the weights.
        k: how many centroids.

    Returns:
        The centroids, ascending.

    References:
        Han et al., `Deep Compression <https://arxiv.org/abs/1510.00149>`_, 2016,
        section 3.2.
    """
    return jnp.quantile(weights, (jnp.arange(k, dtype=weights.dtype) + 0.5) / k)


def cluster(
    params: Params,
    *,
    bits: Whole = 4,
    where: str = "kernel$",
    steps: Whole = 50,
    start: Start = linear_start,
    keep_zeros: bool = True,
) -> Tree:
    r"""Replaces weights by the nearest of ``2**bits`` centroids: k-means of numbers.

    .. math::
        \min_{c} \sum_i (x_i - c_{v_i})^2, \quad v_i = \arg\min_j |x_i - c_j|

    Each step assigns the weights and moves each centroid to the mean of its own; an
    empty one stays. With the linear start and one step this is histogram quantization:
    the mean of the weights in each of the bins of equal width.

    Args:
        params: a tree of arrays.
        bits: of an index, 1 to 8; every leaf has a palette of ``2**bits`` values.
        where: a regular expression for the paths of the leaves to cluster.
        steps: how many times the centroids are moved.
        start: where they are at first: :func:`linear_start`, :func:`density_start` or
            another function ``(weights, k) -> centroids``.
        keep_zeros: keep a value for exact zeros, and only for them, so that pruned
            weights stay pruned. Without a zero in the leaf no value is kept.

    Returns:
        The tree with a :class:`Palette` in place of each of these leaves.

    Raises:
        ValueError: if no path matches, or a leaf is empty, not finite or compressed.
        TypeError: if a leaf is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"kernel": jnp.array([0.0, 1.0, 1.2, -2.0, 0.0, -2.2, 1.1])}
        >>> small = compress.cluster(params, bits=2)["kernel"]
        >>> print(small.indices, small.array().round(2))
        [0 3 3 1 0 1 3] [ 0.   1.1  1.1 -2.1  0.  -2.1  1.1]

    References:
        Han et al., `Deep Compression <https://arxiv.org/abs/1510.00149>`_, 2016,
        section 3.
    """
    if not 1 <= bits <= 8:
        raise ValueError(f"`bits` must be from 1 to 8, got {bits}.")
    _checks.check_positive(steps=steps)
    check_uncompressed(params)
    chosen = trees.mask(params, where)

    def one(path: Any, x: Array, pick: bool) -> Array | Palette:
        if not pick:
            return x
        _check(x, trees.path_string(path))
        return _cluster_array(x, 2**bits, steps, start, keep_zeros)

    return jax.tree.map_with_path(one, params, chosen)


def _check(x: Array, path: str) -> None:
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{path!r} must be floating point to cluster, got {x.dtype}.")
    if x.size == 0:
        raise ValueError(f"{path!r} is empty, so it cannot be clustered.")
    if not isinstance(x, Tracer) and not bool(jnp.isfinite(x).all()):
        raise ValueError(f"{path!r} is not finite, so it cannot be clustered.")


def _cluster_array(
    x: Array, k: int, steps: Whole, start: Start, keep_zeros: bool
) -> Palette:
    flat = x.reshape(-1).astype(jnp.float32)
    zeros = flat == 0
    # Whether a value is kept for zeros decides the shape, so it must be known.
    keeps = keep_zeros and not isinstance(x, Tracer) and bool(zeros.any())
    keeps = keeps or (keep_zeros and isinstance(x, Tracer))
    weight = jnp.where(zeros & keeps, 0.0, 1.0)
    inside = jnp.where(zeros & keeps, _typical(flat, zeros), flat)
    centroids = _lloyd(inside, weight, start(inside, k - keeps), steps)
    indices = _nearest(inside, centroids)
    if keeps:
        centroids = jnp.concatenate([jnp.zeros(1), centroids])
        indices = jnp.where(zeros, 0, indices + 1)
    indices = indices.reshape(x.shape).astype(jnp.uint8)
    return Palette(indices, centroids.astype(x.dtype), keeps)


def _typical(flat: Float[Array, " n"], zeros: Array) -> Float[Array, ""]:
    """A weight which is not zero, to stand where zeros must not count."""
    return flat[jnp.argmax(~zeros)]


def _nearest(
    weights: Float[Array, " n"], centroids: Float[Array, " k"]
) -> Int[Array, " n"]:
    return jnp.searchsorted((centroids[1:] + centroids[:-1]) / 2, weights)


def _lloyd(
    weights: Float[Array, " n"],
    counts: Float[Array, " n"],
    centroids: Float[Array, " k"],
    steps: Whole,
) -> Float[Array, " k"]:
    def move(_: Int[Array, ""], centroids: Float[Array, " k"]) -> Float[Array, " k"]:
        own = _nearest(weights, centroids)
        empty = jnp.zeros_like(centroids)
        number = empty.at[own].add(counts)
        total = empty.at[own].add(weights * counts)
        mean = total / jnp.maximum(number, 1)
        # The means of ordered groups are ordered, so the next search may rely on it.
        return jnp.sort(jnp.where(number > 0, mean, centroids))

    return jax.lax.fori_loop(0, steps, move, centroids)
