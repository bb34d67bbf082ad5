"""Objectives on features, with the trainable parts that their papers give them."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import losses
from jaxkd.models import BatchNorm
from jaxkd.objectives._base import Objective, Term, Terms, View
from jaxkd.objectives._bridge import feature_objective, mean_of
from jaxkd.objectives._modules import (
    Adapter,
    Shape,
    linear_adapter,
    match_positions,
    trained_objective,
)
from jaxkd.objectives._names import Names, describe
from jaxkd.objectives._reduce import teacher_of
from jaxkd.objectives._stages import by_stage


def hint(
    *,
    student: Names,
    teacher: Names,
    adapter: Adapter | None = None,
    where: str | None = None,
) -> Objective:
    r"""Match the teacher's features, through a trained linear map: FitNets.

    :func:`losses.feature_mse` of each pair. Where shapes agree, no map is made.

    Args:
        student: the student's feature, or several.
        teacher: as many of the teacher's.
        adapter: makes the map; :func:`linear_adapter` by default.
        where: an entry of the batch, true for what counts: examples or positions.

    Returns:
        An :class:`Objective`. The paper's weight is 100, in a first stage without
        labels.

    Raises:
        ValueError: if features cannot be paired; at ``init_state``, if there is no
            teacher.
        KeyError: at ``init_state``, if a model has no such feature.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.hint(student="block2", teacher="layer3")
        hint(student='block2', teacher='layer3')

    References:
        Romero et al., `FitNets: Hints for Thin Deep Nets
        <https://arxiv.org/abs/1412.6550>`_, 2015, equation 3.
    """
    words = describe("hint", student=student, teacher=teacher, where=where)
    adapter = linear_adapter() if adapter is None else adapter
    return feature_objective(
        losses.feature_mse, "hint", student, teacher, adapter, where, words
    )


def relational_distance(
    *, student: Names, teacher: Names, where: str | None = None
) -> Objective:
    """Match the distances between examples: :func:`losses.relational_distance`.

    Args:
        student: the student's feature, or several; flattened to one vector each.
        teacher: as many of the teacher's; their sizes may differ.
        where: an entry of the batch, true for the examples that count.

    Returns:
        An :class:`Objective`. The paper's weight is 25, with 50 for
        ``on_features(losses.relational_angle, ...)``.

    Raises:
        ValueError: if features cannot be paired; at ``init_state``, if there is no
            teacher.
        KeyError: at ``init_state``, if a model has no such feature.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.relational_distance(student="pool", teacher="pool")
        relational_distance(student='pool', teacher='pool')

    References:
        Park et al., `Relational Knowledge Distillation
        <https://arxiv.org/abs/1904.05068>`_, 2019, section 3.2.1.
    """
    name = "relational_distance"
    words = describe(name, student=student, teacher=teacher, where=where)
    loss = losses.relational_distance
    return feature_objective(loss, name, student, teacher, None, where, words)


class VariationalRegressor(nn.Module):
    """Three 1x1 convolutions to the mean, and a variance for each channel.

    Attributes:
        shape: the teacher's.
        variance: the variance to begin with.
    """

    shape: Shape
    variance: float = 5.0

    @nn.compact
    def __call__(
        self, x: Array, *, where: Array | None = None, axis_name: str | None = None
    ) -> tuple[Array, Array]:
        """Returns the mean, of the teacher's shape, and variances ``[channels]``."""
        channels = self.shape[-1]
        x = match_positions(x, self.shape[1:-1])
        for name in ("dense1", "dense2"):
            x = nn.relu(nn.Dense(channels, use_bias=False, name=name)(x))
        mean = nn.Dense(channels, use_bias=False, name="dense3")(x)
        raw = float(np.log(np.expm1(self.variance - 1e-5)))
        raw = self.param("raw_variance", nn.initializers.constant(raw), (channels,))
        return mean, jax.nn.softplus(raw) + 1e-5


def variational_information(
    *, student: Names, teacher: Names, variance: float = 5.0
) -> Objective:
    """Let the student's features predict the teacher's: VID.

    :func:`losses.variational_information`, with a trained network for the mean and a
    trained variance for each channel.

    Args:
        student: the student's feature, or several.
        teacher: as many of the teacher's.
        variance: the variance to begin with.

    Returns:
        An :class:`Objective`. The paper's weight is 1, on all middle layers.

    Raises:
        ValueError: if features cannot be paired; at ``init_state``, if there is no
            teacher.
        KeyError: at ``init_state``, if a model has no such feature.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.variational_information(student="block2", teacher="block2")
        variational_information(student='block2', teacher='block2', variance=5.0)

    References:
        Ahn et al., `Variational Information Distillation for Knowledge Transfer
        <https://arxiv.org/abs/1904.05835>`_, 2019, section 2.2.
    """

    def loss(predicted: Any, t: Array, view: View, stage: int) -> Array:
        return losses.variational_information(predicted[0], t, predicted[1])

    return by_stage(
        "variational_information",
        loss,
        lambda shape: VariationalRegressor(shape, variance),
        student,
        teacher,
        variance=variance,
    )


class LogPowerProjector(nn.Module):
    """A linear map of the student, and both sides normalized over the batch.

    Attributes:
        shape: the teacher's.
    """

    shape: Shape

    @nn.compact
    def __call__(
        self,
        x: Array,
        teacher: Array,
        *,
        where: Array | None = None,
        axis_name: str | None = None,
    ) -> tuple[Array, Array]:
        """Returns both, of the teacher's shape."""
        x = match_positions(x, self.shape[1:-1])
        x = nn.Dense(self.shape[-1], name="dense")(x)
        norm = lambda name: BatchNorm(affine=False, name=name)
        x = norm("norm")(x, where=where, axis_name=axis_name)
        return x, norm("teacher_norm")(teacher, where=where, axis_name=axis_name)


def log_power_distance(
    *, student: str, teacher: str, exponent: float = 4.0
) -> Objective:
    """Match normalized features under a logarithm: SRD.

    :func:`losses.log_power_distance` after a linear map of the student and batch
    normalization of both sides.

    Args:
        student: the student's feature, as a rule the pooled one.
        teacher: the teacher's.
        exponent: of the gaps.

    Returns:
        An :class:`Objective`. The authors add ``soft_target`` at temperature 1, and
        give this weight 2.

    Raises:
        ValueError: at ``init_state``, if there is no teacher.
        KeyError: at ``init_state``, if a model has no such feature.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.log_power_distance(student="pool", teacher="pool")
        log_power_distance(student='pool', teacher='pool', exponent=4.0)

    References:
        Miles and Mikolajczyk, `Understanding the Role of the Projector in Knowledge
        Distillation <https://arxiv.org/abs/2303.11098>`_, 2024, section 3.
    """
    name = "log_power_distance"

    def terms(view: View, pair: tuple[Array, Array]) -> Terms:
        counts = pair[0].shape[:1]
        loss = losses.log_power_distance
        mean = mean_of(loss, name, pair, view, counts, None, exponent=exponent)
        return {name: Term(mean, jnp.float32(1.0))}

    return trained_objective(
        name,
        module=lambda view: LogPowerProjector(
            teacher_of(view, name).features[teacher].shape
        ),
        inputs=lambda view: (
            view.student.features[student],
            teacher_of(view, name).features[teacher],
        ),
        terms=terms,
        student=(student,),
        teacher=(teacher,),
        shown=describe(name, student=student, teacher=teacher, exponent=exponent),
    )
