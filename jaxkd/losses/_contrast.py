r"""Contrast with a memory: examples told apart by what other examples looked like.

A memory is an argument of every function and the result of those that change it: a
record of arrays, to be kept in the train state, sharded and saved like any other. A
step reads it first and updates it after, as the original implementations do:

    memory = calibrate_memory(memory, student, teacher, index, negatives)
    values = contrastive_representation(student, teacher, index, negatives, memory)
    memory = update_memory(memory, student, teacher, index)
"""

import math
from typing import NamedTuple

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkd import _checks
from jaxkd._types import Examples, Features, PerExample, PRNGKey, Scalar
from jaxkd.losses._common import (
    at_least_float32,
    gather_rows,
    inverse_temperature,
    unit,
)
from jaxkd.losses._layouts import counted_rows
from jaxkd.losses._memories import check_embeddings, check_places, scatter_rows


class ContrastMemory(NamedTuple):
    """What student and teacher made of every example of the training data.

    Attributes:
        student: the student's embeddings by index, shape ``[size, channels]``.
        teacher: the teacher's, same shape.
        log_normalizers: logarithms of the sums by which scores become probabilities,
            of the student against the teacher's memory and the other way round.
        calibrated: whether they come from data, a boolean.
    """

    student: Float[Array, "size channels"]
    teacher: Float[Array, "size channels"]
    log_normalizers: Float[Array, "2"]
    calibrated: Array


def contrast_memory(key: PRNGKey, *, size: int, channels: int) -> ContrastMemory:
    r"""A memory of random embeddings, of the expected length 1.

    Args:
        key: a key of :mod:`jax.random`.
        size: how many examples the training data has.
        channels: of the embeddings, 128 as a rule.

    Returns:
        A :class:`ContrastMemory`, to be calibrated with the first batch.

    Raises:
        ValueError: if a number is not positive.

    Examples:
        >>> import jax
        >>> from jaxkd import losses
        >>> memory = losses.contrast_memory(jax.random.key(0), size=9, channels=4)
        >>> print(memory.student.shape, memory.calibrated)
        (9, 4) False
    """
    _checks.check_positive(size=size, channels=channels)
    bound = math.sqrt(3 / channels)
    student, teacher = (
        jax.random.uniform(k, (size, channels), minval=-bound, maxval=bound)
        for k in jax.random.split(key)
    )
    normalizers = jnp.full(2, math.log(size), student.dtype)
    return ContrastMemory(student, teacher, normalizers, jnp.asarray(False))


def uniform_negatives(
    key: PRNGKey, index: Int[Array, " batch"], *, size: int, number: int
) -> Int[Array, "batch number"]:
    """Indices of other examples, drawn for each example.

    Args:
        key: a key of :mod:`jax.random`.
        index: the examples' own, in ``[0, size)``, shape ``[batch]``.
        size: how many examples there are, at least 2.
        number: how many to draw, with repetition.

    Returns:
        Integers in ``[0, size)``, none the example's own, shape ``[batch, number]``.

    Raises:
        ValueError: if there is no other example, or the number is not positive.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import losses
        >>> index = jnp.array([1])
        >>> drawn = losses.uniform_negatives(jax.random.key(0), index, size=2, number=3)
        >>> print(drawn)
        [[0 0 0]]
    """
    _checks.check_positive(**{"size - 1": size - 1, "number": number})
    drawn = jax.random.randint(key, (len(index), number), 0, size - 1, index.dtype)
    return drawn + (drawn >= index[:, None]).astype(index.dtype)


