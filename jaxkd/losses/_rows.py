r"""Divergences of two softmax distributions, row by row, with their derivative.

Every divergence here is a sum over the classes, :math:`D = \sum_c d(q_c, p_c)`, of
:math:`q = \mathrm{softmax}(s/\tau)` and :math:`p = \mathrm{softmax}(t/\tau)`. With
:math:`u_c = q_c \, \partial D / \partial q_c` its gradient is

.. math::
    \frac{\partial D}{\partial s_c} = \frac{1}{\tau}
        \Big(u_c - q_c \sum_j u_j\Big),

and likewise for the teacher. Written out once, it saves what automatic differentiation
of the softmax would store: no more than two arrays of the size of the logits are ever
in memory at once, and none is kept for the backward pass.
"""

from collections.abc import Callable

import jax
from jax import lax, numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array

from jaxkd._types import Logits, PerExample
from jaxkd.losses._common import softmax, tiny

#: A term per class, from `(q, p, log_q, log_p, weight)`.
Term = Callable[[Array, Array, Array, Array, Array], Array]


@jax.custom_jvp
def two_sums(first: Array, second: Array) -> tuple[Array, Array]:
    """The sums of two arrays over the last axis, in one pass.

    One reduction of a pair needs neither array in memory; two reductions that share
    an exponential would have XLA store it.

    Args:
        first: shape ``[*batch, classes]``.
        second: same shape and dtype.

    Returns:
        Two arrays of shape ``[*batch]``.
    """
    zero = jnp.zeros((), first.dtype)
    total = lax.reduce(
        (first, second), (zero, zero), _add_pairs, dimensions=(first.ndim - 1,)
    )
    return total[0], total[1]


