r"""Losses on maps: where a network looks, and how its layers follow each other."""

from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import AnyFeatures, Features, PerExample
from jaxkd.losses._common import norm, unit
from jaxkd.losses._layouts import (
    average_pool,
    channel_rows,
    equal_pair,
    feature_pair,
    flat_example,
    flat_positions,
    mean_of_example,
    pooled_pair,
    power_of,
    product,
)


def attention_transfer(
    student: AnyFeatures, teacher: AnyFeatures, *, power: float = 2.0
) -> PerExample:
    r"""How differently two networks look at the positions, averaged over these.

    .. math::
        \frac{1}{P} \sum_p \Big(\frac{a^s_p}{\|a^s\|} - \frac{a^t_p}{\|a^t\|}\Big)^2,
        \qquad a_p = \frac1C \sum_c |f_{pc}|^k

    This is the mean of the authors' code; :func:`attention_distance` is the norm of
    their paper, whose weight is not the same. The map with more positions is averaged
    to the smaller one first, and the channels may differ.

    Args:
        student: shape ``[batch, *positions, channels]``.
        teacher: as many axes; positions and channels may differ.
        power: :math:`k \ge 1`.

    Returns:
        One value per example, between 0 and :math:`2/P`, in at least float32; shape
        ``[batch]``.

    Raises:
        ValueError: if the batches or the numbers of axes differ.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[[1.0], [0.0]]]), jnp.array([[[0.0], [7.0]]])
        >>> print(losses.attention_transfer(student, teacher))
        [1.]

    References:
        Zagoruyko and Komodakis, `Paying More Attention to Attention: Improving the
        Performance of Convolutional Neural Networks via Attention Transfer
        <https://arxiv.org/abs/1612.03928>`_, 2017, section 3.1, and their code.
    """
    qs, qt = _attention_maps(student, teacher, power)
    return jnp.mean((qs - qt) ** 2, axis=-1)


def attention_distance(
    student: AnyFeatures, teacher: AnyFeatures, *, power: float = 2.0
) -> PerExample:
    r"""How differently two networks look at the positions, as a norm.

    .. math::
        \Big\| \frac{a^s}{\|a^s\|} - \frac{a^t}{\|a^t\|} \Big\|,
        \qquad a_p = \sum_c |f_{pc}|^k

    The form of the paper. :func:`attention_transfer` is its square over the number of
    positions, and much smaller. Its gradient is 0 where the maps are equal, and of the
    same size however near they are.

    Args:
        student: shape ``[batch, *positions, channels]``.
        teacher: as many axes; positions and channels may differ.
        power: :math:`k \ge 1`.

    Returns:
        One value per example, between 0 and :math:`\sqrt 2`, in at least float32;
        shape ``[batch]``.

    Raises:
        ValueError: if the batches or the numbers of axes differ, or the power is less
            than 1.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[[1.0], [0.0]]]), jnp.array([[[0.0], [7.0]]])
        >>> print(losses.attention_distance(student, teacher).round(3))
        [1.414]

    References:
        Zagoruyko and Komodakis, `Paying More Attention to Attention: Improving the
        Performance of Convolutional Neural Networks via Attention Transfer
        <https://arxiv.org/abs/1612.03928>`_, 2017, section 3.1.
    """
    qs, qt = _attention_maps(student, teacher, power)
    return norm(qs - qt)[..., 0]


def class_attention(
    student: AnyFeatures,
    teacher: AnyFeatures,
    *,
    size: int = 2,
    normalize: bool = True,
) -> PerExample:
    r"""How differently two classifiers look at the positions, class by class.

    .. math::
        \frac{1}{PK} \sum_{k} \Big\|
            \frac{a^s_k}{\|a^s_k\|} - \frac{a^t_k}{\|a^t_k\|} \Big\|^2

    The activation map :math:`a_k` of class :math:`k` is the features at each position
    times the classifier's weights for the class, here averaged to few positions
    :math:`P`. The authors' student learns from this alone (CAT); beside the labels
    (CAT-KD) they leave the maps unnormalized.

    Args:
        student: class activation maps, shape ``[batch, *positions, classes]``.
        teacher: as many axes, and the same classes; positions may differ.
        size: how many positions to keep along each axis, if there are more.
        normalize: whether to divide by the lengths.

    Returns:
        One value per example, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if the batches or classes differ, or the size is not positive.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[[1.0], [0.0]]]), jnp.array([[[0.0], [7.0]]])
        >>> print(losses.class_attention(student, teacher))
        [1.]

    References:
        Guo et al., `Class Attention Transfer Based Knowledge Distillation
        <https://arxiv.org/abs/2304.12777>`_, 2023, section 3, and its code.
    """
    _checks.check_positive(size=size)
    s, t = pooled_pair(student, teacher)
    _checks.check_same_axes(s, t, slice(-1, None), "channels")
    sizes = tuple(min(size, n) for n in s.shape[1:-1])
    s, t = (channel_rows(average_pool(x, sizes)) for x in (s, t))
    s, t = (unit(s), unit(t)) if normalize else (s, t)
    return mean_of_example((s - t) ** 2)


