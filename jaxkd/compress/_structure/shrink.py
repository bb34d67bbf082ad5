"""Smaller arrays for the same program, as small as a target asks."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from jaxkd import _names
from jaxkd._types import Tree, Whole
from jaxkd.compress._structure.comparison import compare
from jaxkd.compress._structure.groups import Groups
from jaxkd.compress._structure.removal import positions, take_units
from jaxkd.compress._structure.targets import (
    Target,
    Units,
    Widths,
    axis_lengths,
    count_bytes,
    count_flops,
    count_params,
    too_far,
)

#: For each group by name, the importance of its units, shape ``[size]``.
Scores: TypeAlias = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ShrinkReport:
    """What :func:`shrink` removed.

    Attributes:
        widths: the length of each axis of each array, by ``"path:axis"``.
        kept: which units stayed, for each group with scores.
        before: parameters, FLOPs and bytes of the dense model, and what the target
            counts.
        after: the same of the shrunk one.
        inexact: why the shrunk model differs from the one with zeroed units; empty if
            it does not.
        apply: the function that runs on the smaller arrays.
    """

    widths: dict[str, int]
    kept: dict[str, np.ndarray]
    before: dict[str, int]
    after: dict[str, int]
    inexact: tuple[str, ...]
    apply: Callable[..., Any]

    def __str__(self) -> str:
        share = {unit: self.after[unit] / max(n, 1) for unit, n in self.before.items()}
        lines = [
            f"{unit}: {n:,} to {self.after[unit]:,} ({share[unit]:.0%})"
            for unit, n in self.before.items()
        ]
        lines += [f"{k}: {len(v)} to {v.sum()}" for k, v in self.kept.items()]
        return "\n".join([*lines, *(f"inexact: {reason}" for reason in self.inexact)])


def shrink(
    variables: Tree,
    groups: Groups,
    scores: Scores,
    *,
    target: Target | Units,
    round_to: Whole = 8,
    across: bool = False,
    rebuild: Callable[[Widths], Callable[..., Any]] | None = None,
) -> tuple[Tree, ShrinkReport]:
    """Removes the least important units, until the model is as small as asked.

    Whole units leave all arrays of a group at once, and the model that remains is a
    smaller dense model. The program of the smaller model is traced and compared,
    equation by equation, with what the groups foretell, so that a width which the model
    holds fixed is an error and no wrong result.

    The shrunk model equals the one whose units are zeroed (:func:`zero_units`) to
    rounding, unless ``report.inexact`` says why not: a LayerNorm's mean runs over fewer
    units, an attention divides by the root of a smaller width.

    Args:
        variables: all values of the model.
        groups: of :func:`dependency_groups`.
        scores: for each group that may shrink, the importance of its units, shape
            ``[size]``; groups without scores stay as they are.
        target: :func:`params`, :func:`flops`, :func:`bytes`, :func:`units` or
            :func:`latency`; or how many units of each group stay, such as of
            :func:`search_units`.
        round_to: widths become multiples of it, which compilers like; groups of fewer
            than twice as many units (heads) shrink by single units.
        across: if true, the least important units of all groups go first, and scores
            must be comparable; if not, every group keeps the same fraction.
        rebuild: ``widths -> apply`` for models that fix their widths, such as Flax
            Linen's: makes the function for the new ones. The widths are the lengths of
            all axes of all arrays, ``widths["params/dense1/kernel:1"]``.

    Returns:
        The smaller variables, and a :class:`ShrinkReport`.

    Raises:
        ValueError: if the target cannot be met (the message says how far it got), the
            scores do not fit, or the model does not run on the smaller arrays.
        KeyError: if a score is for no group that can shrink.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"up": jnp.ones((3, 16)), "down": jnp.ones((16, 2))}
        >>> apply = lambda p, x: jax.nn.relu(x @ p["up"]) @ p["down"]
        >>> groups = compress.dependency_groups(apply, params, jnp.ones((1, 3)))
        >>> scores = compress.l2_importance(params, groups)
        >>> target = compress.params(0.5)
        >>> smaller, report = compress.shrink(params, groups, scores, target=target)
        >>> print(smaller["up"].shape, smaller["down"].shape)
        (3, 8) (8, 2)
        >>> print(report)
        parameters: 80 to 40 (50%)
        FLOPs: 160 to 80 (50%)
        bytes: 320 to 160 (50%)
        up:1: 16 to 8

    References:
        Fang et al., `DepGraph: Towards Any Structural Pruning
        <https://arxiv.org/abs/2301.12900>`_, 2023, section 3.
    """
    if not isinstance(round_to, int | np.integer) or round_to < 1:
        raise ValueError(
            f"`round_to` must be a whole number of at least 1, got {round_to}."
        )
    positions(variables, groups, {})  # the groups are those of the variables
    ranks = {name: check_scores(groups, name, s) for name, s in scores.items()}
    if not isinstance(target, Target | Mapping):
        raise TypeError(
            "`target` must be one of `compress.params`, `flops`, `bytes`, `units` or "
            f"`latency`, or units for each group by name, got {target!r}."
        )
    if isinstance(target, Target):
        units = _fit(groups, ranks, target, round_to, across)
    else:
        units = {name: _check_units(ranks, name, n) for name, n in target.items()}
    kept = {name: largest(ranks[name], n) for name, n in units.items()}
    widths = axis_lengths(groups, units)
    smaller = take_units(variables, groups, kept)
    apply = rebuild(widths) if rebuild else groups.program.apply
    changes = compare(groups, apply, smaller, units)
    pruned = [groups[name] for name, keep in kept.items() if not keep.all()]
    reasons = [f"{group.name}: {group.inexact}" for group in pruned if group.inexact]
    report = ShrinkReport(
        widths=widths,
        kept=kept,
        before=_sizes(groups, {}, target),
        after=_sizes(groups, units, target),
        inexact=(*reasons, *changes),
        apply=apply,
    )
    return smaller, report


def _sizes(groups: Groups, units: Units, target: Target | Units) -> dict[str, int]:
    sizes = {
        "parameters": count_params(groups, units),
        "FLOPs": count_flops(groups, units),
        "bytes": count_bytes(groups, units),
    }
    if isinstance(target, Target) and target.unit not in sizes:
        sizes[target.unit] = target.measure(groups, units)
    return sizes


def _check_units(scores: Mapping[str, np.ndarray], name: str, units: Whole) -> int:
    if name not in scores:
        raise KeyError(
            f"`target` has {units} units for {name!r}, which has no scores; "
            f"{_names.nearest(name, scores)}"
        )
    if not 1 <= units <= len(scores[name]) or units != int(units):
        raise ValueError(
            f"`target` has {units} units for {name!r}; it must keep a whole number "
            f"from 1 to {len(scores[name])}."
        )
    return int(units)


def check_scores(groups: Groups, name: str, score: Any) -> np.ndarray:
    """The scores of a group, or an error."""
    score, size = np.asarray(score, np.float64), groups[name].size
    if score.shape != (size,) or not np.isfinite(score).all():
        raise ValueError(
            f"the scores of {name!r} must be {size} finite numbers, got shape "
            f"{score.shape}{'' if np.isfinite(score).all() else ', not all finite'}."
        )
    return score


def largest(score: np.ndarray, units: int) -> np.ndarray:
    """Marks the highest scores; of equal ones the first."""
    keep = np.zeros(len(score), bool)
    keep[np.argsort(-score, kind="stable")[:units]] = True
    return keep


def _fit(
    groups: Groups,
    scores: Mapping[str, np.ndarray],
    target: Target,
    round_to: Whole,
    across: bool,
) -> dict[str, int]:
    """The most units that meet the target, by bisection on how much stays."""
    total = sum(map(len, scores.values()))
    share = _shares_across(scores) if across else _shares_alike(scores)
    limit = target.bound(groups)

    def at(level: int) -> dict[str, int]:
        wanted = share(level / max(total, 1))
        return {k: _rounded(wanted[k], len(scores[k]), round_to) for k in scores}

    def fits(level: int) -> bool:
        return target.measure(groups, at(level)) <= limit

    if not fits(0):
        raise ValueError(too_far(groups, at(0), target, limit))
    low, high = 0, total
    if fits(high):
        return at(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return at(low)


def _shares_alike(scores: Mapping[str, np.ndarray]) -> Callable[[float], Any]:
    return lambda part: {name: part * len(score) for name, score in scores.items()}


def _shares_across(scores: Mapping[str, np.ndarray]) -> Callable[[float], Any]:
    names = np.repeat(list(scores), [len(score) for score in scores.values()])
    order = np.argsort(-np.concatenate([*scores.values(), []]), kind="stable")

    def share(part: float) -> dict[str, float]:
        first = names[order[: round(part * len(order))]]
        return {name: float(np.sum(first == name)) for name in scores}

    return share


def _rounded(wanted: float, size: int, round_to: Whole) -> int:
    """The nearest multiple of at least one unit; all units are a width, too."""
    step = int(round_to) if size >= 2 * round_to else 1
    width = math.floor(wanted / step + 0.5) * step
    return size if wanted >= size else min(max(width, step), size)
