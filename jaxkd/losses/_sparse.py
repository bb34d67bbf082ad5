r"""Losses with a teacher of which only a few classes per position are stored.

The teacher is stored as the ids of its :math:`k` most likely classes :math:`K`, their
logits, and the logarithm of the sum of exponentials over *all* classes, from which
comes the probability of the rest. What different conventions do with that rest:

=================================  ================  ================  ==============
function                           teacher           student           the rest
=================================  ================  ================  ==============
``top_k_kl``                       true              full softmax      one bucket,
                                   probabilities                       exact
``renormalized_top_k_kl``          softmax over K    softmax over K    free: any mass
                                                                       may go there
``teacher_renormalized_top_k_kl``  softmax over K    full softmax      pushed to 0,
                                                                       below the
                                                                       teacher's
``sampled_soft_cross_entropy``     ids drawn, with   full softmax      right in
                                   weights                             expectation
=================================  ================  ================  ==============

All include the factor :math:`\tau^2`, as :func:`soft_target_kl` does, and the first
three equal it if :math:`K` holds all classes. For other divergences of a sparse
teacher, give the result of :func:`top_k_buckets` to them.
"""

from jax import nn as jnn, numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkd import _checks
from jaxkd._types import Logits, PerExample
from jaxkd.losses._common import (
    at_least_float32,
    expected,
    inverse_temperature,
    log_sum_exp,
    squared_temperature,
)
from jaxkd.losses._rows import forward_kl_rows

Ids = Int[Array, "*batch k"]
Values = Float[Array, "*batch k"]
Buckets = Float[Array, "*batch k_and_rest"]


def top_k_kl(
    student_logits: Logits,
    teacher_ids: Ids,
    teacher_values: Values,
    teacher_logsumexp: PerExample,
    *,
    temperature: float = 1.0,
) -> PerExample:
    r"""Divergence from a top-k teacher, with all other classes in one bucket.

    .. math::
        \tau^2 \Big[\sum_{c \in K} p_c (\log p_c - \log q_c)
        + p_R (\log p_R - \log q_R)\Big], \qquad
        p_R = 1 - \sum_{c \in K} p_c, \; q_R = 1 - \sum_{c \in K} q_c

    A lower bound of the dense :func:`soft_target_kl`: nothing is lost but how the rest
    is spread.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_ids: :math:`K`, integers in ``[0, classes)`` without repetition, shape
            ``[*batch, k]``.
        teacher_values: the teacher's logits :math:`t_c` of these, same shape;
            log-probabilities will do too.
        teacher_logsumexp: :math:`\log \sum_c \exp(t_c / \tau)` over all classes *at
            this temperature*, shape ``[*batch]``; 0 for log-probabilities at
            :math:`\tau = 1`.
        temperature: :math:`\tau > 0`.

    Returns:
        One value per position in nats, non-negative, in at least float32; shape
        ``[*batch]``.

    Raises:
        ValueError: if shapes do not fit, or the temperature is not positive.
        TypeError: if logits are not floating point or ids not integers.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.zeros((1, 4)), jnp.array([[3.0, 1.0, 0.0, 0.0]])
        >>> values, ids = jax.lax.top_k(teacher, 2)
        >>> total = jax.nn.logsumexp(teacher, axis=-1)
        >>> print(f"{losses.top_k_kl(student, ids, values, total)[0]:.4f}")
        0.7142
        >>> print(f"{losses.soft_target_kl(student, teacher)[0]:.4f}")
        0.7142

    References:
        Beyond the formula, which is the chain rule of relative entropy (Cover and
        Thomas, `Elements of Information Theory <https://doi.org/10.1002/047174882X>`_,
        2006, theorem 2.5.3), the convention is that of `TRL
        <https://github.com/huggingface/trl>`_'s teacher server, 2025.
    """
    s, t = top_k_buckets(
        student_logits,
        teacher_ids,
        teacher_values,
        teacher_logsumexp,
        temperature=temperature,
    )
    return temperature**2 * forward_kl_rows(s, t, 1.0, 0.0)