def contrastive_representation(
    student: Features,
    teacher: Features,
    index: Int[Array, " batch"],
    negatives: Int[Array, "batch number"],
    memory: ContrastMemory,
    *,
    temperature: float = 0.07,
) -> PerExample:
    r"""How well the two sides tell an example from others, each in the other's memory.

    .. math::
        -\sum_{\mathrm{sides}} \Big[ \log \frac{e_0}{e_0 + K/M}
            + \sum_{k=1}^K \log \frac{K/M}{e_k + K/M} \Big], \qquad
        e_k = \frac{1}{Z} \exp \frac{\langle v, m_{i_k} \rangle}{\tau}

    :math:`v` is a side's embedding at length 1, :math:`m_i` what the other side's
    memory of size :math:`M` holds of example :math:`i`, :math:`i_0` the example itself
    and :math:`i_1 \dots i_K` others; :math:`Z` comes from :func:`calibrate_memory`.
    Contrastive representation distillation (CRD). The gradient flows to both
    embeddings, whose projectors are both trained, and not to the memory.

    Args:
        student: embedded, shape ``[batch, channels]``.
        teacher: embedded as wide, same shape.
        index: where the examples are in the memory, shape ``[batch]``.
        negatives: where others are, as of :func:`uniform_negatives`, or drawn from
            other classes; shape ``[batch, number]``.
        memory: as it was before this batch.
        temperature: :math:`\tau > 0`.

    Returns:
        One value per example in nats, in at least float32; shape ``[batch]``.

    Raises:
        ValueError: if shapes do not fit, an index is not in the memory, or the
            temperature is not positive.
        TypeError: if embeddings are not floating point or indices not integers.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import losses
        >>> memory = losses.contrast_memory(jax.random.key(0), size=9, channels=2)
        >>> index, negatives = jnp.array([3]), jnp.array([[0, 7]])
        >>> embedding = jnp.ones((1, 2))
        >>> value = losses.contrastive_representation(
        ...     embedding, embedding, index, negatives, memory
        ... )
        >>> print(value.shape)
        (1,)

    References:
        Tian et al., `Contrastive Representation Distillation
        <https://arxiv.org/abs/1910.10699>`_, 2020, section 3, and its code.
    """
    scores = _scores(student, teacher, index, negatives, memory, temperature)
    size, number = len(memory.student), negatives.shape[1]
    share = number / size
    rest = math.log(share + 1e-7)  # the authors' guard against a division by 0
    total = jnp.zeros(len(index), scores[0].dtype)
    for i, score in enumerate(scores):
        score = score - memory.log_normalizers[i].astype(score.dtype)
        both = jnp.logaddexp(score, rest)
        missed = jnp.sum(both[:, 1:], axis=1) - number * math.log(share)
        total += both[:, 0] - score[:, 0] + missed
    return total


