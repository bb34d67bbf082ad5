r"""Losses on what a transformer attends to, and on relations between its tokens.

Attention has the shape ``[batch, heads, queries, keys]``, tokens ``[batch, tokens,
channels]``. A mask tells what counts: of tokens, ``[batch, tokens]``, for padding in
self-attention, or of pairs, ``[batch, queries, keys]``, for causal or cross-attention.
What does not count may be NaN, and changes neither value nor gradient.
"""

import math

from jax import numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxkd import _checks
from jaxkd._types import AnyFeatures, PerExample
from jaxkd.losses._common import at_least_float32, difference
from jaxkd.losses._divergences import forward_kl
from jaxkd.losses._layouts import feature_pair, flat_example, product, sum_of_example
from jaxkd.losses._logits import soft_cross_entropy

Scores = Float[Array, "batch heads queries keys"]
Attended = Bool[Array, "batch tokens"] | Bool[Array, "batch queries keys"]


def attention_score_mse(
    student: Scores, teacher: Scores, *, where: Attended | None = None
) -> PerExample:
    r"""Mean squared error of attention scores, before their softmax.

    .. math::
        \frac{1}{H |W|} \sum_h \sum_{(i, j) \in W} (s_{hij} - t_{hij})^2

    over heads and the pairs :math:`W` that count. TinyBERT's attention loss. Scores
    masked in both, :math:`-\infty`, have no gap; give ``where`` for any other mask, as
    of -10000. Where the heads differ in number, take their means or sums first.

    Args:
        student: scores, shape ``[batch, heads, queries, keys]``, :math:`s`.
        teacher: same shape, :math:`t`.
        where: which tokens or pairs count; all if ``None``.

    Returns:
        One value per example, in at least float32; shape ``[batch]``. 0 if nothing
        counts.

    Raises:
        ValueError: if shapes do not fit.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.ones((1, 2, 3, 3)), jnp.zeros((1, 2, 3, 3))
        >>> where = jnp.array([[True, True, False]])
        >>> print(losses.attention_score_mse(student, teacher, where=where))
        [1.]

    References:
        Jiao et al., `TinyBERT: Distilling BERT for Natural Language Understanding
        <https://arxiv.org/abs/1909.10351>`_, 2020, section 3.1.
    """
    s, t, pairs = _scores_and_pairs(student, teacher, where)
    s, t = (jnp.where(pairs, x, 0.0) for x in (s, t))
    number = jnp.sum(flat_example(pairs), axis=1, dtype=s.dtype) * s.shape[1]
    return sum_of_example(difference(s, t) ** 2) / jnp.maximum(number, 1.0)


def attention_map_kl(
    student: Scores, teacher: Scores, *, where: Attended | None = None
) -> PerExample:
    r"""Divergence of attention maps, from their scores.

    .. math::
        \frac{1}{H Q} \sum_{hi} \mathrm{KL}\big( \mathrm{softmax}_j(t_{hij}) \,\|\,
            \mathrm{softmax}_j(s_{hij}) \big)

    over heads and queries; the softmax is over the keys that count, and a query without
    any does not count. MiniLM's attention transfer, and MobileBERT's. Of maps which
    are probabilities already, give the logarithm.

    Args:
        student: scores, shape ``[batch, heads, queries, keys]``, :math:`s`.
        teacher: same shape, :math:`t`.
        where: which tokens or pairs count; all if ``None``.

    Returns:
        One value per example in nats, in at least float32; shape ``[batch]``. 0 if
        nothing counts.

    Raises:
        ValueError: if shapes do not fit.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.zeros((1, 1, 1, 2))
        >>> teacher = jnp.log(jnp.array([[[[0.25, 0.75]]]]))
        >>> print(losses.attention_map_kl(student, teacher).round(4))
        [0.1308]

    References:
        Wang et al., `MiniLM: Deep Self-Attention Distillation for Task-Agnostic
        Compression of Pre-Trained Transformers <https://arxiv.org/abs/2002.10957>`_,
        2020, section 3.1.

        Sun et al., `MobileBERT: a Compact Task-Agnostic BERT for Resource-Limited
        Devices <https://arxiv.org/abs/2004.02984>`_, 2020, section 3.5.
    """
    s, t, rows = _masked_scores(student, teacher, where)
    return _mean_over_queries(forward_kl(s, t), rows)