def hierarchical_context(
    student: Features, teacher: Features, *, levels: tuple[int, ...] = (4, 2, 1)
) -> PerExample:
    r"""Mean squared error of features at several resolutions.

    .. math::
        \frac{\mathrm{mse}(s, t) + \sum_i 2^{-i}\, \mathrm{mse}(s^{(i)}, t^{(i)})}
             {1 + \sum_i 2^{-i}}

    where :math:`s^{(i)}` is averaged to the :math:`i`-th level, 4 by 4 positions, then
    2 by 2, then 1. Levels that are not below the resolution of the features are left
    out, and the next keeps its weight of one half. ReviewKD takes the sum over the
    stages, of features that its fusion blocks make.

    Args:
        student: fused features, shape ``[batch, *positions, channels]``.
        teacher: same shape.
        levels: positions along each axis, from many to few.

    Returns:
        One value per example, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if the shapes differ, or a level is not positive.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[[2.0], [0.0]]]), jnp.zeros((1, 2, 1))
        >>> print(losses.hierarchical_context(student, teacher))
        [1.6666666]

    References:
        Chen et al., `Distilling Knowledge via Knowledge Review
        <https://arxiv.org/abs/2104.09044>`_, 2021, section 3.3, and its code for the
        weights.
    """
    s, t = equal_pair(student, teacher)
    _checks.check_positive(**{f"levels[{i}]": n for i, n in enumerate(levels)})
    gap, largest = s - t, max(s.shape[1:-1], default=1)
    loss, weight, total = mean_of_example(gap**2), 1.0, 1.0
    for level in (level for level in levels if level < largest):
        sizes = tuple(min(level, n) for n in s.shape[1:-1])
        weight /= 2
        total += weight
        loss += weight * mean_of_example(average_pool(gap, sizes) ** 2)
    return loss / total


def flow_of_solution(
    student: AnyFeatures,
    student_next: AnyFeatures,
    teacher: AnyFeatures,
    teacher_next: AnyFeatures,
) -> PerExample:
    r"""How differently two networks get from one layer to the next.

    .. math::
        \frac{1}{C C'} \| G^s - G^t \|_F^2, \qquad
        G = \frac1P \sum_p f_p \otimes f'_p

    :math:`f` and :math:`f'` are the features of a layer and of a later one, of which
    the larger map is averaged to the smaller one. For the first stage of training.

    Args:
        student: shape ``[batch, *positions, channels]``, :math:`f`.
        student_next: as many axes; positions and channels may differ, :math:`f'`.
        teacher: the teacher's :math:`f`, with the channels of ``student``.
        teacher_next: the teacher's :math:`f'`, with the channels of ``student_next``.

    Returns:
        One value per example, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if batches or channels differ.
        TypeError: if an input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> ones, zeros = jnp.ones((1, 4, 2)), jnp.zeros((1, 4, 2))
        >>> print(losses.flow_of_solution(ones, ones, ones, zeros))
        [1.]

    References:
        Yim et al., `A Gift from Knowledge Distillation: Fast Optimization, Network
        Minimization and Transfer Learning
        <https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html>`_,
        2017, section 3.
    """
    feature_pair(student, teacher)
    gs, gt = _flow(student, student_next), _flow(teacher, teacher_next)
    _checks.check_same_axes(gs, gt, slice(1, None), "channels of the two layers")
    return mean_of_example((gs - gt) ** 2)


def _flow(features: AnyFeatures, following: AnyFeatures) -> Array:
    f, g = (flat_positions(x) for x in pooled_pair(features, following))
    return product(f.mT, g) / f.shape[1]


def _attention_maps(
    student: AnyFeatures, teacher: AnyFeatures, power: float
) -> tuple[Array, Array]:
    """Unit vectors of the energy at each position."""
    pair = pooled_pair(student, teacher)
    qs, qt = (
        unit(flat_example(jnp.mean(power_of(jnp.abs(x), power), -1))) for x in pair
    )
    return qs, qt
