"""Objectives on the stages of a network, each through a module of its own."""

from collections.abc import Callable
from typing import Any, TypeAlias

from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import losses
from jaxkd.models import Variables
from jaxkd.objectives._base import Objective, Term, Terms, View
from jaxkd.objectives._modules import (
    Adapter,
    Projectors,
    linear_adapter,
    trained_objective,
)
from jaxkd.objectives._names import Names, describe, paired
from jaxkd.objectives._reduce import mean_over_batch, teacher_of

# From the teacher's variables to scale and bias of one of its BatchNorm layers.
ReadBatchNorm: TypeAlias = Callable[[Variables], tuple[Array, Array]]


def by_stage(
    name: str,
    loss: Callable[[Any, Array, View, int], Array],
    adapter: Adapter,
    student: Names,
    teacher: Names,
    *,
    decay: float = 1.0,
    **shown: Any,
) -> Objective:
    """A loss on each pair, through a module that is always made.

    Args:
        name: the objective's.
        loss: from what the module returned, the teacher's feature, the view and the
            number of the pair to one value per example.
        adapter: makes the module from the teacher's shape.
        student: names of features.
        teacher: as many.
        decay: each pair has this times the weight of the next.
        **shown: what prints besides.

    Returns:
        An :class:`Objective`.
    """
    ours, theirs = paired(name, student, teacher)

    def module(view: View) -> Projectors:
        features = teacher_of(view, name).features
        pairs = zip(ours, theirs, strict=True)
        return Projectors({s: adapter(features[t].shape) for s, t in pairs})

    def terms(view: View, projected: dict[str, Any]) -> Terms:
        features = teacher_of(view, name).features
        found = {}
        for i, (s, t) in enumerate(zip(ours, theirs, strict=True)):
            values = loss(projected[s], features[t], view, i)
            mean = mean_over_batch(view.batch, values, None, name)
            weight = jnp.float32(decay ** (len(ours) - 1 - i))
            found[name if len(ours) == 1 else s] = Term(mean, weight)
        return found

    return trained_objective(
        name,
        module=module,
        inputs=lambda view: ({s: view.student.features[s] for s in ours},),
        terms=terms,
        student=ours,
        teacher=theirs,
        shown=describe(name, student=student, teacher=teacher, **shown),
    )


def activation_boundary(
    *, student: Names, teacher: Names, margin: float = 1.0
) -> Objective:
    """Put the student's neurons on the teacher's side of zero: AB, a first stage.

    :func:`losses.activation_boundary` of features before the ReLU, through a 1x1
    convolution with batch normalization; each stage has half the weight of the next.

    Args:
        student: the student's features before the ReLU.
        teacher: as many of the teacher's.
        margin: how far on its side a neuron has to be.

    Returns:
        An :class:`Objective`, for training without labels before distillation.

    Raises:
        ValueError: if features cannot be paired; at ``init_state``, if there is no
            teacher.
        KeyError: at ``init_state``, if a model has no such feature.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.activation_boundary(student="norm1", teacher="norm1")
        activation_boundary(student='norm1', teacher='norm1', margin=1.0)

    References:
        Heo et al., `Knowledge Transfer via Distillation of Activation Boundaries Formed
        by Hidden Neurons <https://arxiv.org/abs/1811.03233>`_, 2019, section 3.
    """
    return by_stage(
        "activation_boundary",
        lambda s, t, *_: losses.activation_boundary(s, t, margin=margin),
        linear_adapter(normalize=True),
        student,
        teacher,
        decay=0.5,
        margin=margin,
    )


def overhaul(
    *,
    student: Names,
    teacher: Names,
    batchnorm: ReadBatchNorm | list[ReadBatchNorm],
) -> Objective:
    """Match the teacher's features before the ReLU, where it matters: OFD.

    :func:`losses.overhaul_distance` through a 1x1 convolution with batch
    normalization, with margins from the teacher's own batch normalization; each stage
    has half the weight of the next.

    Args:
        student: the student's feature before the ReLU, or several.
        teacher: as many of the teacher's: outputs of BatchNorm layers.
        batchnorm: reads scale and bias of that layer, both ``[channels]``, out of the
            teacher's variables; one function for each pair.

    Returns:
        An :class:`Objective`. The paper's weight is 1e-3.

    Raises:
        ValueError: if features cannot be paired; at ``init_state``, if there is no
            teacher.
        KeyError: at ``init_state``, if a model has no such feature.

    Examples:
        >>> from jaxkd import objectives
        >>> def read(variables):
        ...     layer = variables.params["block2"]["norm"]
        ...     return layer["scale"], layer["bias"]
        >>> objectives.overhaul(
        ...     student="block2/norm", teacher="block2/norm", batchnorm=read
        ... )
        overhaul(student='block2/norm', teacher='block2/norm')

    References:
        Heo et al., `A Comprehensive Overhaul of Feature Distillation
        <https://arxiv.org/abs/1904.01866>`_, 2019, section 3.
    """
    readers = batchnorm if isinstance(batchnorm, list) else [batchnorm]
    _, theirs = paired("overhaul", student, teacher)
    if len(readers) != len(theirs):
        raise ValueError(
            f"overhaul needs one reader in `batchnorm` for each of {theirs}, got "
            f"{len(readers)}."
        )

    def loss(s: Array, t: Array, view: View, stage: int) -> Array:
        assert view.teacher_variables is not None
        margin = losses.batchnorm_margin(*readers[stage](view.teacher_variables))
        return losses.overhaul_distance(s, t, margin)

    return by_stage(
        "overhaul",
        loss,
        linear_adapter(normalize=True),
        student,
        teacher,
        decay=0.5,
    )
