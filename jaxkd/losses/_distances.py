r"""Distances of predictions which are not divergences of softmax distributions."""

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import Logits, OtherLogits, PerExample, Where
from jaxkd.losses._common import (
    at_least_float32,
    difference,
    inverse_temperature,
    log_softmax,
    scaled_tangent,
    softmax,
)
from jaxkd.losses._pairs import again, sums, two_maxima
from jaxkd.losses._positions import counted


def logit_euclidean(student_logits: Logits, teacher_logits: Logits) -> PerExample:
    r"""Euclidean distance of the logits.

    .. math::
        \sqrt{\textstyle\sum_c (s_c - t_c)^2 + 10^{-12}}

    The small number keeps the gradient finite where the two are equal. Classes masked
    in both (:math:`-\infty`) contribute nothing.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.

    Returns:
        One value per example, at least :math:`10^{-6}`, in at least float32; shape
        ``[*batch]``.

    Raises:
        ValueError: if the shapes differ (they are never broadcast).
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> print(losses.logit_euclidean(jnp.array([[3.0, 4.0]]), jnp.zeros((1, 2))))
        [5.]

    References:
        Beyer et al., `Knowledge distillation: A good teacher is patient and consistent
        <https://arxiv.org/abs/2106.05237>`_, 2022, section 4 and its code.
    """
    _checks.check_logits(student_logits, teacher_logits)
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    return jnp.sqrt(jnp.sum(difference(s, t) ** 2, axis=-1) + 1e-12)


def logit_cosine_distance(student_logits: Logits, teacher_logits: Logits) -> PerExample:
    r"""One minus the cosine of the angle between the logits.

    .. math::
        1 - \frac{\langle s, t \rangle}{\|s\| \|t\|}

    It ignores the scale of the logits, but not a shift. Classes masked in both
    (:math:`-\infty`) contribute nothing; if all logits of one are 0 the distance is 1.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.

    Returns:
        One value per example, between 0 and 2, in at least float32; shape ``[*batch]``.

    Raises:
        ValueError: if the shapes differ (they are never broadcast).
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[3.0, 0.0]]), jnp.array([[0.0, 4.0]])
        >>> print(losses.logit_cosine_distance(student, teacher))
        [1.]

    References:
        Hsu et al., `Liger Kernel: Efficient Triton Kernels for LLM Training
        <https://arxiv.org/abs/2410.10989>`_, 2024 (its fused cosine loss).
    """
    _checks.check_logits(student_logits, teacher_logits)
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    return _cosine_distance(s, t)


def log_probability_euclidean(
    student_logits: Logits, teacher_logits: Logits
) -> PerExample:
    r"""Euclidean distance of the log-probabilities.

    .. math::
        \sqrt{\textstyle\sum_c (\log q_c - \log p_c)^2 + 10^{-12}}, \quad \tau = 1

    Unlike :func:`logit_euclidean` it ignores a shift of all logits.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.

    Returns:
        One value per example, at least :math:`10^{-6}`, in at least float32; shape
        ``[*batch]``.

    Raises:
        ValueError: if the shapes differ (they are never broadcast).
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> print(losses.log_probability_euclidean(jnp.ones((1, 2)), jnp.zeros((1, 2))))
        [1.e-06]

    References:
        Beyer et al., `Knowledge distillation: A good teacher is patient and consistent
        <https://arxiv.org/abs/2106.05237>`_, 2022, section 4 and its code.
    """
    _checks.check_logits(student_logits, teacher_logits)
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    gap = difference(log_softmax(s), log_softmax(t))
    return jnp.sqrt(jnp.sum(gap**2, axis=-1) + 1e-12)


def top_k_disagreement(
    student_logits: Logits, teacher_logits: Logits, *, k: int = 1
) -> PerExample:
    r"""Whether the teacher's decision is missing from the student's top k: a measure.

    .. math::
        1 - [\mathrm{argmax}_c \, t_c \in \mathrm{top}_k(s)]

    A class counts as in the top k if fewer than k classes have a greater logit. It is
    for evaluation: its gradient is 0 everywhere.

    Args:
        student_logits: shape ``[*batch, classes]``, :math:`s`.
        teacher_logits: same shape, :math:`t`.
        k: how many of the student's classes to accept.

    Returns:
        0 or 1 per example, in at least float32; shape ``[*batch]``.

    Raises:
        ValueError: if the shapes differ, or ``k`` is not positive.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = (
        ...     jnp.array([[2.0, 1.0, 0.0]]),
        ...     jnp.array([[0.0, 1.0, 0.0]]),
        ... )
        >>> print(losses.top_k_disagreement(student, teacher, k=1))
        [1.]
        >>> print(losses.top_k_disagreement(student, teacher, k=2))
        [0.]

    References:
        Beyer et al., `Knowledge distillation: A good teacher is patient and consistent
        <https://arxiv.org/abs/2106.05237>`_, 2022, section 4 and its code.
    """
    _checks.check_logits(student_logits, teacher_logits)
    _checks.check_positive(k=k)
    s = lax.stop_gradient(at_least_float32(student_logits))
    decision = jnp.argmax(teacher_logits, axis=-1)[..., None]
    greater = jnp.sum(s > jnp.take_along_axis(s, decision, axis=-1), axis=-1)
    return (greater >= k).astype(s.dtype)


