r"""Losses that compare features of equal shape, number by number.

A projector makes the shapes equal, if they are not; it is no part of the loss. Some
are means over an example's numbers and others sums, as in their sources: the weights
recommended there go with that.
"""

from jax import numpy as jnp

from jaxkd import _checks
from jaxkd._types import Features, PerExample, Positions
from jaxkd.losses._layouts import (
    equal_pair,
    flat_example,
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
