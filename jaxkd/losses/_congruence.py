r"""Losses on kernels between examples, and on correlations of their features.

Those on kernels and :func:`spatial_relation` couple the batch: they return one number,
and take ``axis_name`` as those of the batch's relations do.
"""

import functools
import math
from collections.abc import Callable

from jax import numpy as jnp
from jax.scipy import linalg
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import AnyFeatures, Examples, Features, PerExample, Positions, Scalar
from jaxkd.losses._common import norm, unit
from jaxkd.losses._layouts import (
    count_of,
    counted_rows,
    equal_pair,
    feature_pair,
    flat_example,
    flat_positions,
    product,
)


def bilinear_congruence(
    student: AnyFeatures,
    teacher: AnyFeatures,
    *,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: how the inner products of its examples differ.

    .. math::
        \frac{1}{B^2} \big\| F_s F_s^\top - F_t F_t^\top \big\|_F^2

    with the features of an example as a row of :math:`F`. Correlation congruence with
    the plainest of its kernels; unlike :func:`similarity_preserving`, it minds the
    lengths.

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
        >>> print(losses.bilinear_congruence(2 * jnp.eye(2), jnp.eye(2)))
        4.5

    References:
        Peng et al., `Correlation Congruence for Knowledge Distillation
        <https://arxiv.org/abs/1904.01802>`_, 2019, section 3.
    """
    return _congruence(lambda gram: gram, student, teacher, where, axis_name)


def gaussian_congruence(
    student: AnyFeatures,
    teacher: AnyFeatures,
    *,
    gamma: float = 0.4,
    order: int = 2,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: how the Gaussian kernels of its examples differ.

    .. math::
        \frac{1}{B^2} \| K^s - K^t \|_F^2, \qquad
        K_{ij} = e^{-2 \gamma} \sum_{n=0}^{N} \frac{(2 \gamma)^n}{n!}
            \langle f_i, f_j \rangle^n

    For features of length 1 this is the Taylor polynomial of
    :math:`e^{-\gamma \|f_i - f_j\|^2}`; they are not scaled here. Correlation
    congruence (CCKD) as the paper recommends it.

    Args:
        student: shape ``[batch, ...]``, :math:`f^s`.
        teacher: shape ``[batch, ...]``, :math:`f^t`; all other axes may differ.
        gamma: :math:`\gamma > 0`.
        order: :math:`N \ge 1`.
        where: which examples count, shape ``[batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``.

    Returns:
        A non-negative scalar in at least float32; 0 if nothing counts.

    Raises:
        ValueError: if the batches differ, or gamma or the order is not positive.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.ones((2, 1)), jnp.eye(2)
        >>> print(f"{losses.gaussian_congruence(student, teacher):.4f}")
        0.1266

    References:
        Peng et al., `Correlation Congruence for Knowledge Distillation
        <https://arxiv.org/abs/1904.01802>`_, 2019, section 3.
    """
    _checks.check_positive(gamma=gamma, order=order)
    factors = [(2 * gamma) ** n / math.factorial(n) for n in range(order + 1)]

    def kernel(gram: Array) -> Array:
        horner = lambda total, factor: total * gram + factor
        total = functools.reduce(horner, reversed(factors), jnp.zeros_like(gram))
        return math.exp(-2 * gamma) * total

    return _congruence(kernel, student, teacher, where, axis_name)


def similarity_mahalanobis(
    student: AnyFeatures,
    teacher: AnyFeatures,
    *,
    ridge: float = 0.1,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: how unusually its cosine similarities differ.

    .. math::
        \frac1B \sum_i \sqrt{d_i^\top \Sigma^{-1} d_i}, \qquad
        d_{ij} = \cos(s_i, s_j) - \cos(t_i, t_j), \quad
        \Sigma = \mathrm{cov}(d_1, \dots, d_B) + \lambda I

    The Mahalanobis length of an example's gaps, under the covariance of all of them,
    through which gradients flow. SKD's direction loss, on logits, beside
    :func:`forward_kl`.

    Args:
        student: shape ``[batch, ...]``, :math:`s`.
        teacher: shape ``[batch, ...]``, :math:`t`; all other axes may differ.
        ridge: :math:`\lambda > 0`.
        where: which examples count, shape ``[batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``.

    Returns:
        A non-negative scalar in at least float32; 0 if nothing counts.

    Raises:
        ValueError: if the batches differ, or the ridge is not positive.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[1.0, 0.0], [3.0, 4.0]]), jnp.eye(2)
        >>> print(f"{losses.similarity_mahalanobis(student, teacher):.4f}")
        1.4803

    References:
        torchdistill, `SKDDirectionLoss
        <https://github.com/yoshitomo-matsubara/torchdistill>`_.
    """
    _checks.check_positive(ridge=ridge)
    s, t, counts = _rows(student, teacher, where, axis_name)
    gs, gt = (product(x, x.T) for x in (unit(s), unit(t)))
    number, gaps = count_of(counts, s), gs - gt
    means = jnp.sum(gaps, axis=0, keepdims=True) / number
    centred = jnp.where(counts[:, None], gaps - means, 0.0)
    covariance = product(centred.T, centred) / jnp.maximum(number - 1, 1.0)
    root = jnp.linalg.cholesky(covariance + ridge * jnp.eye(len(s), dtype=s.dtype))
    whitened = linalg.solve_triangular(root, gaps.T, lower=True)
    return jnp.sum(norm(whitened.T)) / number


def channel_relation(
    student: Features, teacher: Features, *, where: Positions | None = None
) -> PerExample:
    r"""One minus the correlation of student and teacher over the channels.

    .. math::
        1 - \frac1P \sum_p \rho(s_p, t_p)

    with the correlation :math:`\rho` at each position, 0 where either side is constant.
    DIST+ takes it of the last maps, beside the two relations of DIST. A known
    implementation has the wrong sign, which drives the channels apart.

    Args:
        student: shape ``[batch, *positions, channels]``, :math:`s`.
        teacher: same shape, :math:`t`.
        where: which positions count, shape ``[batch, *positions]``; all if ``None``.

    Returns:
        One value per example, between 0 and 2, in at least float32; shape ``[batch]``.
        0 if nothing counts.

    Raises:
        ValueError: if the shapes differ.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[1.0, 2.0]]), jnp.array([[9.0, 3.0]])
        >>> print(losses.channel_relation(student, teacher))
        [2.]

    References:
        torchdistill, `DISTPlusLoss
        <https://github.com/yoshitomo-matsubara/torchdistill>`_, with the sign turned.

        Huang et al., `Knowledge Distillation from A Stronger Teacher
        <https://arxiv.org/abs/2205.10536>`_, 2022, for the correlation.
    """
    s, t = equal_pair(student, teacher)
    where = jnp.ones(s.shape[:-1], bool) if where is None else where.astype(bool)
    _checks.check_shape(s.shape[:-1], where=where)
    s, t = (jnp.where(where[..., None], x, 0.0) for x in (s, t))
    gaps = 1 - _correlation(s, t, jnp.ones_like(s, bool))
    gaps, where = flat_example(gaps), flat_example(where)
    counts = jnp.sum(where, axis=1, dtype=s.dtype)
    return jnp.sum(jnp.where(where, gaps, 0.0), axis=1) / jnp.maximum(counts, 1.0)


def spatial_relation(
    student: AnyFeatures,
    teacher: AnyFeatures,
    *,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: one minus the correlation, over examples, of places.

    .. math::
        1 - \frac1P \sum_p \rho(a^s_{\cdot p}, a^t_{\cdot p}), \qquad
        a_{bp} = \frac1C \sum_c f_{bpc}

    :math:`\rho` as in :func:`channel_relation`, over the batch. DIST+'s fourth term.

    Args:
        student: shape ``[batch, *positions, channels]``, :math:`f^s`.
        teacher: as many positions, :math:`f^t`; the channels may differ.
        where: which examples count, shape ``[batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``.

    Returns:
        A scalar between 0 and 2, in at least float32; 0 if nothing counts.

    Raises:
        ValueError: if the batches or the positions differ.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[1.0], [2.0]]), jnp.array([[4.0], [8.0]])
        >>> print(f"{losses.spatial_relation(student, teacher):.4f}")
        0.0000

    References:
        torchdistill, `DISTPlusLoss
        <https://github.com/yoshitomo-matsubara/torchdistill>`_.
    """
    feature_pair(student, teacher)
    _checks.check_same_axes(student, teacher, slice(1, -1), "positions")
    s, t, counts = _rows(student, teacher, where, axis_name, _mean_over_channels)
    rho = _correlation(s.T, t.T, jnp.broadcast_to(counts[None], s.T.shape))
    return jnp.where(counts.any(), 1 - jnp.mean(rho), 0.0)


