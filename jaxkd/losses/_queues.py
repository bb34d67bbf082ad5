r"""Similarities to a set of anchors: what the two sides find an example to be like.

The anchors are an argument: embeddings of earlier examples, kept by a queue which is an
argument and a result, or any fixed set.
"""

from typing import NamedTuple

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkd import _checks
from jaxkd._types import Examples, Features, OtherFeatures, PerExample, PRNGKey
from jaxkd.losses._common import (
    at_least_float32,
    inverse_temperature,
    unit,
)
from jaxkd.losses._divergences import forward_kl
from jaxkd.losses._layouts import counted_rows, product
from jaxkd.losses._memories import check_embeddings, scatter_rows


class EmbeddingQueue(NamedTuple):
    """Embeddings of the latest examples, the oldest of which are overwritten.

    Attributes:
        embeddings: of length 1, shape ``[size, channels]``.
        place: where the next one goes, an integer in ``[0, size)``.
    """

    embeddings: Float[Array, "size channels"]
    place: Int[Array, ""]


def embedding_queue(key: PRNGKey, *, size: int, channels: int) -> EmbeddingQueue:
    """A queue full of random directions.

    Args:
        key: a key of :mod:`jax.random`.
        size: how many embeddings it holds.
        channels: how wide they are.

    Returns:
        An :class:`EmbeddingQueue`.

    Raises:
        ValueError: if a number is not positive.

    Examples:
        >>> import jax
        >>> from jaxkd import losses
        >>> queue = losses.embedding_queue(jax.random.key(0), size=9, channels=4)
        >>> print(queue.embeddings.shape)
        (9, 4)
    """
    _checks.check_positive(size=size, channels=channels)
    directions = unit(jax.random.normal(key, (size, channels)))
    return EmbeddingQueue(directions, jnp.zeros((), jnp.int32))