def attention_map_cross_entropy(
    student: Scores, teacher: Scores, *, where: Attended | None = None
) -> PerExample:
    r"""Cross-entropy of attention maps, from their scores.

    .. math::
        -\frac{1}{H Q} \sum_{hij} \mathrm{softmax}_j(t_{hij})
            \log \mathrm{softmax}_j(s_{hij})

    :func:`attention_map_kl` with the teacher's entropy, so with the same gradient.

    Args:
        student: scores, shape ``[batch, heads, queries, keys]``, :math:`s`.
        teacher: same shape, :math:`t`.
        where: which tokens or pairs count; all if ``None``.

    Returns:
        One value per example in nats, in at least float32; shape ``[batch]``. 0 if
        nothing counts.

    Raises:
        ValueError: if shapes do not fit.
        TypeError: if either input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = teacher = jnp.zeros((1, 1, 1, 2))
        >>> print(losses.attention_map_cross_entropy(student, teacher).round(4))
        [0.6931]

    References:
        Yang et al., `TextBrewer: An Open-Source Knowledge Distillation Toolkit for
        Natural Language Processing <https://arxiv.org/abs/2002.12620>`_, 2020.
    """
    s, t, rows = _masked_scores(student, teacher, where)
    return _mean_over_queries(soft_cross_entropy(s, t), rows)


