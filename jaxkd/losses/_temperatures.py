r"""Temperatures and scales that depend on the logits, and what is needed to learn them.

:func:`standardized` turns any loss on logits into one that ignores their scale;
:func:`focal_temperature` and :func:`confidence_temperature` give each example its own
temperature, for the ``temperature`` argument of the losses; :func:`reverse_gradient`
makes a temperature an adversary of the student.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import Logits, PerExample, Where
from jaxkd.losses._common import at_least_float32, global_mean, safe_sqrt, softmax
from jaxkd.losses._pairs import sums


def standardize(logits: Logits, *, epsilon: float = 1e-7) -> Logits:
    r"""Logits with mean 0 and standard deviation 1 over the classes.

    .. math::
        \frac{z - \bar z}{\sigma(z) + \epsilon}, \qquad
        \sigma(z)^2 = \frac{1}{C - 1} \sum_c (z_c - \bar z)^2

    Masked classes (:math:`-\infty`) stay so and are not counted.

    Args:
        logits: shape ``[*batch, classes]``, :math:`z`.
        epsilon: added to the standard deviation.

    Returns:
        Same shape, in at least float32; zeros for a row of equal logits.

    Raises:
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> print(losses.standardize(jnp.array([[1.0, 2.0, 3.0]])).round(3))
        [[-1.  0.  1.]]

    References:
        Sun et al., `Logit Standardization in Knowledge Distillation
        <https://arxiv.org/abs/2403.01427>`_, 2024, equation 13.
    """
    _checks.check_floating(logits=logits)
    return _standardize(at_least_float32(logits), epsilon)


@jax.custom_jvp
def _standardize(z: Logits, epsilon: float | Array) -> Logits:
    mean, _, inverse = _moments(z, epsilon)
    return (z - mean) * inverse  # no `where`: what reads it can compute it again


@_standardize.defjvp
def _standardize_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (z, _), (dz, depsilon) = primals, tangents
    exists = z > -jnp.inf
    mean, deviation, inverse = _moments(*primals)
    unit = jnp.where(exists, (z - mean) * inverse, 0.0)
    count = jnp.sum(exists, axis=-1, keepdims=True, dtype=z.dtype)
    dz = jnp.where(exists, dz, 0.0)
    dz = dz - jnp.sum(dz, axis=-1, keepdims=True) / jnp.maximum(count, 1.0)
    slope = jnp.sum(unit * dz, axis=-1, keepdims=True) / jnp.maximum(count - 1, 1.0)
    by_deviation = slope / (inverse * jnp.where(deviation > 0, deviation, jnp.inf))
    tangent = inverse * (dz - unit * (by_deviation + depsilon))
    return _standardize(*primals), jnp.where(exists, tangent, 0.0)


def _moments(z: Logits, epsilon: float | Array) -> tuple[Array, Array, Array]:
    """Mean, deviation, and one over the deviation, of the classes that exist.

    The mean is found twice, and the variance corrected by what was left: the rounding
    of the mean must not become the spread of a row of equal logits.
    """
    exists = z > -jnp.inf
    count, total = sums(exists.astype(z.dtype), jnp.where(exists, z, 0.0))
    number = jnp.maximum(count, 1.0)
    mean = total / number
    centred = jnp.where(exists, z - mean[..., None], 0.0)
    squares, left = sums(centred**2, centred)
    variance = jnp.maximum(squares - left**2 / number, 0.0)
    deviation = safe_sqrt(variance / jnp.maximum(count - 1, 1.0))
    mean, deviation = (mean + left / number)[..., None], deviation[..., None]
    return mean, deviation, 1.0 / (deviation + epsilon)


def standardized(loss: Callable[..., Array]) -> Callable[..., Array]:
    r"""Any loss on logits, made to ignore the scale and the shift of both logits.

    .. math::
        \mathrm{loss}(\mathrm{standardize}(s), \mathrm{standardize}(t), \dots)

    The student may then be as uncertain as its capacity demands, and need only rank
    and space the classes as the teacher does.

    Args:
        loss: a function of student logits, teacher logits and more, such as
            :func:`soft_target_kl` or :func:`decoupled_kd`.

    Returns:
        A function of the same arguments.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> loss = losses.standardized(losses.soft_target_kl)
        >>> teacher = jnp.array([[1.0, 2.0, 4.0]])
        >>> print(loss(10 * teacher + 3, teacher, temperature=2.0).round(3) + 0.0)
        [0.]

    References:
        Sun et al., `Logit Standardization in Knowledge Distillation
        <https://arxiv.org/abs/2403.01427>`_, 2024, algorithm 1.
    """

    @functools.wraps(loss)
    def standardized_loss(
        student_logits: Logits, teacher_logits: Logits, *args: Any, **kwargs: Any
    ) -> Array:
        s, t = standardize(student_logits), standardize(teacher_logits)
        return loss(s, t, *args, **kwargs)

    return standardized_loss


def focal_temperature(
    student_logits: Logits,
    teacher_logits: Logits,
    *,
    base: float = 8.0,
    strength: float = 1.0,
    exponent: float = 2.0,
    where: Where | None = None,
    axis_name: str | None = None,
) -> PerExample:
    r"""A lower temperature for the examples on which student and teacher differ.

    .. math::
        \tau_i = \tau_0 + \beta (\bar w - w_i), \qquad
        w_i = \Big(1 - \frac{\langle s_i, t_i \rangle}
        {(\|s_i\| + 10^{-4}) (\|t_i\| + 10^{-4})}\Big)^{\gamma}

    The mean is over the batch: one value per example, but an example's value depends on
    the others. It has no gradient. Classes masked in both count as zeros.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        base: :math:`\tau_0`, the mean temperature.
        strength: :math:`\beta`. With :math:`\gamma = 2` weights are at most 4, so
            ``base`` above ``4 * strength`` keeps the temperatures positive.
        exponent: :math:`\gamma`.
        where: which examples the mean counts, shape ``[*batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``.

    Returns:
        One temperature per example, in at least float32; shape ``[*batch]``.

    Raises:
        ValueError: if the shapes differ.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> s, t = (
        ...     jnp.array([[1.0, 0.0], [1.0, 0.0]]),
        ...     jnp.array([[1.0, 0.0], [0.0, 1.0]]),
        ... )
        >>> print(losses.focal_temperature(s, t).round(2))
        [8.5 7.5]

    References:
        Yang et al., `TextBrewer: An Open-Source Knowledge Distillation Toolkit for
        Natural Language Processing <https://arxiv.org/abs/2002.12620>`_, 2020, code
        (``flsw``, focal-loss style weights).
    """
    _checks.check_logits(student_logits, teacher_logits)
    if where is not None:
        _checks.check_where(student_logits, where)
    s, t = (
        lax.stop_gradient(at_least_float32(x)) for x in (student_logits, teacher_logits)
    )
    masked = jnp.isneginf(s) & jnp.isneginf(t)
    s, t = jnp.where(masked, 0.0, s), jnp.where(masked, 0.0, t)
    norms = [jnp.sqrt(jnp.sum(x**2, axis=-1)) + 1e-4 for x in (s, t)]
    cosine = jnp.sum(s * t, axis=-1) / (norms[0] * norms[1])
    w = jnp.maximum(1 - cosine, 0.0) ** exponent
    return base + strength * (global_mean(w, where, axis_name) - w)


def confidence_temperature(
    student_logits: Logits,
    *,
    base: float = 8.0,
    strength: float = 1.0,
    where: Where | None = None,
    axis_name: str | None = None,
) -> PerExample:
    r"""A higher temperature for the examples of which the student is certain.

    .. math::
        \tau_i = \tau_0 + \beta (\bar w - w_i), \qquad
        w_i = \frac{1}{\max_c \sigma(s_i)_c + 10^{-3}}

    The mean is over the batch: one value per example, but an example's value depends on
    the others. It has no gradient.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        base: :math:`\tau_0`, the mean temperature.
        strength: :math:`\beta`. The weights are less than the number of classes.
        where: which examples the mean counts, shape ``[*batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``.

    Returns:
        One temperature per example, in at least float32; shape ``[*batch]``.

    Raises:
        ValueError: if the shapes do not fit.
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> s = jnp.array([[0.0, 0.0], [99.0, 0.0]])
        >>> print(losses.confidence_temperature(s).round(2))
        [7.5 8.5]

    References:
        Yang et al., `TextBrewer: An Open-Source Knowledge Distillation Toolkit for
        Natural Language Processing <https://arxiv.org/abs/2002.12620>`_, 2020, code
        (``cwsm``, confidence weight with student maximum).
    """
    _checks.check_floating(student_logits=student_logits)
    if where is not None:
        _checks.check_where(student_logits, where)
    q, _ = softmax(lax.stop_gradient(at_least_float32(student_logits)))
    w = 1.0 / (jnp.max(q, axis=-1) + 1e-3)
    return base + strength * (global_mean(w, where, axis_name) - w)


def reverse_gradient(x: Array, *, scale: float | Array = 1.0) -> Array:
    r"""The same value, with the gradient reversed.

    .. math::
        f(x) = x, \qquad \frac{\partial f}{\partial x} = -\lambda

    A parameter behind it climbs the loss that the others descend: curriculum
    temperature distillation learns its temperature so, with :math:`\lambda` growing
    from 0 to 1.

    Args:
        x: any floating point array.
        scale: :math:`\lambda`.

    Returns:
        ``x``.

    Examples:
        >>> import jax
        >>> from jaxkd import losses
        >>> print(jax.grad(lambda x: losses.reverse_gradient(x, scale=0.5) ** 2)(3.0))
        -3.0

    References:
        Ganin and Lempitsky, `Unsupervised Domain Adaptation by Backpropagation
        <https://arxiv.org/abs/1409.7495>`_, 2015, section 3.1; Li et al., `Curriculum
        Temperature for Knowledge Distillation <https://arxiv.org/abs/2211.16231>`_,
        2023, equation 6.
    """
    held = lax.stop_gradient(x)
    return held - scale * (x - held)