def update_queue(
    queue: EmbeddingQueue,
    embeddings: Features,
    *,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> EmbeddingQueue:
    """Puts the embeddings of a batch, at length 1, in the place of the oldest.

    Two queues that are updated with the same ``where`` hold the same examples in the
    same places.

    Args:
        queue: as it was.
        embeddings: the teacher's as a rule, shape ``[batch, channels]``. Of more than
            the queue holds the last stay.
        where: which examples count, shape ``[batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``, on which the queue is
            the same on every device, and stays so.

    Returns:
        The new queue, without a gradient.

    Raises:
        ValueError: if the shapes do not fit.
        TypeError: if the embeddings are not floating point.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import losses
        >>> queue = losses.embedding_queue(jax.random.key(0), size=9, channels=2)
        >>> queue = losses.update_queue(queue, jnp.array([[3.0, 4.0]]))
        >>> print(queue.embeddings[0].round(3), queue.place)
        [0.6 0.8] 1
    """
    check_embeddings(queue.embeddings, embeddings=embeddings)
    x, counts = counted_rows(at_least_float32(embeddings), where, axis_name)
    size, steps = len(queue.embeddings), counts.astype(queue.place.dtype)
    index = (queue.place + jnp.cumsum(steps, dtype=steps.dtype) - steps) % size
    held = scatter_rows(queue.embeddings, index, unit(x), counts)
    place = (queue.place + jnp.sum(steps, dtype=steps.dtype)) % size
    return EmbeddingQueue(held, place)


def info_nce(
    student: Features,
    teacher: Features,
    anchors: Float[Array, "size channels"],
    *,
    temperature: float = 0.07,
) -> PerExample:
    r"""Cross-entropy of finding an example's teacher among the anchors.

    .. math::
        -\log \frac{e^{\langle s, t \rangle / \tau}}
            {e^{\langle s, t \rangle / \tau} + \sum_k e^{\langle s, a_k \rangle / \tau}}

    with embeddings at length 1. The limit of
    :func:`instance_similarity_cross_entropy` for a teacher without doubts.

    Args:
        student: embedded as wide as the teacher, shape ``[batch, channels]``.
        teacher: same shape.
        anchors: of length 1, as in an :class:`EmbeddingQueue`; shape ``[size,
            channels]``.
        temperature: :math:`\tau > 0`.

    Returns:
        One value per example in nats, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if shapes do not fit, or the temperature is not positive.
        TypeError: if an input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0]])
        >>> loss = losses.info_nce(student, teacher, jnp.eye(2), temperature=1.0)
        >>> print(loss.round(4))
        [0.862]

    References:
        van den Oord et al., `Representation Learning with Contrastive Predictive Coding
        <https://arxiv.org/abs/1807.03748>`_, 2018, section 2.3.

        He et al., `Momentum Contrast for Unsupervised Visual Representation Learning
        <https://arxiv.org/abs/1911.05722>`_, 2020, equation 1.
    """
    to_student, _ = _similarities(student, teacher, anchors)
    return -_log_softmax(to_student, temperature)[:, 0]


def instance_similarity_cross_entropy(
    student: Features,
    teacher: Features,
    anchors: Float[Array, "size channels"],
    *,
    temperature: float = 0.2,
    teacher_temperature: float = 0.01,
) -> PerExample:
    r"""Cross-entropy of what the two sides find an example to be like.

    .. math::
        -\sum_{k=0}^{K} p_k \log q_k, \qquad
        p = \mathrm{softmax} \frac{\langle t, a_k \rangle}{\tau_t}, \quad
        q = \mathrm{softmax} \frac{\langle s, a_k \rangle}{\tau}

    with embeddings at length 1 and the example's own :math:`a_0 = t` before the
    anchors. Self-supervised distillation (SEED). It includes the teacher's entropy.

    Args:
        student: embedded as wide as the teacher, shape ``[batch, channels]``.
        teacher: same shape.
        anchors: of length 1, the teacher's of earlier examples, as in an
            :class:`EmbeddingQueue`; shape ``[size, channels]``.
        temperature: :math:`\tau > 0`.
        teacher_temperature: :math:`\tau_t > 0`.

    Returns:
        One value per example in nats, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if shapes do not fit, or a temperature is not positive.
        TypeError: if an input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.zeros((1, 2)), jnp.array([[1.0, 0.0]])
        >>> value = losses.instance_similarity_cross_entropy(
        ...     student, teacher, jnp.eye(2)
        ... )
        >>> print(value)
        [1.0986123]

    References:
        Fang et al., `SEED: Self-supervised Distillation for Visual Representation
        <https://arxiv.org/abs/2101.04731>`_, 2021, section 3.
    """
    to_student, to_teacher = _similarities(student, teacher, anchors)
    p = jnp.exp(_log_softmax(to_teacher, teacher_temperature))
    return -jnp.sum(p * _log_softmax(to_student, temperature), axis=-1)


def anchor_similarity_kl(
    student: Features,
    teacher: OtherFeatures,
    student_anchors: Float[Array, "size channels"],
    teacher_anchors: Float[Array, "size other_channels"],
    *,
    temperature: float = 0.04,
) -> PerExample:
    r"""Divergence of how similar the two sides find an example to anchors.

    .. math::
        \mathrm{KL}(p \| q), \qquad
        p = \mathrm{softmax} \frac{\langle t, a^t_k \rangle}{\tau}, \quad
        q = \mathrm{softmax} \frac{\langle s, a^s_k \rangle}{\tau}

    with embeddings at length 1. CompRess: each side has a queue of its own, so the
    widths may differ and no projector is needed; or both have the teacher's.

    Args:
        student: shape ``[batch, channels]``, :math:`s`.
        teacher: shape ``[batch, other_channels]``, :math:`t`.
        student_anchors: of length 1, shape ``[size, channels]``.
        teacher_anchors: of the same examples, shape ``[size, other_channels]``.
        temperature: :math:`\tau > 0`.

    Returns:
        One value per example in nats, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if shapes do not fit, or the temperature is not positive.
        TypeError: if an input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> same = jnp.array([[1.0, 0.0]])
        >>> print(losses.anchor_similarity_kl(same, same, jnp.eye(2), jnp.eye(2)))
        [0.]

    References:
        Koohpayegani et al., `CompRess: Self-Supervised Learning by Compressing
        Representations <https://arxiv.org/abs/2010.14713>`_, 2020, section 3.
    """
    check_embeddings(student_anchors, student=student)
    check_embeddings(teacher_anchors, teacher=teacher)
    if len(student) != len(teacher) or len(student_anchors) != len(teacher_anchors):
        raise ValueError(
            f"`student` {student.shape} and `teacher` {teacher.shape} must have one "
            f"batch, `student_anchors` {student_anchors.shape} and `teacher_anchors` "
            f"{teacher_anchors.shape} one size."
        )
    scores = (
        _cosines(x, anchors)
        for x, anchors in ((student, student_anchors), (teacher, teacher_anchors))
    )
    return forward_kl(*scores, temperature=temperature)


def _similarities(
    student: Features, teacher: Features, anchors: Array
) -> tuple[Array, Array]:
    """Of both to the example's own teacher and to the anchors."""
    check_embeddings(anchors, student=student, teacher=teacher)
    own = unit(at_least_float32(teacher))
    both = []
    for x in (student, teacher):
        with_own = jnp.sum(unit(at_least_float32(x)) * own, axis=-1, keepdims=True)
        both.append(jnp.concatenate([with_own, _cosines(x, anchors)], axis=1))
    return both[0], both[1]


def _log_softmax(scores: Array, temperature: float) -> Array:
    """Exact also for a temperature so low that a rounded score would matter."""
    largest = lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    scale = inverse_temperature(temperature, scores)
    return jax.nn.log_softmax((scores - largest) * scale)


def _cosines(x: Array, anchors: Array) -> Array:
    _checks.check_floating(anchors=anchors)
    x = unit(at_least_float32(x))
    return product(x, lax.stop_gradient(anchors).astype(x.dtype).T)
