"""Ranges from a histogram of magnitudes, which a stream of batches can be added to.

A histogram is ``counts`` in bins of one width from 0 to ``limit``.
"""

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, Num

from jaxkd import _checks
from jaxkd._types import Real, Whole


def check_percentile(percentile: Real) -> None:
    """Raises unless a percentage is in ``(0, 100]``.

    Args:
        percentile: the percentage.

    Raises:
        ValueError: if it is outside.
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"`percentile` must be in (0, 100], got {percentile}.")


def count(
    magnitudes: Float[Array, "..."],
    limit: Float[Array, ""] | None = None,
    *,
    bins: Whole,
) -> tuple[Int[Array, " bins"], Float[Array, ""]]:
    """The histogram of magnitudes.

    Args:
        magnitudes: non-negative values.
        limit: the end of the last bin, which holds what is above as well; by default
            the largest magnitude.
        bins: the number of bins.

    Returns:
        The counts, and the limit.
    """
    limit = jnp.max(magnitudes, initial=0.0) if limit is None else limit
    safe = jnp.where(limit > 0, limit, 1)
    index = jnp.floor(magnitudes.reshape(-1) / safe * bins).astype(jnp.int32)
    counts = jnp.zeros(bins, jnp.int32).at[jnp.clip(index, 0, bins - 1)].add(1)
    return counts, limit


def histogram_percentile(
    counts: Num[Array, " bins"], limit: Float[Array, ""], *, percentile: Real = 99.99
) -> Float[Array, ""]:
    """The upper end of the bin that holds a percentile of the magnitudes.

    Args:
        counts: how many magnitudes are in each bin.
        limit: the end of the last bin.
        percentile: the percentage inside, in ``(0, 100]``.

    Returns:
        The high end of the range.

    Raises:
        ValueError: if the percentage is outside.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> counts, limit = jnp.array([90, 9, 0, 1]), jnp.float32(4.0)
        >>> print(compress.histogram_percentile(counts, limit, percentile=95))
        2.0
    """
    check_percentile(percentile)
    counts = counts.astype(jnp.float32)
    inside = jnp.cumsum(counts) / jnp.maximum(jnp.sum(counts), 1)
    last = jnp.searchsorted(inside, jnp.float32(percentile / 100))
    bins = counts.shape[0]
    return (jnp.minimum(last, bins - 1) + 1).astype(jnp.float32) * limit / bins


def histogram_mse(
    counts: Num[Array, " bins"], limit: Float[Array, ""], *, levels: Whole = 128
) -> Float[Array, ""]:
    r"""The end of the range of least squared error of the bins' centres.

    .. math::
        \arg\min_{h} \sum_i n_i (c_i - \hat{c}_i(h))^2

    The candidates :math:`h` are the ends of the bins from number ``levels`` on.

    Args:
        counts: how many magnitudes are in each bin.
        limit: the end of the last bin.
        levels: the number of levels of a magnitude; 128 for 8 bits.

    Returns:
        The high end of the range.

    Raises:
        ValueError: if there are fewer bins than levels.
    """
    ends = _candidates(counts, limit, levels)
    counts, bins = counts.astype(jnp.float32), counts.shape[0]
    centres = (jnp.arange(bins, dtype=jnp.float32) + 0.5) * limit / bins

    def error_at(high: Float[Array, ""]) -> Float[Array, ""]:
        scale = jnp.where(high > 0, high / (levels - 1), 1)
        rounded = jnp.clip(jnp.round(centres / scale), 0, levels - 1) * scale
        return jnp.sum(counts * (centres - rounded) ** 2)

    return ends[jnp.argmin(jax.lax.map(error_at, ends))]


def histogram_entropy(
    counts: Num[Array, " bins"], limit: Float[Array, ""], *, levels: Whole = 128
) -> Float[Array, ""]:
    r"""The end of the range whose histogram diverges least when it is coarsened.

    For a range of the first :math:`i` bins, :math:`p` is their histogram with all that
    is clipped in the last bin, and :math:`q` the unclipped histogram coarsened to
    ``levels`` and spread evenly again over the bins that are not empty:

    .. math::
        \arg\min_i \mathrm{KL}(p^{(i)} \,\|\, q^{(i)})

    Both are normalised. The first bin, which holds the zeros of a ReLU, counts as much
    as the second. Of equal divergences the widest range wins. A range which leaves a
    bin of :math:`p` without mass in :math:`q` is not taken, unless it is the whole.

    Args:
        counts: how many magnitudes are in each bin.
        limit: the end of the last bin.
        levels: the number of levels of a magnitude; 128 for 8 bits.

    Returns:
        The high end of the range.

    Raises:
        ValueError: if there are fewer bins than levels.

    References:
        Migacz, `8-bit inference with TensorRT
        <https://on-demand.gputechconf.com/gtc/2017/presentation/
        s7310-8-bit-inference-with-tensorrt.pdf>`_, 2017.
    """
    ends = _candidates(counts, limit, levels)
    bins = counts.shape[0]
    counts = counts.astype(jnp.float32)
    counts = counts.at[0].set(counts[1])
    index, total = jnp.arange(bins), jnp.sum(counts)

    def divergence(used: Int[Array, ""]) -> Float[Array, ""]:
        inside = index < used
        kept = jnp.where(inside, counts, 0)
        clipped = total - jnp.sum(kept)
        p = kept + jnp.where(index == used - 1, clipped, 0)
        level = jnp.minimum(index * levels // used, levels - 1)
        mass = jnp.zeros(levels).at[level].add(kept)
        occupied = jnp.zeros(levels).at[level].add((kept > 0).astype(jnp.float32))
        q = jnp.where(kept > 0, mass[level] / jnp.maximum(occupied[level], 1), 0)
        return _kl(p / total, q / jnp.maximum(jnp.sum(q), 1))

    used = jnp.arange(levels, bins + 1)
    divergences = jax.lax.map(divergence, used)
    last = bins - levels - jnp.argmin(divergences[::-1])
    return jnp.where(total > 0, ends[last], limit)


def _candidates(
    counts: Num[Array, " bins"], limit: Float[Array, ""], levels: Whole
) -> Float[Array, " candidates"]:
    bins = counts.shape[0]
    _checks.check_positive(levels=levels)
    if bins < levels:
        raise ValueError(
            f"a histogram of {bins} bins cannot be coarsened to {levels} levels."
        )
    return jnp.arange(levels, bins + 1, dtype=jnp.float32) * limit / bins


def _kl(p: Float[Array, " bins"], q: Float[Array, " bins"]) -> Float[Array, ""]:
    """Infinite where ``q`` has no mass and ``p`` has."""
    log_ratio = jnp.log(jnp.where(p > 0, p, 1)) - jnp.log(jnp.where(q > 0, q, 1))
    missing = jnp.any((p > 0) & (q <= 0))
    return jnp.where(missing, jnp.inf, jnp.sum(jnp.where(p > 0, p * log_ratio, 0)))
