"""Batch normalization that is exact on many devices and over ragged batches."""

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
                m = self.momentum
                mean_kept.value = m * mean_kept.value + (1 - m) * mean
                var_kept.value = m * var_kept.value + (1 - m) * var
        y = (x - mean) * lax.rsqrt(var + self.epsilon)
        if self.affine:
            y = y * self.param("scale", nn.initializers.ones, width)
            y = y + self.param("bias", nn.initializers.zeros, width)
        return y.astype(x.dtype)
