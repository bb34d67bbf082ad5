r"""Losses on features that couple the examples of a batch.

They return one number. Under ``pmap`` or ``shard_map`` they take ``axis_name`` and
gather, so that every device returns the value of the global batch; average the
gradients over the devices, as for the mean of per-device losses.
"""

from jax import numpy as jnp

from jaxkd._types import AnyFeatures, Examples, Scalar
from jaxkd.losses._common import unit
from jaxkd.losses._layouts import (
    count_of,
    counted_rows,
    feature_pair,
    flat_example,
    product,
)


def similarity_preserving(
    student: AnyFeatures,
    teacher: AnyFeatures,
    *,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: how the similarities of its examples differ.

    .. math::
        \frac{1}{B^2} \big\| \tilde G^s - \tilde G^t \big\|_F^2, \qquad
        G = F F^\top, \quad \tilde G_i = G_i / \|G_i\|

    with the features of an example as a row of :math:`F`. Nothing but the batch must
    agree, so it needs no projector. An example with features 0 is similar to none.

    Args:
        student: shape ``[batch, ...]``.
        teacher: shape ``[batch, ...]``; all other axes may differ.
        where: which examples count, shape ``[batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``.

    Returns:
        A non-negative scalar in at least float32; 0 if nothing counts.

    Raises:
        ValueError: if the batches differ.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.eye(2), jnp.array([[0.0, 5.0], [5.0, 0.0]])
        >>> print(losses.similarity_preserving(student, teacher))
        0.0

    References:
        Tung and Mori, `Similarity-Preserving Knowledge Distillation
        <https://arxiv.org/abs/1907.09682>`_, 2019, equations 1 to 4.
    """
    s, t = (flat_example(x) for x in feature_pair(student, teacher))
    s, counts = counted_rows(s, where, axis_name)
    t, _ = counted_rows(t, where, axis_name)
    gs, gt = (unit(product(x, x.T)) for x in (s, t))
    return jnp.sum((gs - gt) ** 2) / count_of(counts, s) ** 2
