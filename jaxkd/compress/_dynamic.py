"""Training that stays sparse from the start: weights are dropped and others grown."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp
from jaxtyping import Array, Int

from jaxkd import _checks
from jaxkd._types import Number, Params, PRNGKey, Tree, Whole
from jaxkd.compress._keep_sparse import all_kept, masked_update, needed, only_those_of
from jaxkd.compress._masks import Sparsity, top_masks
from jaxkd.compress._scores import random_scores
from jaxkd.compress._selection import keep_largest

Grow = Callable[[Tree, PRNGKey], Tree]


class DynamicState(NamedTuple):
    """The state of :func:`rigl` and :func:`sparse_evolution`.

    Attributes:
        step: updates done.
        masks: for each pruned leaf, true where a weight is active; ``None`` elsewhere.
        key: for what is drawn at random.
    """

    step: Int[Array, ""]
    masks: Tree
    key: PRNGKey


def rigl(
    sparsity: Sparsity,
    key: PRNGKey,
    *,
    end: Whole,
    where: str = "kernel$",
    every: Whole = 100,
    drop: Number = 0.3,
) -> optax.GradientTransformationExtraArgs:
    r"""Drops the smallest weights and grows those of the largest gradients.

    The number of active weights of each leaf never changes. They are drawn at random at
    ``init``; every so many steps the fraction

    .. math::
        f(t) = \frac{\alpha}{2} \Big(1 + \cos \frac{\pi t}{T}\Big)

    of them is dropped by magnitude, and as many grow where the gradient's magnitude is
    largest. What grows begins at 0. Use it as ``forget_pruned(tx, rigl(...))``, which
    gives it the gradients and clears moments.

    Args:
        sparsity: the fraction of zeros, or one for each path, such as of
            :func:`erk_sparsities`.
        key: a typed key.
        end: the step :math:`T` after which the active weights stay.
        where: a regular expression for the paths of the leaves to prune.
        every: steps from one change to the next.
        drop: the fraction :math:`\alpha` at the beginning.

    Returns:
        The last link of an optimizer; its update needs ``params`` and ``gradients``.

    Raises:
        ValueError: if a number is out of range, or, at ``init``, no path matches; at
            the update, if there are no gradients.

    Examples:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxkd import compress
        >>> params = {"kernel": jnp.arange(1.0, 9.0)}
        >>> link = compress.rigl(0.75, jax.random.key(0), end=100, every=1)
        >>> tx = compress.forget_pruned(optax.sgd(0.1), link)
        >>> updates, _ = tx.update(params, tx.init(params), params)
        >>> int(jnp.sum(optax.apply_updates(params, updates)["kernel"] != 0))
        1

    References:
        Evci et al., `Rigging the Lottery: Making All Tickets Winners
        <https://arxiv.org/abs/1911.11134>`_, 2020, section 3.
    """
    magnitude = lambda gradients, key: jax.tree.map(jnp.abs, gradients)
    return _dynamic(sparsity, key, where, (every, end, drop), magnitude)


def sparse_evolution(
    sparsity: Sparsity,
    key: PRNGKey,
    *,
    end: Whole,
    where: str = "kernel$",
    every: Whole = 100,
    drop: Number = 0.3,
) -> optax.GradientTransformationExtraArgs:
    r"""Drops the smallest weights and grows others at random (SET).

    As :func:`rigl` otherwise.

    Args:
        sparsity: the fraction of zeros, or one for each path.
        key: a typed key.
        end: the step after which the active weights stay.
        where: a regular expression for the paths of the leaves to prune.
        every: steps from one change to the next.
        drop: the fraction of active weights to replace at the beginning.

    Returns:
        The last link of an optimizer; its update needs ``params``.

    Raises:
        ValueError: if a number is out of range, or, at ``init``, no path matches.

    References:
        Mocanu et al., `Scalable training of artificial neural networks with adaptive
        sparse connectivity inspired by network science
        <https://arxiv.org/abs/1707.04780>`_, 2018, methods.
    """
    return _dynamic(sparsity, key, where, (every, end, drop), random_scores)


def regrow_masks(masks: Tree, params: Params, growth: Tree, drop: Number) -> Tree:
    """Drops active weights of small magnitude, and grows as many by another score.

    Args:
        masks: true where a weight is active; ``None`` for leaves that are not pruned.
        params: the weights.
        growth: scores of what to grow, such as the magnitudes of gradients; what is
            dropped can grow at once.
        drop: the fraction of active weights to drop, in ``[0, 1]``.

    Returns:
        Masks with as many active weights in each leaf as before.
    """

    def one(mask: Array | None, w: Array, score: Array) -> Array | None:
        if mask is None:
            return None
        active = jnp.sum(mask, dtype=jnp.int32)
        stay = jnp.round(active.astype(jnp.float32) * (1 - drop)).astype(jnp.int32)
        magnitude = jnp.where(mask, jnp.abs(w).astype(jnp.float32), -1.0)
        (survivors,) = keep_largest([magnitude], stay)
        score = jnp.where(survivors, jnp.inf, score.astype(jnp.float32))
        return keep_largest([score], active)[0]

    return jax.tree.map(one, masks, params, growth, is_leaf=lambda x: x is None)


def _dynamic(
    sparsity: Sparsity,
    key: PRNGKey,
    where: str,
    times: tuple[Whole, Whole, Number],
    grow: Grow,
) -> optax.GradientTransformationExtraArgs:
    every, end, drop = int(times[0]), int(times[1]), times[2]
    _checks.check_positive(every=every, end=end)
    _checks.check_fraction(drop=drop)
    needs_gradients = grow is not random_scores

    def init(params: Params) -> DynamicState:
        drawn = top_masks(random_scores(params, key), sparsity, where=where)
        masks = only_those_of(all_kept(params, where), drawn)
        return DynamicState(jnp.zeros((), jnp.int32), masks, key)

    def update(
        updates: Tree,
        state: Any,
        params: Params | None = None,
        *,
        gradients: Tree = None,
        **extra_args: Any,
    ) -> tuple[Tree, DynamicState]:
        del extra_args  # of other links
        params = needed(params, "sparse training")
        if gradients is None and needs_gradients:
            raise ValueError(
                "rigl needs `gradients`: compress.forget_pruned(tx, compress.rigl(...))"
                " passes them on."
            )
        step = state.step + 1
        fraction = (
            drop
            / 2
            * (1 + jnp.cos(jnp.pi * jnp.minimum(step.astype(jnp.float32) / end, 1.0)))
        )
        source = gradients if needs_gradients else params
        score = lambda: grow(source, jax.random.fold_in(state.key, step))
        masks = jax.lax.cond(
            (step % every == 0) & (step < end),
            lambda: regrow_masks(state.masks, params, score(), fraction),
            lambda: state.masks,
        )
        stayed = jax.tree.map(jnp.logical_and, masks, state.masks)
        zeroed = jax.tree.map(masked_update, params, updates, stayed)
        return zeroed, DynamicState(step, masks, state.key)

    return optax.GradientTransformationExtraArgs(init, update)
