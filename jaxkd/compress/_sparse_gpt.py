"""Pruning with second derivatives: what is left makes up for what goes."""

from typing import NamedTuple

import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxkd import _checks
from jaxkd._types import Number, Real, Whole
from jaxkd.compress._selection import keep_largest


class _Block(NamedTuple):
    """The state of the loop over the inputs of one block.

    Attributes:
        w: the weights, shape ``[block, out]``.
        mask: what is kept.
        errors: the scaled change of each row, which later blocks make up for.
    """

    w: Float[Array, "block out"]
    mask: Bool[Array, "block out"]
    errors: Float[Array, "block out"]


def input_hessian(inputs: Float[Array, "*n in"]) -> Float[Array, "in in"]:
    r"""The second derivative of a layer's squared error, :math:`\frac{2}{n} X^\top X`.

    Args:
        inputs: what the layer is given on calibration data.

    Returns:
        The Hessian of each output's weights, in float32.
    """
    x = inputs.reshape(-1, inputs.shape[-1]).astype(jnp.float32)
    return 2 * x.T @ x / x.shape[0]


def sparse_gpt(
    kernel: Float[Array, "in out"],
    hessian: Float[Array, "in in"],
    *,
    sparsity: Number | tuple[Whole, Whole],
    damping: Real = 0.01,
    block: Whole = 128,
) -> tuple[Float[Array, "in out"], Bool[Array, "in out"]]:
    r"""Prunes a kernel and changes the weights that stay, so that outputs move least.

    With :math:`U` the upper Cholesky factor of :math:`(H + \delta \bar h I)^{-1}`, the
    inputs are gone through in order. At the start of each block the weights with the
    smallest :math:`w_{ij}^2 / U_{ii}^2` are chosen; each one's loss is made up for by
    the inputs after it:

    .. math::
        e = w_i / U_{ii}, \quad w_k \leftarrow w_k - U_{ik} \, e, \quad k > i

    The loop is a ``fori_loop``: tracing takes no longer for larger kernels.

    Args:
        kernel: the weights.
        hessian: of :func:`input_hessian`.
        sparsity: the fraction of zeros in each block, in ``[0, 1)``; or ``(n, m)`` to
            keep ``n`` of every ``m`` inputs of each output.
        damping: :math:`\delta`, a fraction of the mean :math:`\bar h` of the diagonal.
        block: inputs for which weights are chosen at once.

    Returns:
        The pruned kernel, in its dtype, and the mask, true where a weight is kept.

    Raises:
        ValueError: if shapes or numbers do not fit.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import compress
        >>> x = jax.random.normal(jax.random.key(0), (64, 8)).cumsum(axis=1)
        >>> kernel = jax.random.normal(jax.random.key(1), (8, 3))
        >>> hessian = compress.input_hessian(x)
        >>> pruned, mask = compress.sparse_gpt(kernel, hessian, sparsity=(2, 4))
        >>> error = lambda w: float(jnp.mean((x @ w - x @ kernel) ** 2))
        >>> error(pruned) < error(jnp.where(mask, kernel, 0))
        True

    References:
        Frantar and Alistarh, `SparseGPT: Massive Language Models Can Be Accurately
        Pruned in One-Shot <https://arxiv.org/abs/2301.00774>`_, 2023, section 3,
        algorithm 1.
    """
    size, step = _check(kernel, hessian, sparsity, block, damping)
    w, factor = _prepare(kernel, hessian, damping)
    pad = -size % step
    w = jnp.pad(w, ((0, pad), (0, 0)))
    beyond = jnp.where(jnp.arange(size + pad) < size, 0.0, 1.0)
    factor = jnp.pad(factor, (0, pad)) + jnp.diag(beyond)

    def go(i: Int[Array, ""], state: tuple[Array, Array]) -> tuple[Array, Array]:
        w, mask = state
        start = i * step
        rows = jax.lax.dynamic_slice_in_dim(w, start, step)
        across = jax.lax.dynamic_slice_in_dim(factor, start, step)
        real = start + jnp.arange(step) < size
        done = _prune_block(rows, _square(across, start, step), real, sparsity)
        w = w - across.T @ done.errors  # the factor is 0 for the rows before
        w = jax.lax.dynamic_update_slice_in_dim(w, done.w, start, 0)
        return w, jax.lax.dynamic_update_slice_in_dim(mask, done.mask, start, 0)

    w, mask = jax.lax.fori_loop(
        0, (size + pad) // step, go, (w, jnp.ones(w.shape, bool))
    )
    return w[:size].astype(kernel.dtype), mask[:size]


