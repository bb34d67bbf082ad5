"""A target that is measured: how long the model takes for one batch."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from jaxkd._types import Real, Tree, Whole
from jaxkd.compress._structure.groups import Groups
from jaxkd.compress._structure.removal import take_units
from jaxkd.compress._structure.targets import (
    Target,
    Units,
    Widths,
    axis_lengths,
    check_limit,
)

#: What is timed: a function without arguments that runs one batch.
Run = Callable[[], Any]


def latency(
    limit: Real,
    variables: Tree,
    *,
    rebuild: Callable[[Widths], Callable[..., Any]] | None = None,
    rounds: Whole = 10,
    clock: Callable[[Run], float] | None = None,
) -> Target:
    """At most so long for one batch, measured on this machine.

    Models of the asked widths are built, compiled and timed in turns with the dense
    one; their time is the dense one's, times the median of the rounds' ratios, so that
    a slow moment hits both. Each choice of widths is measured once. The batch has the
    shapes of the inputs with which the groups were found.

    Args:
        limit: a float in ``(0, 1]`` for a fraction of the dense model's time, or an
            integer of microseconds.
        variables: the values of which the groups were found.
        rebuild: as for :func:`shrink`, for models that fix their widths.
        rounds: how often each is timed, at least 1.
        clock: times one call of a function, in seconds; wall time by default.

    Returns:
        A :class:`Target` of :func:`shrink` and of :func:`search_units` (there with
        ``refine=False``: every measurement is a compilation).

    Raises:
        ValueError: if the limit is not positive, or a float above 1.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"up": jnp.ones((3, 16)), "down": jnp.ones((16, 2))}
        >>> apply = lambda p, x: jax.nn.relu(x @ p["up"]) @ p["down"]
        >>> groups = compress.dependency_groups(apply, params, jnp.ones((1, 3)))
        >>> target = compress.latency(1.0, params, rounds=3)
        >>> target.measure(groups, {}) > 0, target.unit
        (True, 'microseconds')
    """
    check_limit(limit, "microseconds")
    if rounds < 1:
        raise ValueError(f"`rounds` must be at least 1, got {rounds}.")
    meter = _Meter(variables, rebuild, rounds, clock or _wall_time)
    return Target(meter.measure, limit, "microseconds")


class _Meter:
    """Remembers what has been measured."""

    def __init__(
        self,
        variables: Tree,
        rebuild: Any,
        rounds: Whole,
        clock: Callable[[Run], float],
    ) -> None:
        self._variables, self._rebuild = variables, rebuild
        self._rounds, self._clock = rounds, clock
        self._seen: dict[tuple[tuple[str, int], ...], int] = {}
        self._dense: tuple[Run, float] | None = None

    def measure(self, groups: Groups, units: Units) -> int:
        fewer = {k: int(n) for k, n in units.items() if n < groups[k].size}
        key = tuple(sorted(fewer.items()))
        if self._dense is None:
            run = self._build(groups, {})
            seconds = statistics.median(self._clock(run) for _ in range(self._rounds))
            self._dense, self._seen[()] = (run, seconds), _microseconds(seconds)
        if key not in self._seen:
            self._seen[key] = self._beside(self._build(groups, fewer), *self._dense)
        return self._seen[key]

    def _beside(self, run: Run, dense: Run, seconds: float) -> int:
        pairs = [(self._clock(run), self._clock(dense)) for _ in range(self._rounds)]
        return _microseconds(seconds * statistics.median(a / b for a, b in pairs))

    def _build(self, groups: Groups, units: Units) -> Run:
        first = {k: np.arange(groups[k].size) < n for k, n in units.items()}
        smaller = take_units(self._variables, groups, first)
        widths = axis_lengths(groups, units)
        apply = jax.jit(
            self._rebuild(widths) if self._rebuild else groups.program.apply
        )
        inputs = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), groups.program.inputs
        )
        run = lambda: jax.block_until_ready(apply(smaller, *inputs))
        run()  # compiles
        return run


def _wall_time(run: Run) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _microseconds(seconds: float) -> int:
    return max(1, round(1e6 * seconds))
