"""Reductions of student and teacher at once, and softmaxes without one class.

On CPU, XLA stores what a reduction of one array reads through a ``where``. A reduction
of a pair it computes in one pass over the inputs.
"""

from typing import Any

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxkd._types import Labels, Logits, PerExample
from jaxkd.losses._common import is_label, scaled_tangent

#: Probabilities and log-probabilities, `(q, p, log_q, log_p)`, and a weight.
Rows = tuple[Array, Array, Array, Array, Any]


@jax.custom_jvp
def sums(*arrays: Array) -> tuple[Array, ...]:
    """The sums of several arrays over the last axis, in one pass.

    One reduction of a pair needs neither array in memory; two reductions that share
    an exponential would have XLA store it.

    Args:
        *arrays: shape ``[*batch, classes]`` each.

    Returns:
        As many arrays of shape ``[*batch]``.
    """
    return sums_over(arrays[0].ndim - 1, *arrays)


@sums.defjvp
def _sums_jvp(
    primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    return sums(*primals), tuple(x.sum(axis=-1) for x in tangents)


def sums_over(axis: int, *arrays: Array) -> tuple[Array, ...]:
    """As :func:`sums`, over any axis, and without a derivative.

    Args:
        axis: not negative.
        *arrays: of the same shape.

    Returns:
        As many arrays, without the axis.
    """
    zeros = tuple(jnp.zeros((), x.dtype) for x in arrays)
    add = lambda a, b: tuple(x + y for x, y in zip(a, b, strict=True))
    return tuple(lax.reduce(arrays, zeros, add, dimensions=(axis,)))


def sum_of_signs(x: Array) -> PerExample:
    """The sum over the last axis, as the sums of what is positive and what is not.

    For terms with a ``where`` in them, which XLA would store for a single sum.

    Args:
        x: shape ``[*batch, classes]``.

    Returns:
        Shape ``[*batch]``.
    """
    above, below = sums(jnp.maximum(x, 0.0), jnp.minimum(x, 0.0))
    return above + below


def again(*arrays: Array) -> tuple[Array, ...]:
    """The same arrays, so that what is computed of them is computed again.

    Else XLA would store what two passes over the classes share, such as softmaxes.

    Args:
        *arrays: of any shape.

    Returns:
        The arrays.
    """
    return lax.optimization_barrier(arrays)


@jax.custom_jvp
def two_maxima(first: Array, second: Array) -> tuple[Array, Array]:
    """The maxima of two arrays over the last axis, in one pass, without a gradient.

    Args:
        first: shape ``[*batch, classes]``.
        second: same shape.

    Returns:
        Two arrays of shape ``[*batch]``.
    """
    least = (jnp.full((), -jnp.inf, x.dtype) for x in (first, second))
    return lax.reduce(
        (first, second), tuple(least), _larger_pairs, dimensions=(first.ndim - 1,)
    )


def _larger_pairs(
    a: tuple[Array, Array], b: tuple[Array, Array]
) -> tuple[Array, Array]:
    return jnp.maximum(a[0], b[0]), jnp.maximum(a[1], b[1])


@two_maxima.defjvp
def _two_maxima_jvp(
    primals: tuple[Array, Array], _: tuple[Array, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    value = two_maxima(*primals)
    return value, (jnp.zeros_like(value[0]), jnp.zeros_like(value[1]))


def without(
    s: Logits, t: Logits, scale: float | Array, hidden: tuple[Labels, Labels]
) -> Rows:
    """As :func:`softmax` of both, each without one class.

    Args:
        s: shape ``[*batch, classes]``.
        t: same shape.
        scale: one over the temperature.
        hidden: the class that is missing from ``s`` and that from ``t``, ``[*batch]``.

    Returns:
        Probabilities and log-probabilities of both, and ``hidden``.
    """
    shifts, totals = _shifts_and_sums(s, t, scale, hidden)
    logs = [jnp.log(jnp.where(x == 0.0, 1.0, x)) for x in totals]
    log_q, log_p = (
        jnp.where(is_label(label, x), -jnp.inf, (x - shift - log / scale) * scale)
        for x, shift, log, label in zip((s, t), shifts, logs, hidden, strict=True)
    )
    return jnp.exp(log_q), jnp.exp(log_p), log_q, log_p, hidden


@jax.custom_jvp
def log_sums_without(
    s: Logits, t: Logits, scale: float | Array, hidden: tuple[Labels, Labels]
) -> tuple[PerExample, PerExample]:
    """As :func:`log_sum_exp` of both, each without one class.

    Args:
        s: shape ``[*batch, classes]``.
        t: same shape.
        scale: one over the temperature.
        hidden: as in :func:`without`.

    Returns:
        Two arrays of shape ``[*batch]``; minus infinity where no class is left.
    """
    shifts, totals = _shifts_and_sums(s, t, scale, hidden)
    first, second = (
        (shift * scale + jnp.log(total))[..., 0]
        for shift, total in zip(shifts, totals, strict=True)
    )
    return first, second


def _log_sums_without_jvp(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    q, p, *_ = without(*primals)
    s, t, scale, _ = primals
    ds, dt, dscale, _ = tangents
    first = jnp.sum(q * scaled_tangent(s, scale, ds, dscale), axis=-1)
    second = jnp.sum(p * scaled_tangent(t, scale, dt, dscale), axis=-1)
    return log_sums_without(*primals), (first, second)


log_sums_without.defjvp(_log_sums_without_jvp, symbolic_zeros=True)


def _shifts_and_sums(
    s: Logits, t: Logits, scale: float | Array, hidden: tuple[Labels, Labels]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """What to subtract from both, and the sums of the exponentials of what is left.

    The class is hidden twice, from the maximum and from the sum: hidden once for both,
    it would be stored.
    """
    no_s, no_t = is_label(hidden[0], s), is_label(hidden[1], t)
    largest = two_maxima(jnp.where(no_s, -jnp.inf, s), jnp.where(no_t, -jnp.inf, t))
    first, second = (jnp.where(jnp.isneginf(x), 0.0, x)[..., None] for x in largest)
    totals = sums(
        jnp.where(no_s, 0.0, jnp.exp((s - first) * scale)),
        jnp.where(no_t, 0.0, jnp.exp((t - second) * scale)),
    )
    return (first, second), (totals[0][..., None], totals[1][..., None])
