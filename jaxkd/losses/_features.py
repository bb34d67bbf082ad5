r"""Losses that compare features of equal shape, number by number.

A projector makes the shapes equal, if they are not; it is no part of the loss. Some
are means over an example's numbers and others sums, as in their sources: the weights
recommended there go with that.
"""

import math

from jax import numpy as jnp

from jaxkd import _checks
from jaxkd._types import Channels, Features, PerExample, Positions
from jaxkd.losses._common import at_least_float32, unit
from jaxkd.losses._layouts import (
    equal_pair,
    flat_example,
    mean_of_example,
    per_channel,
    power_of,
    sum_of_example,
)


def feature_mse(
    student: Features, teacher: Features, *, where: Positions | None = None
) -> PerExample:
    r"""Mean squared error of features: the hint of FitNets.

    .. math::
        \frac{1}{PC} \sum_{pc} (s_{pc} - t_{pc})^2

    over positions :math:`p` and channels :math:`c`. SimKD is this on the last features,
    and SRRL's feature term is this on their mean over the positions, beside
    :func:`logit_mse`.

    Args:
        student: shape ``[batch, *positions, channels]``, :math:`s`.
        teacher: same shape, :math:`t`.
        where: which positions count, as for padding, shape ``[batch, *positions]``; all
            if ``None``. What does not count may be NaN.

    Returns:
        One value per example, in at least float32; shape ``[batch]``. 0 if nothing
        counts.

    Raises:
        ValueError: if the shapes differ (they are never broadcast).
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> print(losses.feature_mse(jnp.array([[1.0, 2.0]]), jnp.zeros((1, 2))))
        [2.5]

    References:
        Romero et al., `FitNets: Hints for Thin Deep Nets
        <https://arxiv.org/abs/1412.6550>`_, 2015, equation 3.
    """
    total = feature_squared_distance(student, teacher, where=where)
    if where is None:
        return total / (student.size // max(student.shape[0], 1))
    counts = jnp.sum(flat_example(where), axis=-1, dtype=total.dtype)
    return total / (jnp.maximum(counts, 1.0) * student.shape[-1])


def feature_squared_distance(
    student: Features, teacher: Features, *, where: Positions | None = None
) -> PerExample:
    r"""Squared distance of features: the sum of which :func:`feature_mse` is the mean.

    .. math::
        \sum_{pc} (s_{pc} - t_{pc})^2

    MGD and ViTKD take it of a student whose features were masked, with
    :func:`channel_mask` or :func:`position_mask`, and filled in again by a small
    network; ViTKD's counts the masked tokens only. Their weights belong to the sum.

    Args:
        student: shape ``[batch, *positions, channels]``, :math:`s`.
        teacher: same shape, :math:`t`.
        where: which positions count, shape ``[batch, *positions]``; all if ``None``.
            What does not count may be NaN.

    Returns:
        One value per example, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if the shapes differ (they are never broadcast).
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[1.0, 2.0]]), jnp.zeros((1, 2))
        >>> print(losses.feature_squared_distance(student, teacher))
        [5.]

    References:
        Yang et al., `Masked Generative Distillation
        <https://arxiv.org/abs/2205.01529>`_, 2022.

        Yang et al., `ViTKD: Practical Guidelines for ViT feature knowledge distillation
        <https://arxiv.org/abs/2209.02432>`_, 2022.
    """
    s, t = equal_pair(student, teacher)
    if where is not None:
        _checks.check_shape(student.shape[:-1], where=where)
        s, t = (jnp.where(where.astype(bool)[..., None], x, 0.0) for x in (s, t))
    return sum_of_example((s - t) ** 2)


def unit_feature_distance(student: Features, teacher: Features) -> PerExample:
    r"""Squared distance of the features, each example's scaled to length 1.

    .. math::
        \Big\| \frac{s}{\|s\|} - \frac{t}{\|t\|} \Big\|^2 = 2 - 2 \cos(s, t)

    All of an example is one vector. Features that are 0 stay 0.

    Args:
        student: shape ``[batch, *positions, channels]``, :math:`s`.
        teacher: same shape, :math:`t`.

    Returns:
        One value per example, between 0 and 4, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if the shapes differ (they are never broadcast).
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[3.0, 0.0]]), jnp.array([[0.0, 4.0]])
        >>> print(losses.unit_feature_distance(student, teacher))
        [2.]

    References:
        The normalized form of the L2 loss of MMRazor, an open-source library, which
        scales the vectors to length 4 and so has 16 times the value.
    """
    s, t = equal_pair(student, teacher)
    gap = unit(flat_example(s)) - unit(flat_example(t))
    return jnp.sum(gap**2, axis=-1)


def factor_transfer(
    student: Features, teacher: Features, *, power: float = 1.0
) -> PerExample:
    r"""How factors differ that a translator and a paraphraser took from the features.

    .. math::
        \frac{1}{PC} \sum_{pc}
            \Big| \frac{s_{pc}}{\|s\|} - \frac{t_{pc}}{\|t\|} \Big|^k

    The paraphraser is trained with the teacher first, to reconstruct its features; the
    translator, with the student. The networks are not part of this function.

    Args:
        student: the translated features, shape ``[batch, *positions, channels]``.
        teacher: the paraphrased features, same shape.
        power: :math:`k \ge 1`.

    Returns:
        One non-negative value per example, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if the shapes differ, or the power is less than 1.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[3.0, 0.0]]), jnp.array([[0.0, 4.0]])
        >>> print(losses.factor_transfer(student, teacher))
        [1.]

    References:
        Kim et al., `Paraphrasing Complex Network: Network Compression via Factor
        Transfer <https://arxiv.org/abs/1802.04977>`_, 2018, section 3.
    """
    s, t = equal_pair(student, teacher)
    gap = unit(flat_example(s)) - unit(flat_example(t))
    return jnp.mean(power_of(gap, power), axis=-1)


def variational_information(
    mean: Features, teacher: Features, variance: Channels
) -> PerExample:
    r"""Negative log-likelihood of the teacher's features, given the student's.

    .. math::
        \frac{1}{PC} \sum_{pc} \frac12 \Big(
            \frac{(t_{pc} - \mu_{pc})^2}{v_c} + \log v_c \Big)

    A bound on the mutual information of both, up to a constant: :math:`\frac12 \log
    2\pi` is left out. The mean is predicted from the student's features, and the
    variance is a trained parameter, kept positive by :math:`v = \log(1 + e^a) +
    10^{-5}` with :math:`v = 5` at the start.

    Args:
        mean: shape ``[batch, *positions, channels]``, :math:`\mu`.
        teacher: same shape, :math:`t`.
        variance: positive, shape ``[channels]``, :math:`v`.

    Returns:
        One value per example in nats per number, in at least float32; shape
        ``[batch]``. It may be negative.

    Raises:
        ValueError: if the shapes do not fit.
        TypeError: if an input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> mean, teacher = jnp.array([[1.0, 2.0]]), jnp.zeros((1, 2))
        >>> print(losses.variational_information(mean, teacher, jnp.ones(2)))
        [1.25]

    References:
        Ahn et al., `Variational Information Distillation for Knowledge Transfer
        <https://arxiv.org/abs/1904.05835>`_, 2019, section 2.
    """
    s, t = equal_pair(mean, teacher)
    _checks.check_floating(variance=variance)
    _checks.check_shape(mean.shape[-1:], variance=variance)
    v = per_channel(variance, s)
    return mean_of_example((s - t) ** 2 / v + jnp.log(v)) / 2


def uncertainty_weighted_mse(
    student: Features, teacher: Features, log_variance: Features
) -> PerExample:
    r"""Squared error that counts less where the student says that it is uncertain.

    .. math::
        \frac{1}{PC} \sum_{pc} \Big(
            \frac{(s_{pc} - t_{pc})^2}{e^{v_{pc}} + 10^{-6}} + v_{pc} \Big)

    The log-variance is predicted from the student's features. Called prime-aware
    adaptive distillation (PAD-L2).

    Args:
        student: shape ``[batch, *positions, channels]``, :math:`s`.
        teacher: same shape, :math:`t`.
        log_variance: same shape, :math:`v`.

    Returns:
        One value per example, in at least float32; shape ``[batch]``. It may be
        negative.

    Raises:
        ValueError: if the shapes differ (they are never broadcast).
        TypeError: if an input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[1.0, 2.0]]), jnp.zeros((1, 2))
        >>> certain = jnp.zeros((1, 2))
        >>> loss = losses.uncertainty_weighted_mse(student, teacher, certain)
        >>> print(loss.round(4))
        [2.5]

    References:
        Zhang et al., `Prime-Aware Adaptive Distillation
        <https://arxiv.org/abs/2008.01458>`_, 2020, section 3.
    """
    s, t = equal_pair(student, teacher)
    _checks.check_floating(log_variance=log_variance)
    _checks.check_same_shape(student=student, log_variance=log_variance)
    v = at_least_float32(log_variance)
    # 1 / (exp(v) + 1e-6), whose derivative overflows unless taken in log space.
    precision = jnp.exp(-jnp.logaddexp(v, math.log(1e-6)))
    return mean_of_example((s - t) ** 2 * precision + v)
