"""The program of the smaller model beside what the groups foretell of it."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxkd._types import Tree
from jaxkd.compress._structure.groups import Groups, Traced
from jaxkd.compress._structure.program import describe, equations, literals, trace


def compare(
    groups: Groups,
    apply: Callable[..., Any],
    smaller: Tree,
    units: Mapping[str, int],
) -> list[str]:
    """Checks each equation of the smaller model's program.

    Args:
        groups: of the model before.
        apply: the function that runs on the smaller arrays.
        smaller: the smaller arrays.
        units: the units that each group has now.

    Returns:
        Changes in the numbers written into the program, in words.

    Raises:
        ValueError: if it does not run, or any value has another shape than foretold.
    """
    program = groups.program
    try:
        outputs = jax.eval_shape(apply, smaller, *program.inputs)
        now = list(equations(trace(apply, smaller, program.inputs)))
    except Exception as error:
        raise ValueError(
            "the model does not run on the smaller arrays, since it holds a width "
            "fixed; pass `rebuild`, which makes a function for these widths. It said: "
            f"{error}"
        ) from error
    if jax.tree.map(np.shape, outputs) != program.outputs:
        raise ValueError(
            f"the outputs would have shapes {jax.tree.map(np.shape, outputs)} in place "
            f"of {program.outputs}: the model holds a width fixed; pass `rebuild`."
        )
    if [eqn.primitive.name for eqn in now] != [s.primitive for s in program.steps]:
        return ["the smaller model has other equations and could not be compared"]
    leaves = {groups[name].leaf: n for name, n in units.items()}
    pairs = zip(now, program.steps, strict=True)
    return [words for eqn, step in pairs if (words := _difference(eqn, step, leaves))]


def _difference(eqn: Any, step: Traced, leaves: dict[int, int]) -> str:
    foretold = [tuple(a.length(leaves) for a in axes) for axes in step.outs]
    shapes = [tuple(v.aval.shape) for v in eqn.outvars]
    if shapes != foretold:
        raise ValueError(
            f"{step.where} would give {shapes} in place of {foretold}: the model "
            "holds a width fixed, such as its number of heads; pass `rebuild`, which "
            "makes a function for new widths."
        )
    if np.array_equal(literals(eqn), step.literals, equal_nan=True):
        return ""
    return f"{describe(eqn)} has the numbers {literals(eqn)}, had {step.literals}"
