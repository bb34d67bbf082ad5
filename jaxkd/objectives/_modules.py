"""The trainable parts of objectives, as small Flax Linen modules.

All are called as ``module(x, ..., where=..., axis_name=...)``: ``where`` tells which
examples count, for their batch normalization.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import flax.linen as nn
import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd._types import Params, PRNGKey, Tree
from jaxkd.models import BatchNorm
from jaxkd.objectives._base import Objective, Terms, View
from jaxkd.objectives._reduce import counted

Shape: TypeAlias = tuple[int, ...]
# From the teacher's shape to a module that brings the student's feature there.
Adapter: TypeAlias = Callable[[Shape], nn.Module]


def trained_objective(
    name: str,
    *,
    module: Callable[[View], nn.Module],
    inputs: Callable[[View], tuple[Any, ...]],
    terms: Callable[[View, Any], Terms],
    student: Sequence[str],
    teacher: Sequence[str],
    shown: str,
) -> Objective:
    """An objective with a trainable part, made from shapes.

    Args:
        name: the objective's, for errors.
        module: makes the module; it sees shapes only.
        inputs: reads what the module is called with.
        terms: from what the module returned to the terms.
        student: features of the student.
        teacher: features of the teacher.
        shown: how it prints.

    Returns:
        An :class:`~jaxkd.objectives.Objective`; batch statistics are its state.
    """

    def init(key: PRNGKey, view: View) -> tuple[Params, Tree]:
        rngs = {"params": key, "mask": key}
        variables = dict(module(view).lazy_init(rngs, *inputs(view)))
        return variables.pop("params", {}), variables

    def apply(params: Params, state: Tree, view: View) -> tuple[Terms, Tree]:
        batch = next(len(x) for x in jax.tree.leaves(inputs(view)))
        out, state = module(view).apply(
            {"params": params, **state},
            *inputs(view),
            where=counted(view.batch, (batch,), None, name),
            axis_name=view.axis_name,
            rngs={"mask": view.key},
            mutable=list(state),
        )
        return terms(view, out), dict(state)

    return Objective(init, apply, tuple(student), tuple(teacher), shown)


class Projector(nn.Module):
    """Brings a feature to another shape: resize, project, and maybe normalize.

    Attributes:
        shape: ``[batch, *positions, channels]`` of the result; its batch is not read.
        normalize: batch normalization after the projection.
        activate: ReLU at the end.
    """

    shape: Shape
    normalize: bool = False
    activate: bool = False

    @nn.compact
    def __call__(
        self, x: Array, *, where: Array | None = None, axis_name: str | None = None
    ) -> Array:
        """Returns the feature, of the shape asked for."""
        x = match_positions(x, self.shape[1:-1])
        if x.shape[-1] != self.shape[-1] or self.normalize:
            x = nn.Dense(self.shape[-1], use_bias=not self.normalize, name="dense")(x)
        if self.normalize:
            x = BatchNorm(name="norm")(x, where=where, axis_name=axis_name)
        return nn.relu(x) if self.activate else x


def linear_adapter(*, normalize: bool = False, activate: bool = False) -> Adapter:
    """An adapter: a linear map of the channels (a 1x1 convolution), after a resize.

    Positions are brought to the teacher's first: a map is averaged or interpolated,
    tokens are interpolated, maps and tokens of as many positions are reshaped, and the
    mean over positions is taken where the teacher has none.

    Args:
        normalize: batch normalization after it, without a bias.
        activate: ReLU at the end.

    Returns:
        A function from the teacher's shape ``[batch, *positions, channels]`` to a
        Linen module, called as ``module(x, where=..., axis_name=...)``; write your own
        in the same form.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.linear_adapter(normalize=True)((8, 4, 4, 32)).shape
        (8, 4, 4, 32)
    """
    return lambda shape: Projector(tuple(shape), normalize, activate)


class Projectors(nn.Module):
    """A projector for each pair of features whose shapes differ.

    Attributes:
        adapters: by the pair's name; ``None`` where shapes agree.
    """

    adapters: Any  # a mapping; Linen freezes it

    @nn.compact
    def __call__(
        self,
        features: dict[str, Array],
        *,
        where: Array | None = None,
        axis_name: str | None = None,
    ) -> dict[str, Array]:
        """Returns the student's features in the teacher's shapes."""
        found = {}
        for name, x in features.items():
            adapter = self.adapters.get(name)
            if adapter is not None:
                named = adapter.clone(parent=self, name=name.replace("/", "_"))
                x = named(x, where=where, axis_name=axis_name)
            found[name] = x
        return found


def match_positions(x: Array, positions: Shape) -> Array:
    """Brings the positions of a feature to others.

    Args:
        x: shape ``[batch, *positions, channels]``.
        positions: those to come to.

    Returns:
        Shape ``[batch, *positions, channels]``.

    Raises:
        ValueError: if there is no plain way.
    """
    own, (batch, channels) = x.shape[1:-1], (x.shape[0], x.shape[-1])
    if own == positions:
        return x
    if not positions:
        return jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))
    if math.prod(own) == math.prod(positions):
        return x.reshape(batch, *positions, channels)
    if len(own) != len(positions):
        raise ValueError(
            f"a feature with positions {own} cannot be brought to {positions}: maps "
            "and tokens agree only if they have as many positions. Without its class "
            "token a teacher may have: return the tokens as a feature of their own."
        )
    if all(a % b == 0 for a, b in zip(own, positions, strict=True)):
        window = [n for p, o in zip(positions, own, strict=True) for n in (p, o // p)]
        parts = x.reshape(batch, *window, channels)
        return jnp.mean(parts, axis=tuple(range(2, 2 + 2 * len(own), 2)))
    return jax.image.resize(x, (batch, *positions, channels), "linear")