def _add_pairs(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    return a[0] + b[0], a[1] + b[1]


@two_sums.defjvp
def _two_sums_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    return two_sums(*primals), (tangents[0].sum(axis=-1), tangents[1].sum(axis=-1))


def divergence(
    value: Term, student_slope: Term, teacher_slope: Term
) -> Callable[..., PerExample]:
    r"""A divergence from its terms.

    Args:
        value: :math:`d(q, p)`.
        student_slope: :math:`u = q \, \partial d / \partial q`.
        teacher_slope: :math:`p \, \partial d / \partial p`.

    Returns:
        ``(student_logits, teacher_logits, scale, weight) -> values``, where ``scale``
        is :math:`1 / \tau`, ``weight`` goes to the terms and has no gradient, and the
        values have shape ``[*batch]``.
    """

    @jax.custom_jvp
    def rows(s: Logits, t: Logits, scale: Array, weight: Array) -> PerExample:
        (q, log_q), (p, log_p) = softmax(s, scale), softmax(t, scale)
        terms = value(q, p, log_q, log_p, weight)
        return two_sums(terms, terms)[0]

    def jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
        s, t, scale, weight = primals
        ds, dt, dscale, _ = tangents
        (q, log_q), (p, log_p) = softmax(s, scale), softmax(t, scale)
        loss, tangent = rows(*primals), jnp.zeros(s.shape[:-1], s.dtype)
        for slope, probability, log_probability, dx in (
            (student_slope, q, log_q, ds),
            (teacher_slope, p, log_p, dt),
        ):
            dz = _scaled_tangent(log_probability, scale, dx, dscale)
            if dz is None:
                continue
            u = slope(q, p, log_q, log_p, weight)
            loss, centre = two_sums(value(q, p, log_q, log_p, weight), u)
            tangent += jnp.sum((u - probability * centre[..., None]) * dz, axis=-1)
        return loss, tangent

    rows.defjvp(jvp, symbolic_zeros=True)
    return rows


def _scaled_tangent(
    log_probability: Array,
    scale: Array,
    dx: Array | SymbolicZero,
    dscale: Array | SymbolicZero,
) -> Array | None:
    """The tangent of the scaled logits, up to a shift; ``None`` if it is zero.

    Shifts do not matter, and log-probabilities cancel less than logits.
    """
    tangent = None if isinstance(dx, SymbolicZero) else dx * scale
    if isinstance(dscale, SymbolicZero):
        return tangent
    finite = jnp.where(jnp.isneginf(log_probability), 0.0, log_probability)
    by_scale = finite / scale * dscale
    return by_scale if tangent is None else tangent + by_scale


def kl_term(a: Array, log_a: Array, log_b: Array) -> Array:
    r"""The term :math:`a (\log a - \log b)`, 0 where :math:`a = 0`, whatever `b` is.

    The simple ``where`` is safe as long as nobody differentiates through it, and the
    derivatives of the divergences are written out.

    Args:
        a: probabilities.
        log_a: their logarithms.
        log_b: log-probabilities of the same shape.

    Returns:
        An array of the same shape.
    """
    return jnp.where(a > 0, a * (log_a - log_b), 0.0)


def entropy_term(a: Array, mixture: Array) -> Array:
    r"""The term :math:`a \log (a / m)` for a mixture :math:`m` which contains `a`.

    As :math:`m` is never much smaller than :math:`a`, the ratio needs no logarithms of
    small probabilities: the least normal number on both sides makes 0/0 one.

    Args:
        a: probabilities.
        mixture: probabilities of the same shape, zero only where `a` is.

    Returns:
        An array of the same shape.
    """
    return a * jnp.log((a + tiny(a)) / (mixture + tiny(a)))


forward_kl_rows = divergence(
    lambda q, p, log_q, log_p, _: kl_term(p, log_p, log_q),
    lambda q, p, log_q, log_p, _: -p,
    lambda q, p, log_q, log_p, _: kl_term(p, log_p, log_q),
)

cross_entropy_rows = divergence(
    lambda q, p, log_q, log_p, _: jnp.where(p > 0, -p * log_q, 0.0),
    lambda q, p, log_q, log_p, _: -p,
    lambda q, p, log_q, log_p, _: jnp.where(p > 0, -p * log_q, 0.0),
)

symmetric_kl_rows = divergence(
    lambda q, p, log_q, log_p, w: (
        (1 - w) * kl_term(p, log_p, log_q) + w * kl_term(q, log_q, log_p)
    ),
    lambda q, p, log_q, log_p, w: w * kl_term(q, log_q, log_p) - (1 - w) * p,
    lambda q, p, log_q, log_p, w: (1 - w) * kl_term(p, log_p, log_q) - w * q,
)


def _jsd(q: Array, p: Array, log_q: Array, log_p: Array, beta: Array) -> Array:
    m = beta * p + (1 - beta) * q
    return beta * entropy_term(p, m) + (1 - beta) * entropy_term(q, m)


jsd_rows = divergence(
    _jsd,
    lambda q, p, _, __, beta: (1 - beta) * entropy_term(q, beta * p + (1 - beta) * q),
    lambda q, p, _, __, beta: beta * entropy_term(p, beta * p + (1 - beta) * q),
)


def _skewed_kl(q: Array, p: Array, log_q: Array, log_p: Array, skew: Array) -> Array:
    return entropy_term(p, skew * p + (1 - skew) * q)


def _skewed_kl_student(
    q: Array, p: Array, log_q: Array, log_p: Array, skew: Array
) -> Array:
    m = skew * p + (1 - skew) * q
    return -(1 - skew) * p * (q / (m + tiny(m)))


def _skewed_kl_teacher(
    q: Array, p: Array, log_q: Array, log_p: Array, skew: Array
) -> Array:
    m = skew * p + (1 - skew) * q
    return entropy_term(p, m) - skew * p * (p / (m + tiny(m)))


skewed_kl_rows = divergence(_skewed_kl, _skewed_kl_student, _skewed_kl_teacher)

total_variation_rows = divergence(
    lambda q, p, *_: 0.5 * jnp.abs(q - p),
    lambda q, p, *_: 0.5 * q * jnp.sign(q - p),
    lambda q, p, *_: 0.5 * p * jnp.sign(p - q),
)
