r"""Losses which treat the class of the label apart from the others.

With :math:`p, q` the softened distributions of teacher and student and :math:`y` the
label, :math:`\hat p_c = p_c / (1 - p_y)` is the teacher's distribution over the classes
other than the label, :math:`\hat q` the student's, and :math:`b(p) = (p_y, 1 - p_y)`.
All are computed from logits with the label masked out, so that a saturated model
(:math:`p_y = 1` in floating point) keeps its :math:`\hat p`.
"""

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import Labels, Logits, PerExample
from jaxkd.losses._common import (
    at_least_float32,
    inverse_temperature,
    is_label,
    log_sum_exp,
    pick,
    squared_temperature,
)
from jaxkd.losses._expected import expected_decoupled_rows
from jaxkd.losses._pairs import again, log_sums_without, sums
from jaxkd.losses._rows import (
    forward_kl_rows,
    others_cross_entropy_rows,
    others_kl_rows,
)


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
    others = others_kl_rows(s, t, scale, (labels, labels))
    target = forward_kl_rows(*_binary_logits(s, t, labels, scale), 1.0, 0.0)
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
    label = label_probabilities.astype(s.dtype)
    loss = expected_decoupled_rows(s, t, label, scale, alpha, beta)
    return squared_temperature(scale) * loss


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
    hard, p = log_sum_exp(s) - pick(s, labels), pick(t, labels) - log_sum_exp(t)
    target = jnp.exp(p) * hard
    others = others_cross_entropy_rows(s, t, scale, (labels, labels))
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
    s = at_least_float32(student_logits)
    return _zipf(s, lax.stop_gradient(ranking_scores), labels)


@jax.custom_jvp
def _zipf(s: Logits, scores: Array, labels: Labels) -> PerExample:
    s = jnp.where(is_label(labels, s), -jnp.inf, s)
    _, ranked = lax.sort((-scores, s), dimension=-1, is_stable=True, num_keys=1)
    counts, rank = ranked > -jnp.inf, _one_to_all(s)
    total, mean = sums(
        jnp.where(counts, 1.0 / rank, 0.0), jnp.where(counts, ranked / rank, 0.0)
    )
    some = total > 0
    mean = mean / jnp.where(some, total, 1.0)
    return jnp.where(some, log_sum_exp(ranked) - mean, 0.0)


@_zipf.defjvp
def _zipf_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    s, scores, labels = primals
    classes = lax.broadcasted_iota(jnp.int32, s.shape, s.ndim - 1)
    _, order = lax.sort((-scores, classes), dimension=-1, is_stable=True, num_keys=1)
    # Sorting the ranks back by class takes less memory than to scatter them.
    _, rank = lax.sort((order, _one_to_all(s)), dimension=-1, num_keys=1)
    counts = (s > -jnp.inf) & ~is_label(labels, s)
    weight = jnp.where(counts, 1.0 / rank, 0.0)
    total, mean = sums(weight, jnp.where(counts, s / rank, 0.0))
    some, total = total > 0, jnp.where(total > 0, total, 1.0)
    normalizer, _ = log_sums_without(s, *again(s), 1.0, (labels, labels))
    loss = jnp.where(some, normalizer - mean / total, 0.0)
    q = jnp.where(counts, jnp.exp(s - normalizer[..., None]), 0.0)
    return loss, jnp.sum((q - weight / total[..., None]) * tangents[0], axis=-1)


def _one_to_all(s: Logits) -> Array:
    return 1.0 + lax.broadcasted_iota(s.dtype, s.shape, s.ndim - 1)


def _binary_logits(
    s: Logits, t: Logits, labels: Labels, scale: float | Array
) -> tuple[Array, Array]:
    """The logits of "the label" and of "another class", whose softmax is b(p)."""
    rest = log_sums_without(s, t, scale, (labels, labels))
    first, second = (
        jnp.concatenate(
            [jnp.take_along_axis(x, labels[..., None], -1) * scale, y[..., None]], -1
        )
        for x, y in zip((s, t), rest, strict=True)
    )
    return first, second
