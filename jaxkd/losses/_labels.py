r"""Cross-entropies with labels, and with what stands in for a teacher.

Letters are those of :mod:`jaxkd.losses._logits`; the temperature is 1.
"""

import optax
from jax import numpy as jnp

from jaxkd import _checks
from jaxkd._types import Labels, Logits, PerExample
from jaxkd.losses._common import at_least_float32, is_label, log_sum_exp
from jaxkd.losses._rows import forward_kl_rows


def cross_entropy(student_logits: Logits, labels: Labels) -> PerExample:
    r"""Cross-entropy with hard labels.

    .. math::
        -\log q_y, \quad \tau = 1

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        labels: integers :math:`y` in ``[0, classes)``, shape ``[*batch]``. Under
            ``jit``, where values cannot be checked, a label out of range gives NaN.

    Returns:
        One value per example in nats, in at least float32; shape ``[*batch]``.

    Raises:
        ValueError: if the shapes do not fit, or a label is out of range.
        TypeError: if the logits are not floating point or the labels not integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> logits = jnp.array([[0.0, 0.0], [0.0, 100.0]])
        >>> print(losses.cross_entropy(logits, jnp.array([0, 1])).round(4))
        [0.6931 0.    ]

    References:
        Goodfellow et al., `Deep Learning <https://www.deeplearningbook.org>`_, 2016,
        section 6.2.2.3.
    """
    _checks.check_floating(student_logits=student_logits)
    _checks.check_labels(student_logits, labels)
    return optax.losses.softmax_cross_entropy_with_integer_labels(
        at_least_float32(student_logits), labels
    )


def smoothed_cross_entropy(
    student_logits: Logits, labels: Labels, *, smoothing: float = 0.1
) -> PerExample:
    r"""Cross-entropy with smoothed labels.

    .. math::
        -(1 - \epsilon) \log q_y - \frac{\epsilon}{C} \sum_c \log q_c, \quad \tau = 1

    The smoothing goes to all :math:`C` classes, the label too. Masked classes
    (:math:`-\infty`) get none.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        labels: integers :math:`y` in ``[0, classes)``, shape ``[*batch]``.
        smoothing: :math:`\epsilon` in [0, 1].

    Returns:
        One value per example in nats, in at least float32; shape ``[*batch]``.

    Raises:
        ValueError: if the shapes do not fit, a label is out of range, or the smoothing
            is outside [0, 1].
        TypeError: if the logits are not floating point or the labels not integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> logits = jnp.array([[0.0, 2.0]])
        >>> print(losses.smoothed_cross_entropy(logits, jnp.array([1])).round(4))
        [0.2269]

    References:
        Szegedy et al., `Rethinking the Inception Architecture for Computer Vision
        <https://arxiv.org/abs/1512.00567>`_, 2016, section 7.
    """
    _checks.check_fraction(smoothing=smoothing)
    hard = cross_entropy(student_logits, labels)
    s = at_least_float32(student_logits)
    exists = s > -jnp.inf
    count = jnp.maximum(jnp.sum(exists, axis=-1, dtype=s.dtype), 1.0)
    mean = jnp.sum(jnp.where(exists, s, 0.0), axis=-1) / count
    return (1 - smoothing) * hard + smoothing * (log_sum_exp(s) - mean)


def hard_target_cross_entropy(
    student_logits: Logits, teacher_logits: Logits, *, smoothing: float = 0.0
) -> PerExample:
    r"""Cross-entropy with the teacher's decision as the label.

    .. math::
        -\log q_{\hat y}, \quad \hat y = \mathrm{argmax}_c \, t_c, \quad \tau = 1

    The lowest class wins a tie. It has no gradient for the teacher.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        smoothing: of the label, as in :func:`smoothed_cross_entropy`.

    Returns:
        One value per example in nats, in at least float32; shape ``[*batch]``.

    Raises:
        ValueError: if the shapes differ, or the smoothing is outside [0, 1].
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 3.0]])
        >>> print(losses.hard_target_cross_entropy(student, teacher))
        [0.6931472]

    References:
        Touvron et al., `Training data-efficient image transformers & distillation
        through attention <https://arxiv.org/abs/2012.12877>`_, 2021, section 4.
    """
    _checks.check_logits(student_logits, teacher_logits)
    decision = jnp.argmax(teacher_logits, axis=-1)
    if smoothing == 0.0:
        return cross_entropy(student_logits, decision)
    return smoothed_cross_entropy(student_logits, decision, smoothing=smoothing)


def virtual_teacher_kl(
    student_logits: Logits,
    labels: Labels,
    *,
    correct_probability: float = 0.99,
    temperature: float = 20.0,
) -> PerExample:
    r"""Divergence from a hand-made teacher that is nearly always right.

    .. math::
        \sum_c p_c (\log p_c - \log q_c), \quad
        p = \mathrm{softmax}(u / \tau), \quad
        u_y = a, \; u_{c \neq y} = \frac{1 - a}{C - 1}, \quad q = \mathrm{softmax}(s)

    As in the authors' code, from which their numbers come: the *probabilities*
    :math:`u` are softened as if they were logits, the student is not softened, and
    there is no factor :math:`\tau^2`. Classes masked in the student exist in neither.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        labels: integers :math:`y` in ``[0, classes)``, shape ``[*batch]``.
        correct_probability: :math:`a` in [0, 1].
        temperature: :math:`\tau > 0`, of the virtual teacher alone.

    Returns:
        One value per example in nats, non-negative, in at least float32; shape
        ``[*batch]``.

    Raises:
        ValueError: if the shapes do not fit, a label is out of range, or a
            hyperparameter is.
        TypeError: if the logits are not floating point or the labels not integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> logits = jnp.array([[0.0, 2.0]])
        >>> print(losses.virtual_teacher_kl(logits, jnp.array([1])).round(4))
        [0.4096]

    References:
        Yuan et al., `Revisiting Knowledge Distillation via Label Smoothing
        Regularization <https://arxiv.org/abs/1909.11723>`_, 2020, section 4.2.
    """
    _checks.check_fraction(correct_probability=correct_probability)
    _checks.check_positive(temperature=temperature)
    _checks.check_floating(student_logits=student_logits)
    _checks.check_labels(student_logits, labels)
    s = at_least_float32(student_logits)
    exists = s > -jnp.inf
    count = jnp.sum(exists, axis=-1, keepdims=True, dtype=s.dtype)
    others = (1 - correct_probability) / jnp.maximum(count - 1, 1.0)
    u = jnp.where(is_label(labels, s), correct_probability, others)
    return forward_kl_rows(s, jnp.where(exists, u / temperature, -jnp.inf), 1.0, 0.0)
