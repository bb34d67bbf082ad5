"""Losses for dense prediction: segmentation and detection.

Pixel-wise distillation needs no loss of its own: :func:`soft_target_kl` of logits of
shape ``[batch, height, width, classes]`` gives one value for each pixel.
"""

from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import AnyFeatures, Examples, Features, PerExample, Scalar
from jaxkd.losses._common import global_mean, norm, safe_sqrt, softmax, unit
from jaxkd.losses._layouts import (
    channel_rows,
    count_of,
    counted_rows,
    equal_pair,
    feature_pair,
    flat_positions,
    mean_of_example,
    per_channel,
    product,
    resize_like,
)
from jaxkd.losses._logits import soft_target_kl


def channel_wise_kl(
    student: Features, teacher: Features, *, temperature: float | Array = 4.0
) -> PerExample:
    r"""Divergence of where the channels are active, averaged over these.

    .. math::
        \frac{\tau^2}{C} \sum_c \mathrm{KL}(p_c \,\|\, q_c), \qquad
        q_c = \mathrm{softmax}_p(s_{pc} / \tau), \quad
        p_c = \mathrm{softmax}_p(t_{pc} / \tau)

    The softmax is over the positions: each channel counts the same, however strong it
    is. It takes features or class logits.

    Args:
        student: shape ``[batch, *positions, channels]``, :math:`s`.
        teacher: same shape, :math:`t`.
        temperature: :math:`\tau > 0`.

    Returns:
        One non-negative value per example, in nats, in at least float32; shape
        ``[batch]``.

    Raises:
        ValueError: if the shapes differ, or the temperature is not positive.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.zeros((1, 2, 1)), jnp.array([[[0.0], [400.0]]])
        >>> print(losses.channel_wise_kl(student, teacher, temperature=1.0).round(4))
        [0.6931]

    References:
        Shu et al., `Channel-wise Knowledge Distillation for Dense Prediction
        <https://arxiv.org/abs/2011.13256>`_, 2021, section 3.
    """
    s, t = (channel_rows(x) for x in equal_pair(student, teacher))
    return jnp.mean(soft_target_kl(s, t, temperature=temperature), axis=-1)


def pair_wise_similarity(
    student: AnyFeatures, teacher: AnyFeatures, *, window: float = 0.5
) -> PerExample:
    r"""How the similarities of an example's regions differ.

    .. math::
        \frac{1}{P^2} \sum_{pq} \big( \cos(s_p, s_q) - \cos(t_p, t_q) \big)^2

    Each region is the maximum, channel by channel, over a window of the positions. The
    channels may differ. The original code takes the lengths as constants in the
    gradient; here nothing is.

    Args:
        student: shape ``[batch, *positions, channels]``.
        teacher: the same batch and positions.
        window: the size of a window, as a part of the map's: with 0.5 there are 2
            regions along each axis. 0 takes every position.

    Returns:
        One value per example, between 0 and 4, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if batches or positions differ, or the window is not in [0, 1].
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.eye(2)[None], jnp.ones((1, 2, 3))
        >>> print(losses.pair_wise_similarity(student, teacher).round(3))
        [0.5]

    References:
        Liu et al., `Structured Knowledge Distillation for Semantic Segmentation
        <https://arxiv.org/abs/1903.04197>`_, 2019, section 3, and its code for the
        pooling.
    """
    s, t = feature_pair(student, teacher)
    _checks.check_fraction(window=window)
    _checks.check_same_axes(s, t, slice(1, -1), "positions")
    s, t = (unit(flat_positions(_max_pool(x, window))) for x in (s, t))
    return mean_of_example((product(s, s.mT) - product(t, t.mT)) ** 2)


def _max_pool(x: Array, window: float) -> Array:
    sizes = (1, *(max(1, int(n * window)) for n in x.shape[1:-1]), 1)
    ceil = [(0, -n % size) for n, size in zip(x.shape, sizes, strict=True)]
    return lax.reduce_window(x, -jnp.inf, lax.max, sizes, sizes, ceil)