def sorted_probability_distance(
    student_logits: Logits,
    teacher_logits: OtherLogits,
    *,
    temperature: float | Array = 1.0,
    where: Where | None = None,
) -> PerExample:
    r"""Distance of the sorted probabilities, for models with different vocabularies.

    .. math::
        \sum_r |q_{(r)} - p_{(r)}|

    :math:`q_{(r)}` is the :math:`r`-th largest probability; the smaller vocabulary is
    filled up with zeros. It compares how certain the models are and not of what, which
    is all that can be said without a map between the tokens. Called universal logit
    distillation (ULD). The positions of the two texts must be aligned before.

    Args:
        student_logits: shape ``[*batch, classes]``.
        teacher_logits: shape ``[*batch, other_classes]``.
        temperature: :math:`\tau > 0`, a number or one per position, ``[*batch]``.
        where: the positions that count, shape ``[*batch]``; all if ``None``.

    Returns:
        One value per position, between 0 and 2, in at least float32; shape
        ``[*batch]``.

    Raises:
        ValueError: if the shapes differ before the last axis, or the temperature is not
            positive.
        TypeError: if the logits are not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 99.0, 0.0]])
        >>> print(losses.sorted_probability_distance(student, teacher))
        [1.]

    References:
        Boizard et al., `Towards Cross-Tokenizer Distillation: the Universal Logit
        Distillation Loss for LLMs <https://arxiv.org/abs/2402.12030>`_, 2024,
        equation 6.
    """
    _checks.check_floating(student_logits=student_logits, teacher_logits=teacher_logits)
    _checks.check_where(teacher_logits, jnp.empty(student_logits.shape[:-1], bool))
    s, t = at_least_float32(student_logits), at_least_float32(teacher_logits)
    scale = inverse_temperature(temperature, s)
    if where is not None:
        _checks.check_where(student_logits, where)
        s, t = (jnp.where(where.astype(bool)[..., None], x, 0.0) for x in (s, t))
    return counted(_sorted_distance(s, t, scale), where)


@jax.custom_jvp
def _sorted_distance(s: Array, t: Array, scale: float | Array) -> PerExample:
    q, p = (-jnp.sort(-softmax(x, scale)[0], axis=-1) for x in (s, t))
    return jnp.sum(jnp.abs(_filled_difference(q, p)), axis=-1)


def _sorted_distance_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    s, t, scale = primals
    ds, dt, dscale = tangents
    loss, tangent = _sorted_distance(*primals), jnp.zeros(s.shape[:-1], s.dtype)
    for x, other, dx in ((s, t, ds), (t, s, dt)):
        p, log_p = softmax(again(x)[0], scale)
        dz = scaled_tangent(log_p / scale, scale, dx, dscale)
        if isinstance(dz, float):
            continue
        loss, signs = _signs_of_gaps(x, other, scale)
        centre = jnp.sum(p * signs, axis=-1, keepdims=True)
        tangent += jnp.sum(p * (signs - centre) * dz, axis=-1)
    return loss, tangent


_sorted_distance.defjvp(_sorted_distance_jvp, symbolic_zeros=True)


def _signs_of_gaps(
    x: Array, other: Array, scale: float | Array
) -> tuple[PerExample, Array]:
    """The distance, and by class whether its probability is above that of its rank."""
    p, shape = softmax(x, scale)[0], x.shape
    classes = lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1)
    ranked, order = lax.sort((-p, classes), dimension=-1, is_stable=True, num_keys=1)
    other, order = again(other, order)
    others = jnp.sort(-softmax(other, scale)[0], axis=-1)
    gaps = _filled_difference(others, ranked)
    signs = jnp.sign(gaps[..., : shape[-1]])
    # Sorting the signs back by class takes less memory than to scatter them.
    _, signs = lax.sort((order, signs), dimension=-1, num_keys=1)
    return jnp.sum(jnp.abs(gaps), axis=-1), signs


def _filled_difference(a: Array, b: Array) -> Array:
    """The difference of rows of different length, the shorter filled up with zeros."""
    missing = a.shape[-1] - b.shape[-1]
    if missing == 0:
        return a - b
    no = ((0, 0),) * (a.ndim - 1)
    if missing > 0:
        return a - jnp.pad(b, (*no, (0, missing)))
    return jnp.pad(a, (*no, (0, -missing))) - b


@jax.custom_jvp
def _cosine_distance(s: Array, t: Array) -> PerExample:
    return _cosine_parts(s, t)[0]


@_cosine_distance.defjvp
def _cosine_distance_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    distance, (a, a_inverse), (b, b_inverse) = _cosine_parts(*primals)
    cosine = 1 - distance[..., None]
    by_student = a_inverse * (cosine * a - b)
    by_teacher = b_inverse * (cosine * b - a)
    ds, dt = tangents
    tangent = jnp.sum(by_student * ds, axis=-1) + jnp.sum(by_teacher * dt, axis=-1)
    return distance, tangent


def _cosine_parts(
    s: Array, t: Array
) -> tuple[Array, tuple[Array, Array], tuple[Array, Array]]:
    """The distance, and both vectors at length 1 with one over their length.

    They are divided by their largest entry first, whose square may overflow.
    """
    masked = jnp.isneginf(s) & jnp.isneginf(t)
    s, t = (jnp.where(masked, 0.0, x) for x in (s, t))
    largest = two_maxima(jnp.abs(s), jnp.abs(t))
    inverses = [(1.0 / jnp.where(x > 0, x, 1.0))[..., None] for x in largest]
    a, b = s * inverses[0], t * inverses[1]
    product, *squares = sums(a * b, a * a, b * b)
    lengths = [jnp.where(x > 0, jnp.sqrt(x), 1.0) for x in squares]
    distance = 1 - product / (lengths[0] * lengths[1])
    shrinks = [(1.0 / x)[..., None] for x in lengths]
    return (
        distance,
        (a * shrinks[0], inverses[0] * shrinks[0]),
        (b * shrinks[1], inverses[1] * shrinks[1]),
    )
