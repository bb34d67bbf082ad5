"""Optimizers that forget the weights which are pruned."""

from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from jaxkd._types import Params, Tree


class ForgetState(NamedTuple):
    """The state of :func:`forget_pruned`.

    Attributes:
        inner: of the optimizer.
        keep: of the link that holds the masks.
    """

    inner: Any
    keep: Any


def forget_pruned(
    tx: optax.GradientTransformation, keep: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """Runs an optimizer and then a link with masks, and clears what is pruned.

    All that the optimizer remembers of a pruned weight is 0 after each step: a weight
    that comes back begins like a new one, and none is moved by old momentum. The link
    is given the gradients, which some need to draw masks or to grow weights.

    Args:
        tx: any optimizer.
        keep: :func:`keep_sparse`, :func:`rigl` or :func:`sparse_evolution`.

    Returns:
        An optimizer in place of ``optax.chain(tx, keep)``; its update needs ``params``.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> from jaxkd import compress
        >>> params = {"kernel": jnp.array([1.0, -3.0, 0.5, 2.0])}
        >>> tx = compress.forget_pruned(optax.adam(0.1), compress.keep_sparse(0.5))
        >>> _, state = tx.update(params, tx.init(params), params)
        >>> print(state.inner[0].mu["kernel"] != 0)
        [False  True False  True]
    """
    tx, keep = (optax.with_extra_args_support(t) for t in (tx, keep))

    def init(params: Params) -> ForgetState:
        return ForgetState(tx.init(params), keep.init(params))

    def update(
        updates: Tree,
        state: Any,
        params: Params | None = None,
        **extra_args: Any,
    ) -> tuple[Tree, ForgetState]:
        gradients = updates
        updates, inner = tx.update(updates, state.inner, params, **extra_args)
        extra_args = {"gradients": gradients, **extra_args}
        updates, kept = keep.update(updates, state.keep, params, **extra_args)
        masks = _full(masks_of(kept), params)
        inner = optax.tree.map_params(
            tx, _clear, inner, masks, is_leaf=lambda x: isinstance(x, optax.MaskedNode)
        )
        return updates, ForgetState(inner, kept)

    return optax.GradientTransformationExtraArgs(init, update)


def masks_of(state: Any) -> Tree:
    """The masks in the state of a link."""
    return state.masks


def _full(masks: Tree, params: Tree) -> Tree:
    """Masks for all leaves: a single true where nothing is pruned."""
    one = lambda mask, p: jnp.ones((), bool) if mask is None else mask
    return jax.tree.map(one, masks, params, is_leaf=lambda x: x is None)


def _clear(value: Any, mask: Any) -> Any:
    empty = isinstance(value, optax.MaskedNode)
    if empty or jnp.ndim(mask) == 0 or jnp.shape(value) != jnp.shape(mask):
        return value  # factored moments hold sums over many weights
    return jnp.where(mask, value, jnp.zeros_like(value))
