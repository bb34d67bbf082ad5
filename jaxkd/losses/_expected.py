r"""Decoupled distillation in expectation over the label, with its derivative.

For each class :math:`y` as the label, with :math:`\hat q^y_c = q_c / (1 - q_y)`,

.. math::
    \frac{\partial \mathrm{DKD}_y}{\partial s_y} = \alpha (q_y - p_y), \qquad
    \frac{\partial \mathrm{DKD}_y}{\partial s_c} = -\alpha (q_y - p_y) \hat q^y_c
        + \beta (\hat q^y_c - \hat p^y_c),

whose expectation needs a few sums over the labels and no array of all pairs. The most
likely class, whose :math:`1 - q_y` may round to 0, is taken apart from the others.
"""

from typing import NamedTuple

import jax
from jax import numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array

from jaxkd._types import Logits, PerExample
from jaxkd.losses._common import is_label
from jaxkd.losses._pairs import again, log_sums_without, sum_of_signs, sums


class _Side(NamedTuple):
    """What is known of one model; ``rest`` is without its most likely class."""

    p: Array
    log_p: Array
    largest: Array  # whether the class is the most likely one
    rest: Array
    log_not_p: Array  # log(1 - p), exact also where p rounds to 1


@jax.custom_jvp
def expected_decoupled_rows(
    s: Logits,
    t: Logits,
    label: Array,
    scale: float | Array,
    alpha: float | Array,
    beta: float | Array,
) -> PerExample:
    """As :func:`jaxkd.losses.soft_label_decoupled_kd`, without the squared temperature.

    Args:
        s: the student's logits, shape ``[*batch, classes]``.
        t: the teacher's, same shape.
        label: probabilities, same shape.
        scale: one over the temperature.
        alpha: weight of the target class.
        beta: weight of the others.

    Returns:
        Shape ``[*batch]``.
    """
    return _expected(s, t, label, scale, alpha, beta)


def _expected_decoupled_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """The student's derivative written out, that of all else left to JAX."""
    moving = [
        i for i, x in enumerate(tangents) if i and not isinstance(x, SymbolicZero)
    ]

    def rest(*values: Array) -> PerExample:
        arguments = list(primals)
        for i, value in zip(moving, values, strict=True):
            arguments[i] = value
        return _expected(*again(*arguments[:2]), *arguments[2:])

    loss, tangent = jax.jvp(
        rest, [primals[i] for i in moving], [tangents[i] for i in moving]
    )
    if not isinstance(tangents[0], SymbolicZero):
        tangent = tangent + jnp.sum(_student_slope(*primals) * tangents[0], axis=-1)
    return loss, tangent


expected_decoupled_rows.defjvp(_expected_decoupled_jvp, symbolic_zeros=True)


def _expected(
    s: Array,
    t: Array,
    label: Array,
    scale: float | Array,
    alpha: float | Array,
    beta: float | Array,
) -> PerExample:
    student, teacher = _sides(s, t, scale)
    ratio = _ratio(student.log_p, teacher.log_p)
    total, of_rest = (
        x[..., None] for x in sums(teacher.p * ratio, teacher.rest * ratio)
    )
    s, t = again(s, t)
    student, teacher = _sides(s, t, scale)
    p, ratio = teacher.p, _ratio(student.log_p, teacher.log_p)
    rest_ratio = _ratio(student.log_not_p, teacher.log_not_p)
    target = p * ratio + jnp.exp(teacher.log_not_p) * rest_ratio
    of_others = (total - p * ratio) / (1 - jnp.where(teacher.largest, 0.0, p))
    others = jnp.where(teacher.largest, of_rest, of_others) - rest_ratio
    loss = alpha * target + beta * others
    return sum_of_signs(label * jnp.where(label > 0, loss, 0.0))


def _ratio(log_q: Array, log_p: Array) -> Array:
    return jnp.where(log_p > -jnp.inf, log_p - log_q, 0.0)


def _student_slope(
    s: Array,
    t: Array,
    label: Array,
    scale: float | Array,
    alpha: float | Array,
    beta: float | Array,
) -> Array:
    terms = _slope_terms(*_sides(s, t, scale), label, alpha, beta)
    of_q, of_p, of_q_rest, of_p_rest = (x[..., None] for x in sums(*terms))
    s, t = again(s, t)
    student, teacher = _sides(s, t, scale)
    by_q, by_p, _, _ = _slope_terms(student, teacher, label, alpha, beta)
    slope = alpha * label * (student.p - teacher.p)
    slope += student.p * (of_q - by_q) + student.rest * of_q_rest
    slope -= beta * (teacher.p * (of_p - by_p) + teacher.rest * of_p_rest)
    return slope * scale


def _slope_terms(
    student: _Side,
    teacher: _Side,
    label: Array,
    alpha: float | Array,
    beta: float | Array,
) -> tuple[Array, Array, Array, Array]:
    """What multiplies both models' probabilities, for the other classes and the one."""
    q, p = student.p, teacher.p
    weighted = label * (beta - alpha * (q - p))
    return (
        jnp.where(student.largest, 0.0, weighted / (1 - jnp.minimum(q, 0.5))),
        jnp.where(teacher.largest, 0.0, label / (1 - jnp.minimum(p, 0.5))),
        jnp.where(student.largest, weighted, 0.0),
        jnp.where(teacher.largest, label, 0.0),
    )


def _sides(s: Array, t: Array, scale: float | Array) -> tuple[_Side, _Side]:
    most = jnp.argmax(s, axis=-1), jnp.argmax(t, axis=-1)
    log_rests = log_sums_without(s, t, scale, most)
    first, second = (
        _side(*x, scale) for x in zip((s, t), most, log_rests, strict=True)
    )
    return first, second


def _side(logits: Array, most: Array, log_rest: Array, scale: float | Array) -> _Side:
    largest = is_label(most, logits)
    log_largest = jnp.take_along_axis(logits, most[..., None], axis=-1) * scale
    some = log_rest[..., None] > -jnp.inf
    log_rest = jnp.where(some, log_rest[..., None], 0.0)
    log_all = jnp.where(some, jnp.logaddexp(log_largest, log_rest), log_largest)
    log_p = (logits - log_all / scale) * scale
    p, rest = jnp.exp(log_p), jnp.exp((logits - log_rest / scale) * scale)
    log_not_largest = jnp.where(some, log_rest - log_all, -jnp.inf)
    # Only the most likely class can have more than half.
    log_not_other = jnp.log1p(-jnp.minimum(jnp.where(largest, 0.0, p), 0.5))
    log_not_p = jnp.where(largest, log_not_largest, log_not_other)
    return _Side(p, log_p, largest, jnp.where(largest, 0.0, rest), log_not_p)
