"""How much the loss rises when one part of a model is pruned, and no other."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from jaxkd import trees
from jaxkd._types import Params, Real, Tree
from jaxkd.compress._masks import pick, sparsity_of, top_masks
from jaxkd.compress._scores import magnitude_scores

#: ``(variables, batch) -> loss``, a mean over the batch.
Loss = Callable[[Any, Any], Array]


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """For each part, a curve from what is left of it to the loss.

    Attributes:
        dense: the loss of the whole model.
        left: for each part by name, how much of it is left at each point of its curve,
            falling: units of a group, or a fraction of the weights of a leaf. The first
            point is the whole part.
        losses: the losses there.
    """

    dense: Real
    left: Mapping[str, np.ndarray]
    losses: Mapping[str, np.ndarray]

    def rises(self, name: str) -> np.ndarray:
        """How much the loss rises at each point, made to grow along the curve.

        Args:
            name: of a part.

        Returns:
            Numbers from 0, each at least the one before; infinite where the loss is not
            finite.
        """
        rises = self.losses[name] - self.dense
        rises = np.where(np.isfinite(rises), rises, np.inf)
        return np.maximum.accumulate(np.maximum(rises, 0.0))

    def table(self) -> list[tuple[str, ...]]:
        """The curves as cells of text.

        Returns:
            A header, then one tuple for each point: part, what is left, loss, rise.
        """
        rows = [("part", "left", "loss", "rise")]
        for name, left in self.left.items():
            for n, loss in zip(left, self.losses[name], strict=True):
                rise = loss - self.dense
                rows.append((name, f"{n:g}", f"{loss:.4f}", f"{rise:+.4f}"))
        return rows

    def __str__(self) -> str:
        rows = self.table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        pad = lambda row: (cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        return "\n".join("  ".join(pad(row)).rstrip() for row in rows)


def sensitivity(
    loss: Loss,
    params: Params,
    batches: Iterable[Any],
    *,
    sparsities: Sequence[Real] | np.ndarray = (0.5, 0.7, 0.8, 0.9, 0.95),
    where: str = "kernel$",
    scores: Tree | None = None,
) -> Sensitivity:
    r"""The loss with one leaf pruned, for each leaf and each sparsity.

    .. math::
        L_l(s) = \frac{1}{B} \sum_b L(\theta \text{ with } \theta_l \odot m_l(s), b)

    The program of the loss is compiled once for all.

    Args:
        loss: ``(params, batch) -> scalar``, a mean over the batch.
        params: a tree of arrays.
        batches: data of one shape; they count alike.
        sparsities: the fractions of zeros to try, in ``(0, 1)``.
        where: a regular expression for the paths of the leaves.
        scores: which weights stay, a tree like ``params``; magnitudes by default.

    Returns:
        A :class:`Sensitivity`, what is left as a fraction of the weights.

    Raises:
        ValueError: if a sparsity is out of range, there is no batch, or no path
            matches.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"kernel": jnp.array([3.0, 2.0, 1.0, 0.0])}
        >>> loss = lambda p, batch: jnp.sum((p["kernel"] - batch) ** 2)
        >>> curves = compress.sensitivity(
        ...     loss, params, [params["kernel"]], sparsities=(0.5, 0.75)
        ... )
        >>> print(curves)
        part    left  loss    rise
        kernel  1     0.0000  +0.0000
        kernel  0.5   1.0000  +1.0000
        kernel  0.25  5.0000  +5.0000

    References:
        Han et al., `Learning both Weights and Connections for Efficient Neural
        Networks <https://arxiv.org/abs/1506.02626>`_, 2015, section 5.
    """
    asked = sorted({float(sparsity_of(s)) for s in sparsities} - {0.0})
    scores = magnitude_scores(params) if scores is None else scores
    chosen = pick(scores, where)
    mean = mean_loss(loss, batches)
    pruned = jax.jit(lambda x, score, s: _keep(x, score, s))
    leaves, dense = trees.flatten(params), mean(params)
    losses = {}
    for path, score in chosen.items():
        tried = (pruned(leaves[path], score, jax.numpy.float32(s)) for s in asked)
        points = [mean(_replaced(params, path, x)) for x in tried]
        losses[path] = np.array([dense, *points])
    left = np.array([1.0, *(1.0 - s for s in asked)])
    return Sensitivity(dense, dict.fromkeys(chosen, left), losses)


def mean_loss(loss: Loss, batches: Iterable[Any]) -> Callable[[Any], float]:
    """The mean of a loss over batches, as a function of the variables alone."""
    kept, compiled = list(batches), jax.jit(loss)
    if not kept:
        raise ValueError("`batches` must hold at least one batch.")
    return lambda variables: float(
        np.mean([np.asarray(compiled(variables, batch)) for batch in kept])
    )


def _keep(x: Array, score: Array, sparsity: Array) -> Array:
    mask = top_masks({"x": score}, sparsity, where="x")["x"]
    return jax.numpy.where(mask, x, jax.numpy.zeros_like(x))


def _replaced(tree: Tree, path: str, leaf: Array) -> Tree:
    return trees.map_with_path(lambda at, x: leaf if at == path else x, tree)
