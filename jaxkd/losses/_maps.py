r"""Losses on maps: where a network looks, and how its layers follow each other."""

from jax import numpy as jnp
from jaxtyping import Array

from jaxkd._types import AnyFeatures, PerExample
from jaxkd.losses._common import unit
from jaxkd.losses._layouts import flat_example, pooled_pair


def attention_transfer(
    student: AnyFeatures, teacher: AnyFeatures, *, power: float = 2.0
) -> PerExample:
    r"""How differently two networks look at the positions, averaged over these.

    .. math::
        \frac{1}{P} \sum_p \Big(\frac{a^s_p}{\|a^s\|} - \frac{a^t_p}{\|a^t\|}\Big)^2,
        \qquad a_p = \frac1C \sum_c |f_{pc}|^k

    This is the mean of the authors' code; :func:`attention_distance` is the norm of
    their paper, whose weight is not the same. The map with more positions is averaged
    to the smaller one first, and the channels may differ.

    Args:
        student: shape ``[batch, *positions, channels]``.
        teacher: as many axes; positions and channels may differ.
        power: :math:`k \ge 1`.

    Returns:
        One value per example, between 0 and :math:`2/P`, in at least float32; shape
        ``[batch]``.

    Raises:
        ValueError: if the batches or the numbers of axes differ.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[[1.0], [0.0]]]), jnp.array([[[0.0], [7.0]]])
        >>> print(losses.attention_transfer(student, teacher))
        [1.]

    References:
        Zagoruyko and Komodakis, `Paying More Attention to Attention: Improving the
        Performance of Convolutional Neural Networks via Attention Transfer
        <https://arxiv.org/abs/1612.03928>`_, 2017, section 3.1, and their code.
    """
    qs, qt = _attention_maps(student, teacher, power)
    return jnp.mean((qs - qt) ** 2, axis=-1)


def _attention_maps(
    student: AnyFeatures, teacher: AnyFeatures, power: float
) -> tuple[Array, Array]:
    """Unit vectors of the energy at each position."""
    if not power >= 1:
        raise ValueError(f"`power` must be at least 1, got {power}.")
    s, t = pooled_pair(student, teacher)
    qs, qt = (unit(flat_example(jnp.mean(jnp.abs(x) ** power, -1))) for x in (s, t))
    return qs, qt
