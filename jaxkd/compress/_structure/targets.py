"""How small a model must become, and how small it is at given units."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from jaxkd import _checks
from jaxkd._types import Real, Whole
from jaxkd.compress._structure.groups import Groups

#: Units that remain in each group, by name; the others keep all.
Units: TypeAlias = Mapping[str, Whole]

#: The length of each axis of each array, by ``"path:axis"``.
Widths: TypeAlias = Mapping[str, int]


class Target(NamedTuple):
    """What :func:`shrink` must reach.

    Attributes:
        measure: the size of the model at given units.
        limit: at most this: an integer, or a float, a fraction of the size before.
        unit: what is measured, for messages.
    """

    measure: Callable[[Groups, Units], int]
    limit: Real
    unit: str

    def bound(self, groups: Groups) -> int:
        """The limit as a number of what is measured."""
        if isinstance(self.limit, int | np.integer):
            return int(self.limit)
        return math.floor(self.limit * self.measure(groups, {}))


def params(limit: Real) -> Target:
    """At most so many numbers in all arrays.

    Args:
        limit: a float in ``(0, 1]`` for a fraction of those before, or an integer.

    Returns:
        A :class:`Target` of :func:`shrink`.

    Raises:
        ValueError: if the limit is not positive, or a float above 1.

    Examples:
        >>> from jaxkd import compress
        >>> compress.params(0.5).limit, compress.params(100_000).unit
        (0.5, 'parameters')
    """
    return _target(count_params, limit, "parameters")


def flops(limit: Real) -> Target:
    """At most so many floating-point operations in products and convolutions.

    A multiplication and an addition are two; other operations are not counted.

    Args:
        limit: a float in ``(0, 1]`` for a fraction of those before, or an integer.

    Returns:
        A :class:`Target` of :func:`shrink`.

    Raises:
        ValueError: if the limit is not positive, or a float above 1.
    """
    return _target(count_flops, limit, "FLOPs")


def bytes(limit: Real) -> Target:
    """At most so many bytes in all arrays.

    Args:
        limit: a float in ``(0, 1]`` for a fraction of those before, or an integer.

    Returns:
        A :class:`Target` of :func:`shrink`.

    Raises:
        ValueError: if the limit is not positive, or a float above 1.
    """
    return _target(count_bytes, limit, "bytes")


def units(limit: Real) -> Target:
    """At most so many units in all groups that can shrink: channels, heads, widths.

    Args:
        limit: a float in ``(0, 1]`` for a fraction of those before, or an integer.

    Returns:
        A :class:`Target` of :func:`shrink`.

    Raises:
        ValueError: if the limit is not positive, or a float above 1.
    """
    return _target(_count_units, limit, "units")


def count_params(groups: Groups, units: Units) -> int:
    """The numbers in all arrays with these units."""
    return _count(groups, units, lambda itemsize: 1)


def count_bytes(groups: Groups, units: Units) -> int:
    """The bytes of all arrays with these units."""
    return _count(groups, units, lambda itemsize: itemsize)


def count_flops(groups: Groups, units: Units) -> int:
    """Twice the multiplications in products and convolutions with these units."""
    leaves = _leaves(groups, units)
    lengths = ([axis.length(leaves) for axis in axes] for axes in groups.products)
    return 2 * sum(map(math.prod, lengths))


def axis_lengths(groups: Groups, units: Units) -> dict[str, int]:
    """The length of each axis of each array with these units."""
    leaves = _leaves(groups, units)
    return {
        f"{path}:{i}": axis.length(leaves)
        for path, (axes, _) in groups.shapes.items()
        for i, axis in enumerate(axes)
    }


def _count_units(groups: Groups, units: Units) -> int:
    return sum(int(units.get(group.name, group.size)) for group in groups)


def _count(groups: Groups, units: Units, weigh: Callable[[int], int]) -> int:
    leaves = _leaves(groups, units)
    return sum(
        weigh(itemsize) * math.prod(axis.length(leaves) for axis in axes)
        for axes, itemsize in groups.shapes.values()
    )


def _leaves(groups: Groups, units: Units) -> dict[int, int]:
    return {groups[name].leaf: int(n) for name, n in units.items()}


def check_limit(limit: Real, unit: str) -> None:
    """Raises unless the limit is a fraction or a positive integer."""
    wrong = not _checks.is_number(limit) or not limit > 0
    if wrong or (not isinstance(limit, int | np.integer) and limit > 1):
        raise ValueError(
            f"the target of {unit} must be a fraction in (0, 1] or a positive integer, "
            f"got {limit}."
        )


def _target(measure: Callable[[Groups, Units], int], limit: Real, unit: str) -> Target:
    check_limit(limit, unit)
    return Target(measure, limit, unit)


def too_far(groups: Groups, least: Units, target: Target, limit: int) -> str:
    """Words for a target that cannot be met."""
    reached = target.measure(groups, least)
    before = target.measure(groups, {})
    stuck = ", ".join(f"{g.name} ({g.frozen})" for g in groups.frozen[:3])
    without = len(groups) - len(least)
    return (
        f"the target of at most {limit:,} {target.unit} cannot be met: with every "
        f"group at its least width, {reached:,} of {before:,} remain. "
        f"{without} groups have no scores, and {len(groups.frozen)} cannot shrink"
        f"{f', among them {stuck}' if stuck else ''}."
    )