def _mean_over_channels(x: Array) -> Array:
    return jnp.mean(flat_positions(x), axis=-1)


def _rows(
    student: AnyFeatures,
    teacher: AnyFeatures,
    where: Examples | None,
    axis_name: str | None,
    flat: Callable[[Array], Array] = flat_example,
) -> tuple[Array, Array, Array]:
    """A vector for each example of all devices, and which count."""
    s, t = (flat(x) for x in feature_pair(student, teacher))
    s, counts = counted_rows(s, where, axis_name)
    return s, counted_rows(t, where, axis_name)[0], counts


def _congruence(
    kernel: Callable[[Array], Array],
    student: AnyFeatures,
    teacher: AnyFeatures,
    where: Examples | None,
    axis_name: str | None,
) -> Scalar:
    s, t, counts = _rows(student, teacher, where, axis_name)
    gaps = kernel(product(s, s.T)) - kernel(product(t, t.T))
    pairs = counts[:, None] & counts[None]
    number = count_of(counts, s)  # divides before the square, which overflows first
    return jnp.sum((jnp.where(pairs, gaps, 0.0) / number) ** 2)


def _correlation(a: Array, b: Array, counts: Array) -> Array:
    """Pearson's correlation over the last axis, of what counts; 0 for constants."""
    return jnp.sum(_standard(a, counts) * _standard(b, counts), axis=-1)


def _standard(x: Array, counts: Array) -> Array:
    """With mean 0 and length 1, or 0 where only rounding tells it from a constant."""
    number = jnp.sum(counts, axis=-1, keepdims=True, dtype=x.dtype)
    mean = jnp.sum(x, axis=-1, keepdims=True) / jnp.maximum(number, 1.0)
    centred = jnp.where(counts, x - mean, 0.0)
    constant = norm(centred) <= 8 * float(jnp.finfo(x.dtype).eps) * norm(x)
    return unit(jnp.where(constant, 0.0, centred))
