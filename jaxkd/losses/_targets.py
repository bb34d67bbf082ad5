r"""Losses which weigh the examples, or change the teacher before distilling it.

Letters are those of :func:`jaxkd.losses.soft_target_kl`.
"""

from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import Labels, Logits, PerExample, Where
from jaxkd.losses._common import (
    at_least_float32,
    global_mean,
    inverse_temperature,
    is_label,
    log_sum_exp,
    pick,
    softmax,
    squared_temperature,
)
from jaxkd.losses._labels import cross_entropy
from jaxkd.losses._positions import constant
from jaxkd.losses._rows import cross_entropy_rows, forward_kl_rows, target_enhanced_rows


def weighted_soft_cross_entropy(
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Labels,
    *,
    temperature: float | Array = 2.0,
) -> PerExample:
    r"""Soft cross-entropy, weighted by how far the student lags behind the teacher.

    .. math::
        -w \tau^2 \sum_c p_c \log q_c, \qquad
        w = 1 - \exp\Big(-\frac{\mathrm{CE}(s, y)}{\mathrm{CE}(t, y) + 10^{-7}}\Big)

    The weight (the cross-entropies are at temperature 1) has no gradient. Where the
    student is already better than the teacher it is small. The paper's outer weight,
    2.5, is not included.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        labels: integers :math:`y` in ``[0, classes)``, shape ``[*batch]``.
        temperature: :math:`\tau > 0`, a number or one per example, ``[*batch]``.

    Returns:
        One value per example in nats, non-negative, in at least float32; shape
        ``[*batch]``.

    Raises:
        ValueError: if shapes differ, a label is out of range, or the temperature is not
            positive.
        TypeError: if the logits are not floating point or the labels not integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> z, y = jnp.zeros((1, 2)), jnp.array([0])
        >>> print(losses.weighted_soft_cross_entropy(z, z, y).round(4))
        [1.7526]

    References:
        Zhou et al., `Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance
        Tradeoff Perspective <https://arxiv.org/abs/2102.00650>`_, 2021, equation 11.
    """
    _checks.check_logits(student_logits, teacher_logits)
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    scale = inverse_temperature(temperature, s)
    lag = cross_entropy(s, labels) / (cross_entropy(t, labels) + 1e-7)
    w = lax.stop_gradient(1 - jnp.exp(-lag))
    return w * squared_temperature(scale) * cross_entropy_rows(s, t, scale, 0.0)


def target_enhanced_cross_entropy(
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Labels,
    *,
    exponent: float = 1.5,
) -> PerExample:
    r"""Soft cross-entropy with the teacher's target class enhanced.

    .. math::
        -\sum_c \big[(p_c + 1_{c = y})^{\epsilon} - 1_{c = y}\big] \log q_c,
        \quad \tau = 1

    For students of another architecture than the teacher's, at every exit. With
    :math:`\epsilon = 1` it is :func:`soft_cross_entropy`.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        labels: integers :math:`y` in ``[0, classes)``, shape ``[*batch]``.
        exponent: :math:`\epsilon \geq 1`; 1 to 1.5. It has no gradient.

    Returns:
        One value per example in nats, non-negative, in at least float32; shape
        ``[*batch]``. Not 0 at equality.

    Raises:
        ValueError: if shapes differ, a label is out of range, or the exponent is not
            positive.
        TypeError: if the logits are not floating point or the labels not integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> z, y = jnp.zeros((1, 2)), jnp.array([0])
        >>> print(losses.target_enhanced_cross_entropy(z, z, y, exponent=1.0))
        [0.6931472]

    References:
        Hao et al., `One-for-All: Bridge the Gap Between Heterogeneous Architectures in
        Knowledge Distillation <https://arxiv.org/abs/2310.19444>`_, 2023, equation 7.
    """
    _checks.check_logits(student_logits, teacher_logits)
    _checks.check_labels(student_logits, labels)
    _checks.check_positive(exponent=exponent)
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    return target_enhanced_rows(s, t, 1.0, (labels, constant(exponent, s)))


def transformed_teacher_kl(
    student_logits: Logits, teacher_logits: Logits, *, exponent: float = 0.1
) -> PerExample:
    r"""Divergence of the unsoftened student from the power-transformed teacher.

    .. math::
        \sum_c p_c (\log p_c - \log q_c), \quad
        p_c = \frac{\sigma(t)_c^l}{\sum_j \sigma(t)_j^l}, \quad
        q = \sigma(s) = \mathrm{softmax}(s)

    The transform is a temperature :math:`1 / l` for the teacher alone; there is no
    factor :math:`\tau^2`. The paper's outer weight is about 45.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        exponent: :math:`l > 0`; 0.1 to 0.4.

    Returns:
        One value per example in nats, non-negative, in at least float32; shape
        ``[*batch]``. Not 0 at equality of the logits.

    Raises:
        ValueError: if shapes differ, or the exponent is not positive.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> teacher, student = jnp.array([[20.0, 0.0]]), jnp.array([[2.0, 0.0]])
        >>> print(losses.transformed_teacher_kl(student, teacher).round(4))
        [0.]

    References:
        Zheng and Yang, `Knowledge Distillation Based on Transformed Teacher Matching
        <https://arxiv.org/abs/2402.11148>`_, 2024, equation 9.
    """
    _checks.check_logits(student_logits, teacher_logits)
    _checks.check_positive(exponent=exponent)
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    return forward_kl_rows(s, exponent * t, 1.0, 0.0)


