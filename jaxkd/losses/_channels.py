"""Losses on how the channels of an example relate."""

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import AnyFeatures, PerExample
from jaxkd.losses._common import safe_sqrt, unit
from jaxkd.losses._layouts import (
    channel_rows,
    feature_pair,
    flat_positions,
    mean_of_example,
    pooled_pair,
    product,
    sum_of_example,
)


def neuron_selectivity(student: AnyFeatures, teacher: AnyFeatures) -> PerExample:
    r"""Whether the channels of both select the same positions, as sets.

    .. math::
        \frac{1}{C_s^2} \sum_{ij} (s_i \cdot s_j)^2
        + \frac{1}{C_t^2} \sum_{ij} (t_i \cdot t_j)^2
        - \frac{2}{C_s C_t} \sum_{ij} (s_i \cdot t_j)^2

    with each channel's map as a vector of length 1: the squared maximum mean
    discrepancy of the two sets of maps, under the kernel :math:`(a \cdot b)^2`. The map
    with more positions is averaged to the smaller one first; the channels may differ.
    It needs memory for the square of the channels, or of the positions if that is less.

    Args:
        student: shape ``[batch, *positions, channels]``.
        teacher: as many axes; positions and channels may differ.

    Returns:
        One value per example, not negative but for rounding, in at least float32;
        shape ``[batch]``.

    Raises:
        ValueError: if the batches or the numbers of axes differ.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[[1.0], [0.0]]]), jnp.array([[[0.0], [7.0]]])
        >>> print(losses.neuron_selectivity(student, teacher))
        [2.]

    References:
        Huang and Wang, `Like What You Like: Knowledge Distill via Neuron Selectivity
        Transfer <https://arxiv.org/abs/1707.01219>`_, 2017, section 4, the polynomial
        kernel.
    """
    s, t = (unit(channel_rows(x)) for x in pooled_pair(student, teacher))
    channels, positions = (s.shape[1], t.shape[1]), s.shape[2]
    if positions <= min(channels):  # the same, from the positions: |SSᵀ/C - TTᵀ/C'|²
        gs, gt = (product(x.mT, x) / x.shape[1] for x in (s, t))
        return sum_of_example((gs - gt) ** 2)
    alike = lambda a, b: mean_of_example(product(a, b.mT) ** 2)
    return alike(s, s) + alike(t, t) - 2 * alike(s, t)


def inter_channel_correlation(student: AnyFeatures, teacher: AnyFeatures) -> PerExample:
    r"""How the similarities of an example's channels differ.

    .. math::
        \frac1C \big\| \tilde G^s - \tilde G^t \big\|_F^2, \qquad
        G = F F^\top, \quad \tilde G_i = G_i / \|G_i\|

    with the map of a channel as a row of :math:`F`. The positions need not agree. A
    channel that is 0 is similar to none.

    Args:
        student: shape ``[batch, *positions, channels]``.
        teacher: the same batch and channels.

    Returns:
        One value per example, between 0 and 4, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if batches or channels differ.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.ones((1, 4, 2)), jnp.eye(2)[None]
        >>> print(losses.inter_channel_correlation(student, teacher).round(3))
        [0.586]

    References:
        Liu et al., `Exploring Inter-Channel Correlation for Diversity-preserved
        Knowledge Distillation <https://arxiv.org/abs/2202.03680>`_, 2021, section 3.
    """
    s, t = feature_pair(student, teacher)
    _checks.check_same_axes(s, t, slice(-1, None), "channels")
    rows = (channel_rows(x) for x in (s, t))
    gs, gt = (unit(product(x, x.mT)) for x in rows)
    return sum_of_example((gs - gt) ** 2) / s.shape[-1]


def channel_affinity(student: AnyFeatures, teacher: AnyFeatures) -> PerExample:
    r"""How the similarities of the positions differ, channel by channel.

    .. math::
        \frac1P \sum_c \big\| s_c s_c^\top - t_c t_c^\top \big\|_F

    with each channel's map as a vector of length 1. The norm is found from the vectors
    alone, without a matrix of :math:`P^2` numbers.

    Args:
        student: adapted features, shape ``[batch, *positions, channels]``.
        teacher: same shape; a larger map is averaged to the smaller one.

    Returns:
        One value per example, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if the batches, channels or numbers of axes differ.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[[1.0], [0.0]]]), jnp.array([[[0.0], [7.0]]])
        >>> print(losses.channel_affinity(student, teacher).round(4))
        [0.7071]

    References:
        He et al., `Knowledge Adaptation for Efficient Semantic Segmentation
        <https://arxiv.org/abs/1903.04688>`_, 2019, section 3.2.
    """
    s, t = pooled_pair(student, teacher)
    _checks.check_same_axes(s, t, slice(-1, None), "channels")
    s, t = (unit(channel_rows(x)) for x in (s, t))
    # ssᵀ - ttᵀ = (dmᵀ + mdᵀ)/2 of their difference and sum, exact where they are equal.
    d, m = s - t, s + t
    squares = jnp.sum(d**2, -1) * jnp.sum(m**2, -1) + jnp.sum(d * m, -1) ** 2
    return jnp.sum(safe_sqrt(squares / 2), axis=-1) / s.shape[-1]