def standardized_feature_mse(
    student: AnyFeatures,
    teacher: AnyFeatures,
    *,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: squared error of features, each channel standardized.

    .. math::
        \frac{1}{2BPC} \sum_{bpc} (\hat s_{bpc} - \hat t_{bpc})^2, \qquad
        \hat x_{bpc} = \frac{x_{bpc} - \bar x_c}{\sigma_c(x) + 10^{-6}}

    with the mean and the unbiased deviation :math:`\sigma_c` of a channel over the
    batch and all positions. It is about :math:`1 - \rho`, one minus the correlation of
    a channel of both. Called PKD, of detectors. If the positions differ, the student's
    are interpolated to the teacher's.

    Args:
        student: shape ``[batch, *positions, channels]``, :math:`s`.
        teacher: as many axes, and the same channels, :math:`t`.
        where: which examples count, shape ``[batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``; only sums for each
            channel are gathered, not the features.

    Returns:
        A non-negative scalar in at least float32; 0 if nothing counts.

    Raises:
        ValueError: if batches, channels or numbers of axes differ.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.array([[1.0], [2.0], [3.0]])
        >>> print(losses.standardized_feature_mse(student, 10 * student).round(4))
        0.0

    References:
        Cao et al., `PKD: General Distillation Framework for Object Detectors via
        Pearson Correlation Coefficient <https://arxiv.org/abs/2207.02039>`_, 2022,
        section 3.
    """
    s, t = feature_pair(student, teacher)
    _checks.check_same_axes(s, t, slice(-1, None), "channels")
    if s.ndim != t.ndim:
        _checks.check_same_shape(student=student, teacher=teacher)
    s = resize_like(s, t)
    if where is not None:
        _checks.check_shape(s.shape[:1], where=where)
        counts = where.astype(bool).reshape((-1,) + (1,) * (s.ndim - 1))
        s, t = jnp.where(counts, s, 0.0), jnp.where(counts, t, 0.0)
    s, t = (_standardized_channels(x, where, axis_name) for x in (s, t))
    return global_mean(mean_of_example((s - t) ** 2), where, axis_name) / 2


def _standardized_channels(
    x: Array, where: Examples | None, axis_name: str | None
) -> Array:
    def global_sum(values: Array) -> tuple[Array, Array]:
        rows, counts = counted_rows(values, where, axis_name)
        return jnp.sum(rows, axis=0), count_of(counts, x)

    positions = x.size // (x.shape[0] * x.shape[-1])
    total, examples = global_sum(jnp.sum(flat_positions(x), axis=1))
    number = positions * examples
    x = x - per_channel(total / number, x)
    squares, _ = global_sum(jnp.sum(flat_positions(x) ** 2, axis=1))
    deviation = safe_sqrt(squares / jnp.maximum(number - 1, 1.0))
    return x / (per_channel(deviation, x) + 1e-6)


def pooled_feature_distance(student: Features, teacher: Features) -> PerExample:
    r"""Distance of the means over the channels, and of those over the positions.

    .. math::
        \| a^s - a^t \| + \| b^s - b^t \|, \qquad
        a_p = \frac1C \sum_c f_{pc}, \quad b_c = \frac1P \sum_p f_{pc}

    The attention loss of feature-based distillation for detectors (FBKD), beside
    :func:`attention_weighted_distance` and the distance of what a non-local block makes
    of both. As in the code the features keep their sign, of which the paper takes the
    size; unlike in the code there is one norm for each example, not for the batch.

    Args:
        student: projected features, shape ``[batch, *positions, channels]``.
        teacher: same shape.

    Returns:
        One value per example, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if the shapes differ (they are never broadcast).
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[[3.0], [4.0]]]), jnp.zeros((1, 2, 1))
        >>> print(losses.pooled_feature_distance(student, teacher))
        [8.5]

    References:
        Zhang and Ma, `Improve Object Detection with Feature-based Knowledge
        Distillation: Towards Accurate and Efficient Detectors
        <https://openreview.net/forum?id=uKhGRvM8QNH>`_, 2021, and its code.
    """
    gap = flat_positions(jnp.subtract(*equal_pair(student, teacher)))
    return (norm(jnp.mean(gap, axis=2)) + norm(jnp.mean(gap, axis=1)))[..., 0]


def attention_weighted_distance(
    student: Features, teacher: Features, *, temperature: float = 0.5
) -> PerExample:
    r"""Distance of features, most of all where the two detectors look.

    .. math::
        \sqrt{\textstyle\sum_{pc} m_p \, (s_{pc} - t_{pc})^2}, \qquad
        m = \frac P2 \Big( \mathrm{softmax}\frac{a^s}{\tau}
            + \mathrm{softmax}\frac{a^t}{\tau} \Big), \quad
        a_p = \frac1C \sum_c |f_{pc}|

    The weights :math:`m` are held constant: no gradient goes through them. They have
    the mean 1. The paper weighs the channels likewise, which its code does not; unlike
    in the code there is one norm for each example, not for the batch.

    Args:
        student: shape ``[batch, *positions, channels]``, :math:`s`.
        teacher: same shape, :math:`t`.
        temperature: :math:`\tau > 0`; the lower, the more the weights differ.

    Returns:
        One value per example, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if the shapes differ, or the temperature is not positive.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[[0.0], [400.0]]]), jnp.zeros((1, 2, 1))
        >>> value = losses.attention_weighted_distance(student, teacher)
        >>> print(value.astype(int))  # √1.5 · 400: weights 1 ± ½
        [489]

    References:
        Zhang and Ma, `Improve Object Detection with Feature-based Knowledge
        Distillation: Towards Accurate and Efficient Detectors
        <https://openreview.net/forum?id=uKhGRvM8QNH>`_, 2021, and its code.
    """
    s, t = (flat_positions(x) for x in equal_pair(student, teacher))
    _checks.check_positive(temperature=temperature)
    looks = (jnp.mean(jnp.abs(x), axis=2) for x in (s, t))
    shares = sum(softmax(a, 1.0 / temperature)[0] for a in looks)
    weights = lax.stop_gradient(s.shape[1] / 2 * shares)
    return safe_sqrt(jnp.sum(weights * jnp.sum((s - t) ** 2, axis=2), axis=1))
