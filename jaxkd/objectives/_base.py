"""The objective protocol: a loss and what it needs around it, as two pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkd._types import Batch, Params, PRNGKey, Tree
from jaxkd.losses import Mean
from jaxkd.models import Out, Variables


class View(NamedTuple):
    """All that an objective may look at.

    Attributes:
        student: what the student returned.
        teacher: what the teacher returned; ``None`` in training without one.
        batch: the batch.
        step: number of updates done so far.
        key: a typed key of this step (and this device).
        axis_name: the mapped axis under ``pmap`` or ``shard_map``, else ``None``.
        teacher_variables: the teacher's, for objectives that use its head or its
            BatchNorm; ``None`` without a teacher.
    """

    student: Out
    teacher: Out | None
    batch: Batch
    step: Int[Array, ""]
    key: PRNGKey
    axis_name: str | None = None
    teacher_variables: Variables | None = None


class Term(NamedTuple):
    """One summand of the training loss: ``weight * mean``.

    Attributes:
        mean: the sums of this device, of which the step makes the global mean.
        weight: the factor at this step.
    """

    mean: Mean
    weight: Float[Array, ""]


Terms: TypeAlias = dict[str, Term]
# A number, or a function from the number of updates done, such as an optax schedule.
Weight: TypeAlias = float | Callable[[Any], Any]


def at_step(weight: Weight, step: Int[Array, ""]) -> Float[Array, ""]:
    """A weight at a step.

    Args:
        weight: a number or a schedule.
        step: number of updates done.

    Returns:
        A float32 scalar.
    """
    return jnp.asarray(weight(step) if callable(weight) else weight, jnp.float32)


def shown(weight: Weight) -> str:
    """How a weight prints.

    Args:
        weight: a number or a schedule.

    Returns:
        A word.
    """
    return "schedule" if callable(weight) else repr(weight)


class Objective(NamedTuple):
    """What is minimised.

    Attributes:
        init: ``(key, view) -> (params, state)``; makes the trainable parts (projectors)
            and the state (memory banks) from a view of shapes
            (:class:`jax.ShapeDtypeStruct`). Both ``{}`` for most objectives.
        apply: ``(params, state, view) -> (terms, state)``.
        student_features: names of the student's features that ``apply`` reads.
        teacher_features: names of the teacher's.
        description: how it prints.
    """

    init: Callable[[PRNGKey, View], tuple[Params, Tree]]
    apply: Callable[[Params, Tree, View], tuple[Terms, Tree]]
    student_features: tuple[str, ...] = ()
    teacher_features: tuple[str, ...] = ()
    description: str = "objective"

    def __repr__(self) -> str:
        return self.description
