"""Measuring how fast models answer."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


def measure_latency(
    models: Mapping[str, Callable[[], Any]], *, rounds: int = 30, limit: float = 60.0
) -> dict[str, float]:
    """Times functions side by side, in turn, so that a slow moment hits all alike.

    Args:
        models: functions without arguments, each running one batch; they are called
            three times before anything is counted, twice if they take a second.
        rounds: how often each is timed.
        limit: after so many seconds no round begins, but there are three at least.

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
        _seconds(run)  # compiles
        if _seconds(run) < 1:
            _seconds(run)
    times: dict[str, list[float]] = {name: [] for name in models}
    began = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - began > limit:
            break
        for name, run in models.items():
            times[name].append(_seconds(run))
    return {name: statistics.median(found) for name, found in times.items()}


def _seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - began
