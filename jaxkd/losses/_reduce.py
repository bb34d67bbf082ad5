"""Means that add up: over devices, micro-batches, hosts and ragged batches."""

import dataclasses

import jax
from jax import numpy as jnp

from jaxkd import _checks
from jaxkd._types import PerExample, Scalar, Where


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean as its two sums, so that means of parts add to the mean of the whole.

    A mean of local means is wrong when the parts count differently; the sums are
    right always. ``a + b`` joins two parts, and :func:`jax.lax.psum` of a ``Mean``
    joins the devices.

    Attributes:
        total: the sum of the values that count.
        count: how many count.

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
    where = where.astype(bool)
    total = jnp.sum(jnp.where(where, values, 0.0))
    return Mean(total, jnp.sum(where, dtype=total.dtype))
