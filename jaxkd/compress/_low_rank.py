"""Layers as the product of two smaller ones, by the singular value decomposition."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxkd import _names, trees
from jaxkd._types import Params, Real, Tree, Whole


class Factors(NamedTuple):
    """A kernel as two.

    Attributes:
        first: ``[inputs, rank]``, or ``[*window, inputs, rank]`` of a convolution,
            which takes over strides and padding.
        second: ``[rank, outputs]``, or ``[*ones, rank, outputs]``.
    """

    first: Float[Array, "..."]
    second: Float[Array, "..."]


def break_even_rank(shape: tuple[int, ...]) -> int:
    r"""The largest rank at which two factors have fewer weights than the kernel.

    .. math::
        r < m n / (m + n)

    Args:
        shape: of the kernel, ``[*window, inputs, outputs]``; ``m`` is the product of
            all but the outputs ``n``.

    Returns:
        The rank; 0 if there is none.

    Examples:
        >>> from jaxkd import compress
        >>> (
        ...     compress.break_even_rank((784, 300)),
        ...     compress.break_even_rank((3, 3, 16, 32)),
        ... )
        (216, 26)
    """
    m, n = math.prod(shape[:-1]), shape[-1]
    return max((m * n - 1) // (m + n), 0)


def factorize_kernel(
    kernel: Float[Array, "..."],
    *,
    rank: Whole | None = None,
    energy: Real | None = None,
    inputs_gram: Float[Array, "m m"] | None = None,
) -> Factors:
    r"""The best two factors of a kernel, of its weights or of its outputs.

    .. math::
        W \approx (U_r \sqrt{S_r}) (\sqrt{S_r} V_r), \quad
        \text{of least } \lVert W - \hat{W} \rVert

    With the sum of products of calibration inputs, :math:`X^\top X = L L^\top`, the
    decomposition is that of :math:`L^\top W`, so that :math:`\lVert X W - X \hat{W}
    \rVert` is least. A convolution is taken as the matrix of its windows.

    Args:
        kernel: ``[inputs, outputs]``, or ``[*window, inputs, outputs]``.
        rank: how many singular values to keep; or
        energy: the fraction of the sum of their squares to keep, in ``(0, 1]``.
        inputs_gram: the sum :math:`X^\top X` of :func:`gram`; of a convolution, over
            its windows, flattened.

    Returns:
        The :class:`Factors`, of the dtype of the kernel.

    Raises:
        ValueError: unless one of ``rank`` and ``energy`` is given, and possible; or if
            the shapes do not fit.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> kernel = jnp.outer(jnp.arange(4.0), jnp.ones(3))
        >>> first, second = compress.factorize_kernel(kernel, energy=0.99)
        >>> first.shape, second.shape, bool(jnp.allclose(first @ second, kernel))
        ((4, 1), (1, 3), True)

    References:
        Denton et al., `Exploiting Linear Structure Within Convolutional Networks for
        Efficient Evaluation <https://arxiv.org/abs/1404.0736>`_, 2014. Wang et al.,
        `SVD-LLM <https://arxiv.org/abs/2403.07378>`_, 2024, for the inputs.
    """
    if kernel.ndim < 2:
        raise ValueError(f"a kernel of shape {kernel.shape} has no two factors.")
    if (rank is None) == (energy is None):
        raise ValueError("give one of `rank` and `energy`.")
    matrix = kernel.reshape(-1, kernel.shape[-1]).astype(jnp.float32)
    whiten = None if inputs_gram is None else _cholesky(matrix, inputs_gram)
    seen = matrix if whiten is None else whiten.T @ matrix
    u, s, v = jnp.linalg.svd(seen, full_matrices=False)
    rank = _rank(s, rank, energy)
    root = jnp.sqrt(s[:rank])
    first, second = u[:, :rank] * root[None], root[:, None] * v[:rank]
    if whiten is not None:
        first = jax.scipy.linalg.solve_triangular(whiten.T, first, lower=False)
    window = (1,) * (kernel.ndim - 2)
    return Factors(
        first.reshape(*kernel.shape[:-1], rank).astype(kernel.dtype),
        second.reshape(*window, rank, kernel.shape[-1]).astype(kernel.dtype),
    )


def factorize(
    params: Params,
    *,
    where: str = "kernel$",
    rank: Whole | None = None,
    energy: Real | None = None,
    inputs_grams: Mapping[str, Array] | None = None,
) -> Tree:
    """Replaces layers by two smaller ones, where that saves weights.

    ``{"kernel", "bias"}`` becomes ``{"first": {"kernel"}, "second": {"kernel",
    "bias"}}``: the parameters of a module with two layers of these names, the first
    without a bias. A layer whose rank is above :func:`break_even_rank` is left as it
    is, so look at what comes back before you build the module.

    Args:
        params: nested dicts of arrays.
        where: a regular expression for the paths of the kernels, which must be entries
            ``"kernel"`` of their dicts.
        rank: how many singular values to keep; or
        energy: the fraction of the sum of their squares to keep.
        inputs_grams: ``{path of the kernel: sum}``, see :func:`factorize_kernel`.

    Returns:
        Nested dicts.

    Raises:
        ValueError: if no path matches, or as :func:`factorize_kernel`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress, trees
        >>> params = {"dense": {"kernel": jnp.ones((8, 8)), "bias": jnp.ones(8)}}
        >>> list(trees.flatten(compress.factorize(params, rank=2)))
        ['dense/first/kernel', 'dense/second/bias', 'dense/second/kernel']
    """
    trees.mask(params, where)  # raises if it matches nothing
    grams = dict(inputs_grams or {})
    for name in sorted(set(grams) - set(trees.flatten(params))):
        hint = _names.nearest(name, trees.flatten(params))
        raise ValueError(f"`inputs_grams` names {name!r}; {hint}")

    def walk(node: Any, path: str) -> Any:
        if not isinstance(node, Mapping):
            return node
        name = f"{path}kernel"
        if "kernel" in node and re.search(where, name):
            return _factorize_layer(node, rank, energy, grams.get(name))
        return {k: walk(v, f"{path}{k}/") for k, v in node.items()}

    return walk(params, "")


def multiply_factors(params: Tree) -> Params:
    """Multiplies what :func:`factorize` took apart: the parameters of the old module.

    Inside a loss, it trains the factors with a model that knows nothing of them.

    Args:
        params: nested dicts.

    Returns:
        Nested dicts with one kernel for each two.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress, trees
        >>> params = {"dense": {"kernel": jnp.ones((8, 8)), "bias": jnp.ones(8)}}
        >>> restored = compress.multiply_factors(compress.factorize(params, rank=2))
        >>> trees.count(restored)
        72
    """
    if not isinstance(params, Mapping):
        return params
    if set(params) != {"first", "second"} or "kernel" not in params["second"]:
        return {name: multiply_factors(node) for name, node in params.items()}
    first, second = params["first"]["kernel"], params["second"]["kernel"]
    kernel = first @ second.reshape(second.shape[-2:])
    rest = {k: v for k, v in params["second"].items() if k != "kernel"}
    return {"kernel": kernel, **rest}


def _factorize_layer(
    node: Mapping[str, Any], rank: Whole | None, energy: Real | None, gram: Array | None
) -> dict[str, Any]:
    kernel = node["kernel"]
    most = break_even_rank(kernel.shape)
    if rank is not None and rank > most:
        return dict(node)
    first, second = factorize_kernel(kernel, rank=rank, energy=energy, inputs_gram=gram)
    if first.shape[-1] > most:
        return dict(node)
    rest = {k: v for k, v in node.items() if k != "kernel"}
    return {"first": {"kernel": first}, "second": {"kernel": second, **rest}}


def _rank(s: Array, rank: Whole | None, energy: Real | None) -> int:
    if rank is None:
        if not 0 < (energy or 0) <= 1:
            raise ValueError(f"`energy` must be in (0, 1], got {energy}.")
        kept = jnp.cumsum(s**2) / jnp.maximum(jnp.sum(s**2), jnp.finfo(s.dtype).tiny)
        # A sum of all may be an ulp below 1.
        return min(int(jnp.sum(kept < jnp.float32(energy))) + 1, len(s))
    if not 1 <= rank <= len(s):
        raise ValueError(f"`rank` must be from 1 to {len(s)}, got {rank}.")
    return int(rank)


def _cholesky(matrix: Array, gram: Array) -> Array:
    m = matrix.shape[0]
    if gram.shape != (m, m):
        raise ValueError(
            f"`inputs_gram` has shape {gram.shape}, but the kernel has {m} inputs "
            "(windows flattened), so it must be a square of that."
        )
    gram = gram.astype(jnp.float32)
    # Inputs that are never seen would make the factor singular.
    damping = 1e-6 * jnp.maximum(jnp.trace(gram) / m, jnp.finfo(gram.dtype).tiny)
    factor = jnp.linalg.cholesky(gram + damping * jnp.eye(m))
    if not bool(jnp.isfinite(factor).all()):
        raise ValueError("`inputs_gram` is not finite and positive semidefinite.")
    return factor
