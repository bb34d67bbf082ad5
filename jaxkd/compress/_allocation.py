"""How sparse each leaf becomes, when all together shall have so many zeros."""

import math

import numpy as np
from jax import numpy as jnp

from jaxkd import _checks
from jaxkd._types import Number, Params, Real, Tree
from jaxkd.compress._masks import pick


def erk_sparsities(
    params: Params,
    sparsity: Number,
    *,
    where: str = "kernel$",
    power: Real = 1.0,
    kernel: bool = True,
) -> dict[str, float]:
    r"""Small leaves stay denser: Erdős-Rényi-Kernel.

    .. math::
        1 - s_l = \epsilon \Big( \frac{\sum_a n_{l,a}}{\prod_a n_{l,a}} \Big)^p

    with :math:`\epsilon` such that all together have :math:`s` zeros. Leaves for which
    the density would exceed 1 are dense, and the others share what is left.

    Args:
        params: a tree of arrays or shapes.
        sparsity: the fraction of zeros of all together, in ``[0, 1)``.
        where: a regular expression for the paths of the leaves to prune.
        power: the exponent :math:`p`.
        kernel: whether all axes count; if not, the last two (Erdős-Rényi).

    Returns:
        For each leaf to prune by path, its fraction of zeros.

    Raises:
        ValueError: if ``sparsity`` is outside ``[0, 1)``, or no path matches.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {
        ...     "a": {"kernel": jnp.ones((100, 100))},
        ...     "b": {"kernel": jnp.ones((100, 10))},
        ... }
        >>> {k: round(s, 3) for k, s in compress.erk_sparsities(params, 0.9).items()}
        {'a/kernel': 0.929, 'b/kernel': 0.61}

    References:
        Evci et al., `Rigging the Lottery: Making All Tickets Winners
        <https://arxiv.org/abs/1911.11134>`_, 2020, section 3.
    """
    _checks.check_sparsity(sparsity)
    shapes = {path: jnp.shape(x) for path, x in pick(params, where).items()}
    sizes = {path: math.prod(shape) for path, shape in shapes.items()}
    zeros = {path: math.floor(sparsity * n) for path, n in sizes.items()}
    odds = {}
    for path, shape in shapes.items():
        axes = shape if kernel else shape[-2:]
        odds[path] = (sum(axes) / math.prod(axes)) ** power
    dense: set[str] = set()
    while len(dense) < len(shapes):
        rest = [path for path in shapes if path not in dense]
        ones = sum(sizes[p] - zeros[p] for p in rest) - sum(zeros[p] for p in dense)
        epsilon = ones / sum(odds[p] * sizes[p] for p in rest)
        most = max(odds[p] for p in rest)
        if most * epsilon <= 1:
            return {p: 0.0 if p in dense else 1 - epsilon * odds[p] for p in shapes}
        dense.update(p for p in rest if odds[p] == most)
    return dict.fromkeys(shapes, 0.0)


def owl_sparsities(
    scores: Tree,
    sparsity: Number,
    *,
    where: str = "kernel$",
    outlier: Real = 5.0,
    spread: Real = 0.08,
) -> dict[str, float]:
    r"""Leaves with many outliers stay denser.

    .. math::
        1 - s_l = 1 - s + 2 \lambda \, (\hat d_l - \bar d), \quad
        d_l = \frac{1}{n} \sum_i [a_i > M \, \bar a]

    with :math:`\hat d` the outlier ratios scaled to ``[0, 1]`` and :math:`\bar d` their
    mean over the leaves.

    Args:
        scores: a tree of scores :math:`a \ge 0`, such as of :func:`wanda_scores`.
        sparsity: the mean fraction of zeros of the leaves, in ``[0, 1)``.
        where: a regular expression for the paths of the leaves to prune.
        outlier: how many times the mean makes an outlier, :math:`M`.
        spread: at most this far from ``sparsity``, on either side on average,
            :math:`\lambda`.

    Returns:
        For each leaf to prune by path, its fraction of zeros.

    Raises:
        ValueError: if ``sparsity`` is outside ``[0, 1)``, no path matches, or the
            spread takes a leaf out of ``[0, 1)``.

    References:
        Yin et al., `Outlier Weighed Layerwise Sparsity: A Missing Secret Sauce for
        Pruning LLMs to High Sparsity <https://arxiv.org/abs/2310.05175>`_, 2024,
        section 3.
    """
    _checks.check_sparsity(sparsity)
    chosen = pick(scores, where)
    ratios = np.array(
        [float(jnp.mean(a > outlier * jnp.mean(a))) for a in chosen.values()]
    )
    width = np.ptp(ratios)
    scaled = (ratios - ratios.min()) / (width if width > 0 else 1.0)
    found = sparsity - 2 * spread * (scaled - scaled.mean())
    for path, s in zip(chosen, found, strict=True):
        if not 0 <= s < 1:
            raise ValueError(
                f"`spread`={spread} gives {path!r} the sparsity {s:.3f}, outside "
                "[0, 1): make it smaller."
            )
    return dict(zip(chosen, map(float, found), strict=True))
