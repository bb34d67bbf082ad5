"""Losses on features before their ReLU: on which side of it they are."""

import math

from jax import numpy as jnp
from jax.scipy import stats

from jaxkd import _checks
from jaxkd._types import Channels, Features, PerExample
from jaxkd.losses._layouts import equal_pair, per_channel, sum_of_example


def activation_boundary(
    student: Features, teacher: Features, *, margin: float = 1.0
) -> PerExample:
    r"""By how much neurons are on the wrong side of their activation boundary.

    .. math::
        \sum_{pc} \begin{cases}
            (m - s)_+^2 & t > 0 \\
            (m + s)_+^2 & t \le 0
        \end{cases}

    Only whether the teacher's neuron is active counts, not its value. For the first
    stage of training, before the labels are used; the sum is over positions and
    channels. RepDistiller's value is 0.003 times this, and halves with each layer
    further from the last.

    Args:
        student: features before the ReLU, shape ``[batch, *positions, channels]``.
        teacher: same shape.
        margin: :math:`m > 0`, how far from the boundary a neuron should be.

    Returns:
        One non-negative value per example, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if the shapes differ, or the margin is not positive.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[3.0, 2.0]]), jnp.array([[0.1, -0.1]])
        >>> print(losses.activation_boundary(student, teacher))
        [9.]

    References:
        Heo et al., `Knowledge Transfer via Distillation of Activation Boundaries Formed
        by Hidden Neurons <https://arxiv.org/abs/1811.03233>`_, 2019, section 3.
    """
    s, t = equal_pair(student, teacher)
    _checks.check_positive(margin=margin)
    towards = jnp.where(t > 0, s, -s)
    return sum_of_example(jnp.maximum(margin - towards, 0.0) ** 2)


def overhaul_distance(
    student: Features, teacher: Features, margin: Channels
) -> PerExample:
    r"""Squared distance to the teacher's features before the ReLU, where it matters.

    .. math::
        \sum_{pc} \begin{cases}
            0 & s \le t' \le 0 \\
            (s - t')^2 & \text{otherwise}
        \end{cases}, \qquad t'_{pc} = \max(t_{pc}, m_c)

    What is positive must be met; what is negative need only be below the margin or the
    teacher's own value. The sum is over positions and channels. Called feature
    distillation overhaul (OFD).

    Args:
        student: projected features, shape ``[batch, *positions, channels]``, :math:`s`.
        teacher: features before the ReLU, same shape, :math:`t`.
        margin: shape ``[channels]``, :math:`m \le 0`: see :func:`batchnorm_margin`.

    Returns:
        One non-negative value per example, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if the shapes do not fit.
        TypeError: if an input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[-5.0, 1.0]]), jnp.array([[-0.1, -9.0]])
        >>> print(losses.overhaul_distance(student, teacher, -jnp.ones(2)))
        [4.]

    References:
        Heo et al., `A Comprehensive Overhaul of Feature Distillation
        <https://arxiv.org/abs/1904.01866>`_, 2019, section 3.
    """
    s, t = equal_pair(student, teacher)
    _checks.check_floating(margin=margin)
    _checks.check_shape(student.shape[-1:], margin=margin)
    t = jnp.maximum(t, per_channel(margin, t))
    return sum_of_example(jnp.where((s > t) | (t > 0), (s - t) ** 2, 0.0))


def batchnorm_margin(scale: Channels, bias: Channels) -> Channels:
    r"""The mean of a channel where it is negative, from its batch normalization.

    .. math::
        m = \mathrm{E}[x \mid x < 0] = \mu - \sigma
            \frac{\varphi(\mu / \sigma)}{\Phi(-\mu / \sigma)},
        \qquad x \sim \mathcal{N}(\mu, \sigma^2)

    with :math:`\mu` the bias and :math:`\sigma` the size of the scale. Where less than
    a thousandth of the channel is negative it is :math:`-3 \sigma`, as in the authors'
    code. For :func:`overhaul_distance`; no gradient is meant to go through it.

    Args:
        scale: the normalization's trained scale, shape ``[channels]``.
        bias: its trained bias, same shape.

    Returns:
        The margins, not above 0, shape ``[channels]``.

    Raises:
        ValueError: if the shapes differ.
        TypeError: if either is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> scale, bias = jnp.array([2.0, 0.0]), jnp.array([18.0, -1.0])
        >>> print(losses.batchnorm_margin(scale, bias))
        [-6. -1.]

    References:
        Heo et al., `A Comprehensive Overhaul of Feature Distillation
        <https://arxiv.org/abs/1904.01866>`_, 2019, section 3, and their code.
    """
    _checks.check_floating(scale=scale, bias=bias)
    _checks.check_same_shape(scale=scale, bias=bias)
    deviation = jnp.abs(scale)
    ratio = bias / jnp.where(deviation > 0, deviation, 1.0)
    log_negative = stats.norm.logcdf(-ratio)
    hazard = jnp.exp(stats.norm.logpdf(ratio) - log_negative)
    common = log_negative > math.log(1e-3)
    margin = jnp.where(common, bias - deviation * hazard, -3.0 * deviation)
    return jnp.where(deviation > 0, margin, jnp.minimum(bias, 0.0))
