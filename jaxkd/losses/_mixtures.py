r"""Divergences to a mixture of teacher and student, and total variation: all bounded.

Arguments and letters are those of :mod:`jaxkd.losses._divergences`.
"""

from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import ClassMask, Logits, PerExample, Where
from jaxkd.losses._positions import constant, counted, prepare
from jaxkd.losses._rows import jsd_rows, skewed_kl_rows, total_variation_rows


def generalized_jsd(
    student_logits: Logits,
    teacher_logits: Logits,
    *,
    beta: float | Array = 0.5,
    temperature: float | Array = 1.0,
    where: Where | None = None,
    class_mask: ClassMask | None = None,
) -> PerExample:
    r"""Generalized Jensen-Shannon divergence.

    .. math::
        \beta \, \mathrm{KL}(p \| m) + (1 - \beta) \, \mathrm{KL}(q \| m),
        \qquad m = \beta p + (1 - \beta) q

    It tends to 0 for :math:`\beta \to 0` and :math:`\beta \to 1`; libraries that follow
    the paper give :func:`forward_kl` at exactly 0 and :func:`reverse_kl` at exactly 1,
    a jump. :func:`rescaled_jsd` has neither.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        beta: :math:`\beta`, strictly between 0 and 1; has no gradient.
        temperature: :math:`\tau > 0`, a number or one per position, ``[*batch]``.
        where: the positions that count, shape ``[*batch]``; all if ``None``.
        class_mask: the classes that exist, shape ``[classes]``; all if ``None``.

    Returns:
        One value per position in nats, between 0 and :math:`\log 2`, in at least
        float32; shape ``[*batch]``.

    Raises:
        ValueError: if shapes differ (they are never broadcast), the temperature is not
            positive, or :math:`\beta` is not inside (0, 1).
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = (
        ...     jnp.array([[0.0, -jnp.inf]]),
        ...     jnp.array([[-jnp.inf, 0.0]]),
        ... )
        >>> print(losses.generalized_jsd(student, teacher).round(4))
        [0.6931]

    References:
        Agarwal et al., `On-Policy Distillation of Language Models
        <https://arxiv.org/abs/2306.13649>`_, 2024, equation 1.
    """
    _checks.check_inside_unit_interval(beta=beta)
    s, t, scale = prepare(
        student_logits, teacher_logits, temperature, where, class_mask
    )
    return counted(jsd_rows(s, t, scale, constant(beta, s)), where)


def rescaled_jsd(
    student_logits: Logits,
    teacher_logits: Logits,
    *,
    beta: float | Array = 0.5,
    temperature: float | Array = 1.0,
    where: Where | None = None,
    class_mask: ClassMask | None = None,
) -> PerExample:
    r"""Jensen-Shannon divergence, rescaled: from forward to reverse KL, without a jump.

    .. math::
        \frac{\beta \, \mathrm{KL}(p \| m) + (1 - \beta) \, \mathrm{KL}(q \| m)}
             {\beta (1 - \beta)}, \qquad m = \beta p + (1 - \beta) q

    Its limits are :func:`forward_kl` for :math:`\beta \to 0` and :func:`reverse_kl` for
    :math:`\beta \to 1`, so that :math:`\beta` can be scheduled.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        beta: :math:`\beta`, strictly between 0 and 1; has no gradient. In float32 keep
            it above 0.01 and below 0.99, where rounding costs three digits.
        temperature: :math:`\tau > 0`, a number or one per position, ``[*batch]``.
        where: the positions that count, shape ``[*batch]``; all if ``None``.
        class_mask: the classes that exist, shape ``[classes]``; all if ``None``.

    Returns:
        One value per position in nats, non-negative, in at least float32; shape
        ``[*batch]``.

    Raises:
        ValueError: if shapes differ (they are never broadcast), the temperature is not
            positive, or :math:`\beta` is not inside (0, 1).
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 1.0]])
        >>> print(f"{losses.rescaled_jsd(student, teacher, beta=0.01)[0]:.3f}")
        0.111

    References:
        Lin, `Divergence Measures Based on the Shannon Entropy
        <https://doi.org/10.1109/18.61115>`_, 1991, section 4 (without the rescaling,
        which is ours).
    """
    jsd = generalized_jsd(
        student_logits,
        teacher_logits,
        beta=beta,
        temperature=temperature,
        where=where,
        class_mask=class_mask,
    )
    beta = constant(beta, jsd)
    return jsd / (beta * (1 - beta))