def renormalized_top_k_kl(
    student_logits: Logits,
    teacher_ids: Ids,
    teacher_values: Values,
    *,
    temperature: float | Array = 1.0,
) -> PerExample:
    r"""Divergence from a top-k teacher, both sides renormalized over the top k.

    .. math::
        \tau^2 \sum_{c \in K} \tilde p_c (\log \tilde p_c - \log \tilde q_c), \qquad
        \tilde q = \mathrm{softmax}(s_K / \tau), \;
        \tilde p = \mathrm{softmax}(t_K / \tau)

    The probability that the student gives to all other classes is free: add a loss on
    hard labels, or use :func:`top_k_kl`. Needs no stored sum.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_ids: :math:`K`, integers in ``[0, classes)``, shape ``[*batch, k]``.
        teacher_values: the teacher's logits of these, same shape.
        temperature: :math:`\tau > 0`, a number or one per position, ``[*batch]``.

    Returns:
        One value per position in nats, non-negative, in at least float32; shape
        ``[*batch]``.

    Raises:
        ValueError: if shapes do not fit, or the temperature is not positive.
        TypeError: if logits are not floating point or ids not integers.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.zeros((1, 4)), jnp.array([[3.0, 1.0, 0.0, 0.0]])
        >>> values, ids = jax.lax.top_k(teacher, 2)
        >>> print(losses.renormalized_top_k_kl(student, ids, values).round(4))
        [0.3278]

    References:
        `MaxText <https://github.com/AI-Hypercomputer/maxtext>`_, offline distillation,
        2025.
    """
    s, t = _top_k_logits(student_logits, teacher_ids, teacher_values)
    scale = inverse_temperature(temperature, s)
    return squared_temperature(scale) * forward_kl_rows(s, t, scale, 0.0)


def teacher_renormalized_top_k_kl(
    student_logits: Logits,
    teacher_ids: Ids,
    teacher_values: Values,
    *,
    temperature: float | Array = 1.0,
) -> PerExample:
    r"""Divergence from a top-k teacher that is renormalized; the student is not.

    .. math::
        \tau^2 \sum_{c \in K} \tilde p_c (\log \tilde p_c - \log q_c), \qquad
        \tilde p = \mathrm{softmax}(t_K / \tau)

    The student is pushed to put all its probability on the top k, more than the teacher
    does: its distribution gets too sharp, the more so the smaller :math:`k` and the
    higher :math:`\tau`. Here for comparison; prefer :func:`top_k_kl`.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_ids: :math:`K`, integers in ``[0, classes)``, shape ``[*batch, k]``.
        teacher_values: the teacher's logits of these, same shape.
        temperature: :math:`\tau > 0`, a number or one per position, ``[*batch]``.

    Returns:
        One value per position in nats, non-negative, in at least float32; shape
        ``[*batch]``.

    Raises:
        ValueError: if shapes do not fit, or the temperature is not positive.
        TypeError: if logits are not floating point or ids not integers.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.zeros((1, 4)), jnp.array([[3.0, 1.0, 0.0, 0.0]])
        >>> values, ids = jax.lax.top_k(teacher, 2)
        >>> loss = losses.teacher_renormalized_top_k_kl(student, ids, values)
        >>> print(f"{loss[0]:.3f}")
        1.021

    References:
        `DistillKit <https://github.com/arcee-ai/DistillKit>`_, ``missing: zero``, 2025.
    """
    s, t = _top_k_logits(student_logits, teacher_ids, teacher_values)
    full = at_least_float32(student_logits)
    scale = inverse_temperature(temperature, full)
    outside = log_sum_exp(full, scale) - log_sum_exp(s, scale)
    inside = forward_kl_rows(s, t, scale, 0.0)
    return squared_temperature(scale) * (inside + outside)


