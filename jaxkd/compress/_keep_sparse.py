"""Sparsity kept during training, as the last link of an optax chain."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import optax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkd import _checks, trees
from jaxkd._types import Number, Params, Tree, Whole
from jaxkd.compress._masks import check_masks, magnitude_masks
from jaxkd.compress._schedules import Schedule

#: ``(params, gradients, sparsity) -> masks``; gradients are ``None`` if not given.
Draw: TypeAlias = Callable[[Params, Tree, Array], Tree]


class KeepSparseState(NamedTuple):
    """The state of :func:`keep_sparse`.

    Attributes:
        step: updates done.
        sparsity: the fraction of zeros for which the masks were drawn.
        masks: for each pruned leaf, true where a weight is kept; ``None`` elsewhere.
    """

    step: Int[Array, ""]
    sparsity: Float[Array, ""]
    masks: Tree


def keep_sparse(
    sparsity: Number | Schedule,
    *,
    where: str = "kernel$",
    across: bool = False,
    every: Whole = 1,
    draw: Draw | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Makes pruned weights exactly zero; must be the last link of the chain.

    Its update of a pruned weight :math:`p` is :math:`-p`, so that
    :func:`optax.apply_updates` leaves 0, in every dtype, whatever momentum or weight
    decay want. The masks live in the optimizer's state, so they are checkpointed and
    sharded with it.

    The masks follow the magnitudes of the weights which the update is given, pruned
    ones counting as 0, so that growing sparsity never revives a weight. They are drawn
    anew when the sparsity asked for has changed since they were drawn, and either the
    step is a multiple of ``every`` or the schedule rests at the next step. Hence the
    end value of any schedule is reached at the step at which the schedule reaches it.

    Args:
        sparsity: the fraction of zeros, in ``[0, 1)``, or a schedule of it such as
            :func:`cubic`, read at the number of the update, from 1.
        where: a regular expression for the paths of the leaves to prune. It is
            matched against all that the optimizer sees, trainable parts of objectives
            among them: ``"^student/.*kernel$"`` prunes the student only.
        across: one threshold for all these leaves together; see
            :func:`magnitude_masks`.
        every: steps from one drawing of the masks to the next.
        draw: ``(params, gradients, sparsity) -> masks``, in place of magnitudes; it is
            given the leaves that ``where`` matches, and ``None`` for others. Gradients
            come with :func:`forget_pruned`, or as the extra argument ``gradients``.

    Returns:
        An :class:`optax.GradientTransformationExtraArgs`; its update needs ``params``.

    Raises:
        ValueError: if a number is out of range, or, at ``init``, no path matches.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> from jaxkd import compress
        >>> params = {"kernel": jnp.array([1.0, -3.0, 0.5, 2.0])}
        >>> tx = optax.chain(optax.adamw(0.1), compress.keep_sparse(0.5))
        >>> updates, state = tx.update(params, tx.init(params), params)
        >>> print(optax.apply_updates(params, updates)["kernel"].round(1))
        [ 0.  -2.9  0.   1.9]

    References:
        Zhu and Gupta, `To prune, or not to prune: exploring the efficacy of pruning for
        model compression <https://arxiv.org/abs/1710.01878>`_, 2017, section 3.
    """
    if every < 1:
        raise ValueError(f"`every` must be at least 1, got {every}.")
    schedule = _as_schedule(sparsity)
    if draw is None:
        draw = lambda p, g, s: magnitude_masks(p, s, where=where, across=across)

    def init(params: Params) -> KeepSparseState:
        return KeepSparseState(
            jnp.zeros((), jnp.int32), jnp.zeros(()), all_kept(params, where)
        )

    def update(
        updates: Tree,
        state: Any,
        params: Params | None = None,
        *,
        gradients: Tree = None,
        **extra_args: Any,
    ) -> tuple[Tree, KeepSparseState]:
        del extra_args  # of other links
        params = needed(params, "keep_sparse")
        step = state.step + 1
        target = schedule(step)
        due = (step % int(every) == 0) | (schedule(step + 1) == target)
        due &= target != state.sparsity

        def redraw() -> Tree:
            now = jax.tree.map(_masked, params, state.masks)
            given = None if gradients is None else only_those_of(now, gradients)
            drawn = draw(now, given, target)
            _check_drawn(now, drawn)
            return only_those_of(state.masks, drawn)

        masks = jax.lax.cond(due, redraw, lambda: state.masks)
        drawn = jnp.where(due, target, state.sparsity)
        zeroed = jax.tree.map(masked_update, params, updates, masks)
        return zeroed, KeepSparseState(step, drawn, masks)

    return optax.GradientTransformationExtraArgs(init, update)


def all_kept(params: Params, where: str) -> Tree:
    """Masks that are true, for the leaves to prune; ``None`` for the others."""
    pruned, _ = trees.split(params, trees.mask(params, where))
    return jax.tree.map(lambda p: jnp.ones(jnp.shape(p), bool), pruned)


def only_those_of(some: Tree, others: Tree) -> Tree:
    """The other leaves where there are some, ``None`` elsewhere."""
    pick = lambda one, other: None if one is None else other
    return jax.tree.map(pick, some, others, is_leaf=lambda x: x is None)


def needed(params: Params | None, name: str) -> Params:
    """Raises unless the update was given the parameters."""
    if params is None:
        raise ValueError(f"{name} needs `params`: tx.update(grads, state, params).")
    return params


def _check_drawn(pruned: Tree, drawn: Tree) -> None:
    """Raises unless there is a mask for each pruned leaf; there may be more."""
    masks, wanted = trees.flatten(drawn), trees.flatten(pruned)
    check_masks(wanted, {path: x for path, x in masks.items() if path in wanted})


def _as_schedule(sparsity: Number | Schedule) -> Schedule:
    if callable(sparsity):
        return sparsity
    _checks.check_sparsity(sparsity)
    return lambda step: jnp.float32(sparsity)


def _masked(p: Array, mask: Array | None) -> Array | None:
    return None if mask is None else jnp.where(mask, p, jnp.zeros_like(p))


def masked_update(p: Array, u: Array, mask: Array | None) -> Array:
    """The update, and what makes pruned weights zero."""
    if mask is None:
        return u
    # -p must be exact, whatever the precision of the updates.
    finer = jnp.finfo(p.dtype).bits > jnp.finfo(u.dtype).bits
    dtype = p.dtype if finer else u.dtype
    return jnp.where(mask, u.astype(dtype), -p.astype(dtype))
