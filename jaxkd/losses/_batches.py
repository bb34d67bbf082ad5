r"""Losses on features that couple the examples of a batch.

They return one number. Under ``pmap`` or ``shard_map`` they take ``axis_name`` and
gather, so that every device returns the value of the global batch; average the
gradients over the devices, as for the mean of per-device losses.
"""

import math

from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxkd._types import AnyFeatures, Examples, Features, Scalar
from jaxkd.losses._common import safe_sqrt, tiny, unit
from jaxkd.losses._layouts import (
    count_of,
    counted_rows,
    equal_pair,
    feature_pair,
    flat_example,
    power_of,
    product,
)


def similarity_preserving(
    student: AnyFeatures,
    teacher: AnyFeatures,
    *,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: how the similarities of its examples differ.

    .. math::
        \frac{1}{B^2} \big\| \tilde G^s - \tilde G^t \big\|_F^2, \qquad
        G = F F^\top, \quad \tilde G_i = G_i / \|G_i\|

    with the features of an example as a row of :math:`F`. Nothing but the batch must
    agree, so it needs no projector. An example with features 0 is similar to none.

    Args:
        student: shape ``[batch, ...]``.
        teacher: shape ``[batch, ...]``; all other axes may differ.
        where: which examples count, shape ``[batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``.

    Returns:
        A non-negative scalar in at least float32; 0 if nothing counts.

    Raises:
        ValueError: if the batches differ.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.eye(2), jnp.array([[0.0, 5.0], [5.0, 0.0]])
        >>> print(losses.similarity_preserving(student, teacher))
        0.0

    References:
        Tung and Mori, `Similarity-Preserving Knowledge Distillation
        <https://arxiv.org/abs/1907.09682>`_, 2019, section 3.
    """
    s, t = (flat_example(x) for x in feature_pair(student, teacher))
    s, counts = counted_rows(s, where, axis_name)
    t, _ = counted_rows(t, where, axis_name)
    gs, gt = (unit(product(x, x.T)) for x in (s, t))
    return jnp.sum((gs - gt) ** 2) / count_of(counts, s) ** 2


def log_power_distance(
    student: Features,
    teacher: Features,
    *,
    exponent: float = 4.0,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: the logarithm of the sum of powers of the gaps.

    .. math::
        \log \sum_{bpc} |s_{bpc} - t_{bpc}|^k

    Large gaps count most, and the gradient does not vanish with the gaps. Both sides
    are normalized over the batch first, without scale and bias, the student's after a
    linear projector (SRD). Where all gaps are 0 there is a least value, with a gradient
    of 0, in place of minus infinity.

    Args:
        student: projected and normalized, shape ``[batch, *positions, channels]``.
        teacher: normalized, same shape.
        exponent: :math:`k \ge 1`.
        where: which examples count, shape ``[batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``.

    Returns:
        A scalar in at least float32; 0 if nothing counts.

    Raises:
        ValueError: if the shapes differ, or the exponent is less than 1.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.ones((2, 2)), jnp.zeros((2, 2))
        >>> print(losses.log_power_distance(student, teacher).round(4))
        1.3863

    References:
        Miles and Mikolajczyk, `Understanding the Role of the Projector in Knowledge
        Distillation <https://arxiv.org/abs/2303.11098>`_, 2024.
    """
    s, t = equal_pair(student, teacher)
    s, counts = counted_rows(flat_example(s), where, axis_name)
    t, _ = counted_rows(flat_example(t), where, axis_name)
    return jnp.where(counts.any(), _log_sum_of_powers(s - t, exponent), 0.0)


def representation_correlation(
    student: Features,
    teacher: Features,
    *,
    alpha: float = 1.5,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: how far its channels are from full correlation.

    .. math::
        \log_2 \sum_c |1 - \rho_c|^{2 \alpha}, \qquad
        \rho_c = \frac1B \sum_b
            \frac{(s_{bc} - \bar s_c)(t_{bc} - \bar t_c)}{\sigma_c(s)\, \sigma_c(t)}

    The first half of information-theoretic representation distillation (ITRD), weight
    2; :func:`representation_information` is the other. As in the authors' code the
    deviations are unbiased and the mean is not, so that equal features have
    :math:`\rho = (B - 1) / B`. A constant channel has :math:`\rho = 0`, and full
    correlation gives a least value in place of minus infinity.

    Args:
        student: embedded as wide as the teacher's, shape ``[batch, channels]``.
        teacher: same shape.
        alpha: :math:`\alpha \ge 1/2`.
        where: which examples count, shape ``[batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``.

    Returns:
        A scalar in at least float32; 0 if nothing counts.

    Raises:
        ValueError: if the shapes differ, have positions, or alpha is less than one
            half.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[1.0], [2.0]]), jnp.array([[4.0], [3.0]])
        >>> loss = losses.representation_correlation(student, teacher, alpha=0.5)
        >>> print(loss.round(4))
        0.585

    References:
        Miles et al., `Information Theoretic Representation Distillation
        <https://arxiv.org/abs/2112.00459>`_, 2022, section 3, and its code.
    """
    equal_pair(student, teacher)
    s, t, counts = _vectors(student, teacher, where, axis_name)
    number = count_of(counts, s)
    s, t = (_centred(x, counts, number) for x in (s, t))
    covariance = jnp.sum(s * t, axis=0) / number
    deviations = safe_sqrt(_variance(s, number)) * safe_sqrt(_variance(t, number))
    constant = deviations == 0
    rho = jnp.where(constant, 0.0, covariance / jnp.where(constant, 1.0, deviations))
    value = _log_sum_of_powers(1 - rho, 2 * alpha) / math.log(2)
    return jnp.where(counts.any(), value, 0.0)


def representation_information(
    student: AnyFeatures,
    teacher: AnyFeatures,
    *,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: entropy of the student's minus the joint one.

    .. math::
        \sum_{ij} \big( (K^s_{ij})^2 - (K^{st}_{ij})^2 \big), \qquad
        K^s = \frac{F_s F_s^\top}{\mathrm{tr}}, \quad
        K^{st} = \frac{K^s \circ K^t}{\mathrm{tr}}

    with the rows of :math:`F` of length 1 and each matrix divided by its trace. The
    second half of ITRD, weight 1: minimizing it maximizes a mutual information of order
    2 of both. It has no fixed minimum.

    Args:
        student: shape ``[batch, channels]``.
        teacher: shape ``[batch, other_channels]``.
        where: which examples count, shape ``[batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``.

    Returns:
        A scalar in at least float32; 0 if nothing counts.

    Raises:
        ValueError: if the batches differ, or there are positions.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.ones((2, 3)), jnp.eye(2, 3)
        >>> print(losses.representation_information(student, teacher))
        0.5

    References:
        Miles et al., `Information Theoretic Representation Distillation
        <https://arxiv.org/abs/2112.00459>`_, 2022, section 3, and its code.
    """
    s, t, _ = _vectors(student, teacher, where, axis_name)
    ks, kt = (_unit_trace(product(x, x.T)) for x in (unit(s), unit(t)))
    return jnp.sum(ks**2) - jnp.sum(_unit_trace(ks * kt) ** 2)


def _vectors(
    student: AnyFeatures,
    teacher: AnyFeatures,
    where: Examples | None,
    axis_name: str | None,
) -> tuple[Array, Array, Array]:
    """Both sides of all devices, and a column of which examples count."""
    s, t = feature_pair(student, teacher)
    if s.ndim != 2 or t.ndim != 2:
        raise ValueError(
            f"`student` has shape {student.shape} and `teacher` {teacher.shape}; both "
            "must be [batch, channels]: average or flatten the positions first."
        )
    s, counts = counted_rows(s, where, axis_name)
    t, _ = counted_rows(t, where, axis_name)
    return s, t, counts[:, None]


def _centred(x: Array, counts: Array, number: Array) -> Array:
    return jnp.where(counts, x - jnp.sum(x, axis=0, keepdims=True) / number, 0.0)


def _variance(centred: Array, number: Array) -> Array:
    return jnp.sum(centred**2, axis=0) / jnp.maximum(number - 1, 1.0)


def _unit_trace(gram: Array) -> Array:
    trace = jnp.trace(gram)
    return gram / jnp.where(trace > 0, trace, 1.0)


def _log_sum_of_powers(x: Array, exponent: float) -> Scalar:
    """Finite also where a power of what is large or small is not, or all is 0."""
    largest = lax.stop_gradient(jnp.max(jnp.abs(x)))
    largest = jnp.where(largest > 0, largest, tiny(x))
    total = jnp.sum(power_of(x / largest, exponent))
    return exponent * jnp.log(largest) + jnp.log(jnp.where(total > 0, total, 1.0))