def weighted_transformed_teacher_kl(
    student_logits: Logits, teacher_logits: Logits, *, exponent: float = 0.1
) -> PerExample:
    r"""Transformed teacher matching, weighted by how smooth the teacher is.

    .. math::
        \Big(\sum_c \sigma(t)_c^l\Big) \, \mathrm{TTM}(s, t)

    :math:`\mathrm{TTM}` is :func:`transformed_teacher_kl`. The weight is between 1, for
    a certain teacher, and :math:`C^{1 - l}`.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        exponent: :math:`l > 0`; 0.1 to 0.4.

    Returns:
        One value per example in nats, non-negative, in at least float32; shape
        ``[*batch]``.

    Raises:
        ValueError: if shapes differ, or the exponent is not positive.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> teacher, student = jnp.array([[20.0, 0.0]]), jnp.array([[2.0, 0.0]])
        >>> print(losses.weighted_transformed_teacher_kl(student, teacher).round(4))
        [0.]

    References:
        Zheng and Yang, `Knowledge Distillation Based on Transformed Teacher Matching
        <https://arxiv.org/abs/2402.11148>`_, 2024, equation 18.
    """
    kl = transformed_teacher_kl(student_logits, teacher_logits, exponent=exponent)
    t = at_least_float32(teacher_logits)
    return jnp.exp(log_sum_exp(exponent * t) - exponent * log_sum_exp(t)) * kl


def corrected_teacher_logits(
    teacher_logits: Logits, labels: Labels, *, margin: float = 0.2
) -> Logits:
    r"""Logits of the teacher, mixed with the label so far that the label wins.

    .. math::
        \log\big[(1 - m) p + m 1_y\big], \qquad
        m = \max\Big(0, \frac{o - p_y + \delta}{1 + o - p_y + 10^{-7}}\Big), \quad
        o = \max_{c \neq y} p_c

    :math:`m` is the least mixture for which the label leads every other class by
    :math:`\delta`; a teacher which leads by that already is left as it is. Give the
    result to :func:`soft_target_kl` or any other loss in place of the teacher's logits.

    Args:
        teacher_logits: shape ``[*batch, classes]``, :math:`t`.
        labels: integers :math:`y` in ``[0, classes)``, shape ``[*batch]``.
        margin: :math:`\delta` in [0, 1].

    Returns:
        Log-probabilities in at least float32; shape ``[*batch, classes]``.

    Raises:
        ValueError: if the shapes do not fit, a label is out of range, or the margin is
            outside [0, 1].
        TypeError: if the logits are not floating point or the labels not integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> teacher = jnp.log(jnp.array([[0.7, 0.3]]))
        >>> corrected = losses.corrected_teacher_logits(teacher, jnp.array([1]))
        >>> print(jnp.exp(corrected).round(3))
        [[0.4 0.6]]

    References:
        Belcak et al., `Minifinetuning: Low-Data Generation Domain Adaptation through
        Corrective Self-Distillation <https://arxiv.org/abs/2506.15702>`_, 2025. The
        same formula for a teacher that is right already is ours.
    """
    _checks.check_floating(teacher_logits=teacher_logits)
    _checks.check_labels(teacher_logits, labels)
    _checks.check_fraction(margin=margin)
    p, log_p = softmax(at_least_float32(teacher_logits))
    label = is_label(labels, p)
    lead = jnp.max(jnp.where(label, 0.0, p), axis=-1) - pick(p, labels)
    m = jnp.maximum((lead + margin) / (1 + lead + 1e-7), 0.0)[..., None]
    at_label = jnp.where(label, (1 - m) * p + m, 1.0)
    return jnp.where(label, jnp.log(at_label), jnp.log1p(-m) + log_p)


def self_weighted_cross_entropy(
    student_logits: Logits,
    labels: Labels,
    *,
    where: Where | None = None,
    axis_name: str | None = None,
) -> PerExample:
    r"""Cross-entropy, weighted by the student's own confidence against the batch's.

    .. math::
        -(q_y^2 + 1 - \overline{q_y^2}) \log q_y, \quad \tau = 1

    The mean is over the batch, the weight has no gradient: one value per example, but
    an example's value depends on the others. The teacher-free target loss of USKD.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        labels: integers :math:`y` in ``[0, classes)``, shape ``[*batch]``.
        where: which examples the mean counts, shape ``[*batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``, to average over the
            global batch.

    Returns:
        One value per example in nats, in at least float32; shape ``[*batch]``.

    Raises:
        ValueError: if the shapes do not fit or a label is out of range.
        TypeError: if the logits are not floating point or the labels not integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> z, y = jnp.zeros((2, 2)), jnp.array([0, 1])
        >>> print(losses.self_weighted_cross_entropy(z, y))
        [0.6931472 0.6931472]

    References:
        Yang et al., `From Knowledge Distillation to Self-Knowledge Distillation: A
        Unified Approach with Normalized Loss and Customized Soft Labels
        <https://arxiv.org/abs/2303.13005>`_, 2023, equation 9.
    """
    hard = cross_entropy(student_logits, labels)
    if where is not None:
        _checks.check_where(student_logits, where)
    confidence = jnp.exp(-2.0 * lax.stop_gradient(hard))
    mean = lax.stop_gradient(global_mean(confidence, where, axis_name))
    return (confidence + 1 - mean) * hard