def token_relation_kl(
    student: Float[Array, "batch queries channels"],
    student_other: Float[Array, "batch keys channels"],
    teacher: Float[Array, "batch queries other_channels"],
    teacher_other: Float[Array, "batch keys other_channels"],
    *,
    heads: int,
    where: Attended | None = None,
) -> PerExample:
    r"""Divergence of the relations between tokens, in as many heads on both sides.

    .. math::
        \frac{1}{A Q} \sum_{ai} \mathrm{KL}(R^t_{ai} \| R^s_{ai}), \qquad
        R_{ai} = \mathrm{softmax}_j
            \frac{\langle x_{ai}, y_{aj} \rangle}{\sqrt{d / A}}

    The vectors of all attention heads, side by side, are split anew into :math:`A`
    relation heads, so neither width nor number of heads need agree. MiniLM v2 is the
    mean over :math:`(x, y)` = queries with queries, keys with keys and values with
    values; MiniLM v1 the sum over queries with keys and values with values, of the last
    layer.

    Args:
        student: :math:`x` of the student, shape ``[batch, queries, channels]``.
        student_other: :math:`y` of the student, shape ``[batch, keys, channels]``.
        teacher: :math:`x` of the teacher; the channels may be others.
        teacher_other: :math:`y` of the teacher.
        heads: :math:`A`, which divides the channels of both sides.
        where: which tokens or pairs count; all if ``None``.

    Returns:
        One value per example in nats, in at least float32; shape ``[batch]``. 0 if
        nothing counts.

    Raises:
        ValueError: if shapes do not fit, or the heads do not divide the channels.
        TypeError: if an input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> s, t = jnp.zeros((1, 2, 4)), jnp.eye(2, 6)[None]
        >>> print(losses.token_relation_kl(s, s, t, t, heads=2).round(4))
        [0.02]

    References:
        Wang et al., `MiniLMv2: Multi-Head Self-Attention Relation Distillation for
        Compressing Pretrained Transformers <https://arxiv.org/abs/2012.15828>`_, 2021,
        section 3.

        Wang et al., `MiniLM <https://arxiv.org/abs/2002.10957>`_, 2020, section 3.
    """
    feature_pair(student, teacher)
    s, t = (
        _inner_products(x, y, heads, where) / math.sqrt(x.shape[-1] // heads)
        for x, y in ((student, student_other), (teacher, teacher_other))
    )
    return attention_map_kl(s, t, where=where)


def token_similarity_mse(
    student: Float[Array, "batch queries channels"],
    student_other: Float[Array, "batch keys channels"],
    teacher: Float[Array, "batch queries other_channels"],
    teacher_other: Float[Array, "batch keys other_channels"],
    *,
    where: Attended | None = None,
) -> PerExample:
    r"""Mean squared error of the inner products of tokens, of two layers or of one.

    .. math::
        \frac{1}{|W|} \sum_{(i, j) \in W} \Big(
            \frac{\langle x^s_i, y^s_j \rangle}{C_s}
            - \frac{\langle x^t_i, y^t_j \rangle}{C_t} \Big)^2

    over the pairs :math:`W` that count. TextBrewer's "mmd" or "nst" match; only the
    tokens must agree.

    Args:
        student: :math:`x^s`, shape ``[batch, queries, channels]``.
        student_other: :math:`y^s`, of another layer or the same, shape ``[batch, keys,
            channels]``.
        teacher: :math:`x^t`; the channels may be others.
        teacher_other: :math:`y^t`.
        where: which tokens or pairs count; all if ``None``.

    Returns:
        One value per example, in at least float32; shape ``[batch]``. 0 if nothing
        counts.

    Raises:
        ValueError: if shapes do not fit.
        TypeError: if an input is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> s, t = jnp.ones((1, 2, 4)), jnp.zeros((1, 2, 6))
        >>> print(losses.token_similarity_mse(s, s, t, t))
        [1.]

    References:
        Yang et al., `TextBrewer: An Open-Source Knowledge Distillation Toolkit for
        Natural Language Processing <https://arxiv.org/abs/2002.12620>`_, 2020.
    """
    feature_pair(student, teacher)
    s, t = (
        _inner_products(x, y, 1, where) / x.shape[-1]
        for x, y in ((student, student_other), (teacher, teacher_other))
    )
    return attention_score_mse(s, t, where=where)


def _inner_products(
    x: AnyFeatures, y: AnyFeatures, heads: int, where: Attended | None
) -> Array:
    """Of the tokens of two layers in each head: ``[batch, heads, queries, keys]``."""
    _checks.check_floating(student_or_teacher=x, other=y)
    fit = x.ndim == y.ndim == 3 and x.shape[::2] == y.shape[::2]
    if not fit:
        raise ValueError(
            "both layers of a side must have shape [batch, tokens, channels] and agree "
            f"in batch and channels; got {x.shape} and {y.shape}."
        )
    if not (heads > 0 and x.shape[-1] % heads == 0):
        raise ValueError(
            f"`heads` must divide the channels of both sides, got {heads} heads for "
            f"{x.shape[-1]} channels."
        )
    pairs = _pairs(where, (len(x), x.shape[1], y.shape[1]))
    x, y = (  # what is NaN would spoil the gradient of the others
        jnp.where(jnp.any(pairs, axis=axis)[..., None], at_least_float32(z), 0.0)
        for z, axis in ((x, 2), (y, 1))
    )
    x, y = (jnp.moveaxis(z.reshape(*z.shape[:2], heads, -1), 2, 1) for z in (x, y))
    return product(x, y.mT)


def _scores_and_pairs(
    student: Scores, teacher: Scores, where: Attended | None
) -> tuple[Array, Array, Array]:
    """Both in at least float32; which pairs count, ``[batch, 1, queries, keys]``."""
    s, t = feature_pair(student, teacher)
    _checks.check_same_shape(student=student, teacher=teacher)
    if s.ndim != 4:
        raise ValueError(
            "`student` must have shape [batch, heads, queries, keys], got "
            f"{student.shape}."
        )
    batch, _, queries, keys = s.shape
    return s, t, _pairs(where, (batch, queries, keys))[:, None]


def _pairs(where: Attended | None, shape: tuple[int, int, int]) -> Array:
    """The mask of tokens or of pairs as one of pairs."""
    if where is None:
        return jnp.ones(shape, bool)
    batch, queries, keys = shape
    where = where.astype(bool)
    if where.ndim == 2 and queries == keys:
        _checks.check_shape((batch, keys), where=where)
        where = where[:, :, None] & where[:, None, :]
    _checks.check_shape(shape, where=where)
    return where


def _masked_scores(
    student: Scores, teacher: Scores, where: Attended | None
) -> tuple[Array, Array, Array]:
    """Both with minus infinity for what does not count, and which queries do."""
    s, t, pairs = _scores_and_pairs(student, teacher, where)
    rows = jnp.any(pairs, axis=-1)
    masked = jnp.where(rows[..., None], -jnp.inf, 0.0).astype(s.dtype)
    s, t = (jnp.where(pairs, x, masked) for x in (s, t))
    return s, t, rows


def _mean_over_queries(values: Array, rows: Array) -> PerExample:
    """Over the heads and the queries that count, of ``[batch, heads, queries]``."""
    number = jnp.sum(rows[:, 0], axis=-1, dtype=values.dtype) * values.shape[1]
    total = sum_of_example(jnp.where(rows, values, 0.0))
    return total / jnp.maximum(number, 1.0)