def calibrate_memory(
    memory: ContrastMemory,
    student: Features,
    teacher: Features,
    index: Int[Array, " batch"],
    negatives: Int[Array, "batch number"],
    *,
    temperature: float = 0.07,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> ContrastMemory:
    r"""Fixes the normalizers of a memory with its first batch; later ones do nothing.

    .. math::
        Z = \frac{M}{B (K + 1)} \sum_{b = 1}^B \sum_{k = 0}^K
            \exp \frac{\langle v_b, m_{i_{bk}} \rangle}{\tau}

    Args:
        memory: of which only the normalizers may change.
        student: embedded, shape ``[batch, channels]``.
        teacher: embedded as wide, same shape.
        index: where the examples are in the memory, shape ``[batch]``.
        negatives: where others are, shape ``[batch, number]``.
        temperature: :math:`\tau > 0`, that of the loss.
        where: which examples count, shape ``[batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``.

    Returns:
        The memory; as it was, if it is calibrated or nothing counts.

    Raises:
        ValueError: if shapes do not fit, an index is not in the memory, or the
            temperature is not positive.
        TypeError: if embeddings are not floating point or indices not integers.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import losses
        >>> memory = losses.contrast_memory(jax.random.key(0), size=9, channels=2)
        >>> index, negatives = jnp.array([3]), jnp.array([[0, 7]])
        >>> zeros = jnp.zeros((1, 2))
        >>> memory = losses.calibrate_memory(memory, zeros, zeros, index, negatives)
        >>> print(jnp.exp(memory.log_normalizers).round(3), memory.calibrated)
        [9. 9.] True

    References:
        Tian et al., `Contrastive Representation Distillation
        <https://arxiv.org/abs/1910.10699>`_, 2020, in its code.
    """
    scores = _scores(student, teacher, index, negatives, memory, temperature)
    normalizers = [_log_mean_exp(x, where, axis_name) for x in scores]
    fixed = lax.stop_gradient(jnp.stack(normalizers)) + math.log(len(memory.student))
    fixed = fixed.astype(memory.log_normalizers.dtype)
    keep = memory.calibrated | ~jnp.all(jnp.isfinite(fixed))
    return memory._replace(
        log_normalizers=jnp.where(keep, memory.log_normalizers, fixed),
        calibrated=memory.calibrated | ~keep,
    )


def update_memory(
    memory: ContrastMemory,
    student: Features,
    teacher: Features,
    index: Int[Array, " batch"],
    *,
    momentum: float = 0.5,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> ContrastMemory:
    r"""Moves what the memory holds of a batch towards what it looks like now.

    .. math::
        m_i \leftarrow \frac{\mu m_i + (1 - \mu) v_i}{\| \mu m_i + (1 - \mu) v_i \|}

    Args:
        memory: of which the rows of the batch change.
        student: embedded, shape ``[batch, channels]``.
        teacher: embedded as wide, same shape.
        index: where the examples are in the memory, shape ``[batch]``; of an example
            which occurs twice the last one counts.
        momentum: :math:`\mu` in ``[0, 1]``.
        where: which examples count, shape ``[batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``, on which the memory is
            the same on every device, and stays so.

    Returns:
        The new memory, without a gradient.

    Raises:
        ValueError: if shapes do not fit, an index is not in the memory, or the momentum
            is not in ``[0, 1]``.
        TypeError: if embeddings are not floating point or indices not integers.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import losses
        >>> memory = losses.contrast_memory(jax.random.key(0), size=9, channels=2)
        >>> new, index = jnp.array([[3.0, 4.0]]), jnp.array([5])
        >>> memory = losses.update_memory(memory, new, new, index, momentum=0.0)
        >>> print(memory.teacher[5].round(3))
        [0.6 0.8]

    References:
        Tian et al., `Contrastive Representation Distillation
        <https://arxiv.org/abs/1910.10699>`_, 2020, in its code.
    """
    _checks.check_fraction(momentum=momentum)
    check_embeddings(memory.student, student=student, teacher=teacher)
    check_places(memory.student, index=index)
    _checks.check_shape(student.shape[:1], index=index)
    s, counts = counted_rows(at_least_float32(student), where, axis_name)
    t, _ = counted_rows(at_least_float32(teacher), where, axis_name)
    index = gather_rows(index, axis_name)

    def moved(held: Array, new: Array) -> Array:
        mixed = momentum * held[index].astype(new.dtype) + (1 - momentum) * unit(new)
        return scatter_rows(held, index, unit(mixed), counts)

    return memory._replace(
        student=moved(memory.student, s), teacher=moved(memory.teacher, t)
    )


def _scores(
    student: Features,
    teacher: Features,
    index: Array,
    negatives: Array,
    memory: ContrastMemory,
    temperature: float,
) -> tuple[Array, Array]:
    """Of the student in the teacher's memory, and vice versa; its own comes first."""
    check_embeddings(memory.student, student=student, teacher=teacher)
    check_places(memory.student, index=index, negatives=negatives)
    if negatives.ndim != 2 or len(negatives) != len(student) or not negatives.size:
        raise ValueError(
            f"`negatives` must have shape ({len(student)}, number), got "
            f"{negatives.shape}."
        )
    _checks.check_shape(student.shape[:1], index=index)
    chosen = jnp.concatenate([index[:, None], negatives.astype(index.dtype)], axis=1)

    def score(x: Array, held: Array) -> Array:
        x = at_least_float32(x)
        rows = lax.stop_gradient(held)[chosen].astype(x.dtype)
        # A sum and no product of matrices: it is fused with the look-up, which is
        # larger than all else, and keeps full precision.
        cosines = jnp.sum(rows * unit(x)[:, None], axis=-1)
        return cosines * inverse_temperature(temperature, x)

    return score(student, memory.teacher), score(teacher, memory.student)


def _log_mean_exp(x: Array, where: Examples | None, axis_name: str | None) -> Scalar:
    """Over all devices; minus infinity if nothing counts."""
    x, counts = counted_rows(x, where, axis_name)
    number = jnp.maximum(jnp.sum(counts, dtype=x.dtype) * x.shape[1], 1.0)
    return jax.nn.logsumexp(jnp.where(counts[:, None], x, -jnp.inf)) - jnp.log(number)
