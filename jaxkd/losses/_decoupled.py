r"""Losses which treat the class of the label apart from the others.

With :math:`p, q` the softened distributions of teacher and student and :math:`y` the
label, :math:`\hat p_c = p_c / (1 - p_y)` is the teacher's distribution over the classes
other than the label, :math:`\hat q` the student's, and :math:`b(p) = (p_y, 1 - p_y)`.
All are computed from logits with the label masked out, so that a saturated model
(:math:`p_y = 1` in floating point) keeps its :math:`\hat p`.
"""

from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import Labels, Logits, PerExample
from jaxkd.losses._common import (
    at_least_float32,
    expected,
    inverse_temperature,
    is_label,
    log_softmax,
    log_sum_exp,
    pick,
    softmax,
    squared_temperature,
)
from jaxkd.losses._rows import cross_entropy_rows, forward_kl_rows


def decoupled_kd(
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Labels,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float | Array = 4.0,
) -> PerExample:
    r"""Distillation of the target class and of the others, each with its own weight.

    .. math::
        \tau^2 \big[\alpha \, \mathrm{KL}(b(p) \| b(q))
        + \beta \, \mathrm{KL}(\hat p \| \hat q)\big]

    With :math:`\alpha = 1` and :math:`\beta = 1 - p_y` it is :func:`soft_target_kl`.
    It is linear in the label: for mixup, mix the losses of the two labels, or see
    :func:`soft_label_decoupled_kd`.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        labels: integers :math:`y` in ``[0, classes)``, shape ``[*batch]``.
        alpha: :math:`\alpha`, weight of the target class.
        beta: :math:`\beta`, weight of the others. It grows with the gap between the two
            models: 2 to 8 on CIFAR-100, 0.5 to 2 on ImageNet.
        temperature: :math:`\tau > 0`, a number or one per example, ``[*batch]``.

    Returns:
        One value per example in nats, non-negative, in at least float32; shape
        ``[*batch]``. The warm-up of the paper is a schedule of the loss's weight.

    Raises:
        ValueError: if shapes differ, a label is out of range, or the temperature is not
            positive.
        TypeError: if the logits are not floating point or the labels not integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> teacher, student = jnp.array([[2.0, 0.0, 1.0]]), jnp.zeros((1, 3))
        >>> loss = losses.decoupled_kd(student, teacher, jnp.array([0]))
        >>> print(f"{loss[0]:.3f}")
        1.248

    References:
        Zhao et al., `Decoupled Knowledge Distillation
        <https://arxiv.org/abs/2203.08679>`_, 2022, equation 7.
    """
    _checks.check_logits(student_logits, teacher_logits)
    _checks.check_labels(student_logits, labels)
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    scale = inverse_temperature(temperature, s)
    s_others, t_others = _without_label(s, labels), _without_label(t, labels)
    target = forward_kl_rows(
        _binary_logits(s, s_others, labels, scale),
        _binary_logits(t, t_others, labels, scale),
        1.0,
        0.0,
    )
    others = forward_kl_rows(s_others, t_others, scale, 0.0)
    return squared_temperature(scale) * (alpha * target + beta * others)


def soft_label_decoupled_kd(
    student_logits: Logits,
    teacher_logits: Logits,
    label_probabilities: Array,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float | Array = 4.0,
) -> PerExample:
    r"""Decoupled distillation, expected over a distribution of the label.

    .. math::
        \sum_y l_y \, \mathrm{DKD}_y

    :math:`\mathrm{DKD}_y` is :func:`decoupled_kd` with label :math:`y`, :math:`l` the
    label's distribution: mixup, label smoothing, several annotators. The cost is that
    of one label.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        label_probabilities: :math:`l`, same shape, floating point, rows adding to 1.
        alpha: :math:`\alpha`, weight of the target class.
        beta: :math:`\beta`, weight of the others.
        temperature: :math:`\tau > 0`, a number or one per example, ``[*batch]``.

    Returns:
        One value per example in nats, non-negative, in at least float32; shape
        ``[*batch]``.

    Raises:
        ValueError: if shapes differ, or the temperature is not positive.
        TypeError: if an input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> teacher, student = jnp.array([[2.0, 0.0, 1.0]]), jnp.zeros((1, 3))
        >>> label = jnp.array([[1.0, 0.0, 0.0]])
        >>> loss = losses.soft_label_decoupled_kd(student, teacher, label)
        >>> print(f"{loss[0]:.3f}")
        1.248

    References:
        Zhao et al., `Decoupled Knowledge Distillation
        <https://arxiv.org/abs/2203.08679>`_, 2022, equation 7, for one label; the
        expectation is ours.
    """
    _checks.check_logits(student_logits, teacher_logits)
    _checks.check_floating(label_probabilities=label_probabilities)
    _checks.check_same_shape(
        student_logits=student_logits, label_probabilities=label_probabilities
    )
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    scale = inverse_temperature(temperature, s)
    log_q, (p, log_p) = log_softmax(s, scale), softmax(t, scale)
    log_not_q, log_not_p = _log_complement(log_q), _log_complement(log_p)
    ratio = jnp.where(log_p > -jnp.inf, log_p - log_q, 0.0)
    rest_ratio = jnp.where(log_not_p > -jnp.inf, log_not_p - log_not_q, 0.0)
    target = p * ratio + jnp.exp(log_not_p) * rest_ratio
    others = _mean_of_others(ratio, p, log_p) - rest_ratio
    label = label_probabilities.astype(s.dtype)
    return squared_temperature(scale) * expected(label, alpha * target + beta * others)


