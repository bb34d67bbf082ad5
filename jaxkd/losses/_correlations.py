r"""Losses on how predictions relate: within an example, and across the batch.

With :math:`p, q` the softened distributions of teacher and student, as matrices of
shape ``[batch, classes]``. Most of these couple the examples of a batch: they return
one number, and under ``pmap`` or ``shard_map`` they take ``axis_name`` and gather the
predictions of all devices, so that every device returns the value of the global batch.
The gradient of one device is that of the sum of the values over the devices, so
average the gradients over the devices, as for the mean of per-device losses.
"""

from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import Logits, PerExample, Scalar, Where
from jaxkd.losses._common import (
    at_least_float32,
    gather_rows,
    inverse_temperature,
)
from jaxkd.losses._coupled import batch_gap, class_decorrelation, class_gap
from jaxkd.losses._rows import correlation_rows


def inter_class_relation(
    student_logits: Logits, teacher_logits: Logits, *, temperature: float | Array = 1.0
) -> PerExample:
    r"""One minus the correlation of student and teacher over the classes.

    .. math::
        1 - \rho(q_i, p_i), \qquad
        \rho(a, b) = \frac{\langle a - \bar a, b - \bar b \rangle}
                          {\|a - \bar a\| \|b - \bar b\| + 10^{-8}}

    The first half of DIST; add :func:`intra_class_relation`. The factor
    :math:`\tau^2` of the authors' code is not included: the paper has none, and a
    correlation needs none.

    Args:
        student_logits: shape ``[*batch, classes]``.
        teacher_logits: same shape.
        temperature: :math:`\tau > 0`, a number or one per example, ``[*batch]``.

    Returns:
        One value per example, between 0 and 2, in at least float32; shape ``[*batch]``.

    Raises:
        ValueError: if shapes differ, or the temperature is not positive.
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 1.0]]), jnp.array([[0.0, 9.0]])
        >>> print(abs(losses.inter_class_relation(student, teacher).round(3)))
        [0.]

    References:
        Huang et al., `Knowledge Distillation from A Stronger Teacher
        <https://arxiv.org/abs/2205.10536>`_, 2022, equation 8.
    """
    _checks.check_logits(student_logits, teacher_logits)
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    return correlation_rows(s, t, inverse_temperature(temperature, s), None)


def intra_class_relation(
    student_logits: Logits,
    teacher_logits: Logits,
    *,
    temperature: float | Array = 1.0,
    where: Where | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: one minus the correlation, over examples, of classes.

    .. math::
        1 - \frac{1}{C} \sum_c \rho(q_{\cdot c}, p_{\cdot c})

    :math:`\rho` as in :func:`inter_class_relation`. The second half of DIST.

    Args:
        student_logits: shape ``[batch, classes]``; more axes count as batch.
        teacher_logits: same shape.
        temperature: :math:`\tau > 0`, a number or one per example, ``[*batch]``.
        where: which examples count, shape ``[*batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``, to correlate over the
            global batch.

    Returns:
        A scalar between 0 and 2, in at least float32.

    Raises:
        ValueError: if shapes differ, or the temperature is not positive.
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> logits = jnp.array([[0.0, 1.0], [3.0, 0.0]])
        >>> print(abs(losses.intra_class_relation(logits, logits).round(3)))
        0.0

    References:
        Huang et al., `Knowledge Distillation from A Stronger Teacher
        <https://arxiv.org/abs/2205.10536>`_, 2022, equation 9.
    """
    rows = _global_rows(student_logits, teacher_logits, temperature, where, axis_name)
    return class_decorrelation(*rows)


def class_correlation(
    student_logits: Logits,
    teacher_logits: Logits,
    *,
    temperature: float | Array = 4.0,
    where: Where | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: how the class-by-class correlations differ.

    .. math::
        \frac{1}{C} \big\| q^\top q - p^\top p \big\|_F^2

    The sum is over the batch, as in the authors' code: the value grows with its square.
    There is no factor :math:`\tau^2`. With more classes than examples it is computed
    from example-by-example products, without memory for :math:`C^2` numbers.

    Args:
        student_logits: shape ``[batch, classes]``; more axes count as batch.
        teacher_logits: same shape.
        temperature: :math:`\tau > 0`, a number or one per example, ``[*batch]``.
        where: which examples count, shape ``[*batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``.

    Returns:
        A non-negative scalar in at least float32.

    Raises:
        ValueError: if shapes differ, or the temperature is not positive.
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.zeros((1, 2)), jnp.array([[0.0, 400.0]])
        >>> print(losses.class_correlation(student, teacher))
        0.375

    References:
        Jin et al., `Multi-Level Logit Distillation
        <https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html>`_,
        2023, equation 7.
    """
    rows = _global_rows(student_logits, teacher_logits, temperature, where, axis_name)
    return class_gap(*rows) / student_logits.shape[-1]


def batch_correlation(
    student_logits: Logits,
    teacher_logits: Logits,
    *,
    temperature: float | Array = 4.0,
    where: Where | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: how the example-by-example correlations differ.

    .. math::
        \frac{1}{B} \big\| q q^\top - p p^\top \big\|_F^2

    :math:`B` counts the examples that count. There is no factor :math:`\tau^2`.

    Args:
        student_logits: shape ``[batch, classes]``; more axes count as batch.
        teacher_logits: same shape.
        temperature: :math:`\tau > 0`, a number or one per example, ``[*batch]``.
        where: which examples count, shape ``[*batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``.

    Returns:
        A non-negative scalar in at least float32; 0 if nothing counts.

    Raises:
        ValueError: if shapes differ, or the temperature is not positive.
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.zeros((1, 2)), jnp.array([[0.0, 400.0]])
        >>> print(losses.batch_correlation(student, teacher))
        0.25

    References:
        Jin et al., `Multi-Level Logit Distillation
        <https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html>`_,
        2023, equation 4.
    """
    rows = _global_rows(student_logits, teacher_logits, temperature, where, axis_name)
    total, counts = batch_gap(*rows), rows[-1]
    return total / jnp.maximum(jnp.sum(counts, dtype=total.dtype), 1.0)


def _global_rows(
    student_logits: Logits,
    teacher_logits: Logits,
    temperature: float | Array,
    where: Where | None,
    axis_name: str | None,
) -> tuple[Array, Array, float | Array, Array]:
    """Rows of all devices, one over their temperature, and a column of what counts."""
    _checks.check_logits(student_logits, teacher_logits)
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    scale = inverse_temperature(temperature, s)
    if where is None:
        where = jnp.ones(s.shape[:-1], bool)
    _checks.check_where(s, where)
    s, t, counts = (
        gather_rows(x.reshape(-1, n), axis_name)
        for x, n in ((s, s.shape[-1]), (t, t.shape[-1]), (where.astype(bool), 1))
    )
    if isinstance(scale, Array) and scale.ndim > 0:
        scale = gather_rows(scale.reshape(-1, 1), axis_name)
    return s, t, scale, counts
