"""What the losses share."""

import jax
from jax import lax, numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxkd._types import Labels, Logits, PerExample, Where


def at_least_float32(x: Array) -> Array:
    """The array in float32, or in float64 if it is in that.

    Args:
        x: a floating point array.

    Returns:
        The same values.
    """
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)


def tiny(x: Array) -> float:
    """The least normal number of the array's dtype.

    Args:
        x: a floating point array.

    Returns:
        A Python number, so that it promotes nothing.
    """
    return float(jnp.finfo(x.dtype).tiny)


def inverse_temperature(temperature: float | Array, logits: Logits) -> float | Array:
    r"""One over the temperature, shaped to multiply logits.

    Args:
        temperature: :math:`\tau > 0`; a number, a scalar array, or one per example.
        logits: shape ``[*batch, classes]``, for the shape and the dtype.

    Returns:
        A number, a scalar array, or an array of shape ``[*batch, 1]``.

    Raises:
        ValueError: if the temperature is not positive, or of another shape.
    """
    if isinstance(temperature, int | float):
        if not temperature > 0:
            raise ValueError(f"`temperature` must be positive, got {temperature}.")
        return 1.0 / temperature
    temperature = jnp.asarray(temperature, logits.dtype)
    if temperature.ndim == 0:
        return 1.0 / temperature
    if temperature.shape != logits.shape[:-1]:
        raise ValueError(
            f"`temperature` has shape {temperature.shape}; it must be one number, or "
            f"one per example, of shape {logits.shape[:-1]}."
        )
    return 1.0 / temperature[..., None]


def squared_temperature(scale: float | Array) -> float | Array:
    r"""The factor :math:`\tau^2` for a loss of one value per example.

    Args:
        scale: the result of :func:`inverse_temperature`.

    Returns:
        A number, a scalar array, or an array of shape ``[*batch]``.
    """
    if isinstance(scale, int | float) or scale.ndim == 0:
        return 1.0 / scale**2
    return 1.0 / scale[..., 0] ** 2


def softmax(logits: Logits, scale: float | Array = 1.0) -> tuple[Array, Array]:
    r"""Probabilities and log-probabilities, without a copy of the scaled logits.

    Scaling after the subtraction of the maximum lets XLA compute both inside whatever
    consumes them. A row without any class (all :math:`-\infty`) has probabilities 0.

    Args:
        logits: shape ``[*batch, classes]``; :math:`-\infty` rules a class out.
        scale: :math:`1 / \tau`, broadcast to the logits.

    Returns:
        The probabilities and their logarithms, of the logits' shape.
    """
    shift = _shift(logits)
    total = jnp.sum(jnp.exp((logits - shift) * scale), axis=-1, keepdims=True)
    log_total = jnp.log(jnp.where(total == 0.0, 1.0, total))
    # Not of the sum of both: large logits would round the logarithm away.
    log_probabilities = (logits - shift) * scale - log_total
    return jnp.exp(log_probabilities), log_probabilities


def log_softmax(logits: Logits, scale: float | Array = 1.0) -> Array:
    """The second result of :func:`softmax`.

    Args:
        logits: shape ``[*batch, classes]``.
        scale: broadcast to the logits.

    Returns:
        Log-probabilities, of the logits' shape.
    """
    return softmax(logits, scale)[1]


@jax.custom_jvp
def log_sum_exp(logits: Logits, scale: float | Array = 1.0) -> PerExample:
    r"""Logarithm of the sum of exponentials, with a gradient also for no class at all.

    Args:
        logits: shape ``[*batch, classes]``.
        scale: :math:`1 / \tau`, broadcast to the logits.

    Returns:
        Shape ``[*batch]``; :math:`-\infty`, with a gradient of 0, if all classes are.
    """
    shift = _shift(logits)
    total = jnp.sum(jnp.exp((logits - shift) * scale), axis=-1, keepdims=True)
    some = total > 0
    log_total = shift * scale + jnp.log(jnp.where(some, total, 1.0))
    return jnp.where(some, log_total, -jnp.inf)[..., 0]


def _log_sum_exp_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """With the softmax computed again: else its exponentials would be stored."""
    (logits, scale), (dlogits, dscale) = primals, tangents
    dz = scaled_tangent(logits, scale, dlogits, dscale)
    return log_sum_exp(logits, scale), jnp.sum(softmax(logits, scale)[0] * dz, axis=-1)


log_sum_exp.defjvp(_log_sum_exp_jvp, symbolic_zeros=True)


