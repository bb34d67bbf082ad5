r"""Losses on how the examples of a batch lie to one another.

They return one number. Under ``pmap`` or ``shard_map`` they take ``axis_name`` and
gather, so that every device returns the value of the global batch; average the
gradients over the devices, as for the mean of per-device losses.
"""

from collections.abc import Callable

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxkd._types import AnyFeatures, Examples, Features, Scalar
from jaxkd.losses._common import gather_rows, norm, unit
from jaxkd.losses._layouts import (
    count_of,
    counted_rows,
    equal_pair,
    feature_pair,
    flat_example,
    power_of,
    product,
)

#: Numbers held at once, of all differences between examples.
AT_ONCE = 2**24


def relational_distance(
    student: AnyFeatures,
    teacher: AnyFeatures,
    *,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: how the distances of its examples differ.

    .. math::
        \frac{1}{B^2} \sum_{ij} h\Big(
            \frac{\|s_i - s_j\|}{\mu_s} - \frac{\|t_i - t_j\|}{\mu_t} \Big),
        \qquad h(x) = \begin{cases} x^2 / 2 & |x| \le 1 \\ |x| - 1/2 \end{cases}

    with :math:`\mu` the mean over the pairs of two examples. The first half of
    relational knowledge distillation (RKD). Nothing but the batch must agree, so it
    needs no projector. Two examples with the same features keep a distance of 0 without
    a gradient, where the original's is 1e10.

    Args:
        student: shape ``[batch, ...]``, :math:`s`.
        teacher: shape ``[batch, ...]``, :math:`t`; all other axes may differ.
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
        >>> student, teacher = jnp.array([[0.0], [1.0], [2.0]]), jnp.eye(3)
        >>> print(f"{losses.relational_distance(student, teacher):.4f}")
        0.0417

    References:
        Park et al., `Relational Knowledge Distillation
        <https://arxiv.org/abs/1904.05068>`_, 2019, section 3.2.
    """
    s, t, counts = _own_rows(student, teacher, where)
    ds, dt = (_relative_distances(x, counts, axis_name) for x in (s, t))
    number = count_of(gather_rows(counts, axis_name), s)
    return jnp.sum(_huber(ds - dt)) / number**2


def relational_angle(
    student: AnyFeatures,
    teacher: AnyFeatures,
    *,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: how the angles between three examples differ.

    .. math::
        \frac{1}{B^3} \sum_{ijk} h\big( \langle e^s_{ij}, e^s_{ik} \rangle
            - \langle e^t_{ij}, e^t_{ik} \rangle \big), \qquad
        e_{ij} = \frac{f_j - f_i}{\|f_j - f_i\|}

    :math:`h` as in :func:`relational_distance`. The second half of RKD. It takes time
    for :math:`B^3` products, shared out over the devices, but no memory for them. Two
    examples with the same features span no angle.

    Args:
        student: shape ``[batch, ...]``, :math:`f^s`.
        teacher: shape ``[batch, ...]``, :math:`f^t`; all other axes may differ.
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
        >>> student, teacher = jnp.array([[0.0], [1.0], [2.0]]), jnp.eye(3)
        >>> print(f"{losses.relational_angle(student, teacher):.4f}")
        0.0926

    References:
        Park et al., `Relational Knowledge Distillation
        <https://arxiv.org/abs/1904.05068>`_, 2019, section 3.2.
    """
    s, t, counts = _own_rows(student, teacher, where)
    all_s, all_t, all_counts = (gather_rows(x, axis_name) for x in (s, t, counts))

    def at_vertex(vertex: tuple[Array, Array, Array]) -> Array:
        s, t, count = vertex
        cosines_s, cosines_t = (
            _cosines(x - at[None], all_counts) for x, at in ((all_s, s), (all_t, t))
        )
        return jnp.where(count, jnp.sum(_huber(cosines_s - cosines_t)), 0.0)

    held = len(all_s) * (len(all_s) + max(s.shape[1], t.shape[1]))
    sums = gather_rows(_over_vertices(at_vertex, (s, t, counts), held), axis_name)
    return jnp.sum(sums) / count_of(all_counts, s) ** 3


def probabilistic_knowledge_transfer(
    student: AnyFeatures,
    teacher: AnyFeatures,
    *,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: divergence of who is whose neighbour.

    .. math::
        \frac{1}{B^2} \sum_{ij} p_{ij} \log \frac{p_{ij} + \epsilon}{q_{ij} + \epsilon},
        \qquad p_{ij} = \frac{K_{ij}}{\sum_k K_{ik}}, \quad
        K_{ij} = \frac{1 + \cos(t_i, t_j)}{2}

    and :math:`q` the same of the student; :math:`\epsilon = 10^{-7}`, which is added to
    the lengths too. A mean over all pairs, as in the authors' code, hence the large
    weight that is recommended.

    Args:
        student: shape ``[batch, ...]``, :math:`s`.
        teacher: shape ``[batch, ...]``, :math:`t`; all other axes may differ.
        where: which examples count, shape ``[batch]``; all if ``None``.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``.

    Returns:
        A scalar in nats, in at least float32; 0 if nothing counts.

    Raises:
        ValueError: if the batches differ.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.ones((2, 3)), jnp.eye(2)
        >>> loss = losses.probabilistic_knowledge_transfer(student, teacher)
        >>> print(f"{loss:.4f}")
        0.0283

    References:
        Passalis and Tefas, `Learning Deep Representations with Probabilistic Knowledge
        Transfer <https://arxiv.org/abs/1803.10837>`_, 2018, section 3, and its code.
    """
    s, t, counts = _own_rows(student, teacher, where)
    s, t, counts = (gather_rows(x, axis_name) for x in (s, t, counts))
    pairs = counts[:, None] & counts[None]
    q, p = (_neighbour_probabilities(x, pairs) for x in (s, t))
    terms = jnp.where(pairs, p * (jnp.log(p + 1e-7) - jnp.log(q + 1e-7)), 0.0)
    return jnp.sum(terms) / count_of(counts, s) ** 2


def neighbour_correlation(
    student: Features,
    teacher: Features,
    *,
    where: Examples | None = None,
    axis_name: str | None = None,
) -> Scalar:
    r"""One number for the batch: the gap of an example times that of the next.

    .. math::
        \frac{1}{B - 1} \sum_{i < B} \sum_d |s_{id} - t_{id}| \, |s_{i+1,d} - t_{i+1,d}|

    RepDistiller's "correlation congruence" (CC), which depends on the order of the
    examples; the paper's is :func:`gaussian_congruence`. Both embeddings are usually
    projected to one width, and both projectors trained.

    Args:
        student: shape ``[batch, *positions, channels]``, :math:`s`.
        teacher: same shape, :math:`t`.
        where: which examples count, shape ``[batch]``; all if ``None``. The next one is
            the next that counts.
        axis_name: the mapped axis of ``pmap`` or ``shard_map``; the devices' examples
            follow one another.

    Returns:
        A non-negative scalar in at least float32; 0 for fewer than two examples.

    Raises:
        ValueError: if the shapes differ.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[1.0], [2.0], [4.0]]), jnp.zeros((3, 1))
        >>> print(losses.neighbour_correlation(student, teacher))
        5.0

    References:
        Tian et al., `Contrastive Representation Distillation
        <https://arxiv.org/abs/1910.10699>`_, 2020, in its code.
    """
    s, t = equal_pair(student, teacher)
    gaps, counts = counted_rows(flat_example(s - t), where, axis_name)
    gaps, last = power_of(gaps, 1.0), len(gaps)
    places = jnp.where(counts, jnp.arange(last), last)
    following = jnp.append(lax.cummin(places, reverse=True)[1:], last)
    both = counts & (following < last)
    products = gaps * gaps.at[following].get(mode="fill", fill_value=0.0)
    return jnp.sum(jnp.where(both[:, None], products, 0.0)) / count_of(both, gaps)


def _own_rows(
    student: AnyFeatures, teacher: AnyFeatures, where: Examples | None
) -> tuple[Array, Array, Array]:
    """A vector for each of this device's examples, and which count."""
    s, t = (flat_example(x) for x in feature_pair(student, teacher))
    s, counts = counted_rows(s, where, None)
    return s, counted_rows(t, where, None)[0], counts