def _prepare(kernel: Array, hessian: Array, damping: Real) -> tuple[Array, Array]:
    """Weights without those of dead inputs, and the factor of the inverse."""
    h = hessian.astype(jnp.float32)
    dead = jnp.diagonal(h) == 0
    h = h + jnp.diag(jnp.where(dead, 1.0, 0.0))
    h = h + damping * jnp.mean(jnp.diagonal(h)) * jnp.eye(len(h))
    factor = jnp.linalg.cholesky(jnp.linalg.inv(h), upper=True)
    return jnp.where(dead[:, None], 0.0, kernel.astype(jnp.float32)), factor


def _square(across: Array, start: Array, step: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(across, start, step, axis=1)


def _prune_block(
    w: Array, factor: Array, real: Array, sparsity: Number | tuple[Whole, Whole]
) -> _Block:
    """Goes through the inputs of one block; within it, later rows make up."""
    diagonal = jnp.diagonal(factor)
    run = len(w) if not isinstance(sparsity, tuple) else int(sparsity[1])

    def choose(i: Array, state: _Block) -> Array:
        rows = jax.lax.dynamic_slice_in_dim(state.w, i, run)
        scale = jax.lax.dynamic_slice_in_dim(diagonal, i, run)
        scores = jnp.square(rows) / jnp.square(scale)[:, None]
        if isinstance(sparsity, tuple):
            order = jnp.argsort(-scores, axis=0, stable=True)
            chosen = jnp.argsort(order, axis=0) < sparsity[0]
        else:
            chosen = _choose(scores, real, sparsity)
        return jax.lax.dynamic_update_slice_in_dim(state.mask, chosen, i, 0)

    def one(i: Array, state: _Block) -> _Block:
        mask = jax.lax.cond(i % run == 0, choose, lambda i, s: s.mask, i, state)
        row = state.w[i]
        kept = jnp.where(mask[i], row, 0.0)
        error = (row - kept) / diagonal[i]
        later = jnp.where(jnp.arange(len(w)) > i, factor[i], 0.0)
        new = state.w.at[i].set(kept) - later[:, None] * error[None]
        return _Block(new, mask, state.errors.at[i].set(error))

    start = _Block(w, jnp.ones(w.shape, bool), jnp.zeros_like(w))
    return jax.lax.fori_loop(0, len(w), one, start)


def _choose(scores: Array, real: Array, sparsity: Number) -> Array:
    """So many of a block, not counting rows beyond the kernel."""
    n = jnp.sum(real, dtype=jnp.int32) * scores.shape[1]
    keep = scores.size - jnp.round(sparsity * n.astype(jnp.float32)).astype(jnp.int32)
    (mask,) = keep_largest([jnp.where(real[:, None], scores, jnp.inf)], keep)
    return mask


def _check(
    kernel: Array,
    hessian: Array,
    sparsity: Number | tuple[Whole, Whole],
    block: Whole,
    damping: Real,
) -> tuple[int, int]:
    if kernel.ndim != 2 or hessian.shape != (kernel.shape[0],) * 2:
        raise ValueError(
            f"`kernel` must have shape [in, out] and `hessian` [in, in], got "
            f"{kernel.shape} and {hessian.shape}."
        )
    if not damping >= 0 or block < 1:
        raise ValueError(
            f"`damping` must be 0 or more and `block` at least 1, got {damping} and "
            f"{block}."
        )
    size = kernel.shape[0]
    if not isinstance(sparsity, tuple):
        _checks.check_sparsity(sparsity)
        return size, min(int(block), size)
    n, m = sparsity
    if not 0 < n <= m or size % m:
        raise ValueError(
            f"`sparsity`=({n}, {m}) must keep 0 < n <= m of every m inputs, and m must "
            f"divide the {size} inputs."
        )
    return size, min(max(int(block) // int(m), 1) * int(m), size)
