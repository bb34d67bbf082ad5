r"""Distances of two matrices of predictions, with their derivative.

Every distance :math:`V(q, p)` here is symmetric in its matrices of shape
``[batch, classes]``, so that one slope :math:`\partial V / \partial q` serves both
models. As in :mod:`jaxkd.losses._rows` the softmax's derivative is written out, and
what would be stored is computed again.
"""

from collections.abc import Callable

import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd._types import Logits, Scalar
from jaxkd.losses._common import safe_sqrt, scaled_tangent, softmax
from jaxkd.losses._pairs import again, sums_over

#: Added to the product of the norms in a correlation.
EPSILON = 1e-8
#: Computes the matrices q and p. Calls with different numbers compute them twice, calls
#: with the same once and store them.
Pair = Callable[..., tuple[Array, Array]]


def distance(
    value: Callable[[Pair, Array], Array],
    slope: Callable[[Pair, Array], Array],
) -> Callable[..., Scalar]:
    r"""A distance of predictions, as a function of logits.

    Args:
        value: :math:`V`, of what computes the two matrices, and a column of which rows
            count.
        slope: :math:`\partial V / \partial q` of the same.

    Returns:
        ``(student_logits, teacher_logits, scale, counts) -> value``, where ``scale`` is
        :math:`1 / \tau`, one number or a column. Rows that do not count are zeros.
    """

    @jax.custom_jvp
    def of_logits(s: Logits, t: Logits, scale: float | Array, counts: Array) -> Array:
        return value(_pair(s, t, scale, counts), counts)

    def jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
        s, t, scale, counts = primals
        ds, dt, dscale, _ = tangents
        tangent = jnp.zeros((), s.dtype)
        for x, other, dx in ((s, t, ds), (t, s, dt)):
            log_q = jnp.where(counts, softmax(x, scale)[1], 0.0)
            dz = scaled_tangent(log_q / scale, scale, dx, dscale)
            if isinstance(dz, float):
                continue
            both = _pair(x, other, scale, counts)
            u = slope(both, counts)
            centre = jnp.sum(both(3)[0] * u, axis=-1, keepdims=True)
            tangent += jnp.sum(both(3)[0] * (u - centre) * dz)
        return of_logits(*primals), tangent

    of_logits.defjvp(jvp, symbolic_zeros=True)
    return of_logits


def _pair(s: Logits, t: Logits, scale: float | Array, counts: Array) -> Pair:
    def both(time: int = 0) -> tuple[Array, Array]:
        inputs = s, t
        for _ in range(time):
            inputs = again(*inputs)
        q, p = (jnp.where(counts, softmax(x, scale)[0], 0.0) for x in inputs)
        return q, p

    return both


def _gap_and_sum(both: Pair) -> tuple[Array, Array]:
    q, p = both()
    d = q - p
    q, p = both(1)
    return d, q + p


def _gram_gap(both: Pair) -> Array:
    r""":math:`\|q q^\top - p p^\top\|^2` by Grams of the smaller side.

    With :math:`d = q - p` and :math:`m = q + p`, what is squared is the symmetric part
    of :math:`d m^\top`, which is exact where the two are alike.
    """
    d, m = _gap_and_sum(both)
    if d.shape[0] <= d.shape[1]:
        product = d @ m.T
        return jnp.sum(product**2 + product * product.T) / 2
    product = d.T @ m
    return jnp.sum((d.T @ d) * (m.T @ m) + product * product.T) / 2


def _gram_slope(both: Pair) -> Array:
    r""":math:`4 (q q^\top - p p^\top) q`, the same way."""
    d, m = _gap_and_sum(both)
    if d.shape[0] <= d.shape[1]:
        product = d @ m.T
        return 2 * (product + product.T) @ both(2)[0]
    product = d.T @ m
    return d @ (product.T + m.T @ m) + m @ (product + d.T @ d)


def _transposed(both: Pair) -> Pair:
    def of_classes(time: int = 0) -> tuple[Array, Array]:
        q, p = both(time)
        return q.T, p.T

    return of_classes


batch_gap = distance(lambda both, _: _gram_gap(both), lambda both, _: _gram_slope(both))

class_gap = distance(
    lambda both, _: _gram_gap(_transposed(both)),
    lambda both, _: _gram_slope(_transposed(both)).T,
)


def _uncorrelated(both: Pair, counts: Array) -> Array:
    _, _, product, q_norm, p_norm = _moments(*both(), counts)
    return 1 - jnp.mean(product / (q_norm * p_norm + EPSILON))


def _uncorrelated_slope(both: Pair, counts: Array) -> Array:
    q, p = both()
    q_mean, p_mean, product, q_norm, p_norm = _moments(q, p, counts)
    norms = q_norm * p_norm + EPSILON
    shrink = product * p_norm / (norms * jnp.where(q_norm > 0, q_norm, jnp.inf))
    return (shrink * q - p + (p_mean - shrink * q_mean)) / (norms * q.shape[1])


def _moments(q: Array, p: Array, counts: Array) -> tuple[Array, ...]:
    """Of the columns the means, the product of what is centred, and its norms."""
    counts = counts.astype(q.dtype)
    number = jnp.maximum(jnp.sum(counts), 1.0)
    q_mean, p_mean = (jnp.sum(x, axis=0, keepdims=True) / number for x in (q, p))
    a, b = (q - q_mean) * counts, (p - p_mean) * counts
    product, a_square, b_square = (x[None] for x in sums_over(0, a * b, a * a, b * b))
    return q_mean, p_mean, product, safe_sqrt(a_square), safe_sqrt(b_square)


class_decorrelation = distance(_uncorrelated, _uncorrelated_slope)
