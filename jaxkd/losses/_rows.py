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
from typing import Any

import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd._types import Labels, Logits, PerExample
from jaxkd.losses._common import is_label, safe_sqrt, scaled_tangent, softmax, tiny
from jaxkd.losses._coupled import EPSILON
from jaxkd.losses._pairs import Rows, sum_of_signs, sums, without

#: A term per class, from `(q, p, log_q, log_p, weight)`.
Term = Callable[[Array, Array, Array, Array, Any], Array]


def _both(s: Logits, t: Logits, scale: float | Array, weight: Any) -> Rows:
    (q, log_q), (p, log_p) = softmax(s, scale), softmax(t, scale)
    return q, p, log_q, log_p, weight


def divergence(
    value: Term,
    student_slope: Term,
    teacher_slope: Term,
    *,
    start: Callable[..., Rows] = _both,
) -> Callable[..., PerExample]:
    r"""A divergence from its terms.

    Args:
        value: :math:`d(q, p)`.
        student_slope: :math:`u = q \, \partial d / \partial q`.
        teacher_slope: :math:`p \, \partial d / \partial p`.
        start: ``(s, t, scale, weight)`` to what the terms take, if not the softmax of
            both and the weight as it is.

    Returns:
        ``(student_logits, teacher_logits, scale, weight) -> values``, where ``scale``
        is :math:`1 / \tau`, ``weight`` goes to the terms and has no gradient, and the
        values have shape ``[*batch]``.
    """

    @jax.custom_jvp
    def rows(s: Logits, t: Logits, scale: float | Array, weight: Any) -> PerExample:
        return sum_of_signs(value(*start(s, t, scale, weight)))

    def jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
        s, t, scale, weight = primals
        ds, dt, dscale, _ = tangents
        terms = q, p, log_q, log_p, _ = start(s, t, scale, weight)
        loss, tangent = rows(*primals), jnp.zeros(s.shape[:-1], s.dtype)
        for slope, probability, log_probability, dx in (
            (student_slope, q, log_q, ds),
            (teacher_slope, p, log_p, dt),
        ):
            # Shifts do not matter, and log-probabilities cancel less than logits.
            dz = scaled_tangent(log_probability / scale, scale, dx, dscale)
            if isinstance(dz, float):
                continue
            u = slope(*terms)
            loss, centre = sums(value(*terms), u)
            tangent += jnp.sum((u - probability * centre[..., None]) * dz, axis=-1)
        return loss, tangent

    rows.defjvp(jvp, symbolic_zeros=True)
    return rows


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

others_kl_rows = divergence(
    lambda q, p, log_q, log_p, _: kl_term(p, log_p, log_q),
    lambda q, p, log_q, log_p, _: -p,
    lambda q, p, log_q, log_p, _: kl_term(p, log_p, log_q),
    start=without,
)

cross_entropy_rows = divergence(
    lambda q, p, log_q, log_p, _: jnp.where(p > 0, -p * log_q, 0.0),
    lambda q, p, log_q, log_p, _: -p,
    lambda q, p, log_q, log_p, _: jnp.where(p > 0, -p * log_q, 0.0),
)

others_cross_entropy_rows = divergence(
    lambda q, p, log_q, log_p, _: jnp.where(p > 0, -p * log_q, 0.0),
    lambda q, p, log_q, log_p, _: -p,
    lambda q, p, log_q, log_p, _: jnp.where(p > 0, -p * log_q, 0.0),
    start=without,
)

symmetric_kl_rows = divergence(
    lambda q, p, log_q, log_p, w: (
        (1 - w) * kl_term(p, log_p, log_q) + w * kl_term(q, log_q, log_p)
    ),
    lambda q, p, log_q, log_p, w: w * kl_term(q, log_q, log_p) - (1 - w) * p,
    lambda q, p, log_q, log_p, w: (1 - w) * kl_term(p, log_p, log_q) - w * q,
)


def _jsd(q: Array, p: Array, log_q: Array, log_p: Array, beta: float | Array) -> Array:
    m = beta * p + (1 - beta) * q
    return beta * entropy_term(p, m) + (1 - beta) * entropy_term(q, m)


jsd_rows = divergence(
    _jsd,
    lambda q, p, _, __, beta: (1 - beta) * entropy_term(q, beta * p + (1 - beta) * q),
    lambda q, p, _, __, beta: beta * entropy_term(p, beta * p + (1 - beta) * q),
)


def _skewed_kl(
    q: Array, p: Array, log_q: Array, log_p: Array, skew: float | Array
) -> Array:
    return entropy_term(p, skew * p + (1 - skew) * q)


