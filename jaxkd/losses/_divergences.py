r"""Divergences between the distributions of teacher and student, per position.

All are written one way. With logits :math:`s` of the student and :math:`t` of the
teacher, over the last axis,

.. math::
    p = \mathrm{softmax}(t / \tau), \qquad q = \mathrm{softmax}(s / \tau),

and each function is one equation of :math:`p` and :math:`q`. They are the divergences
themselves: *no factor* :math:`\tau^2` is included (``soft_target_kl`` includes it).
All take the same arguments besides:

* ``where``: the positions that count. The others give 0 and a gradient of 0, even if
  their logits are NaN. Reduce with :func:`masked_mean` and the same ``where``.
* ``class_mask``: the classes that exist, for a vocabulary padded to a rounder size.
  Masked classes have probability 0 on both sides, as if they were sliced off. If
  teacher and student are padded differently, cut both by :func:`common_classes`.

A class with a logit of :math:`-\infty` on both sides is masked too.
"""

from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import (
    ClassMask,
    CommonLogits,
    Logits,
    OtherLogits,
    PerExample,
    Where,
)
from jaxkd.losses._adaptive import adaptive_kl_rows
from jaxkd.losses._positions import constant, counted, prepare
from jaxkd.losses._rows import (
    alpha_beta_rows,
    forward_kl_rows,
    symmetric_kl_rows,
)


def forward_kl(
    student_logits: Logits,
    teacher_logits: Logits,
    *,
    temperature: float | Array = 1.0,
    where: Where | None = None,
    class_mask: ClassMask | None = None,
) -> PerExample:
    r"""Forward Kullback-Leibler divergence: the student covers what the teacher does.

    .. math::
        \mathrm{KL}(p \| q) = \sum_c p_c (\log p_c - \log q_c)

    Without the factor :math:`\tau^2`: :func:`soft_target_kl` is
    :math:`\tau^2 \mathrm{KL}(p \| q)`.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        temperature: :math:`\tau > 0`, a number or one per position, ``[*batch]``.
        where: the positions that count, shape ``[*batch]``; all if ``None``.
        class_mask: the classes that exist, shape ``[classes]``; all if ``None``.

    Returns:
        One value per position in nats, non-negative, in at least float32; shape
        ``[*batch]``. It is infinite where the student rules out a class that the
        teacher does not.

    Raises:
        ValueError: if shapes differ (they are never broadcast), or the temperature is
            not positive.
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 1.0]])
        >>> print(losses.forward_kl(student, teacher).round(4))
        [0.1109]

    References:
        Kullback and Leibler, `On Information and Sufficiency
        <https://doi.org/10.1214/aoms/1177729694>`_, 1951, equation 2.4.
    """
    s, t, scale = prepare(
        student_logits, teacher_logits, temperature, where, class_mask
    )
    return counted(forward_kl_rows(s, t, scale, 0.0), where)


def reverse_kl(
    student_logits: Logits,
    teacher_logits: Logits,
    *,
    temperature: float | Array = 1.0,
    where: Where | None = None,
    class_mask: ClassMask | None = None,
) -> PerExample:
    r"""Reverse Kullback-Leibler divergence: the student keeps to what the teacher does.

    .. math::
        \mathrm{KL}(q \| p) = \sum_c q_c (\log q_c - \log p_c)

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        temperature: :math:`\tau > 0`, a number or one per position, ``[*batch]``.
        where: the positions that count, shape ``[*batch]``; all if ``None``.
        class_mask: the classes that exist, shape ``[classes]``; all if ``None``.

    Returns:
        One value per position in nats, non-negative, in at least float32; shape
        ``[*batch]``. It is infinite, and has no gradient, where the teacher alone rules
        out a class: give ``class_mask`` then.

    Raises:
        ValueError: if shapes differ (they are never broadcast), or the temperature is
            not positive.
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 1.0]])
        >>> print(losses.reverse_kl(student, teacher).round(4))
        [0.1201]

    References:
        Gu et al., `MiniLLM: Knowledge Distillation of Large Language Models
        <https://arxiv.org/abs/2306.08543>`_, 2023, equation 1.
    """
    s, t, scale = prepare(
        student_logits, teacher_logits, temperature, where, class_mask
    )
    return counted(forward_kl_rows(t, s, scale, 0.0), where)


def symmetric_kl(
    student_logits: Logits,
    teacher_logits: Logits,
    *,
    reverse_weight: float | Array = 0.5,
    temperature: float | Array = 1.0,
    where: Where | None = None,
    class_mask: ClassMask | None = None,
) -> PerExample:
    r"""Weighted sum of forward and reverse Kullback-Leibler divergence.

    .. math::
        (1 - \lambda) \, \mathrm{KL}(p \| q) + \lambda \, \mathrm{KL}(q \| p)

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        reverse_weight: :math:`\lambda` in [0, 1]; has no gradient.
        temperature: :math:`\tau > 0`, a number or one per position, ``[*batch]``.
        where: the positions that count, shape ``[*batch]``; all if ``None``.
        class_mask: the classes that exist, shape ``[classes]``; all if ``None``.

    Returns:
        One value per position in nats, non-negative, in at least float32; shape
        ``[*batch]``.

    Raises:
        ValueError: if shapes differ (they are never broadcast), the temperature is not
            positive, or the weight is outside [0, 1].
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 1.0]])
        >>> print(losses.symmetric_kl(student, teacher).round(4))
        [0.1155]

    References:
        Jeffreys, `An Invariant Form for the Prior Probability in Estimation Problems
        <https://doi.org/10.1098/rspa.1946.0056>`_, 1946 (for equal weights).
    """
    _checks.check_fraction(reverse_weight=reverse_weight)
    s, t, scale = prepare(
        student_logits, teacher_logits, temperature, where, class_mask
    )
    return counted(symmetric_kl_rows(s, t, scale, constant(reverse_weight, s)), where)


