"""From values to means over what counts."""

from collections.abc import Mapping

from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _names, losses
from jaxkd._types import Batch
from jaxkd.losses import Mean
from jaxkd.models import Out
from jaxkd.objectives._base import View


def mean_over_batch(
    batch: Batch, values: Array, where: str | None, reader: str
) -> Mean:
    """The mean over what counts: the batch's ``mask``, and the objective's own.

    Args:
        batch: a dict of arrays.
        values: one value per example or position, shape ``[batch, ...]``.
        where: an entry of the batch, true for what counts, shape ``[batch]``, or that
            of the values, or longer: an example counts if any of its positions does;
            ``None`` for all.
        reader: who asks, for errors.

    Returns:
        A :class:`~jaxkd.losses.Mean`.
    """
    return losses.masked_mean(values, counted(batch, values.shape, where, reader))


def counted(
    batch: Batch, shape: tuple[int, ...], where: str | None, reader: str
) -> Array:
    """What counts: the batch's ``mask``, and the objective's own.

    Args:
        batch: a dict of arrays.
        shape: the shape asked for, ``[batch, ...]``.
        where: an entry of the batch, true for what counts; ``None`` for all.
        reader: who asks, for errors.

    Returns:
        Booleans of that shape.

    Raises:
        KeyError: if the batch has no such entry.
        ValueError: if it does not fit.
    """
    counts = jnp.ones(shape, bool)
    if "mask" in batch:
        counts &= _fit_mask(jnp.asarray(batch["mask"]), shape)
    if where is not None:
        counts &= _fit_mask(jnp.asarray(_names.get(batch, where, reader)), shape)
    return counts


def _fit_mask(mask: Array, shape: tuple[int, ...]) -> Array:
    """Lets a mask of examples count for all positions of each, and any for one."""
    shared = min(mask.ndim, len(shape))
    if mask.shape[:shared] != shape[:shared]:
        raise ValueError(
            f"a mask of shape {mask.shape} does not fit values of shape {shape}."
        )
    mask = mask.astype(bool).reshape(*shape[:shared], -1).any(axis=-1)
    return mask.reshape(mask.shape + (1,) * (len(shape) - shared))


def teacher_of(view: View, reader: str) -> Out:
    """What the teacher returned.

    Args:
        view: what the objective looks at.
        reader: the objective's name, for the error.

    Returns:
        Its :class:`~jaxkd.models.Out`.

    Raises:
        ValueError: if there is no teacher, or there are several.
    """
    if view.teacher is None:
        raise ValueError(
            f"{reader} needs a teacher, but the step was made without one."
        )
    if isinstance(view.teacher.logits, Mapping):
        names = ", ".join(map(repr, view.teacher.logits))
        raise ValueError(
            f"{reader} follows one teacher, but there are {names}: name the one, "
            "objectives.follow(name, objective), or join them, "
            "objectives.ensemble(objective)."
        )
    return view.teacher
