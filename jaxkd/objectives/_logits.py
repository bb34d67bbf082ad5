"""Objectives on logits."""

from collections.abc import Callable
from typing import Any

from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _checks, losses
from jaxkd._types import Batch, Params, PerExample, Tree
from jaxkd.losses import Mean
from jaxkd.models import Out
from jaxkd.objectives._base import Objective, Term, Terms, View


def soft_target(*, temperature: float, where: str | None = None) -> Objective:
    r"""Follow the teacher's softened distribution: :func:`losses.soft_target_kl`.

    Args:
        temperature: :math:`\tau > 0`; the factor :math:`\tau^2` is included.
        where: an entry of the batch, true for the examples that count; all by default.

    Returns:
        An :class:`Objective` of one term, ``"soft_target"``.

    Raises:
        ValueError: if the temperature is not positive; at ``init_state``, if student
            and teacher have different classes, or there is no teacher.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.soft_target(temperature=4.0)
        soft_target(temperature=4.0)

    References:
        Hinton et al., `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.
    """
    _checks.check_positive(temperature=temperature)
    name = "soft_target"

    def values(view: View) -> PerExample:
        return losses.soft_target_kl(
            view.student.logits,
            teacher_of(view, name).logits,
            temperature=temperature,
        )

    return _per_example(name, values, where, temperature=temperature)


def hard_label(*, label: str = "label", where: str | None = None) -> Objective:
    """Predict the true classes: :func:`losses.cross_entropy`.

    Args:
        label: the entry of the batch with integer labels.
        where: an entry of the batch, true for the examples that count, such as those
            which have a label; all by default.

    Returns:
        An :class:`Objective` of one term, ``"hard_label"``.

    Raises:
        KeyError: at ``init_state``, if the batch has no such entry.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.hard_label(where="labelled")
        hard_label(where='labelled')
    """
    name = "hard_label"

    def values(view: View) -> PerExample:
        labels = _checks.get(view.batch, label, name)
        return losses.cross_entropy(view.student.logits, labels)

    return _per_example(name, values, where)


def logit_mse(*, where: str | None = None) -> Objective:
    """Match the teacher's logits: :func:`losses.logit_mse`.

    Args:
        where: an entry of the batch, true for the examples that count; all by default.

    Returns:
        An :class:`Objective` of one term, ``"logit_mse"``.

    Raises:
        ValueError: at ``init_state``, if student and teacher have different classes, or
            there is no teacher.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.logit_mse()
        logit_mse()

    References:
        Ba and Caruana, `Do Deep Nets Really Need to be Deep?
        <https://arxiv.org/abs/1312.6184>`_, 2014, equation 1.
    """
    name = "logit_mse"

    def values(view: View) -> PerExample:
        return losses.logit_mse(view.student.logits, teacher_of(view, name).logits)

    return _per_example(name, values, where)


def _per_example(
    name: str,
    values: Callable[[View], PerExample],
    where: str | None,
    **shown: Any,
) -> Objective:
    """An objective without parameters or state, of one term."""

    def apply(params: Params, state: Tree, view: View) -> tuple[Terms, Tree]:
        mean = mean_over_batch(view.batch, values(view), where, name)
        return {name: Term(mean, jnp.float32(1.0))}, state

    if where is not None:
        shown["where"] = where
    words = ", ".join(f"{key}={value!r}" for key, value in shown.items())
    return Objective(lambda key, view: ({}, {}), apply, description=f"{name}({words})")


def mean_over_batch(
    batch: Batch, values: Array, where: str | None, reader: str
) -> Mean:
    """The mean over what counts: the batch's ``mask``, and the objective's own.

    Args:
        batch: a dict of arrays.
        values: one value per example or position, shape ``[batch, ...]``.
        where: an entry of the batch, true for what counts, shape ``[batch]`` or that of
            the values; ``None`` for all.
        reader: who asks, for errors.

    Returns:
        A :class:`~jaxkd.losses.Mean`.
    """
    counts = jnp.ones(values.shape, bool)
    if "mask" in batch:
        counts &= _expand_mask(jnp.asarray(batch["mask"]), values)
    if where is not None:
        counts &= _expand_mask(jnp.asarray(_checks.get(batch, where, reader)), values)
    return losses.masked_mean(values, counts)


def _expand_mask(mask: Array, values: Array) -> Array:
    """Lets a mask of examples count for all positions of each."""
    if mask.shape != values.shape[: mask.ndim]:
        raise ValueError(
            f"a mask of shape {mask.shape} does not fit values of shape {values.shape}."
        )
    extra = values.ndim - mask.ndim
    return mask.astype(bool).reshape(mask.shape + (1,) * extra)


def teacher_of(view: View, reader: str) -> Out:
    """What the teacher returned.

    Args:
        view: what the objective looks at.
        reader: the objective's name, for the error.

    Returns:
        Its :class:`~jaxkd.models.Out`.

    Raises:
        ValueError: if there is no teacher.
    """
    if view.teacher is None:
        raise ValueError(
            f"{reader} needs a teacher, but the step was made without one."
        )
    return view.teacher