def normalized_kd(
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Labels,
    *,
    gamma: float = 1.5,
    temperature: float | Array = 1.0,
) -> PerExample:
    r"""Soft loss on the target class, plus cross-entropy over the normalized others.

    .. math::
        -p_y^{(1)} \log q_y^{(1)} - \gamma \tau^2 \sum_{c \neq y} \hat p_c \log \hat q_c

    The first term is at temperature 1, whatever :math:`\tau` is. The plain
    cross-entropy of the paper's total loss is not included. Cross-entropies: not 0 at
    equality.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        labels: integers :math:`y` in ``[0, classes)``, shape ``[*batch]``.
        gamma: :math:`\gamma`, weight of the others; 1.5, and 1 for DeiT.
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
        >>> teacher, student = jnp.array([[2.0, 0.0, 1.0]]), jnp.zeros((1, 3))
        >>> print(losses.normalized_kd(student, teacher, jnp.array([0])).round(3))
        [1.771]

    References:
        Yang et al., `From Knowledge Distillation to Self-Knowledge Distillation: A
        Unified Approach with Normalized Loss and Customized Soft Labels
        <https://arxiv.org/abs/2303.13005>`_, 2023, equation 6.
    """
    _checks.check_logits(student_logits, teacher_logits)
    _checks.check_labels(student_logits, labels)
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    scale = inverse_temperature(temperature, s)
    s_others, t_others = _without_label(s, labels), _without_label(t, labels)
    target = -jnp.exp(pick(log_softmax(t), labels)) * pick(log_softmax(s), labels)
    others = cross_entropy_rows(s_others, t_others, scale, 0.0)
    return target + gamma * squared_temperature(scale) * others


def zipf_cross_entropy(
    student_logits: Logits, ranking_scores: Array, labels: Labels
) -> PerExample:
    r"""Cross-entropy over the other classes with soft labels after Zipf's law.

    .. math::
        -\sum_{c \neq y} z_c \log \hat q_c, \qquad
        z_c = \frac{1 / r_c}{\sum_{j \neq y} 1 / r_j}

    :math:`r_c` is the rank of class :math:`c`, the label among them, by descending
    score; the lower class wins a tie. The scores have no gradient. It distills without
    a teacher: USKD ranks by the sum of two normalized predictions of the student, one
    from the head and one from a weakly supervised stage.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        ranking_scores: same shape; the higher, the more likely the class.
        labels: integers :math:`y` in ``[0, classes)``, shape ``[*batch]``.

    Returns:
        One value per example in nats, in at least float32; shape ``[*batch]``. Not 0 at
        its minimum.

    Raises:
        ValueError: if shapes differ or a label is out of range.
        TypeError: if the logits are not floating point or the labels not integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.array([[2.0, 0.0, 0.0]])
        >>> loss = losses.zipf_cross_entropy(student, student, jnp.array([0]))
        >>> print(f"{loss[0]:.3f}")
        0.693

    References:
        Yang et al., `From Knowledge Distillation to Self-Knowledge Distillation: A
        Unified Approach with Normalized Loss and Customized Soft Labels
        <https://arxiv.org/abs/2303.13005>`_, 2023, section 3.3.
    """
    _checks.check_floating(student_logits=student_logits, ranking_scores=ranking_scores)
    _checks.check_same_shape(
        student_logits=student_logits, ranking_scores=ranking_scores
    )
    _checks.check_labels(student_logits, labels)
    s = _without_label(at_least_float32(student_logits), labels)
    order = jnp.argsort(-ranking_scores, axis=-1, stable=True)
    rank = 1.0 + jnp.argsort(order, axis=-1).astype(s.dtype)
    weight = jnp.where(s > -jnp.inf, 1.0 / lax.stop_gradient(rank), 0.0)
    total = jnp.sum(weight, axis=-1, keepdims=True)
    return -expected(weight / jnp.where(total > 0, total, 1.0), log_softmax(s))


def _without_label(logits: Logits, labels: Labels) -> Array:
    return jnp.where(is_label(labels, logits), -jnp.inf, logits)


def _binary_logits(
    logits: Logits, others: Array, labels: Labels, scale: float | Array
) -> Array:
    """The logits of "the label" and of "another class", whose softmax is b(p)."""
    label = jnp.take_along_axis(logits, labels[..., None], axis=-1) * scale
    rest = log_sum_exp(others, scale)[..., None]
    return jnp.concatenate([label, rest], axis=-1)


def _log_complement(log_p: Array) -> Array:
    r"""``log(1 - p)``, exact also for a class whose probability rounds to 1.

    Only the largest class can have more than half: its complement is the sum of the
    others, that of the others is one minus a number below a half.
    """
    largest = is_label(jnp.argmax(log_p, axis=-1), log_p)
    rest = log_sum_exp(jnp.where(largest, -jnp.inf, log_p))
    p = jnp.exp(jnp.where(largest, -jnp.inf, log_p))
    return jnp.where(largest, rest[..., None], jnp.log1p(-jnp.minimum(p, 0.5)))


def _mean_of_others(values: Array, p: Array, log_p: Array) -> Array:
    """For each class the expected value given that it is another one.

    For the largest class by its own softmax, as its complement may round to 0.
    """
    largest = is_label(jnp.argmax(log_p, axis=-1), log_p)
    p_others, _ = softmax(jnp.where(largest, -jnp.inf, log_p))
    for_largest = jnp.sum(p_others * values, axis=-1, keepdims=True)
    total = jnp.sum(p * values, axis=-1, keepdims=True)
    for_others = (total - p * values) / (1 - jnp.where(largest, 0.0, p))
    return jnp.where(largest, for_largest, for_others)
