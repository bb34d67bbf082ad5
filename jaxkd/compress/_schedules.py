"""Schedules of sparsity: functions from the step to the fraction of zeros."""

from collections.abc import Callable
from typing import Any, TypeAlias

from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkd import _checks
from jaxkd._types import Number, Real, Whole

Step: TypeAlias = Whole | Int[Array, ""]
Schedule: TypeAlias = Callable[[Any], Float[Array, ""]]


def cubic(
    final: Number, *, begin: Whole, end: Whole, initial: Number = 0.0
) -> Schedule:
    r"""Gradual pruning: fast while weights are redundant, slow near the target.

    .. math::
        s(k) = s_f + (s_i - s_f) \Big(1 - \frac{k - k_0}{k_1 - k_0}\Big)^3,
        \quad k_0 \le k \le k_1

    It is 0 before :math:`k_0` and :math:`s_f`, to the bit, from :math:`k_1` on.

    Args:
        final: the target :math:`s_f`, a fraction of zeros in ``[0, 1)``.
        begin: the step :math:`k_0`.
        end: the step :math:`k_1` at which the target is reached, after ``begin``.
        initial: the sparsity :math:`s_i` to begin with.

    Returns:
        A function from the step to the sparsity, a float32 scalar.

    Raises:
        ValueError: if a sparsity is outside ``[0, 1)``, or ``end`` is not after
            ``begin``.

    Examples:
        >>> from jaxkd import compress
        >>> schedule = compress.cubic(0.8, begin=100, end=300)
        >>> [round(float(schedule(step)), 3) for step in (0, 100, 200, 300, 400)]
        [0.0, 0.0, 0.7, 0.8, 0.8]

    References:
        Zhu and Gupta, `To prune, or not to prune: exploring the efficacy of pruning for
        model compression <https://arxiv.org/abs/1710.01878>`_, 2017, equation 1.
    """
    return polynomial(final, begin=begin, end=end, initial=initial, power=3.0)


def polynomial(
    final: Number, *, begin: Whole, end: Whole, initial: Number = 0.0, power: Real = 1.0
) -> Schedule:
    r"""As :func:`cubic`, with any power; 1 is linear.

    Args:
        final: the target, a fraction of zeros in ``[0, 1)``.
        begin: the step at which pruning begins.
        end: the step at which the target is reached, after ``begin``.
        initial: the sparsity to begin with.
        power: the exponent.

    Returns:
        A function from the step to the sparsity, a float32 scalar.

    Raises:
        ValueError: if a sparsity is outside ``[0, 1)``, ``end`` is not after ``begin``,
            or ``power`` is not positive.
    """
    _checks.check_sparsity(final)
    _checks.check_sparsity(initial)
    _checks.check_positive(power=power)
    if end <= begin:
        raise ValueError(f"`end` ({end}) must be after `begin` ({begin}).")
    begin, end, power = int(begin), int(end), float(power)  # numpy's would promote
    initial, final = float(initial), float(final)

    def schedule(step: Step) -> Float[Array, ""]:
        now = jnp.asarray(step, jnp.int32)
        left = (end - jnp.clip(now, begin, end)).astype(jnp.float32) / (end - begin)
        sparsity = jnp.float32(final) + jnp.float32(initial - final) * left**power
        return jnp.where(now < begin, jnp.float32(0.0), sparsity)

    return schedule


def one_shot(final: Number, *, at: Whole) -> Schedule:
    """Dense before a step, at the target from it on.

    Args:
        final: the target, a fraction of zeros in ``[0, 1)``.
        at: the step.

    Returns:
        A function from the step to the sparsity, a float32 scalar.

    Raises:
        ValueError: if the sparsity is outside ``[0, 1)``.
    """
    _checks.check_sparsity(final)
    at, final = int(at), float(final)
    return lambda step: jnp.where(
        jnp.asarray(step, jnp.int32) < at, 0.0, jnp.float32(final)
    )


def iterative(final: Number, *, begin: Whole, every: Whole, rounds: Whole) -> Schedule:
    r"""In rounds, each of which prunes the same part of what is left.

    .. math::
        s_r = 1 - (1 - s_f)^{r / R}, \quad r = 1, \dots, R

    Args:
        final: the target :math:`s_f`, a fraction of zeros in ``[0, 1)``.
        begin: the step of the first round.
        every: steps from one round to the next.
        rounds: how many there are, :math:`R`.

    Returns:
        A function from the step to the sparsity, a float32 scalar.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> from jaxkd import compress
        >>> schedule = compress.iterative(0.75, begin=10, every=5, rounds=2)
        >>> [float(schedule(step)) for step in (9, 10, 14, 15, 99)]
        [0.0, 0.5, 0.5, 0.75, 0.75]

    References:
        Frankle and Carbin, `The Lottery Ticket Hypothesis: Finding Sparse, Trainable
        Neural Networks <https://arxiv.org/abs/1803.03635>`_, 2019, section 1.
    """
    _checks.check_sparsity(final)
    _checks.check_positive(every=every, rounds=rounds)
    begin, every, rounds, final = int(begin), int(every), int(rounds), float(final)
    levels = [1 - (1 - final) ** (r / rounds) for r in range(rounds)]

    def schedule(step: Step) -> Float[Array, ""]:
        done = (jnp.asarray(step, jnp.int32) - begin) // every + 1
        return jnp.array([*levels, final], jnp.float32)[jnp.clip(done, 0, rounds)]

    return schedule


def alternating(final: Number, *, begin: Whole, end: Whole, period: Whole) -> Schedule:
    """Compressed and decompressed in turns (AC/DC), and compressed in the end.

    Args:
        final: the fraction of zeros of the compressed phases, in ``[0, 1)``.
        begin: the step at which the first compressed phase begins.
        end: the step from which it stays compressed.
        period: steps of each phase.

    Returns:
        A function from the step to the sparsity, a float32 scalar.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> from jaxkd import compress
        >>> schedule = compress.alternating(0.5, begin=2, end=6, period=2)
        >>> [float(schedule(step)) for step in range(8)]
        [0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.5, 0.5]

    References:
        Peste et al., `AC/DC: Alternating Compressed/DeCompressed Training of Deep
        Neural Networks <https://arxiv.org/abs/2106.12379>`_, 2021, section 3.
    """
    _checks.check_sparsity(final)
    _checks.check_positive(period=period)
    if end < begin:
        raise ValueError(f"`end` ({end}) must not be before `begin` ({begin}).")
    begin, end, period = int(begin), int(end), int(period)

    def schedule(step: Step) -> Float[Array, ""]:
        now = jnp.asarray(step, jnp.int32)
        compressed = (((now - begin) // period) % 2 == 0) | (now >= end)
        return jnp.where((now >= begin) & compressed, jnp.float32(final), 0.0)

    return schedule
