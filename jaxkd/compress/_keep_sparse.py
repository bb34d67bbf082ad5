"""Sparsity kept during training, as the last link of an optax chain."""

from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkd import _checks, trees
from jaxkd._types import Params, Tree
from jaxkd.compress._masks import magnitude_masks
from jaxkd.compress._schedules import Schedule


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
    sparsity: float | Schedule,
    *,
    where: str = "kernel$",
    across: bool = False,
    every: int = 1,
) -> optax.GradientTransformation:
    """Makes pruned weights exactly zero; must be the last link of the chain.

    Its update of a pruned weight :math:`p` is :math:`-p`, so that
    :func:`optax.apply_updates` leaves 0, in every dtype, whatever momentum or weight
    decay want. The masks live in the optimizer's state, so they are checkpointed and
    sharded with it.

    The masks follow the magnitudes of the weights after the update, pruned ones
    counting as 0, so that growing sparsity never revives a weight. They are drawn anew
    when the sparsity asked for has changed since they were drawn, and either the step
    is a multiple of ``every`` or the schedule rests at the next step. Hence the end
    value of any schedule is reached at the step at which the schedule reaches it.

    Args:
        sparsity: the fraction of zeros, in ``[0, 1)``, or a schedule of it such as
            :func:`cubic`, read at the number of the update, from 1.
        where: a regular expression for the paths of the leaves to prune. It is
            matched against all that the optimizer sees, trainable parts of objectives
            among them: ``"^student/.*kernel$"`` prunes the student only.
        across: one threshold for all these leaves together; see
            :func:`magnitude_masks`.
        every: steps from one drawing of the masks to the next.

    Returns:
        An :class:`optax.GradientTransformation`, whose update needs ``params``.

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

    def init(params: Params) -> KeepSparseState:
        pruned, _ = trees.split(params, trees.mask(params, where))
        masks = jax.tree.map(lambda p: jnp.ones(jnp.shape(p), bool), pruned)
        return KeepSparseState(jnp.zeros((), jnp.int32), jnp.zeros(()), masks)

    def update(
        updates: Tree, state: Any, params: Params | None = None
    ) -> tuple[Tree, KeepSparseState]:
        if params is None:
            raise ValueError(
                "keep_sparse needs `params`: tx.update(grads, state, params)."
            )
        step = state.step + 1
        target = schedule(step)
        due = (step % every == 0) | (schedule(step + 1) == target)
        due &= target != state.sparsity

        def draw() -> Tree:
            after = jax.tree.map(_masked_sum, params, updates, state.masks)
            return magnitude_masks(after, target, where=where, across=across)

        masks = jax.lax.cond(due, draw, lambda: state.masks)
        drawn = jnp.where(due, target, state.sparsity)
        zeroed = jax.tree.map(_masked_update, params, updates, masks)
        return zeroed, KeepSparseState(step, drawn, masks)

    return optax.GradientTransformation(init, update)


def _as_schedule(sparsity: float | Schedule) -> Schedule:
    if callable(sparsity):
        return sparsity
    _checks.check_sparsity(sparsity)
    return lambda step: jnp.float32(sparsity)


def _masked_sum(p: Array, u: Array, mask: Array | None) -> Array | None:
    if mask is None:
        return None
    return jnp.where(mask, p + u.astype(p.dtype), jnp.zeros_like(p))


def _masked_update(p: Array, u: Array, mask: Array | None) -> Array:
    if mask is None:
        return u
    # -p must be exact, whatever the precision of the updates.
    finer = jnp.finfo(p.dtype).bits > jnp.finfo(u.dtype).bits
    dtype = p.dtype if finer else u.dtype
    return jnp.where(mask, u.astype(dtype), -p.astype(dtype))
