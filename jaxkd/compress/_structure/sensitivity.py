"""Curves of the loss over the units of each group, and the widths that suit them."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxkd._types import Tree, Whole
from jaxkd.compress._sensitivity import Loss, Sensitivity, mean_loss
from jaxkd.compress._structure.groups import Groups
from jaxkd.compress._structure.removal import zero_units
from jaxkd.compress._structure.shrink import Scores, check_scores, largest
from jaxkd.compress._structure.targets import Target, too_far


def unit_sensitivity(
    loss: Loss,
    variables: Tree,
    groups: Groups,
    scores: Scores,
    batches: Iterable[Any],
    *,
    steps: Whole = 8,
    round_to: Whole = 8,
) -> Sensitivity:
    r"""The loss with units of one group zeroed, for each group and several widths.

    .. math::
        L_g(n) = \frac{1}{B} \sum_b L(\theta \text{ with all but the } n
        \text{ best units of } g \text{ zeroed}, b)

    The arrays keep their shapes, so the program of the loss is compiled once for all.

    Args:
        loss: ``(variables, batch) -> scalar``, a mean over the batch.
        variables: the values of which the groups were found.
        groups: of :func:`dependency_groups`.
        scores: for each group to look at, the importance of its units, shape
            ``[size]``.
        batches: data of one shape; they count alike.
        steps: how many widths to try below the whole one, evenly spaced.
        round_to: widths are multiples of it, as in :func:`shrink`.

    Returns:
        A :class:`Sensitivity`, what is left in units.

    Raises:
        ValueError: if a number is out of range, there is no batch, or scores do not
            fit.
        KeyError: if a score is for no group that can shrink.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"up": jnp.array([[1.0, 2.0, 3.0]]), "down": jnp.ones((3, 1))}
        >>> apply = lambda p, x: jax.nn.relu(x @ p["up"]) @ p["down"]
        >>> x = jnp.ones((1, 1))
        >>> groups = compress.dependency_groups(apply, params, x)
        >>> scores = compress.l2_importance(params, groups)
        >>> loss = lambda p, x: jnp.mean((apply(p, x) - 6.0) ** 2)
        >>> print(compress.unit_sensitivity(loss, params, groups, scores, [x]))
        part  left  loss    rise
        up:1  3     0.0000  +0.0000
        up:1  2     1.0000  +1.0000
        up:1  1     9.0000  +9.0000
    """
    if steps < 1 or round_to < 1:
        raise ValueError(
            f"`steps` and `round_to` must be at least 1, got {steps} and {round_to}."
        )
    ranks = {name: check_scores(groups, name, s) for name, s in scores.items()}
    mean = mean_loss(loss, batches)
    dense, left, losses = mean(zero_units(variables, groups, {})), {}, {}
    for name, rank in ranks.items():
        widths = _widths(len(rank), steps, round_to)
        tried = ({name: largest(rank, n)} for n in widths[1:])
        points = [mean(zero_units(variables, groups, kept)) for kept in tried]
        left[name], losses[name] = np.array(widths), np.array([dense, *points])
    return Sensitivity(dense, left, losses)


def search_units(
    curves: Sensitivity, groups: Groups, target: Target, *, refine: bool = True
) -> dict[str, int]:
    r"""The widths that meet a target, where the loss is foretold to rise least.

    .. math::
        \min_n \sum_g \big( L_g(n_g) - L \big) \quad \text{with} \quad
        \operatorname{size}(n) \le \operatorname{target}

    over the widths on the curves. One threshold on the rise is found by bisection:
    every group takes the least width below it. Then widths are raised, alone or while
    another falls, as long as the target holds and the sum falls. No randomness: equal
    curves give equal widths.

    Args:
        curves: of :func:`unit_sensitivity`.
        groups: of :func:`dependency_groups`.
        target: :func:`params`, :func:`flops`, :func:`bytes`, :func:`units` or
            :func:`latency`.
        refine: if false, the threshold only: a dozen measurements, not hundreds.

    Returns:
        For each group with a curve, how many units stay: the ``target`` of
        :func:`shrink`.

    Raises:
        ValueError: if the target cannot be met; the message says how far it got.
        KeyError: if a curve is of no group that can shrink.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = [jnp.ones((2, 16)), jnp.ones((16, 16)), jnp.ones((16, 2))]
        >>> relu = jax.nn.relu
        >>> apply = lambda p, x: relu(relu(x @ p[0]) @ p[1]) @ p[2]
        >>> groups = compress.dependency_groups(apply, params, jnp.ones((1, 2)))
        >>> left = dict.fromkeys(("0:1", "1:1"), jnp.array([16, 8]))
        >>> losses = {"0:1": jnp.array([1.0, 3.0]), "1:1": jnp.array([1.0, 2.0])}
        >>> curves = compress.Sensitivity(1.0, left, losses)
        >>> compress.search_units(curves, groups, compress.params(0.6))
        {'0:1': 16, '1:1': 8}

    References:
        The threshold: `FastNAS in NVIDIA Model Optimizer
        <https://github.com/NVIDIA/Model-Optimizer>`_, ``prune/fastnas.py``.
    """
    search = _Search(curves, groups, target)
    found = search.threshold()
    return search.units(search.refined(found) if refine else found)


def _widths(size: int, steps: Whole, round_to: Whole) -> list[int]:
    """Falling widths, the whole one first."""
    step = int(round_to) if size >= 2 * round_to else 1
    stride = max(1, math.ceil(size / (int(steps) + 1) / step)) * step
    return [size, *range((size - 1) // stride * stride, 0, -stride)]


class _Search:
    """Choices are positions on the curves; 0 is the whole group."""

    def __init__(self, curves: Sensitivity, groups: Groups, target: Target) -> None:
        self.left = {groups[name].name: n for name, n in curves.left.items()}
        self.rises = {name: curves.rises(name) for name in self.left}
        self._groups, self._target = groups, target
        self._limit = target.bound(groups)

    def units(self, at: Mapping[str, int]) -> dict[str, int]:
        return {name: int(self.left[name][i]) for name, i in at.items()}

    def fits(self, at: Mapping[str, int]) -> bool:
        return self._target.measure(self._groups, self.units(at)) <= self._limit

    def below(self, threshold: float) -> dict[str, int]:
        """The least widths whose rise is no more."""
        last = lambda rises: int(np.searchsorted(rises, threshold, side="right")) - 1
        return {name: last(rises) for name, rises in self.rises.items()}

    def threshold(self) -> dict[str, int]:
        levels = np.unique(np.concatenate([[0.0], *self.rises.values()]))
        least = self.below(np.inf)
        if not self.fits(least):
            units = self.units(least)
            raise ValueError(too_far(self._groups, units, self._target, self._limit))
        low, high = -1, len(levels) - 1  # the highest fits
        while high - low > 1:
            middle = (low + high) // 2
            fits = self.fits(self.below(levels[middle]))
            low, high = (low, middle) if fits else (middle, high)
        return self.below(levels[high])

    def refined(self, at: dict[str, int]) -> dict[str, int]:
        # The sum falls with every move, so it ends.
        while (better := self._better(at)) is not None:
            at = better
        return at

    def _better(self, at: dict[str, int]) -> dict[str, int] | None:
        moves = []
        for up in (name for name, i in at.items() if i > 0):
            gain = self._step(up, at[up] - 1, at[up])
            moves.append((-gain, {up: at[up] - 1}))
            for down in (n for n in at if n != up and at[n] + 1 < len(self.left[n])):
                loss = self._step(down, at[down], at[down] + 1)
                moves.append((loss - gain, {up: at[up] - 1, down: at[down] + 1}))
        falling = sorted((m for m in moves if m[0] < -1e-12), key=lambda m: m[0])
        tried = ({**at, **move} for _, move in falling)
        return next((found for found in tried if self.fits(found)), None)

    def _step(self, name: str, a: int, b: int) -> float:
        rises = self.rises[name]
        return 0.0 if rises[a] == rises[b] else float(rises[b] - rises[a])