def scaled_tangent(
    logits: Array,
    scale: float | Array,
    dlogits: ArrayLike | SymbolicZero,
    dscale: ArrayLike | SymbolicZero,
) -> Array | float:
    """The tangent of the product of logits and scale, for a rule of ``defjvp``.

    Args:
        logits: shape ``[*batch, classes]``.
        scale: broadcast to the logits.
        dlogits: the tangent of the logits, if they have one.
        dscale: the tangent of the scale, if it has one.

    Returns:
        An array of the logits' shape, or 0.0.
    """
    by_logits = (
        0.0 if isinstance(dlogits, SymbolicZero) else jnp.asarray(dlogits) * scale
    )
    if isinstance(dscale, SymbolicZero):
        return by_logits
    return by_logits + jnp.where(jnp.isneginf(logits), 0.0, logits) * jnp.asarray(
        dscale
    )


def _shift(logits: Logits) -> Array:
    largest = lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    return jnp.where(jnp.isneginf(largest), 0.0, largest)


def expected(probabilities: Array, values: Array) -> PerExample:
    r"""Expectation :math:`\sum_c p_c v_c` in which impossible classes count nothing.

    Args:
        probabilities: shape ``[*batch, classes]``.
        values: same shape; may be infinite where the probability is 0.

    Returns:
        Shape ``[*batch]``.
    """
    return jnp.sum(probabilities * jnp.where(probabilities > 0, values, 0.0), axis=-1)


def is_label(labels: Labels, logits: Logits) -> Array:
    """The boolean one-hot array of the labels.

    Args:
        labels: integers, shape ``[*batch]``.
        logits: shape ``[*batch, classes]``, for the number of classes.

    Returns:
        Booleans, of the logits' shape.
    """
    classes = lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    return classes == labels[..., None]


def pick(values: Array, labels: Labels) -> PerExample:
    """The value at the label, one per example.

    Args:
        values: shape ``[*batch, classes]``.
        labels: integers, shape ``[*batch]``.

    Returns:
        Shape ``[*batch]``.
    """
    return jnp.take_along_axis(values, labels[..., None], axis=-1)[..., 0]


def gather_rows(x: Array, axis_name: str | None) -> Array:
    """The rows of all devices, so that a loss over the batch sees the global batch.

    Args:
        x: shape ``[batch, ...]``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``; nothing to do if None.

    Returns:
        Shape ``[devices * batch, ...]``, the same on every device.
    """
    return x if axis_name is None else lax.all_gather(x, axis_name, tiled=True)


def global_mean(
    values: PerExample, where: Where | None, axis_name: str | None
) -> Array:
    """The mean of the values that count, over all devices.

    Args:
        values: shape ``[*batch]``.
        where: which of them count, same shape; all if ``None``.
        axis_name: the mapped axis, if any.

    Returns:
        A scalar; 0 if nothing counts.
    """
    where = jnp.ones(values.shape, bool) if where is None else where
    values, where = gather_rows(values, axis_name), gather_rows(where, axis_name)
    count = jnp.sum(where, dtype=values.dtype)
    return jnp.sum(jnp.where(where, values, 0.0)) / jnp.maximum(count, 1.0)


def difference(s: Array, t: Array) -> Array:
    """The difference of logits, 0 for classes masked in both.

    Args:
        s: shape ``[*batch, classes]``.
        t: same shape.

    Returns:
        Of the same shape, with a gradient of 0 for masked classes.
    """
    masked = jnp.isneginf(s) & jnp.isneginf(t)
    return jnp.where(masked, 0.0, s) - jnp.where(masked, 0.0, t)


def norm(x: Array) -> Array:
    """Euclidean norm over the last axis, with a gradient of 0 at 0.

    Args:
        x: shape ``[..., n]``.

    Returns:
        Shape ``[..., 1]``.
    """
    return safe_sqrt(jnp.sum(x**2, axis=-1, keepdims=True))


def safe_sqrt(x: Array) -> Array:
    """The square root, with a gradient of 0 at 0.

    Args:
        x: non-negative, of any shape.

    Returns:
        Same shape.
    """
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)


def unit(x: Array) -> Array:
    """The vectors along the last axis at length 1; zero stays zero.

    They are divided by their largest entry first, whose square may overflow.

    Args:
        x: shape ``[..., n]``.

    Returns:
        Same shape.
    """
    largest = lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    x = x / jnp.where(largest > 0, largest, 1.0)
    length = norm(x)
    return x / jnp.where(length > 0, length, 1.0)
