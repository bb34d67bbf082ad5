"""Scores of weights: the lowest are pruned first."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _names, trees
from jaxkd._types import Number, Params, PRNGKey, Tree


def magnitude_scores(params: Params) -> Tree:
    """The magnitude of each weight, in float32.

    Args:
        params: a tree of arrays.

    Returns:
        A tree of the same structure and shapes.

    References:
        Han et al., `Learning both Weights and Connections for Efficient Neural
        Networks <https://arxiv.org/abs/1506.02626>`_, 2015, section 3.
    """
    return jax.tree.map(lambda w: jnp.abs(w).astype(jnp.float32), params)


def taylor_scores(params: Params, gradients: Tree) -> Tree:
    r"""How much the loss would change to first order, :math:`|w \, g|`.

    Args:
        params: a tree of arrays.
        gradients: of the loss, of the same structure.

    Returns:
        A tree of the same structure and shapes, in float32.

    References:
        Molchanov et al., `Pruning Convolutional Neural Networks for Resource Efficient
        Inference <https://arxiv.org/abs/1611.06440>`_, 2017, section 2.2.
    """
    return jax.tree.map(
        lambda w, g: jnp.abs(w * g).astype(jnp.float32), params, gradients
    )


def random_scores(params: Params, key: PRNGKey) -> Tree:
    """Scores drawn from :math:`[0, 1)`: what a method must beat.

    Args:
        params: a tree of arrays.
        key: a typed key.

    Returns:
        A tree of the same structure and shapes, in float32.
    """
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(key, max(len(leaves), 1))
    drawn = [
        jax.random.uniform(k, jnp.shape(x)) for k, x in zip(keys, leaves, strict=False)
    ]
    return jax.tree.unflatten(treedef, drawn)


def movement_scores(
    scores: Tree, params: Params, gradients: Tree, *, rate: Number = 1.0
) -> Tree:
    r"""Adds one step of movement: weights that move away from zero gain.

    .. math::
        s \leftarrow s - \eta \, w \, g

    Args:
        scores: those of the step before; zeros at first.
        params: a tree of arrays.
        gradients: of the loss with respect to the masked weights.
        rate: the factor :math:`\eta`.

    Returns:
        The new scores, signed.

    References:
        Sanh et al., `Movement Pruning: Adaptive Sparsity by Fine-Tuning
        <https://arxiv.org/abs/2005.07683>`_, 2020, section 4.
    """
    return jax.tree.map(lambda s, w, g: s - rate * w * g, scores, params, gradients)


def snip_scores(loss: Callable[[Params], Array], params: Params) -> Tree:
    r"""The sensitivity of the loss to each connection, before training.

    .. math::
        s = |w \, \partial L / \partial w|

    Args:
        loss: ``params -> scalar``, on a batch.
        params: the initial weights.

    Returns:
        A tree of the same structure and shapes, in float32.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> loss = lambda w: jnp.sum(jnp.array([1.0, 3.0]) * w**2)
        >>> print(compress.snip_scores(loss, jnp.array([2.0, -1.0])))
        [8. 6.]

    References:
        Lee et al., `SNIP: Single-shot Network Pruning based on Connection Sensitivity
        <https://arxiv.org/abs/1810.02340>`_, 2019, section 4.
    """
    return taylor_scores(params, jax.grad(loss)(params))


def grasp_scores(loss: Callable[[Params], Array], params: Params) -> Tree:
    r"""How much each weight contributes to the gradient's norm, before training.

    Zeroing a weight changes :math:`g^\top g` by :math:`-2 \, w \, (H g)` to first
    order, with the Hessian :math:`H`; those stay which would lower it:

    .. math::
        s = w \, (H g)

    Args:
        loss: ``params -> scalar``, on a batch.
        params: the initial weights.

    Returns:
        A tree of the same structure and shapes, signed.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> loss = lambda w: jnp.sum(jnp.array([1.0, 3.0]) * w**2)
        >>> print(compress.grasp_scores(loss, jnp.array([2.0, -1.0])))
        [16. 36.]

    References:
        Wang et al., `Picking Winning Tickets Before Training by Preserving Gradient
        Flow <https://arxiv.org/abs/2002.07376>`_, 2020, section 4.
    """
    gradient = jax.grad(loss)
    g = gradient(params)
    _, hessian_g = jax.jvp(gradient, (params,), (g,))
    return jax.tree.map(lambda w, h: (w * h).astype(jnp.float32), params, hessian_g)


def wanda_scores(params: Params, inputs: Mapping[str, Any]) -> Tree:
    r"""Magnitudes times the norm of the inputs which the weights meet.

    .. math::
        s_{ij} = |w_{ij}| \, \lVert x_i \rVert_2 / \sqrt{n}

    Compare within each output: :func:`output_masks`, or :func:`n_of_m_masks`.

    Args:
        params: a tree of arrays; kernels have their inputs on axis -2.
        inputs: for each kernel by path, what its layer is given on calibration data,
            shape ``[*n, in]``. Kernels without inputs are scored by magnitude.

    Returns:
        A tree of the same structure and shapes, in float32.

    Raises:
        ValueError: if a path is not in the tree, or the inputs do not fit its kernel.

    References:
        Sun et al., `A Simple and Effective Pruning Approach for Large Language Models
        <https://arxiv.org/abs/2306.11695>`_, 2024, section 3.
    """
    leaves = trees.flatten(params)
    for path, x in inputs.items():
        if path not in leaves:
            near = _names.nearest(path, leaves)
            raise ValueError(f"`inputs` has {path!r}, which is no parameter; {near}")
        axis = jnp.shape(leaves[path])[-2:-1]
        if axis != jnp.shape(x)[-1:]:
            raise ValueError(
                f"`inputs` of {path!r} have {jnp.shape(x)[-1:]} features, but the "
                f"kernel has {axis} on axis -2."
            )

    def score(path: str, w: Array) -> Array:
        magnitude = jnp.abs(w).astype(jnp.float32)
        if path not in inputs:
            return magnitude
        x = jnp.asarray(inputs[path], jnp.float32).reshape(-1, jnp.shape(w)[-2])
        norm = jnp.sqrt(jnp.mean(jnp.square(x), axis=0))
        return magnitude * norm.reshape((1,) * (w.ndim - 2) + (-1, 1))

    return trees.map_with_path(score, params)


def normalized_scores(scores: Tree) -> Tree:
    r"""Each leaf over its norm, :math:`s / \lVert s \rVert_2`: comparable leaves.

    Args:
        scores: a tree of scores.

    Returns:
        A tree of the same structure and shapes.
    """

    def one(s: Array) -> Array:
        square = jnp.sum(jnp.square(s))
        norm = jnp.sqrt(jnp.where(square > 0, square, 1.0))
        return s / norm

    return jax.tree.map(one, scores)


def lamp_scores(params: Params) -> Tree:
    r"""Squared weights over all squares in the leaf that are not smaller.

    .. math::
        s_i = w_i^2 \Big/ \sum_{j : \, |w_j| \ge |w_i|} w_j^2

    Of equal magnitudes the earlier one counts as larger. With ``across=True`` these
    scores choose a good sparsity for each leaf.

    Args:
        params: a tree of arrays.

    Returns:
        A tree of the same structure and shapes, in float32, in ``[0, 1]``.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> print(compress.lamp_scores(jnp.array([1.0, -1.0, 0.0, 2.0])))
        [0.2        0.16666667 0.         1.        ]

    References:
        Lee et al., `Layer-adaptive Sparsity for the Magnitude-based Pruning
        <https://arxiv.org/abs/2010.07611>`_, 2021, section 3.
    """

    def one(w: Array) -> Array:
        squares = jnp.square(w.astype(jnp.float32)).reshape(-1)
        order = jnp.argsort(-squares, stable=True)
        sums = jnp.cumsum(squares[order])
        ratio = squares[order] / jnp.where(sums > 0, sums, 1.0)
        return jnp.zeros_like(squares).at[order].set(ratio).reshape(w.shape)

    return jax.tree.map(one, params)