def _skewed_kl_student(
    q: Array, p: Array, log_q: Array, log_p: Array, skew: float | Array
) -> Array:
    m = skew * p + (1 - skew) * q
    return -(1 - skew) * p * (q / (m + tiny(m)))


def _skewed_kl_teacher(
    q: Array, p: Array, log_q: Array, log_p: Array, skew: float | Array
) -> Array:
    m = skew * p + (1 - skew) * q
    return entropy_term(p, m) - skew * p * (p / (m + tiny(m)))


skewed_kl_rows = divergence(_skewed_kl, _skewed_kl_student, _skewed_kl_teacher)


def _alpha_beta(q: Array, p: Array, log_q: Array, log_p: Array, powers: Any) -> Array:
    """Both powers in units of the larger probability's: exactly 0 where they agree."""
    alpha, beta = powers
    largest = jnp.maximum(log_q, log_p)
    fall = jnp.where(largest > -jnp.inf, -jnp.abs(log_q - log_p), 0.0)
    own, total = jnp.where(q > p, alpha, beta), alpha + beta
    change = own / total * jnp.expm1(total * fall) - jnp.expm1(own * fall)
    return jnp.exp(total * largest) * change / (alpha * beta)


alpha_beta_rows = divergence(
    _alpha_beta,
    lambda q, p, _, __, powers: (
        q ** powers[1] * (q ** powers[0] - p ** powers[0]) / powers[0]
    ),
    lambda q, p, _, __, powers: (
        p ** powers[0] * (p ** powers[1] - q ** powers[1]) / powers[1]
    ),
)

total_variation_rows = divergence(
    lambda q, p, *_: 0.5 * jnp.abs(q - p),
    lambda q, p, *_: 0.5 * q * jnp.sign(q - p),
    lambda q, p, *_: 0.5 * p * jnp.sign(p - q),
)


def _enhanced(p: Array, labels: Labels, exponent: float | Array) -> Array:
    label = is_label(labels, p).astype(p.dtype)
    return (p + label) ** exponent - label


def _enhanced_teacher(q: Array, p: Array, log_q: Array, _: Array, weight: Any) -> Array:
    labels, exponent = weight
    base = jnp.where(p > 0, p + is_label(labels, p).astype(p.dtype), 1.0)
    slope = p * exponent * base ** (exponent - 1)
    return jnp.where(p > 0, -slope * log_q, 0.0)


def _enhanced_value(q: Array, p: Array, log_q: Array, _: Array, weight: Any) -> Array:
    target = _enhanced(p, *weight)
    return jnp.where(target > 0, -target * log_q, 0.0)


target_enhanced_rows = divergence(
    _enhanced_value,
    lambda q, p, log_q, log_p, weight: -_enhanced(p, *weight),
    _enhanced_teacher,
)


def _with_moments(s: Logits, t: Logits, scale: float | Array, _: Any) -> Rows:
    """Both distributions, with means, norms and product of what is centred."""
    q, p, log_q, log_p, _ = _both(s, t, scale, None)
    q_mean, p_mean = (x[..., None] / q.shape[-1] for x in sums(q, p))
    a, b = q - q_mean, p - p_mean
    product, a_square, b_square = (x[..., None] for x in sums(a * b, a * a, b * b))
    a_norm, b_norm = safe_sqrt(a_square), safe_sqrt(b_square)
    return q, p, log_q, log_p, (q_mean, p_mean, a_norm, b_norm, product)


def _correlation(q: Array, p: Array, log_q: Array, log_p: Array, moments: Any) -> Array:
    q_mean, p_mean, a_norm, b_norm, _ = moments
    scale = 1.0 / (a_norm * b_norm + EPSILON)
    return 1.0 / q.shape[-1] - (q - q_mean) * (p - p_mean) * scale


def _correlation_student(
    q: Array, p: Array, log_q: Array, log_p: Array, moments: Any
) -> Array:
    q_mean, p_mean, a_norm, b_norm, product = moments
    scale = 1.0 / (a_norm * b_norm + EPSILON)
    shrink = product * scale * b_norm / jnp.where(a_norm > 0, a_norm, jnp.inf)
    return q * scale * (shrink * q - p + (p_mean - shrink * q_mean))


def _correlation_teacher(
    q: Array, p: Array, log_q: Array, log_p: Array, moments: Any
) -> Array:
    q_mean, p_mean, a_norm, b_norm, product = moments
    swapped = (p_mean, q_mean, b_norm, a_norm, product)
    return _correlation_student(p, q, log_p, log_q, swapped)


correlation_rows = divergence(
    _correlation, _correlation_student, _correlation_teacher, start=_with_moments
)
