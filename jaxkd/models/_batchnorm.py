"""Batch normalization that is exact on many devices and over ragged batches.

The adapters use it in training in place of Flax's, whose statistics count padding and,
under ``pmap``, are those of one device. What does not count is told by ``mask`` in the
batch.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax import lax, numpy as jnp
from jaxtyping import Array, Bool, Float


def batch_moments(
    x: Float[Array, "batch *positions channels"],
    where: Bool[Array, " batch"] | None = None,
    axis_name: str | None = None,
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    r"""Mean and variance of each channel, over the examples that count.

    .. math::
        \mu_c = \frac{1}{n} \sum_i x_{ic}, \qquad
        \sigma_c^2 = \frac{1}{n} \sum_i (x_{ic} - \mu_c)^2

    Both sums run over all devices, so how the batch is spread, and how it is padded,
    changes nothing.

    Args:
        x: shape ``[batch, *positions, channels]``.
        where: which examples count, shape ``[batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``.

    Returns:
        Mean and (biased) variance in at least float32, shape ``[channels]``.
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    where = jnp.ones(x.shape[:1], bool) if where is None else where
    counts = jnp.broadcast_to(where.reshape(-1, *(1,) * (x.ndim - 1)), x.shape)
    axes = tuple(range(x.ndim - 1))

    def total(values: Array) -> Array:
        found = jnp.sum(jnp.where(counts, values, 0.0), axis=axes)
        return found if axis_name is None else lax.psum(found, axis_name)

    number = jnp.maximum(total(jnp.ones_like(x)), 1.0)
    mean = total(x) / number
    return mean, total((x - mean) ** 2) / number


class BatchNorm(nn.Module):
    """Batch normalization over what counts, on all devices.

    As :class:`flax.linen.BatchNorm`, of which it has the variables, but exact where
    devices hold batches of different lengths.

    Attributes:
        momentum: share of the running statistics that is kept at each update.
        epsilon: added to the variance.
        affine: whether there are a trained scale and bias.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    affine: bool = True

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *positions channels"],
        *,
        where: Bool[Array, " batch"] | None = None,
        axis_name: str | None = None,
        train: bool = True,
    ) -> Float[Array, "batch *positions channels"]:
        """Normalizes; in training by the batch, else by the running statistics."""
        width = x.shape[-1:]
        mean_kept = self.variable("batch_stats", "mean", jnp.zeros, width)
        var_kept = self.variable("batch_stats", "var", jnp.ones, width)
        mean, var = mean_kept.value, var_kept.value
        if train:
            mean, var = batch_moments(x, where, axis_name)
            if not self.is_initializing():
                mean_kept.value = blend(mean_kept.value, mean, self.momentum)
                var_kept.value = blend(var_kept.value, var, self.momentum)
        scale = bias = None
        if self.affine:
            scale = self.param("scale", nn.initializers.ones, width)
            bias = self.param("bias", nn.initializers.zeros, width)
        return normalize(x, mean, var, scale, bias, self.epsilon).astype(x.dtype)


def normalize(
    x: Array,
    mean: Array,
    var: Array,
    scale: Array | None,
    bias: Array | None,
    epsilon: float,
) -> Array:
    """Shift and scale of each channel.

    Args:
        x: shape ``[..., channels]``.
        mean: shape ``[channels]``.
        var: same shape.
        scale: same shape, or ``None`` for 1.
        bias: same shape, or ``None`` for 0.
        epsilon: added to the variance.

    Returns:
        Shape of ``x``, in at least float32.
    """
    factor = lax.rsqrt(var + epsilon)
    y = (x - mean) * (factor if scale is None else factor * scale)
    return y if bias is None else y + bias


def blend(kept: Array, new: Array, momentum: float) -> Array:
    """A running statistic after one more batch.

    Args:
        kept: before.
        new: the batch's.
        momentum: share that is kept.

    Returns:
        After.
    """
    return momentum * kept + (1 - momentum) * new


def examples_that_count(batch: Any, x: Array) -> Array | None:
    """The mask of a batch, if it has one for each row of an array.

    Args:
        batch: a dict of arrays.
        x: shape ``[batch, ...]``.

    Returns:
        Booleans, shape ``[batch]``, or ``None``: a layer that sees other rows than the
        batch's, such as one row for each token, counts them all.
    """
    mask = batch.get("mask")
    if mask is None or jnp.ndim(mask) != 1 or mask.shape[0] != x.shape[0]:
        return None
    return jnp.asarray(mask, bool)


def exact_linen_batchnorm(
    batch: Any, axis_name: str | None
) -> Callable[[Any, Any, Any, Any], Any]:
    """An interceptor of Linen that makes every :class:`flax.linen.BatchNorm` exact.

    Args:
        batch: for its mask.
        axis_name: the mapped axis, if any.

    Returns:
        What :func:`flax.linen.intercept_methods` takes.
    """

    def interceptor(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layer = context.module
        if type(layer) is not nn.BatchNorm or context.method_name != "__call__":
            return next_fun(*args, **kwargs)
        given = kwargs.get("use_running_average")
        running = layer.use_running_average if given is None else given
        ours = len(args) == 1 and layer.axis == -1 and "mask" not in kwargs
        if running or not ours or layer.is_initializing():
            return next_fun(*args, **kwargs)
        (x,) = args
        where = examples_that_count(batch, x)
        mean, var = batch_moments(x, where, layer.axis_name or axis_name)
        for name, new in (("mean", mean), ("var", var)):
            kept = layer.get_variable("batch_stats", name)
            layer.put_variable("batch_stats", name, blend(kept, new, layer.momentum))
        scale = layer.get_variable("params", "scale")
        bias = layer.get_variable("params", "bias")
        y = normalize(x, mean, var, scale, bias, layer.epsilon)
        return y.astype(layer.dtype or jnp.result_type(x))

    return interceptor
