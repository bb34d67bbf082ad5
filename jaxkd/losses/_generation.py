"""Masks for losses in which a student fills in features that it does not see."""

import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool

from jaxkd import _checks
from jaxkd._types import AnyFeatures, Positions, PRNGKey


def channel_mask(
    key: PRNGKey, features: AnyFeatures, *, ratio: float = 0.15
) -> Bool[Array, "batch ..."]:
    r"""Which channels to keep, drawn for each example: MGD of classifiers.

    .. math::
        m_{bc} \sim \mathrm{Bernoulli}(1 - \lambda)

    The student's features times the mask go through a small network, of which
    :func:`feature_squared_distance` takes the distance to the teacher's.

    Args:
        key: a random key, another one for each step.
        features: shape ``[batch, *positions, channels]``.
        ratio: :math:`\lambda`, how many to hide.

    Returns:
        Booleans of shape ``[batch, 1, ..., channels]``, to multiply the features.

    Raises:
        ValueError: if the ratio is not in [0, 1].

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> keep = losses.channel_mask(jax.random.key(0), jnp.ones((2, 4, 4, 8)))
        >>> print(keep.shape)
        (2, 1, 1, 8)

    References:
        Yang et al., `Masked Generative Distillation
        <https://arxiv.org/abs/2205.01529>`_, 2022, and its code for classifiers.
    """
    _checks.check_fraction(ratio=ratio)
    ones = (1,) * (features.ndim - 2)
    shape = (features.shape[0], *ones, features.shape[-1])
    return jax.random.uniform(key, shape) >= ratio


def position_mask(
    key: PRNGKey, features: AnyFeatures, *, ratio: float = 0.65
) -> Positions:
    r"""Which positions to keep, drawn one by one: MGD of detectors.

    .. math::
        m_{bp} \sim \mathrm{Bernoulli}(1 - \lambda)

    As :func:`channel_mask`, but a position is hidden in all its channels: multiply the
    features by ``mask[..., None]``.

    Args:
        key: a random key, another one for each step.
        features: shape ``[batch, *positions, channels]``.
        ratio: :math:`\lambda`, how many to hide.

    Returns:
        Booleans of shape ``[batch, *positions]``.

    Raises:
        ValueError: if the ratio is not in [0, 1].

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> keep = losses.position_mask(jax.random.key(0), jnp.ones((2, 4, 4, 8)))
        >>> print(keep.shape)
        (2, 4, 4)

    References:
        Yang et al., `Masked Generative Distillation
        <https://arxiv.org/abs/2205.01529>`_, 2022, section 3.
    """
    _checks.check_fraction(ratio=ratio)
    return jax.random.uniform(key, features.shape[:-1]) >= ratio


def token_mask(key: PRNGKey, features: AnyFeatures, *, ratio: float = 0.5) -> Positions:
    """Which tokens to keep, a fixed number of each example: ViTKD's last layer.

    The tokens hidden are replaced by a trained one before a small network fills them
    in, and only they count: ``feature_squared_distance(made, teacher, where=~mask)``.

    Args:
        key: a random key, another one for each step.
        features: shape ``[batch, *positions, channels]``.
        ratio: the part to hide, rounded down to whole tokens.

    Returns:
        Booleans of shape ``[batch, *positions]``, with as many true for each example.

    Raises:
        ValueError: if the ratio is not in [0, 1].

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> keep = losses.token_mask(jax.random.key(0), jnp.ones((2, 6, 8)))
        >>> print(keep.sum(axis=1))
        [3 3]

    References:
        Yang et al., `ViTKD: Practical Guidelines for ViT feature knowledge distillation
        <https://arxiv.org/abs/2209.02432>`_, 2022, section 3.
    """
    _checks.check_fraction(ratio=ratio)
    shape = features.shape[:-1]
    draws = jax.random.uniform(key, shape).reshape(shape[0], -1)
    order = jnp.argsort(jnp.argsort(draws, axis=-1), axis=-1)
    return (order >= int(ratio * draws.shape[1])).reshape(shape)
