"""Losses on directions of hidden states; for the squared error see `feature_mse`."""

from jax import numpy as jnp

from jaxkd import _checks
from jaxkd._types import Features, PerExample, Positions
from jaxkd.losses._common import unit
from jaxkd.losses._layouts import equal_pair, flat_example, sum_of_example


def feature_cosine_distance(
    student: Features, teacher: Features, *, where: Positions | None = None
) -> PerExample:
    r"""One minus the cosine between the channels of student and teacher.

    .. math::
        \frac1P \sum_p \Big( 1 - \frac{\langle s_p, t_p \rangle}{\|s_p\| \|t_p\|} \Big)

    over the positions that count. DistilBERT takes it of the last hidden states. A
    position whose channels are all 0 has a cosine of 0.

    Args:
        student: shape ``[batch, *positions, channels]``, :math:`s`.
        teacher: same shape, :math:`t`.
        where: which positions count, as for padding, shape ``[batch, *positions]``; all
            if ``None``. What does not count may be NaN.

    Returns:
        One value per example, between 0 and 2, in at least float32; shape ``[batch]``.
        0 if nothing counts.

    Raises:
        ValueError: if the shapes differ.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[[2.0, 0.0]]]), jnp.array([[[0.0, 3.0]]])
        >>> print(losses.feature_cosine_distance(student, teacher))
        [1.]

    References:
        Sanh et al., `DistilBERT, a distilled version of BERT: smaller, faster, cheaper
        and lighter <https://arxiv.org/abs/1910.01108>`_, 2019, section 2.
    """
    s, t = equal_pair(student, teacher)
    where = jnp.ones(s.shape[:-1], bool) if where is None else where.astype(bool)
    _checks.check_shape(s.shape[:-1], where=where)
    s, t = (unit(jnp.where(where[..., None], x, 0.0)) for x in (s, t))
    gaps, where = flat_example(1 - jnp.sum(s * t, axis=-1)), flat_example(where)
    counts = jnp.sum(where, axis=1, dtype=s.dtype)
    return jnp.sum(jnp.where(where, gaps, 0.0), axis=1) / jnp.maximum(counts, 1.0)


def patient_distance(student: Features, teacher: Features) -> PerExample:
    r"""Squared distance of an example's hidden states at length 1, over its layers.

    .. math::
        \sum_l \Big\| \frac{s_l}{\|s_l\|} - \frac{t_l}{\|t_l\|} \Big\|^2

    Patient knowledge distillation: the states of the first token of several layers,
    the teacher's chosen by a layer map. Each layer has a length of its own; of one
    layer it is :func:`unit_feature_distance`.

    Args:
        student: shape ``[batch, *layers, channels]``, :math:`s`.
        teacher: same shape, :math:`t`.

    Returns:
        One value per example, between 0 and 4 for each layer, in at least float32;
        shape ``[batch]``.

    Raises:
        ValueError: if the shapes differ.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[[2.0, 0.0]]]), jnp.array([[[0.0, 3.0]]])
        >>> print(losses.patient_distance(student, teacher))
        [2.]

    References:
        Sun et al., `Patient Knowledge Distillation for BERT Model Compression
        <https://arxiv.org/abs/1908.09355>`_, 2019, section 3.2.
    """
    s, t = equal_pair(student, teacher)
    return sum_of_example((unit(s) - unit(t)) ** 2)
