"""Pruned kernels as sparse matrices, which are faster only when very sparse."""

from typing import Any

import jax
from jax import numpy as jnp
from jax.experimental import sparse
from jaxtyping import Array, Float

from jaxkd import _checks, trees
from jaxkd._types import Params, Real, Tree


def to_sparse(
    params: Params, *, where: str = "kernel$", min_sparsity: Real = 0.85
) -> Tree:
    """Stores kernels that are sparse enough as the BCSR of their transpose.

    On a CPU, with a batch of 32 or more, :func:`sparse_matmul` passes the dense product
    at about 80 to 90 % zeros; with one example it is slower at any sparsity. Measure
    on your machine before you rely on it (``benchmarks/coding.py``).

    Args:
        params: a tree of arrays.
        where: a regular expression for the paths of the kernels; those of convolutions
            are left as they are.
        min_sparsity: the fraction of zeros below which a kernel is left dense.

    Returns:
        The tree with :class:`jax.experimental.sparse.BCSR` leaves of shape
        ``[outputs, inputs]``.

    Raises:
        ValueError: if no path matches, or ``min_sparsity`` is not in ``[0, 1]``.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"kernel": jnp.zeros((20, 10)).at[3, 4].set(2.0)}
        >>> kernel = compress.to_sparse(params)["kernel"]
        >>> kernel.nse, float(compress.sparse_matmul(jnp.ones((1, 20)), kernel).sum())
        (1, 2.0)
    """
    _checks.check_fraction(min_sparsity=min_sparsity)
    chosen = trees.mask(params, where)

    def one(x: Array, pick: bool) -> Any:
        if not pick or x.ndim != 2 or trees.sparsity(x) < min_sparsity:
            return x
        return sparse.BCSR.fromdense(x.T)

    return jax.tree.map(one, params, chosen)


def sparse_matmul(
    x: Float[Array, "*batch inputs"], kernel: Any
) -> Float[Array, "*batch outputs"]:
    """``x @ kernel`` for a kernel of :func:`to_sparse`, or a dense one.

    Args:
        x: the inputs.
        kernel: a BCSR matrix of shape ``[outputs, inputs]``, or an array
            ``[inputs, outputs]``.

    Returns:
        The outputs.
    """
    if not isinstance(kernel, sparse.BCSR):
        return jnp.matmul(x, kernel)
    flat = x.reshape(-1, x.shape[-1])
    return (kernel @ flat.T).T.reshape(*x.shape[:-1], kernel.shape[0])
