"""What the losses on features share: checks, layouts, sizes and the global batch.

Features have the shape ``[batch, *positions, channels]``: images ``[batch, height,
width, channels]``, tokens ``[batch, tokens, channels]``, vectors ``[batch, channels]``.
"""

import jax
import numpy as np
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import AnyFeatures, Examples, PerExample, Scalar
from jaxkd.losses._common import at_least_float32, gather_rows


def feature_pair(student: AnyFeatures, teacher: AnyFeatures) -> tuple[Array, Array]:
    """Both in at least float32; their batch agrees, all else may differ.

    Args:
        student: shape ``[batch, ..., channels]``.
        teacher: the same batch.

    Returns:
        The same values.

    Raises:
        ValueError: if the batches differ.
        TypeError: if either is not floating point.
    """
    _checks.check_features(student, teacher)
    return at_least_float32(student), at_least_float32(teacher)


def equal_pair(student: AnyFeatures, teacher: AnyFeatures) -> tuple[Array, Array]:
    """As :func:`feature_pair`, of one shape.

    Args:
        student: shape ``[batch, ..., channels]``.
        teacher: same shape.

    Returns:
        The same values.

    Raises:
        ValueError: if the shapes differ.
        TypeError: if either is not floating point.
    """
    s, t = feature_pair(student, teacher)
    _checks.check_same_shape(student=student, teacher=teacher)
    return s, t


def pooled_pair(student: AnyFeatures, teacher: AnyFeatures) -> tuple[Array, Array]:
    """As :func:`feature_pair`, averaged to the smaller number of positions.

    Args:
        student: shape ``[batch, *positions, channels]``.
        teacher: as many axes; positions and channels may differ.

    Returns:
        Both with the same positions, along each axis the smaller number.

    Raises:
        ValueError: if the batches or the numbers of axes differ.
        TypeError: if either is not floating point.
    """
    s, t = feature_pair(student, teacher)
    if s.ndim != t.ndim:
        raise ValueError(
            f"`student` has shape {student.shape} and `teacher` {teacher.shape}: both "
            "must have the same kind of positions, like [batch, height, width, "
            "channels]."
        )
    sizes = tuple(map(min, s.shape[1:-1], t.shape[1:-1]))
    return average_pool(s, sizes), average_pool(t, sizes)


def average_pool(x: Array, sizes: tuple[int, ...]) -> Array:
    """Means over windows that share the positions out, whether or not they divide.

    Window `i` of `m` over `n` positions goes from ``floor(i n / m)`` to
    ``ceil((i + 1) n / m)``, so that windows may overlap, as in PyTorch's adaptive
    pooling.

    Args:
        x: shape ``[batch, *positions, channels]``.
        sizes: the positions wanted along each axis, no more than there are.

    Returns:
        Shape ``[batch, *sizes, channels]``.
    """
    for axis, size in enumerate(sizes, start=1):
        if x.shape[axis] != size:
            windows = jnp.asarray(_windows(x.shape[axis], size), x.dtype)
            means = jnp.tensordot(x, windows, (axis, 1), precision=PRECISION)
            x = jnp.moveaxis(means, -1, axis)
    return x


def _windows(n: int, m: int) -> np.ndarray:
    i, j = np.arange(m)[:, None], np.arange(n)
    inside = (j >= i * n // m) & (j < -(-(i + 1) * n // m))
    return inside / inside.sum(axis=1, keepdims=True)


#: Of the products of features: the default of an accelerator is less than float32.
PRECISION = lax.Precision.HIGHEST


def product(a: Array, b: Array) -> Array:
    """The matrix product in the full precision of its arguments.

    Args:
        a: shape ``[..., n, k]``.
        b: shape ``[..., k, m]``.

    Returns:
        Shape ``[..., n, m]``.
    """
    return jnp.matmul(a, b, precision=PRECISION)


def flat_positions(x: Array) -> Array:
    """The positions on one axis.

    Args:
        x: shape ``[batch, *positions, channels]``.

    Returns:
        Shape ``[batch, all_positions, channels]``.
    """
    return x.reshape(x.shape[0], -1, x.shape[-1])


def channel_rows(x: Array) -> Array:
    """One vector over the positions for each channel.

    Args:
        x: shape ``[batch, *positions, channels]``.

    Returns:
        Shape ``[batch, channels, all_positions]``.
    """
    return flat_positions(x).mT


def flat_example(x: Array) -> Array:
    """One vector for each example.

    Args:
        x: shape ``[batch, ...]``.

    Returns:
        Shape ``[batch, size]``.
    """
    return x.reshape(x.shape[0], -1)


def per_channel(values: Array, like: Array) -> Array:
    """A number for each channel, with the axes of features.

    Args:
        values: shape ``[channels]``.
        like: shape ``[..., channels]``.

    Returns:
        Shape ``[1, ..., 1, channels]``, of the dtype of the features.
    """
    return values.astype(like.dtype).reshape((1,) * (like.ndim - 1) + (-1,))


def power_of(x: Array, power: float) -> Array:
    """A power of the absolute value, with a gradient of 0 at 0.

    Args:
        x: of any shape.
        power: at least 1.

    Returns:
        Same shape.

    Raises:
        ValueError: if the power is less than 1, where the slope at 0 is infinite.
    """
    if not power >= 1:
        raise ValueError(f"`power` must be at least 1, got {power}.")
    return (x * jnp.sign(x)) ** power  # the slope of jnp.abs at 0 is 1


def mean_of_example(x: Array) -> PerExample:
    """The mean over all axes but the first.

    Args:
        x: shape ``[batch, ...]``.

    Returns:
        Shape ``[batch]``.
    """
    return jnp.mean(flat_example(x), axis=-1)


def sum_of_example(x: Array) -> PerExample:
    """The sum over all axes but the first.

    Args:
        x: shape ``[batch, ...]``.

    Returns:
        Shape ``[batch]``.
    """
    return jnp.sum(flat_example(x), axis=-1)


def counted_rows(
    x: Array, where: Examples | None, axis_name: str | None
) -> tuple[Array, Array]:
    """The examples of all devices, 0 where they do not count, and which count.

    Args:
        x: shape ``[batch, ...]``.
        where: which examples count, shape ``[batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``, if any.

    Returns:
        Shapes ``[devices * batch, ...]`` and, boolean, ``[devices * batch]``.

    Raises:
        ValueError: if ``where`` is not of shape ``[batch]``.
    """
    where = jnp.ones(x.shape[:1], bool) if where is None else where.astype(bool)
    _checks.check_shape(x.shape[:1], where=where)
    x = jnp.where(where.reshape((-1,) + (1,) * (x.ndim - 1)), x, 0.0)
    return gather_rows(x, axis_name), gather_rows(where, axis_name)


def count_of(counts: Array, like: Array) -> Scalar:
    """How many count, but at least 1, so as to divide by it.

    Args:
        counts: booleans, of any shape.
        like: for the dtype.

    Returns:
        A scalar.
    """
    return jnp.maximum(jnp.sum(counts, dtype=like.dtype), 1.0)


def resize_like(x: Array, like: Array) -> Array:
    """Bilinear interpolation to the positions of another array.

    Args:
        x: shape ``[batch, *positions, channels]``.
        like: an array with as many axes.

    Returns:
        Shape ``[batch, *like_positions, channels]``.
    """
    shape = (x.shape[0], *like.shape[1:-1], x.shape[-1])
    return x if x.shape == shape else jax.image.resize(x, shape, "linear", False)
