r"""Losses on logits.

Throughout, :math:`s` and :math:`t` are the logits of student and teacher,
:math:`\tau` the temperature, :math:`p = \mathrm{softmax}(t / \tau)` the teacher's
distribution and :math:`q = \mathrm{softmax}(s / \tau)` the student's.
"""

import jax
import optax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import Labels, Logits, PerExample
from jaxkd.losses._common import at_least_float32


def soft_target_kl(
    student_logits: Logits, teacher_logits: Logits, *, temperature: float | Array = 1.0
) -> PerExample:
    r"""Kullback-Leibler divergence of the softened student from the softened teacher.

    .. math::
        \tau^2 \sum_c p_c (\log p_c - \log q_c)

    The factor :math:`\tau^2` keeps the size of the gradient independent of the
    temperature, so that the loss may be mixed with one on hard labels. Classes which
    the teacher rules out (:math:`t_c = -\infty`) contribute nothing.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        temperature: :math:`\tau > 0`.

    Returns:
        One value per example in nats, non-negative, in at least float32; shape
        ``[*batch]``.

    Raises:
        ValueError: if the shapes differ (they are never broadcast), or the
            temperature is not positive.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> teacher, student = jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 0.0]])
        >>> print(losses.soft_target_kl(student, teacher, temperature=4.0).round(3))
        [0.485]

    References:
        Hinton et al., `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.
    """
    _checks.check_logits(student_logits, teacher_logits)
    _checks.check_positive(temperature=temperature)
    log_q = jax.nn.log_softmax(at_least_float32(student_logits) / temperature)
    log_p = jax.nn.log_softmax(at_least_float32(teacher_logits) / temperature)
    p = jnp.exp(log_p)
    return temperature**2 * jnp.sum(jnp.where(p > 0, p * (log_p - log_q), 0.0), axis=-1)


def cross_entropy(student_logits: Logits, labels: Labels) -> PerExample:
    r"""Cross-entropy with hard labels.

    .. math::
        -\log q_y, \quad \tau = 1

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        labels: integers :math:`y` in ``[0, classes)``, shape ``[*batch]``. Under
            ``jit``, where values cannot be checked, a label out of range gives NaN.

    Returns:
        One value per example in nats, in at least float32; shape ``[*batch]``.

    Raises:
        ValueError: if the shapes do not fit, or a label is out of range.
        TypeError: if the logits are not floating point or the labels not integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> logits = jnp.array([[0.0, 0.0], [0.0, 100.0]])
        >>> print(losses.cross_entropy(logits, jnp.array([0, 1])).round(4))
        [0.6931 0.    ]

    References:
        Goodfellow et al., `Deep Learning <https://www.deeplearningbook.org>`_, 2016,
        section 6.2.2.3.
    """
    _checks.check_floating(student_logits=student_logits)
    _checks.check_labels(student_logits, labels)
    return optax.losses.softmax_cross_entropy_with_integer_labels(
        at_least_float32(student_logits), labels
    )


def logit_mse(student_logits: Logits, teacher_logits: Logits) -> PerExample:
    r"""Mean squared error between logits.

    .. math::
        \frac{1}{C} \sum_c (s_c - t_c)^2

    The limit of :func:`soft_target_kl` for :math:`\tau \to \infty` is half of it, for
    logits of zero mean. It needs no temperature. Classes masked in both
    (:math:`-\infty`) contribute nothing.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.

    Returns:
        One value per example, in at least float32; shape ``[*batch]``.

    Raises:
        ValueError: if the shapes differ (they are never broadcast).
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> print(losses.logit_mse(jnp.array([[1.0, 4.0]]), jnp.array([[1.0, 2.0]])))
        [2.]

    References:
        Ba and Caruana, `Do Deep Nets Really Need to be Deep?
        <https://arxiv.org/abs/1312.6184>`_, 2014, equation 1.
    """
    _checks.check_logits(student_logits, teacher_logits)
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    masked = jnp.isneginf(s) & jnp.isneginf(t)
    difference = jnp.where(masked, 0.0, s) - jnp.where(masked, 0.0, t)
    return jnp.mean(difference**2, axis=-1)
