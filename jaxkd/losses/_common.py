"""What the losses share."""

from jax import numpy as jnp
from jaxtyping import Array


def at_least_float32(x: Array) -> Array:
    """The array in float32, or in float64 if it is in that.

    Args:
        x: a floating point array.

    Returns:
        The same values.
    """
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)