def sampled_soft_cross_entropy(
    student_logits: Logits,
    teacher_ids: Ids,
    teacher_weights: Values,
    *,
    temperature: float | Array = 1.0,
) -> PerExample:
    r"""Cross-entropy under classes drawn from the teacher: unbiased for any number.

    .. math::
        -\tau^2 \sum_j w_j \log q_{c_j}

    If the :math:`n` ids :math:`c_j` are drawn from :math:`p = \mathrm{softmax}(t/\tau)`
    and :math:`w_j = 1/n`, value and gradient are those of :func:`soft_cross_entropy` in
    expectation. If they are drawn from another distribution :math:`r`, use
    :math:`w_j = p_{c_j} / (n r_{c_j})`. Ids may repeat; an id of weight 0 is padding.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_ids: :math:`c`, integers in ``[0, classes)``, shape ``[*batch, n]``.
        teacher_weights: :math:`w \geq 0`, same shape, floating point.
        temperature: :math:`\tau > 0`, a number or one per position, ``[*batch]``.

    Returns:
        One value per position in nats, in at least float32; shape ``[*batch]``.

    Raises:
        ValueError: if shapes do not fit, or the temperature is not positive.
        TypeError: if logits are not floating point or ids not integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> ids, weights = jnp.array([[2, 0]]), jnp.array([[0.5, 0.5]])
        >>> print(losses.sampled_soft_cross_entropy(jnp.zeros((1, 4)), ids, weights))
        [1.3862944]

    References:
        Anshumann et al., `Sparse Logit Sampling: Accelerating Knowledge Distillation in
        LLMs <https://arxiv.org/abs/2503.16870>`_, 2025, section 3.
    """
    s, w = _top_k_logits(student_logits, teacher_ids, teacher_weights)
    full = at_least_float32(student_logits)
    scale = inverse_temperature(temperature, full)
    log_q = s * scale - log_sum_exp(full, scale)[..., None]
    return -squared_temperature(scale) * expected(w, log_q)


def top_k_buckets(
    student_logits: Logits,
    teacher_ids: Ids,
    teacher_values: Values,
    teacher_logsumexp: PerExample,
    *,
    temperature: float = 1.0,
) -> tuple[Buckets, Buckets]:
    r"""Logits of student and teacher over the top k and one bucket for the rest.

    .. math::
        \big[\, s_K / \tau, \; \log \textstyle\sum_{c \notin K} e^{s_c / \tau} \,\big],
        \qquad
        \big[\, t_K / \tau, \; \log (e^{L} - \textstyle\sum_{c \in K} e^{t_c / \tau})
        \,\big]

    Their softmax at temperature 1 are the true probabilities, so that any divergence of
    the two is that of the bucketed distributions, and a lower bound of the dense one:
    ``generalized_jsd(*top_k_buckets(...))``.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_ids: :math:`K`, integers in ``[0, classes)`` without repetition, shape
            ``[*batch, k]``.
        teacher_values: the teacher's logits :math:`t_K`, same shape.
        teacher_logsumexp: :math:`L = \log \sum_c \exp(t_c / \tau)` over all classes,
            shape ``[*batch]``.
        temperature: :math:`\tau > 0`.

    Returns:
        Two arrays of shape ``[*batch, k + 1]``, the student's and the teacher's, in at
        least float32. The temperature is already in them.

    Raises:
        ValueError: if shapes do not fit, or the temperature is not positive.
        TypeError: if logits are not floating point or ids not integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> ids, values = jnp.array([[1]]), jnp.log(jnp.array([[0.75]]))
        >>> s, t = losses.top_k_buckets(jnp.zeros((1, 4)), ids, values, jnp.zeros(1))
        >>> print(jnp.exp(s).round(2), jnp.exp(t).round(2))
        [[1. 3.]] [[0.75 0.25]]
    """
    s, t = _top_k_logits(student_logits, teacher_ids, teacher_values)
    _checks.check_positive(temperature=temperature)
    _checks.check_where(s, teacher_logsumexp, name="teacher_logsumexp")
    full = at_least_float32(student_logits)
    rest = jnp.put_along_axis(full, teacher_ids, -jnp.inf, axis=-1, inplace=False)
    s_rest = log_sum_exp(rest, 1.0 / temperature)
    total = teacher_logsumexp.astype(t.dtype)
    inside = jnn.logsumexp(t / temperature, axis=-1) - total
    # Else the top k hold everything, which rounding may hide.
    some = (inside < 0) & (s_rest > -jnp.inf)
    left = jnp.log(-jnp.expm1(jnp.where(some, inside, -1.0)))
    t_rest = jnp.where(some, total + left, -jnp.inf)
    return (
        jnp.concatenate([s / temperature, s_rest[..., None]], axis=-1),
        jnp.concatenate([t / temperature, t_rest[..., None]], axis=-1),
    )


def _top_k_logits(
    student_logits: Logits, ids: Ids, values: Values
) -> tuple[Array, Array]:
    """The student's logits at the ids, and the teacher's in the same dtype."""
    _checks.check_floating(student_logits=student_logits, teacher_values=values)
    _checks.check_ids(student_logits, ids)
    _checks.check_same_shape(teacher_ids=ids, teacher_values=values)
    s = jnp.take_along_axis(at_least_float32(student_logits), ids, axis=-1)
    return s, values.astype(s.dtype)
