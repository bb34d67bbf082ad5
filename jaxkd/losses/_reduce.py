"""Means that add up: over devices, micro-batches, hosts and ragged batches."""

import dataclasses

import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import PerExample, Scalar, Where
from jaxkd.losses._common import at_least_float32


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean as its two sums, so that means of parts add to the mean of the whole.

    A mean of local means is wrong when the parts count differently; the sums are
    right always. ``a + b`` joins two parts, and :func:`jax.lax.psum` of a ``Mean``
    joins the devices.

    Attributes:
        total: the sum of the values that count, in at least float32: bfloat16 counts
            no further than 256.
        count: how many count, in the same dtype.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> part = losses.masked_mean(jnp.array([1.0, 2.0]))
        >>> rest = losses.masked_mean(jnp.array([6.0, 9.0]), jnp.array([True, False]))
        >>> print((part + rest).value)
        3.0
    """

    total: Scalar
    count: Scalar

    @property
    def value(self) -> Scalar:
        """The mean; 0, with a gradient of 0, if nothing counts."""
        some = self.count > 0
        return jnp.where(some, self.total / jnp.where(some, self.count, 1.0), 0.0)

    def __add__(self, other: "Mean") -> "Mean":
        return Mean(self.total + other.total, self.count + other.count)


def masked_mean(values: PerExample, where: Where | None = None) -> Mean:
    """The mean of the values that count, as a pair of sums.

    Args:
        values: one value per example or position, shape ``[*batch]``.
        where: which of them count, same shape; all if ``None``. What does not count
            may be NaN: it changes neither the mean nor its gradient.

    Returns:
        A :class:`Mean`.

    Raises:
        ValueError: if the shapes differ.
        TypeError: if the values are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> values, where = jnp.array([1.0, 3.0, jnp.nan]), jnp.array([1, 1, 0]) > 0
        >>> print(losses.masked_mean(values, where).value)
        2.0
    """
    _checks.check_floating(values=values)
    if where is None:
        where = jnp.ones(values.shape, bool)
    _checks.check_same_shape(values=values, where=where)
    where, values = where.astype(bool), at_least_float32(values)
    total = jnp.sum(jnp.where(where, values, 0.0))
    return Mean(total, jnp.sum(where, dtype=total.dtype))


def sequence_mean(values: PerExample, where: Where | None = None) -> Mean:
    """The mean over sequences of each sequence's mean over the positions that count.

    Every sequence counts the same, however long: *not* the mean over all tokens, which
    is :func:`masked_mean`. A sequence of which nothing counts is not counted.

    Args:
        values: one value per position, shape ``[*batch, length]``.
        where: which of them count, same shape; all if ``None``. What does not count
            may be NaN.

    Returns:
        A :class:`Mean` over sequences.

    Raises:
        ValueError: if the shapes differ, or there is no axis of positions.
        TypeError: if the values are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> values = jnp.array([[1.0, 1.0, 1.0], [3.0, 0.0, 0.0]])
        >>> where = jnp.array([[True, True, True], [True, False, False]])
        >>> print(losses.sequence_mean(values, where).value)
        2.0
        >>> print(losses.masked_mean(values, where).value)
        1.5
    """
    _checks.check_floating(values=values)
    if values.ndim == 0:
        raise ValueError("`values` needs a last axis of positions, got a scalar.")
    if where is None:
        where = jnp.ones(values.shape, bool)
    _checks.check_same_shape(values=values, where=where)
    where, values = where.astype(bool), at_least_float32(values)
    totals = jnp.sum(jnp.where(where, values, 0.0), axis=-1)
    counts = jnp.sum(where, axis=-1, dtype=totals.dtype)
    return masked_mean(totals / jnp.maximum(counts, 1.0), counts > 0)


def weighted_mean(values: PerExample, weights: Array) -> Mean:
    r"""The mean under non-negative weights, as a pair of sums.

    .. math::
        \frac{\sum_i w_i v_i}{\sum_i w_i}

    Args:
        values: one value per example or position, shape ``[*batch]``.
        weights: floating point, non-negative, same shape. What has weight 0 may be NaN.

    Returns:
        A :class:`Mean`; 0 if all weights are.

    Raises:
        ValueError: if the shapes differ.
        TypeError: if either is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> values, weights = jnp.array([1.0, 5.0]), jnp.array([3.0, 1.0])
        >>> print(losses.weighted_mean(values, weights).value)
        2.0
    """
    _checks.check_floating(values=values, weights=weights)
    _checks.check_same_shape(values=values, weights=weights)
    values = at_least_float32(values)
    weights = weights.astype(values.dtype)
    terms = weights * jnp.where(weights > 0, values, 0.0)
    return Mean(jnp.sum(terms), jnp.sum(weights))
