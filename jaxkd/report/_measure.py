"""Measuring how fast models answer."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


def measure_latency(
    models: Mapping[str, Callable[[], Any]], *, rounds: int = 30
) -> dict[str, float]:
    """Times functions side by side, in turn, so that a slow moment hits all alike.

    Args:
        models: functions without arguments, each running one batch; they are called
            three times before anything is counted.
        rounds: how often each is timed.

    Returns:
        The median of each, in seconds.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import report
        >>> x = jnp.ones((8, 8))
        >>> seconds = report.measure_latency({"matmul": jax.jit(lambda: x @ x)})
        >>> 0 < seconds["matmul"] < 1
        True
    """
    for run in models.values():
        for _ in range(3):
            jax.block_until_ready(run())
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, run in models.items():
            began = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in times.items()}