def skewed_forward_kl(
    student_logits: Logits,
    teacher_logits: Logits,
    *,
    skew: float | Array = 0.1,
    temperature: float | Array = 1.0,
    where: Where | None = None,
    class_mask: ClassMask | None = None,
) -> PerExample:
    r"""Forward KL from the teacher to a mixture of both: bounded, with calm gradients.

    .. math::
        \mathrm{KL}(p \| \lambda p + (1 - \lambda) q)

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        skew: :math:`\lambda`, strictly between 0 and 1; has no gradient. At 0 it would
            be :func:`forward_kl`.
        temperature: :math:`\tau > 0`, a number or one per position, ``[*batch]``.
        where: the positions that count, shape ``[*batch]``; all if ``None``.
        class_mask: the classes that exist, shape ``[classes]``; all if ``None``.

    Returns:
        One value per position in nats, between 0 and :math:`-\log \lambda`, in at least
        float32; shape ``[*batch]``.

    Raises:
        ValueError: if shapes differ (they are never broadcast), the temperature is not
            positive, or the skew is not inside (0, 1).
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = (
        ...     jnp.array([[0.0, -jnp.inf]]),
        ...     jnp.array([[-jnp.inf, 0.0]]),
        ... )
        >>> print(losses.skewed_forward_kl(student, teacher, skew=0.5).round(4))
        [0.6931]

    References:
        Ko et al., `DistiLLM: Towards Streamlined Distillation for Large Language Models
        <https://arxiv.org/abs/2402.03898>`_, 2024, section 3.1.
    """
    _checks.check_inside_unit_interval(skew=skew)
    s, t, scale = prepare(
        student_logits, teacher_logits, temperature, where, class_mask
    )
    return counted(skewed_kl_rows(s, t, scale, constant(skew, s)), where)


def skewed_reverse_kl(
    student_logits: Logits,
    teacher_logits: Logits,
    *,
    skew: float | Array = 0.1,
    temperature: float | Array = 1.0,
    where: Where | None = None,
    class_mask: ClassMask | None = None,
) -> PerExample:
    r"""Reverse KL from the student to a mixture of both: bounded, with calm gradients.

    .. math::
        \mathrm{KL}(q \| \lambda q + (1 - \lambda) p)

    The gradient also goes through :math:`q` in the mixture, as in DistiLLM. DistiLLM-2
    holds it there: that is ``reverse_kl`` with the logarithm of a constant mixture as
    the teacher's logits.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        skew: :math:`\lambda`, strictly between 0 and 1; has no gradient. At 0 it would
            be :func:`reverse_kl`.
        temperature: :math:`\tau > 0`, a number or one per position, ``[*batch]``.
        where: the positions that count, shape ``[*batch]``; all if ``None``.
        class_mask: the classes that exist, shape ``[classes]``; all if ``None``.

    Returns:
        One value per position in nats, between 0 and :math:`-\log \lambda`, in at least
        float32; shape ``[*batch]``.

    Raises:
        ValueError: if shapes differ (they are never broadcast), the temperature is not
            positive, or the skew is not inside (0, 1).
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = (
        ...     jnp.array([[0.0, -jnp.inf]]),
        ...     jnp.array([[-jnp.inf, 0.0]]),
        ... )
        >>> print(losses.skewed_reverse_kl(student, teacher, skew=0.5).round(4))
        [0.6931]

    References:
        Ko et al., `DistiLLM: Towards Streamlined Distillation for Large Language Models
        <https://arxiv.org/abs/2402.03898>`_, 2024, section 3.1.
    """
    _checks.check_inside_unit_interval(skew=skew)
    s, t, scale = prepare(
        student_logits, teacher_logits, temperature, where, class_mask
    )
    return counted(skewed_kl_rows(t, s, scale, constant(skew, s)), where)


def total_variation(
    student_logits: Logits,
    teacher_logits: Logits,
    *,
    temperature: float | Array = 1.0,
    where: Where | None = None,
    class_mask: ClassMask | None = None,
) -> PerExample:
    r"""Total variation distance.

    .. math::
        \frac{1}{2} \sum_c |p_c - q_c|

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        temperature: :math:`\tau > 0`, a number or one per position, ``[*batch]``.
        where: the positions that count, shape ``[*batch]``; all if ``None``.
        class_mask: the classes that exist, shape ``[classes]``; all if ``None``.

    Returns:
        One value per position, between 0 and 1, in at least float32; shape
        ``[*batch]``.

    Raises:
        ValueError: if shapes differ (they are never broadcast), or the temperature is
            not positive.
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 0.0]]), jnp.array([[0.0, -jnp.inf]])
        >>> print(losses.total_variation(student, teacher))
        [0.5]

    References:
        Wen et al., `f-Divergence Minimization for Sequence-Level Knowledge Distillation
        <https://arxiv.org/abs/2307.15190>`_, 2023, section 3.
    """
    s, t, scale = prepare(
        student_logits, teacher_logits, temperature, where, class_mask
    )
    return counted(total_variation_rows(s, t, scale, 0.0), where)