def singular_vector_relation(
    student: AnyFeatures,
    student_next: AnyFeatures,
    teacher: AnyFeatures,
    teacher_next: AnyFeatures,
    *,
    rank: int = 1,
) -> PerExample:
    r"""How differently the main directions of two layers relate.

    .. math::
        \sum_{rcd} \big( K(v^s_{rc}, w^s_{rd}) - K(v^t_{rc}, w^t_{rd}) \big)^2,
        \qquad K(a, b) = e^{-(a - b)^2 / 8}

    :math:`v_r` is the :math:`r`-th right singular vector of the positions-by-channels
    matrix of a layer, times its share of the teacher's singular values, and :math:`w_r`
    that of the next layer. For the teacher's vector the student's is taken, of its
    first ``rank + 3``, that points most nearly the same or the opposite way.

    The sign of a singular vector is arbitrary, and the value depends on it: here the
    teacher's mean over the positions is on its positive side, so features after a ReLU
    have a positive first vector.

    Args:
        student: shape ``[batch, *positions, channels]``.
        student_next: a later layer; positions and channels may differ.
        teacher: the channels of ``student``.
        teacher_next: the channels of ``student_next``.
        rank: how many singular vectors.

    Returns:
        One value per example, in at least float32; shape ``[batch]``. The gradient
        leaves out directions with the same singular value, where it has none.

    Raises:
        ValueError: if batches or channels differ, or the rank is not between 1 and the
            number of channels.
        TypeError: if an input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> straight, turned = jnp.array([[[2.0, 0.0]]]), jnp.array([[[4.0, 3.0]]])
        >>> value = losses.singular_vector_relation(*3 * [straight], turned)
        >>> print(value.round(4))
        [0.0132]

    References:
        Lee et al., `Self-supervised Knowledge Distillation Using Singular Value
        Decomposition <https://arxiv.org/abs/1807.06819>`_, 2018, section 3.
    """
    feature_pair(student, student_next)
    v = _aligned_directions(student, teacher, rank)
    w = _aligned_directions(student_next, teacher_next, rank)
    kernel = lambda a, b: jnp.exp(-((b[:, :, None] - a[:, None]) ** 2) / 8)
    _checks.check_same_axes(v[0], w[0], slice(1), "examples")
    return sum_of_example((kernel(v[0], w[0]) - kernel(v[1], w[1])) ** 2)


def _aligned_directions(
    student: AnyFeatures, teacher: AnyFeatures, rank: int
) -> tuple[Array, Array]:
    """The student's and the teacher's directions, shape ``[batch, channels, rank]``."""
    s, t = (flat_positions(x) for x in feature_pair(student, teacher))
    _checks.check_same_axes(student, teacher, slice(-1, None), "channels")
    if not 1 <= rank <= s.shape[-1]:
        raise ValueError(f"`rank` must be in [1, {s.shape[-1]}], got {rank}.")
    (_, vs), (values, vt) = _right_singular(s, rank + 3), _right_singular(t, rank)
    forward = jnp.sum(product(t, vt), axis=1, keepdims=True) >= 0
    vt = jnp.where(forward, vt, -vt)
    cosines = product(vs.mT, vt)
    nearest = jnp.argmax(jnp.abs(cosines), axis=1, keepdims=True)
    same_way = jnp.take_along_axis(cosines, nearest, axis=1) >= 0
    vs = jnp.take_along_axis(vs, nearest, axis=2)
    share = unit(values)[:, None]
    return jnp.where(same_way, vs, -vs) * share, vt * share


def _right_singular(x: Array, rank: int) -> tuple[Array, Array]:
    """The first singular values and right singular vectors, greatest first."""
    squares, vectors = _eigenvectors(product(x.mT, x))
    squares, vectors = squares[:, ::-1][:, :rank], vectors[:, :, ::-1][..., :rank]
    return safe_sqrt(jnp.maximum(squares, 0.0)), vectors


@jax.custom_jvp
def _eigenvectors(gram: Array) -> tuple[Array, Array]:
    """As ``jnp.linalg.eigh``, with a derivative where eigenvalues are equal.

    On CPU one matrix at a time: a program with several batches of decompositions can
    stop for ever, each waiting for the threads that the others hold (jax 0.10 to 0.12).
    """
    at_once = lambda x: tuple(jnp.linalg.eigh(x))
    one_by_one = lambda x: lax.map(at_once, x)
    values, vectors = lax.platform_dependent(gram, cpu=one_by_one, default=at_once)
    return values, vectors


@_eigenvectors.defjvp
def _eigenvectors_jvp(primals: tuple, tangents: tuple) -> tuple:
    values, vectors = _eigenvectors(*primals)
    (change,) = tangents
    turned = product(product(vectors.mT, change), vectors)
    gaps = values[:, None, :] - values[:, :, None]
    largest = jnp.max(jnp.abs(values), axis=-1)[:, None, None]
    apart = jnp.abs(gaps) > 100 * float(jnp.finfo(values.dtype).eps) * largest
    slopes = jnp.where(apart, 1.0 / jnp.where(apart, gaps, 1.0), 0.0)
    diagonal = jnp.diagonal(turned, axis1=-2, axis2=-1)
    return (values, vectors), (diagonal, product(vectors, slopes * turned))
