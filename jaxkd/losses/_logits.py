r"""Losses on logits.

Throughout, :math:`s` and :math:`t` are the logits of student and teacher,
:math:`\tau` the temperature, :math:`p = \mathrm{softmax}(t / \tau)` the teacher's
distribution and :math:`q = \mathrm{softmax}(s / \tau)` the student's.
"""

import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import Logits, PerExample
from jaxkd.losses._common import (
    at_least_float32,
    difference,
    inverse_temperature,
    squared_temperature,
)
from jaxkd.losses._rows import cross_entropy_rows, forward_kl_rows


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
        temperature: :math:`\tau > 0`; a number, or one per example of shape
            ``[*batch]``, as :func:`focal_temperature` gives.

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
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    scale = inverse_temperature(temperature, s)
    return squared_temperature(scale) * forward_kl_rows(s, t, scale, 0.0)


def soft_cross_entropy(
    student_logits: Logits, teacher_logits: Logits, *, temperature: float | Array = 1.0
) -> PerExample:
    r"""Cross-entropy of the softened student under the softened teacher.

    .. math::
        -\tau^2 \sum_c p_c \log q_c

    It has the gradient of :func:`soft_target_kl`, and its value plus :math:`\tau^2`
    times the entropy of the teacher, so that it is not 0 at equality.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        temperature: :math:`\tau > 0`, a number or one per example, ``[*batch]``.

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
        >>> print(losses.soft_cross_entropy(jnp.zeros((1, 2)), jnp.zeros((1, 2))))
        [0.6931472]

    References:
        Hinton et al., `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.
    """
    _checks.check_logits(student_logits, teacher_logits)
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    scale = inverse_temperature(temperature, s)
    return squared_temperature(scale) * cross_entropy_rows(s, t, scale, 0.0)


def binary_soft_cross_entropy(
    student_logits: Logits, teacher_logits: Logits
) -> PerExample:
    r"""Cross-entropy of each class by itself, as if the classes were yes-no questions.

    .. math::
        -\frac{1}{C} \sum_c \big[\sigma(t_c) \log \sigma(s_c)
        + (1 - \sigma(t_c)) \log (1 - \sigma(s_c))\big]

    :math:`\sigma` is the logistic function; there is no temperature. Classes masked in
    both (:math:`-\infty`) contribute nothing and are counted.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.

    Returns:
        One value per example in nats, at its least the mean entropy of
        :math:`\sigma(t)`, in at least float32; shape ``[*batch]``.

    Raises:
        ValueError: if the shapes differ (they are never broadcast).
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> print(losses.binary_soft_cross_entropy(jnp.zeros((1, 3)), jnp.ones((1, 3))))
        [0.6931472]

    References:
        Hao et al., `One-for-All: Bridge the Gap Between Heterogeneous Architectures in
        Knowledge Distillation <https://arxiv.org/abs/2310.19444>`_, 2023 (the binary
        baseline in its code).
    """
    _checks.check_logits(student_logits, teacher_logits)
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    masked = jnp.isneginf(s) & jnp.isneginf(t)
    s = jnp.where(masked, 0.0, s)
    terms = jax.nn.softplus(s) - s * jax.nn.sigmoid(t)
    return jnp.mean(jnp.where(masked, 0.0, terms), axis=-1)


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
    return jnp.mean(difference(s, t) ** 2, axis=-1)
