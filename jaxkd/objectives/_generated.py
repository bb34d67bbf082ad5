"""Objectives in which a small trained network makes the teacher's features."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _checks, losses
from jaxkd.models import BatchNorm
from jaxkd.objectives._base import Objective, Term, Terms, View
from jaxkd.objectives._modules import Shape, match_positions, trained_objective
from jaxkd.objectives._names import Names, describe, paired
from jaxkd.objectives._reduce import mean_over_batch, teacher_of
from jaxkd.objectives._stages import by_stage


class Review(nn.Module):
    """Fusion of the student's stages from the deepest up, by attention: ReviewKD.

    Attributes:
        shapes: the teacher's, from the first stage to the last.
        width: channels inside.
    """

    shapes: tuple[Shape, ...]
    width: int

    @nn.compact
    def __call__(
        self,
        features: tuple[Array, ...],
        *,
        where: Array | None = None,
        axis_name: str | None = None,
    ) -> tuple[Array, ...]:
        """Returns a feature for each stage, of the teacher's shape."""

        def norm(x: Array, name: str) -> Array:
            return BatchNorm(name=name)(x, where=where, axis_name=axis_name)

        made: list[Array] = []
        deeper = None
        for i in reversed(range(len(features))):
            conv = nn.Conv(self.width, (1, 1), use_bias=False, name=f"conv{i}")
            x = norm(conv(features[i]), f"norm{i}")
            x = match_positions(x, self.shapes[i][1:-1])
            if deeper is not None:
                size = (*x.shape[:-1], deeper.shape[-1])
                deeper = jax.image.resize(deeper, size, "nearest")
                both = jnp.concatenate([x, deeper], axis=-1)
                mix = nn.sigmoid(nn.Conv(2, (1, 1), name=f"attention{i}")(both))
                x = x * mix[..., :1] + deeper * mix[..., 1:]
            channels = self.shapes[i][-1]
            out = nn.Conv(channels, (3, 3), use_bias=False, name=f"out{i}")(x)
            made.append(norm(out, f"out_norm{i}"))
            deeper = x
        return tuple(reversed(made))


def review(*, student: Names, teacher: Names, width: int | None = None) -> Objective:
    """Let several stages of the student together make each of the teacher's: ReviewKD.

    From the deepest stage up, each is mixed with those below it by trained attention,
    and compared by :func:`losses.hierarchical_context`.

    Args:
        student: the student's stages, maps, from the first to the last.
        teacher: as many of the teacher's.
        width: channels of the fusion; by default those of the student's last stage, 512
            at most.

    Returns:
        An :class:`Objective`. The paper's weight is 1 to 8, with 20 epochs of warm-up.

    Raises:
        ValueError: if features cannot be paired; at ``init_state``, if there is no
            teacher, or a feature is no map.
        KeyError: at ``init_state``, if a model has no such feature.

    Examples:
        >>> from jaxkd import objectives
        >>> stages = ["block1", "block2"]
        >>> objectives.review(student=stages, teacher=stages)
        review(student=['block1', 'block2'], teacher=['block1', 'block2'])

    References:
        Chen et al., `Distilling Knowledge via Knowledge Review
        <https://arxiv.org/abs/2104.09044>`_, 2021, section 3.
    """
    name = "review"
    ours, theirs = paired(name, student, teacher)

    def inputs(view: View) -> tuple[Any, ...]:
        features = tuple(view.student.features[s] for s in ours)
        for s, x in zip(ours, features, strict=True):
            if len(x.shape) != 4:
                raise ValueError(
                    f"review needs maps [batch, height, width, channels]; {s!r} has "
                    f"shape {x.shape}."
                )
        return (features,)

    def module(view: View) -> Review:
        features = teacher_of(view, name).features
        last = view.student.features[ours[-1]].shape[-1]
        shapes = tuple(features[t].shape for t in theirs)
        return Review(shapes, min(512, last) if width is None else width)

    def terms(view: View, made: tuple[Array, ...]) -> Terms:
        features = teacher_of(view, name).features
        pairs = zip(made, theirs, strict=True)
        values = sum(losses.hierarchical_context(x, features[t]) for x, t in pairs)
        mean = mean_over_batch(view.batch, jnp.asarray(values), None, name)
        return {name: Term(mean, jnp.float32(1.0))}

    return trained_objective(
        name,
        module=module,
        inputs=inputs,
        terms=terms,
        student=ours,
        teacher=theirs,
        shown=describe(name, student=student, teacher=teacher, width=width),
    )


class Generator(nn.Module):
    """Hides part of the student's feature, and makes the teacher's of the rest.

    Attributes:
        shape: the teacher's.
        draw: from a key and a feature to what to keep.
    """

    shape: Shape
    draw: Callable[[Any, Array], Array]

    @nn.compact
    def __call__(
        self, x: Array, *, where: Array | None = None, axis_name: str | None = None
    ) -> Array:
        """Returns a feature of the teacher's shape."""
        channels, window = self.shape[-1], (3,) * (len(self.shape) - 2)
        x = match_positions(x, self.shape[1:-1])
        if x.shape[-1] != channels:
            x = nn.Dense(channels, name="align")(x)
        keep = self.draw(self.make_rng("mask"), x)
        x = x * (keep if keep.ndim == x.ndim else keep[..., None])
        x = nn.relu(nn.Conv(channels, window, name="conv1")(x))
        return nn.Conv(channels, window, name="conv2")(x)