def _over_vertices(
    fn: Callable[[tuple], Array], vertices: tuple[Array, ...], held: int
) -> Array:
    """The function of each example, of so many at once as hold `AT_ONCE` numbers."""
    at_once = max(1, AT_ONCE // held)
    if at_once >= len(vertices[0]):
        return jax.vmap(fn)(vertices)
    return lax.map(jax.checkpoint(fn), vertices, batch_size=at_once)


def _relative_distances(x: Array, counts: Array, axis_name: str | None) -> Array:
    """Distances between all that count, in units of their mean; 0 elsewhere."""
    every, all_counts = gather_rows(x, axis_name), gather_rows(counts, axis_name)
    from_vertex = lambda vertex: norm(every - vertex[0][None])[:, 0]
    distances = _over_vertices(from_vertex, (x,), every.size)
    distances = gather_rows(distances, axis_name)
    distances = jnp.where(all_counts[:, None] & all_counts[None], distances, 0.0)
    number = count_of(all_counts, x)
    mean = jnp.sum(distances) / jnp.maximum(number * (number - 1), 1.0)
    return distances / jnp.where(mean > 0, mean, 1.0)


def _cosines(towards: Array, counts: Array) -> Array:
    """Of the angles between the vectors from one vertex, 0 for what does not count."""
    e = unit(jnp.where(counts[:, None], towards, 0.0))
    return product(e, e.T)


def _huber(x: Array) -> Array:
    clipped = jnp.clip(x, -1.0, 1.0)
    return clipped * (x - clipped / 2)


def _neighbour_probabilities(x: Array, pairs: Array) -> Array:
    x = x / (norm(x) + 1e-7)
    kernel = jnp.where(pairs, (product(x, x.T) + 1) / 2, 0.0)
    total = jnp.sum(kernel, axis=1, keepdims=True)
    return kernel / jnp.where(total > 0, total, 1.0)