def alpha_beta_divergence(
    student_logits: Logits,
    teacher_logits: Logits,
    *,
    alpha: float | Array = 0.5,
    beta: float | Array = 0.5,
    temperature: float | Array = 1.0,
    where: Where | None = None,
    class_mask: ClassMask | None = None,
) -> PerExample:
    r"""Alpha-beta divergence: two powers between forward and reverse KL.

    .. math::
        -\frac{1}{\alpha \beta} \sum_c \Big( p_c^\alpha q_c^\beta
            - \frac{\alpha}{\alpha + \beta} p_c^{\alpha + \beta}
            - \frac{\beta}{\alpha + \beta} q_c^{\alpha + \beta} \Big)

    :func:`forward_kl` is its limit for :math:`\alpha = 1, \beta \to 0`,
    :func:`reverse_kl` that for :math:`\alpha \to 0, \beta = 1`. A smaller
    :math:`\alpha` attends more to large gaps, a larger :math:`\beta` more to what the
    student is sure of; the sum need not be 1.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        alpha: :math:`\alpha > 0`; has no gradient.
        beta: :math:`\beta > 0`; has no gradient.
        temperature: :math:`\tau > 0`, a number or one per position, ``[*batch]``.
        where: the positions that count, shape ``[*batch]``; all if ``None``.
        class_mask: the classes that exist, shape ``[classes]``; all if ``None``.

    Returns:
        One value per position, non-negative, in at least float32; shape ``[*batch]``.

    Raises:
        ValueError: if shapes differ (they are never broadcast), or the temperature or
            a power is not positive.
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 1.0]])
        >>> print(losses.alpha_beta_divergence(student, teacher).round(3))
        [0.115]

    References:
        Wang et al., `ABKD: Pursuing a Proper Allocation of the Probability Mass in
        Knowledge Distillation via α-β-Divergence <https://arxiv.org/abs/2505.04560>`_,
        2025.
    """
    _checks.check_positive(alpha=alpha, beta=beta)
    s, t, scale = prepare(
        student_logits, teacher_logits, temperature, where, class_mask
    )
    powers = constant(alpha, s), constant(beta, s)
    return counted(alpha_beta_rows(s, t, scale, powers), where)


def adaptive_kl(
    student_logits: Logits,
    teacher_logits: Logits,
    *,
    tail_mass: float = 0.5,
    temperature: float | Array = 1.0,
    where: Where | None = None,
    class_mask: ClassMask | None = None,
) -> PerExample:
    r"""Forward and reverse KL, mixed by where the student errs: in the head or tail.

    .. math::
        \frac{g_h}{g_h + g_t} \mathrm{KL}(p \| q) + \frac{g_t}{g_h + g_t}
        \mathrm{KL}(q \| p), \qquad g_A = \sum_{c \in A} |p_c - q_c|

    The tail :math:`t` are the teacher's least likely classes whose probabilities add to
    at most ``tail_mass``; the head :math:`h` are the others, and classes tied with one
    of them. The weights have no gradient.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        tail_mass: the teacher's probability in the tail, in [0, 1].
        temperature: :math:`\tau > 0`, a number or one per position, ``[*batch]``.
        where: the positions that count, shape ``[*batch]``; all if ``None``.
        class_mask: the classes that exist, shape ``[classes]``; all if ``None``.

    Returns:
        One value per position in nats, non-negative, in at least float32; shape
        ``[*batch]``.

    Raises:
        ValueError: if shapes differ (they are never broadcast), the temperature is not
            positive, or the mass is outside [0, 1].
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 1.0]])
        >>> print(losses.adaptive_kl(student, teacher).round(4))
        [0.1155]

    References:
        Wu et al., `Rethinking Kullback-Leibler Divergence in Knowledge Distillation for
        Large Language Models <https://arxiv.org/abs/2404.02657>`_, 2024, section 4.3.
    """
    _checks.check_fraction(tail_mass=tail_mass)
    s, t, scale = prepare(
        student_logits, teacher_logits, temperature, where, class_mask
    )
    return counted(adaptive_kl_rows(s, t, scale, tail_mass), where)


def common_classes(
    student_logits: Logits, teacher_logits: OtherLogits
) -> tuple[CommonLogits, CommonLogits]:
    """Both logits, cut to the classes that both have.

    For one tokenizer whose vocabulary the two models padded differently: the padding is
    at the end. Never pad the smaller one with zeros: a logit of 0 is a real
    probability.

    Args:
        student_logits: shape ``[*batch, classes]``.
        teacher_logits: shape ``[*batch, other_classes]``.

    Returns:
        Both, of shape ``[*batch, min(classes, other_classes)]``.

    Raises:
        ValueError: if the shapes differ before the last axis.
        TypeError: if either is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.zeros((2, 5)), jnp.zeros((2, 8))
        >>> print(losses.forward_kl(*losses.common_classes(student, teacher)))
        [0. 0.]
    """
    _checks.check_floating(student_logits=student_logits, teacher_logits=teacher_logits)
    classes = min(student_logits.shape[-1], teacher_logits.shape[-1])
    s, t = student_logits[..., :classes], teacher_logits[..., :classes]
    _checks.check_same_shape(student_logits=s, teacher_logits=t)
    return s, t
