"""Ranges of activations, gathered over a stream of batches.

A calibration is three pure functions, as an optimiser is two: ``init()`` makes a state
of arrays, ``update(state, x)`` takes a batch, ``finish(state)`` gives the range. States
are trees of arrays of fixed shapes, so the functions can be jitted, and kept.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxkd import _checks
from jaxkd._types import Real, Whole
from jaxkd.compress import _histogram

_BINS = 2048


class Calibration(NamedTuple):
    """How to find the range of a stream of arrays.

    Attributes:
        init: makes the state before the first batch.
        update: ``(state, x) -> state``, for ``x`` of any shape.
        finish: ``state -> (low, high)``; see :func:`jaxkd.compress.scale_of`.
    """

    init: Callable[[], Any]
    update: Callable[[Any, Float[Array, "..."]], Any]
    finish: Callable[[Any], tuple[Float[Array, "..."], Float[Array, "..."]]]


class Extremes(NamedTuple):
    """The state of a range from the smallest and largest values.

    Attributes:
        low: the smallest, or its average.
        high: the largest.
        batches: how many there were.
    """

    low: Float[Array, "..."]
    high: Float[Array, "..."]
    batches: Float[Array, ""]


class Histogram(NamedTuple):
    """The state of a range from a histogram of magnitudes.

    Attributes:
        counts: how many are in each bin, up to 2**31.
        limit: the end of the last bin.
    """

    counts: Array
    limit: Float[Array, ""]


def stream_minmax(*, channels: Whole | None = None) -> Calibration:
    """The smallest and the largest value of all batches, and 0.

    Args:
        channels: the length of the last axis, for a range of each channel.

    Returns:
        A :class:`Calibration`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> calibration = compress.stream_minmax()
        >>> state = calibration.init()
        >>> for batch in ([-1.0, 3.0], [0.5, 4.0]):
        ...     state = calibration.update(state, jnp.array(batch))
        >>> low, high = calibration.finish(state)
        >>> print(low, high)
        -1.0 4.0
    """

    def update(state: Extremes, x: Float[Array, "..."]) -> Extremes:
        low, high = _extremes(x, channels)
        return Extremes(
            jnp.minimum(state.low, low),
            jnp.maximum(state.high, high),
            state.batches + 1,
        )

    init = lambda: _no_extremes(channels)
    return Calibration(init, update, lambda s: (s.low, s.high))


def stream_absmax(*, channels: Whole | None = None) -> Calibration:
    """The largest magnitude of all batches, as a symmetric range.

    Args:
        channels: the length of the last axis, for a range of each channel.

    Returns:
        A :class:`Calibration`.
    """

    def update(state: Extremes, x: Float[Array, "..."]) -> Extremes:
        low, high = _extremes(x, channels)
        high = jnp.maximum(state.high, jnp.maximum(-low, high))
        return Extremes(-high, high, state.batches + 1)

    init = lambda: _no_extremes(channels)
    return Calibration(init, update, lambda s: (s.low, s.high))


def stream_average(*, rate: Real = 0.01, channels: Whole | None = None) -> Calibration:
    r"""A moving average of the smallest and largest values of each batch.

    .. math::
        m_1 = \max x^{(1)}, \quad m_t = m_{t-1} + r\, (\max x^{(t)} - m_{t-1})

    Args:
        rate: the weight :math:`r` of each batch after the first, in ``[0, 1]``.
        channels: the length of the last axis, for a range of each channel.

    Returns:
        A :class:`Calibration`.

    Raises:
        ValueError: if the rate is outside.
    """
    _checks.check_fraction(rate=rate)

    def update(state: Extremes, x: Float[Array, "..."]) -> Extremes:
        step = jnp.where(state.batches == 0, 1.0, rate)
        low, high = _extremes(x, channels)
        return Extremes(
            state.low + step * (low - state.low),
            state.high + step * (high - state.high),
            state.batches + 1,
        )

    return Calibration(
        lambda: _no_extremes(channels),
        update,
        lambda s: (jnp.minimum(s.low, 0), jnp.maximum(s.high, 0)),
    )


def stream_percentile(percentile: Real = 99.99) -> Calibration:
    """The range that holds a percentage of all magnitudes, from a histogram.

    Args:
        percentile: the percentage inside, in ``(0, 100]``.

    Returns:
        A :class:`Calibration`.

    Raises:
        ValueError: if the percentage is outside.
    """
    _histogram.check_percentile(percentile)
    return _stream_histogram(
        lambda s: _histogram.histogram_percentile(*s, percentile=percentile)
    )


def stream_entropy(*, levels: Whole = 128) -> Calibration:
    """The range whose histogram diverges least when coarsened, over all batches.

    Args:
        levels: the number of levels of a magnitude; 128 for 8 bits.

    Returns:
        A :class:`Calibration`; see :func:`jaxkd.compress.histogram_entropy`.
    """
    return _stream_histogram(lambda s: _histogram.histogram_entropy(*s, levels=levels))


def stream_mse(*, levels: Whole = 128) -> Calibration:
    """The range of least squared error over all batches, from a histogram.

    Args:
        levels: the number of levels of a magnitude; 128 for 8 bits.

    Returns:
        A :class:`Calibration`; see :func:`jaxkd.compress.histogram_mse`.
    """
    return _stream_histogram(lambda s: _histogram.histogram_mse(*s, levels=levels))


def calibrate(
    calibration: Calibration,
    features: Callable[[Any], Mapping[str, Array]],
    batches: Iterable[Any],
) -> dict[str, tuple[Array, Array]]:
    """The range of each named activation over a stream of batches.

    Args:
        calibration: how to find a range.
        features: maps a batch to named arrays, such as the ``features`` of a model's
            output; it is jitted.
        batches: the batches, read once.

    Returns:
        ``{name: (low, high)}``.

    Raises:
        ValueError: if there are no batches, or two have features of other names.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> ranges = compress.calibrate(
        ...     compress.stream_absmax(),
        ...     lambda batch: {"hidden": 2 * batch["x"]},
        ...     [{"x": jnp.array([1.0, -3.0])}, {"x": jnp.array([2.0, 1.0])}],
        ... )
        >>> print(*ranges["hidden"])
        -6.0 6.0
    """

    @jax.jit
    def update(states: dict[str, Any], batch: Any) -> dict[str, Any]:
        found = features(batch)
        states = states or {name: calibration.init() for name in found}
        if set(states) != set(found):
            raise ValueError(
                f"the features of this batch are {sorted(found)}, but those of the "
                f"first were {sorted(states)}."
            )
        return {n: calibration.update(states[n], x) for n, x in found.items()}

    states: dict[str, Any] = {}
    for batch in batches:
        states = update(states, batch)
    if not states:
        raise ValueError("there is nothing to calibrate on: no batches or no features.")
    return {name: calibration.finish(state) for name, state in states.items()}


def _no_extremes(channels: Whole | None) -> Extremes:
    zeros = jnp.zeros(() if channels is None else (channels,))
    return Extremes(zeros, zeros, jnp.zeros(()))


def _extremes(
    x: Float[Array, "..."], channels: Whole | None
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    x = x.astype(jnp.float32)
    if channels is None:
        return jnp.min(x), jnp.max(x)
    x = x.reshape(-1, channels)
    return jnp.min(x, axis=0), jnp.max(x, axis=0)


def _stream_histogram(
    finish: Callable[[Histogram], Float[Array, ""]],
) -> Calibration:
    def both_sides(state: Histogram) -> tuple[Float[Array, ""], Float[Array, ""]]:
        high = finish(state)
        return -high, high

    init = lambda: Histogram(jnp.zeros(_BINS, jnp.int32), jnp.zeros(()))
    return Calibration(init, _add, both_sides)


def _add(state: Histogram, x: Float[Array, "..."]) -> Histogram:
    """Adds a batch; for larger values, bins are merged by twos until they fit."""
    size = jnp.abs(x.astype(jnp.float32))
    largest = jnp.max(size)
    first = jnp.where(state.limit > 0, state.limit, largest)
    ratio = jnp.where(first > 0, largest / jnp.where(first > 0, first, 1), 1)
    doublings = jnp.clip(jnp.ceil(jnp.log2(jnp.maximum(ratio, 1))), 0, 30)
    # A logarithm may be off by one in the last place, just where it matters.
    short = largest > first * jnp.exp2(doublings)
    doublings = doublings + short.astype(jnp.float32)
    merged = jnp.arange(_BINS) >> jnp.minimum(doublings, 30).astype(jnp.int32)
    counts = jnp.zeros(_BINS, jnp.int32).at[merged].add(state.counts)
    limit = first * jnp.exp2(doublings)
    return Histogram(counts + _histogram.count(size, limit, bins=_BINS)[0], limit)
