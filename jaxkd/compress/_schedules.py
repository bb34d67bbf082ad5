"""Schedules of sparsity: functions from the step to the fraction of zeros."""

from collections.abc import Callable
from typing import Any, TypeAlias

from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkd import _checks

Step: TypeAlias = int | Int[Array, ""]
Schedule: TypeAlias = Callable[[Any], Float[Array, ""]]


def cubic(final: float, *, begin: int, end: int, initial: float = 0.0) -> Schedule:
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
    _checks.check_sparsity(final)
    _checks.check_sparsity(initial)
    if end <= begin:
        raise ValueError(f"`end` ({end}) must be after `begin` ({begin}).")

    def schedule(step: Step) -> Float[Array, ""]:
        now = jnp.asarray(step, jnp.int32)
        left = (end - jnp.clip(now, begin, end)).astype(jnp.float32) / (end - begin)
        sparsity = jnp.float32(final) + jnp.float32(initial - final) * left**3
        return jnp.where(now < begin, jnp.float32(0.0), sparsity)

    return schedule
