"""Updates that are not finite are left out, and counted; fp16 needs this."""

from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxkd import _checks
from jaxkd._types import Params, Tree


class GuardState(NamedTuple):
    """The state of :func:`skip_nonfinite`.

    Attributes:
        inner: of the guarded optimizer.
        skipped: number of updates left out.
        scale: what the loss is multiplied by; 1 without loss scaling.
        good: number of updates since the scale changed.
    """

    inner: Tree
    skipped: Int[Array, ""]
    scale: Float[Array, ""]
    good: Int[Array, ""]


def skip_nonfinite(
    tx: optax.GradientTransformation,
    *,
    loss_scale: float = 1.0,
    growth_interval: int = 2000,
) -> optax.GradientTransformationExtraArgs:
    r"""Leaves out every update whose gradients are not all finite.

    Parameters, optimizer and model state then stay as they were, and the metric
    ``skipped`` counts. With a ``loss_scale`` other than 1 it is dynamic, as float16
    needs it: the step multiplies the loss by it, the gradients are divided by it again,
    it is halved after a skipped update and doubled after ``growth_interval`` good ones.
    bfloat16 has the range of float32 and needs none.

    Args:
        tx: any optax optimizer; this goes around all of it.
        loss_scale: the scale to begin with, such as ``2.0 ** 15``.
        growth_interval: number of good updates before the scale is doubled.

    Returns:
        An optimizer for :func:`make_train_step`, whose gradients are scaled.

    Raises:
        ValueError: if a number is not positive.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> from jaxkd import train
        >>> tx = train.skip_nonfinite(optax.sgd(1.0))
        >>> params = {"w": jnp.ones(2)}
        >>> updates, state = tx.update(
        ...     {"w": jnp.array([1.0, jnp.nan])}, tx.init(params)
        ... )
        >>> print(updates["w"], state.skipped)
        [0. 0.] 1

    References:
        Micikevicius et al., `Mixed Precision Training
        <https://arxiv.org/abs/1710.03740>`_, 2018, section 3.2.
    """
    _checks.check_positive(loss_scale=loss_scale, growth_interval=growth_interval)
    inner = optax.with_extra_args_support(tx)
    dynamic = loss_scale != 1.0

    def init(params: Params) -> GuardState:
        zero = jnp.zeros((), jnp.int32)
        return GuardState(tx.init(params), zero, jnp.float32(loss_scale), zero)

    def update(
        updates: Tree, state: Any, params: Params = None, **extra: Any
    ) -> tuple[Tree, GuardState]:
        gradients = jax.tree.map(lambda g: (g / state.scale).astype(g.dtype), updates)
        finite = all_finite(gradients)
        # The optimizer sees zeros rather than NaN: what it returns is not used then.
        clean = jax.tree.map(lambda g: jnp.where(finite, g, 0.0), gradients)
        new_updates, new_inner = inner.update(clean, state.inner, params, **extra)
        new_updates = jax.tree.map(lambda u: jnp.where(finite, u, 0.0), new_updates)
        scale, good = state.scale, jnp.where(finite, state.good + 1, 0)
        if dynamic:
            grown = good >= growth_interval
            larger = jnp.minimum(scale * jnp.where(grown, 2.0, 1.0), 2.0**24)
            scale = jnp.where(finite, larger, jnp.maximum(scale / 2, 1.0))
            good = jnp.where(grown, 0, good)
        skipped = state.skipped + jnp.where(finite, 0, 1)
        kept = choose(finite, new_inner, state.inner)
        return new_updates, GuardState(kept, skipped, scale, good)

    return optax.GradientTransformationExtraArgs(init, update)


def guard_of(opt_state: Tree) -> GuardState | None:
    """The guard around an optimizer.

    Args:
        opt_state: the state of the whole optimizer.

    Returns:
        Its state if that is of :func:`skip_nonfinite`.

    Raises:
        ValueError: if the guard is inside, where the step does not see it.
    """
    if isinstance(opt_state, GuardState):
        return opt_state
    is_guard = lambda x: isinstance(x, GuardState)
    # A scale that the step did not multiply the loss by would shrink every gradient.
    if any(map(is_guard, jax.tree.leaves(opt_state, is_leaf=is_guard))):
        raise ValueError(
            "skip_nonfinite is inside another transformation; it goes around all of "
            "the optimizer: skip_nonfinite(optax.chain(...))."
        )
    return None


def all_finite(tree: Tree) -> Bool[Array, ""]:
    """Whether all numbers of a tree are finite.

    Args:
        tree: a tree of arrays.

    Returns:
        A boolean scalar.
    """
    parts = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(parts)) if parts else jnp.bool_(True)


def choose(condition: Bool[Array, ""], yes: Tree, no: Tree) -> Tree:
    """One of two trees.

    Args:
        condition: which.
        yes: if it holds.
        no: else; of the same structure.

    Returns:
        A tree.
    """
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
