"""What the memories of contrastive losses share."""

import numpy as np
from jax import core, lax, numpy as jnp
from jaxtyping import Array

from jaxkd import _checks


def check_embeddings(held: Array, **embeddings: Array) -> None:
    """Raises unless embeddings are vectors as wide as those held.

    Args:
        held: shape ``[size, channels]``.
        **embeddings: by name, shape ``[batch, channels]``, all of one batch.

    Raises:
        ValueError: if they are of another shape.
        TypeError: if they are not floating point.
    """
    _checks.check_floating(**embeddings)
    for name, array in embeddings.items():
        if held.ndim != 2 or array.ndim != 2 or array.shape[1] != held.shape[1]:
            raise ValueError(
                f"`{name}` must have shape [batch, channels] with the channels of what "
                f"is held, of shape {held.shape}; got {array.shape}."
            )
    if len({len(array) for array in embeddings.values()}) > 1:
        _checks.check_same_shape(**embeddings)


def check_places(held: Array, **places: Array) -> None:
    """Raises unless all are places of what is held; the range of concrete arrays only.

    Args:
        held: shape ``[size, channels]``.
        **places: by name, of any shape.

    Raises:
        ValueError: if one is outside ``[0, size)``.
        TypeError: if they are not integers.
    """
    for name, array in places.items():
        if not jnp.issubdtype(array.dtype, jnp.integer):
            raise TypeError(f"`{name}` must be integers, got {array.dtype}.")
        if isinstance(array, core.Tracer) or array.size == 0:
            continue
        values = np.asarray(array)  # an operation of JAX may be traced
        least, most = int(values.min()), int(values.max())
        if least < 0 or most >= len(held):
            raise ValueError(
                f"`{name}` must be in [0, {len(held)}), the size of the memory; got "
                f"numbers from {least} to {most}."
            )


def scatter_rows(held: Array, index: Array, rows: Array, counts: Array) -> Array:
    """Rows written to their places; of those to one place the last that counts.

    Args:
        held: shape ``[size, channels]``.
        index: integers in ``[0, size)``, shape ``[batch]``.
        rows: shape ``[batch, channels]``.
        counts: which are written, shape ``[batch]``.

    Returns:
        As ``held``, without a gradient.
    """
    places = jnp.arange(len(index))
    later = (places[None] > places[:, None]) & counts[None]
    written = counts & ~jnp.any(later & (index[None] == index[:, None]), axis=1)
    index = jnp.where(written, index, len(held))
    rows = rows.astype(held.dtype)
    return lax.stop_gradient(held.at[index].set(rows, mode="drop"))