def masked_generation(
    *,
    student: Names,
    teacher: Names,
    mask: Callable[..., Array] = losses.channel_mask,
    ratio: float = 0.15,
) -> Objective:
    """Let the student make the teacher's features of a part of its own: MGD.

    A random part is hidden at every step; two convolutions fill it in;
    :func:`losses.feature_squared_distance` compares.

    Args:
        student: the student's feature, a map or tokens, or several.
        teacher: as many of the teacher's.
        mask: ``losses.channel_mask`` for classifiers, ``losses.position_mask`` for
            detectors.
        ratio: how much is hidden, 0.15 of the channels or 0.65 of the positions.

    Returns:
        An :class:`Objective`. The paper's weight is 7e-5 (classifiers), 2e-5
        (detectors).

    Raises:
        ValueError: if features cannot be paired, or the ratio is not in [0, 1]; at
            ``init_state``, if there is no teacher.
        KeyError: at ``init_state``, if a model has no such feature.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.masked_generation(student="block2", teacher="block3")
        masked_generation(student='block2', teacher='block3', ratio=0.15)

    References:
        Yang et al., `Masked Generative Distillation
        <https://arxiv.org/abs/2205.01529>`_, 2022, section 3.
    """
    _checks.check_fraction(ratio=ratio)

    def draw(key: Any, x: Array) -> Array:
        return mask(key, x, ratio=ratio)

    return by_stage(
        "masked_generation",
        lambda made, t, *_: losses.feature_squared_distance(made, t),
        lambda shape: Generator(tuple(shape), draw),
        student,
        teacher,
        ratio=ratio,
    )


class TokenGenerator(nn.Module):
    """Replaces hidden tokens by a trained one, and makes the teacher's of all.

    Attributes:
        shape: the teacher's.
        ratio: how many tokens are hidden.
    """

    shape: Shape
    ratio: float

    @nn.compact
    def __call__(
        self, x: Array, *, where: Array | None = None, axis_name: str | None = None
    ) -> tuple[Array, Array]:
        """Returns a feature of the teacher's shape, and which tokens were seen."""
        tokens, channels = self.shape[1:]
        x = nn.Dense(channels, name="align")(match_positions(x, (tokens,)))
        keep = losses.token_mask(self.make_rng("mask"), x, ratio=self.ratio)
        hidden = self.param("hidden", nn.initializers.normal(0.02), (channels,))
        x = jnp.where(keep[..., None], x, hidden)
        side = math.isqrt(tokens)
        places = (side, side) if side * side == tokens else (tokens,)
        x = x.reshape(x.shape[0], *places, channels)
        window = (3,) * len(places)
        x = nn.relu(nn.Conv(channels, window, name="conv1")(x))
        x = nn.Conv(channels, window, name="conv2")(x)
        return x.reshape(x.shape[0], tokens, channels), keep


def masked_tokens(*, student: str, teacher: str, ratio: float = 0.5) -> Objective:
    """Let the student make the teacher's hidden tokens: ViTKD's last layer.

    :func:`losses.feature_squared_distance` over the hidden tokens alone. For the first
    layers the paper takes ``on_features(losses.feature_squared_distance, ...,
    adapter=linear_adapter())``, with weight 3e-5.

    Args:
        student: the student's tokens, without a class token.
        teacher: the teacher's; a square number of them is filled in as a map.
        ratio: how many are hidden.

    Returns:
        An :class:`Objective`. The paper's weight is 3e-6 over the ratio.

    Raises:
        ValueError: if the ratio is not in [0, 1]; at ``init_state``, if there is no
            teacher, or its feature is no tokens.
        KeyError: at ``init_state``, if a model has no such feature.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.masked_tokens(student="block4", teacher="block12")
        masked_tokens(student='block4', teacher='block12', ratio=0.5)

    References:
        Yang et al., `ViTKD: Practical Guidelines for ViT feature knowledge distillation
        <https://arxiv.org/abs/2209.02432>`_, 2022, section 3.
    """
    _checks.check_fraction(ratio=ratio)

    def loss(made: Any, t: Array, view: View, stage: int) -> Array:
        return losses.feature_squared_distance(made[0], t, where=~made[1])

    def adapter(shape: Shape) -> TokenGenerator:
        if len(shape) != 3:
            raise ValueError(
                "masked_tokens needs tokens [batch, tokens, channels]; the teacher's "
                f"feature has shape {shape}."
            )
        return TokenGenerator(tuple(shape), ratio)

    return by_stage("masked_tokens", loss, adapter, student, teacher, ratio=ratio)
