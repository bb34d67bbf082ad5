"""Objectives whose trained parts speak for a feature: factors, uncertainty."""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _checks, losses
from jaxkd._types import Params
from jaxkd.objectives._base import Objective, Term, Terms, View
from jaxkd.objectives._modules import Shape, match_positions, trained_objective
from jaxkd.objectives._names import Names, describe
from jaxkd.objectives._reduce import mean_over_batch, teacher_of
from jaxkd.objectives._stages import by_stage


class Factors(nn.Module):
    """Three convolutions from a feature to its factors.

    Attributes:
        channels: of the factors.
    """

    channels: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Returns the factors, with the positions of the feature."""
        window = (3,) * (x.ndim - 2)
        for i, width in enumerate((x.shape[-1], self.channels, self.channels)):
            name = f"layer{i + 1}"
            dense = nn.Dense(width, name=name) if not window else None
            layer = dense or nn.Conv(width, window, name=name)
            x = nn.leaky_relu(layer(x), 0.1)
        return x


class Paraphraser(nn.Module):
    """A convolutional autoencoder of the teacher's feature.

    Attributes:
        factors: number of channels in the middle.
    """

    factors: int

    @nn.compact
    def __call__(
        self, x: Array, *, where: Array | None = None, axis_name: str | None = None
    ) -> Array:
        """Returns the feature as it was rebuilt."""
        middle = Factors(self.factors, name="encoder")(x)
        return Factors(x.shape[-1], name="decoder")(middle)


def paraphrase(*, teacher: str, rate: float = 0.5) -> Objective:
    """Learn the teacher's factors, by an autoencoder: the first stage of FT.

    The student is not trained: its gradient is 0. Give what is in
    ``state.params["objective"]`` afterwards to :func:`factor_transfer`.

    Args:
        teacher: the teacher's feature.
        rate: number of factors over number of channels.

    Returns:
        An :class:`Objective`: the mean squared error of the feature as it was rebuilt.

    Raises:
        ValueError: if the rate is not positive; at ``init_state``, if there is no
            teacher.
        KeyError: at ``init_state``, if the teacher has no such feature.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.paraphrase(teacher="block3")
        paraphrase(teacher='block3', rate=0.5)

    References:
        Kim et al., `Paraphrasing Complex Network: Network Compression via Factor
        Transfer <https://arxiv.org/abs/1802.04977>`_, 2018, section 3.1.
    """
    _checks.check_positive(rate=rate)
    name = "paraphrase"

    def feature(view: View) -> Array:
        return teacher_of(view, name).features[teacher]

    def terms(view: View, rebuilt: Array) -> Terms:
        values = losses.feature_mse(rebuilt, feature(view))
        mean = mean_over_batch(view.batch, values, None, name)
        return {name: Term(mean, jnp.float32(1.0))}

    return trained_objective(
        name,
        module=lambda view: Paraphraser(_number(feature(view).shape, rate)),
        inputs=lambda view: (feature(view),),
        terms=terms,
        student=(),
        teacher=(teacher,),
        shown=describe(name, teacher=teacher, rate=rate),
    )


class Translator(nn.Module):
    """The student's factors.

    Attributes:
        shape: the teacher's feature's.
        factors: number of channels.
    """

    shape: Shape
    factors: int

    @nn.compact
    def __call__(
        self, x: Array, *, where: Array | None = None, axis_name: str | None = None
    ) -> Array:
        """Returns factors with the positions of the teacher's feature."""
        x = match_positions(x, self.shape[1:-1])
        return Factors(self.factors, name="encoder")(x)


def factor_transfer(
    *, student: str, teacher: str, paraphraser: Params, rate: float = 0.5
) -> Objective:
    """Let the student's factors follow the teacher's: the second stage of FT.

    :func:`losses.factor_transfer` between a trained translator of the student's feature
    and the fixed paraphraser of the teacher's.

    Args:
        student: the student's feature.
        teacher: the teacher's, as in :func:`paraphrase`.
        paraphraser: the parameters that :func:`paraphrase` left.
        rate: as in :func:`paraphrase`.

    Returns:
        An :class:`Objective`.

    Raises:
        ValueError: if the rate is not positive; at ``init_state``, if there is no
            teacher.
        KeyError: at ``init_state``, if a model has no such feature.

    Examples:
        >>> from jaxkd import objectives
        >>> trained = {"encoder": {}}  # state.params["objective"] of the first stage
        >>> objectives.factor_transfer(
        ...     student="block2", teacher="block3", paraphraser=trained
        ... )
        factor_transfer(student='block2', teacher='block3', rate=0.5)

    References:
        Kim et al., `Paraphrasing Complex Network: Network Compression via Factor
        Transfer <https://arxiv.org/abs/1802.04977>`_, 2018, section 3.2.
    """
    _checks.check_positive(rate=rate)
    encoder = jax.device_get(paraphraser["encoder"])  # constants: never donated

    def loss(factors: Array, t: Array, view: View, stage: int) -> Array:
        fixed = Factors(_number(t.shape, rate))
        wanted: Any = fixed.apply({"params": encoder}, t)
        return losses.factor_transfer(factors, jax.lax.stop_gradient(wanted))

    return by_stage(
        "factor_transfer",
        loss,
        lambda shape: Translator(tuple(shape), _number(shape, rate)),
        student,
        teacher,
        rate=rate,
    )


class UncertainProjector(nn.Module):
    """A linear map of the student's feature, and how uncertain it is.

    Attributes:
        shape: the teacher's.
    """

    shape: Shape

    @nn.compact
    def __call__(
        self, x: Array, *, where: Array | None = None, axis_name: str | None = None
    ) -> tuple[Array, Array]:
        """Returns the feature and its log-variance, of the teacher's shape."""
        channels = self.shape[-1]
        x = match_positions(x, self.shape[1:-1])
        log_variance = nn.Dense(
            channels, kernel_init=nn.initializers.zeros, name="log_variance"
        )(x)
        if x.shape[-1] != channels:
            x = nn.Dense(channels, name="dense")(x)
        return x, log_variance


def uncertainty_weighted(*, student: Names, teacher: Names) -> Objective:
    """Match the teacher's features where the student is not uncertain: PAD-L2.

    :func:`losses.uncertainty_weighted_mse`, with log-variances predicted from the
    student's feature, 0 to begin with.

    Args:
        student: the student's feature, as a rule its embedding, or several.
        teacher: as many of the teacher's.

    Returns:
        An :class:`Objective`.

    Raises:
        ValueError: if features cannot be paired; at ``init_state``, if there is no
            teacher.
        KeyError: at ``init_state``, if a model has no such feature.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.uncertainty_weighted(student="pool", teacher="pool")
        uncertainty_weighted(student='pool', teacher='pool')

    References:
        Zhang et al., `Prime-Aware Adaptive Distillation
        <https://arxiv.org/abs/2008.01458>`_, 2020, section 3.
    """

    def loss(made: Any, t: Array, view: View, stage: int) -> Array:
        return losses.uncertainty_weighted_mse(made[0], t, made[1])

    return by_stage(
        "uncertainty_weighted",
        loss,
        lambda shape: UncertainProjector(tuple(shape)),
        student,
        teacher,
    )


def _number(shape: Shape, rate: float) -> int:
    return max(round(rate * shape[-1]), 1)
