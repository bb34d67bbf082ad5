"""Flips, crops and holes: pixels move or vanish, and none is interpolated."""

import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import PRNGKey
from jaxkd.data._arrays import Transform
from jaxkd.data.augment._base import per_example


def flip(*, probability: float = 0.5, vertical: bool = False) -> Transform:
    """Mirrors images, left and right by default.

    Args:
        probability: that an image is mirrored.
        vertical: whether top and bottom change places instead.

    Returns:
        A transform of images of any dtype.

    Raises:
        ValueError: if the probability is outside ``[0, 1]``.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxkd.data import augment
        >>> batch = {"image": jnp.arange(3.0).reshape(1, 1, 3, 1)}
        >>> mirror = augment.flip(probability=1.0)
        >>> print(mirror(jax.random.key(0), batch)["image"].ravel())
        [2. 1. 0.]
    """
    _checks.check_fraction(probability=probability)
    axis = 0 if vertical else 1

    def one(key: PRNGKey, image: Array) -> Array:
        drawn = jax.random.bernoulli(key, probability)
        return jnp.where(drawn, jnp.flip(image, axis), image)

    return per_example(one, "flip", floating=False)


def pad_crop(
    *, padding: int = 4, fill: float = 0.0, reflect: bool = False
) -> Transform:
    """Shifts images: pads all sides, then cuts out the old size at a random place.

    Args:
        padding: pixels on each side.
        fill: the value of the padding.
        reflect: whether the padding mirrors the image instead; then it must be smaller
            than the image.

    Returns:
        A transform of images of any dtype.

    Raises:
        ValueError: if the padding is negative.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxkd.data import augment
        >>> batch = {"image": jnp.ones((1, 4, 4, 1))}
        >>> shift = augment.pad_crop(padding=1)
        >>> print(shift(jax.random.key(0), batch)["image"].sum() >= 9)
        True

    References:
        He et al., `Deep Residual Learning for Image Recognition
        <https://arxiv.org/abs/1512.03385>`_, 2015, section 4.2.
    """
    if padding < 0:
        raise ValueError(f"`padding` must be at least 0, got {padding}.")
    widths = ((padding, padding), (padding, padding), (0, 0))

    def one(key: PRNGKey, image: Array) -> Array:
        if reflect:
            padded = jnp.pad(image, widths, mode="reflect")
        else:
            padded = jnp.pad(image, widths, constant_values=fill)
        row, column = jax.random.randint(key, (2,), 0, 2 * padding + 1)
        return jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)

    return per_example(one, "pad_crop", floating=False)


def cutout(*, size: int = 8, fill: float = 0.0) -> Transform:
    """Hides a square of each image; near an edge, the part of it that is inside.

    Args:
        size: the square's side in pixels.
        fill: the value inside.

    Returns:
        A transform of images of any dtype.

    Raises:
        ValueError: if the size is not positive.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxkd.data import augment
        >>> batch = {"image": jnp.ones((1, 4, 4, 1))}
        >>> print(augment.cutout(size=1)(jax.random.key(0), batch)["image"].sum())
        15.0

    References:
        DeVries and Taylor, `Improved Regularization of Convolutional Neural Networks
        with Cutout <https://arxiv.org/abs/1708.04552>`_, 2017, section 3.
    """
    _checks.check_positive(size=size)

    def one(key: PRNGKey, image: Array) -> Array:
        height, width, _ = image.shape
        centre = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
        first = centre - size // 2
        hole = box(image, first, first + size)
        return jnp.where(hole, jnp.asarray(fill, image.dtype), image)

    return per_example(one, "cutout", floating=False)


def box(image: Array, first: Array, last: Array) -> Array:
    """Where a box of an image is.

    Args:
        image: shape ``[height, width, channels]``.
        first: first row and column inside.
        last: first row and column after it.

    Returns:
        Booleans, ``[height, width, 1]``.
    """
    rows = jnp.arange(image.shape[0])[:, None, None]
    columns = jnp.arange(image.shape[1])[None, :, None]
    inside_rows = (rows >= first[0]) & (rows < last[0])
    return inside_rows & (columns >= first[1]) & (columns < last[1])
