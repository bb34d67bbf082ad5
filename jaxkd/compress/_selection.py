"""The largest of many scores, exactly as many as asked, without a sort.

The threshold is found by bisection on the bits of the scores: floats are ordered as
integers made of their bits are, so 32 counting passes find the exact k-th largest
score. On sharded arrays only scalars travel.
"""

from collections.abc import Sequence

import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt

from jaxkd._types import Number


def number_kept(n: int, sparsity: Number) -> Int[Array, ""]:
    """How many of ``n`` stay: all but ``round(sparsity * n)``, and at least one."""
    if isinstance(sparsity, jax.Array):
        drop = jnp.round(sparsity * n).astype(jnp.int32)
    else:
        drop = jnp.int32(round(float(sparsity) * n))
    return jnp.maximum(n - drop, 1)


def keep_largest(
    scores: Sequence[Float[Array, "..."]], keep: Int[Array, ""]
) -> list[Bool[Array, "..."]]:
    """Marks the ``keep`` largest of all scores together; of ties, the earlier ones."""
    orders = [_order(score) for score in scores]
    threshold = _kth_largest(orders, keep)
    above = sum((_count(o, threshold, strict=True) for o in orders), start=jnp.int32(0))
    masks, ties_left = [], keep - above
    for order in orders:
        tied = (order == threshold).reshape(-1)
        rank = jnp.cumsum(tied, dtype=jnp.int32) - 1
        wins = (tied & (rank < ties_left)).reshape(order.shape)
        masks.append((order > threshold) | wins)
        ties_left = ties_left - jnp.sum(tied, dtype=jnp.int32)
    return masks


def _order(score: Float[Array, "..."]) -> UInt[Array, "..."]:
    """Floats as integers of the same order; -0 is 0."""
    bits = jax.lax.bitcast_convert_type(score.astype(jnp.float32) + 0.0, jnp.uint32)
    top = jnp.uint32(1 << 31)
    return jnp.where(bits < top, bits | top, ~bits)


def _count(
    order: UInt[Array, "..."], threshold: UInt[Array, ""], *, strict: bool = False
) -> Int[Array, ""]:
    counts = order > threshold if strict else order >= threshold
    return jnp.sum(counts, dtype=jnp.int32)


def _kth_largest(
    orders: Sequence[UInt[Array, "..."]], k: Int[Array, ""]
) -> UInt[Array, ""]:
    """The largest threshold with ``k`` scores at or above it, one bit at a time."""

    def set_bit(i: Int[Array, ""], found: UInt[Array, ""]) -> UInt[Array, ""]:
        candidate = found | (jnp.uint32(1) << (31 - i).astype(jnp.uint32))
        count = sum((_count(o, candidate) for o in orders), start=jnp.int32(0))
        return jnp.where(count >= k, candidate, found)

    return jax.lax.fori_loop(0, 32, set_bit, jnp.uint32(0))
