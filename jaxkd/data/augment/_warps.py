"""Rotation and zoom: pixels between pixels are interpolated."""

from jax import numpy as jnp
from jaxtyping import Array

from jaxkd._types import PRNGKey
from jaxkd.data._arrays import Transform
from jaxkd.data.augment._base import Range, check_range, per_example, uniform


def rotate(*, degrees: Range = 15.0, fill: float = 0.0) -> Transform:
    """Turns images about their centre, by an angle drawn uniformly.

    Args:
        degrees: the angle, counter-clockwise: a range ``(low, high)``, or ``x`` for
            ``(-x, x)``.
        fill: the value where the image does not reach.

    Returns:
        A transform of floating point images, interpolated linearly.

    Raises:
        ValueError: if the range is out of order.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxkd.data import augment
        >>> batch = {"image": jnp.eye(3).reshape(1, 3, 3, 1)}
        >>> turn = augment.rotate(degrees=(90, 90))
        >>> print(turn(jax.random.key(0), batch)["image"].round(3).reshape(3, 3))
        [[0. 0. 1.]
         [0. 1. 0.]
         [1. 0. 0.]]
    """
    bounds = check_range("degrees", degrees, float("-inf"))

    def one(key: PRNGKey, image: Array) -> Array:
        matrix = rotation(jnp.deg2rad(uniform(key, bounds)))
        return warp(image, matrix, jnp.zeros(2), fill)

    return per_example(one, "rotate")


def zoom(*, factor: tuple[float, float] = (0.8, 1.2), fill: float = 0.0) -> Transform:
    """Enlarges or shrinks images about their centre, the same in both directions.

    Args:
        factor: the range of the factor, drawn uniformly; above 1 enlarges.
        fill: the value where the image does not reach.

    Returns:
        A transform of floating point images, interpolated linearly.

    Raises:
        ValueError: if the range is out of order or not positive.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxkd.data import augment
        >>> batch = {"image": jnp.ones((1, 4, 4, 1))}
        >>> smaller = augment.zoom(factor=(0.5, 0.5))
        >>> print(smaller(jax.random.key(0), batch)["image"].sum())
        4.0
    """
    bounds = check_range("factor", factor, 0.0)

    def one(key: PRNGKey, image: Array) -> Array:
        return warp(image, jnp.eye(2) / uniform(key, bounds), jnp.zeros(2), fill)

    return per_example(one, "zoom")


def rotation(radians: Array) -> Array:
    """The matrix by which a turned image looks up its pixels.

    Args:
        radians: the angle, counter-clockwise.

    Returns:
        Shape ``[2, 2]``, on (row, column).
    """
    cos, sin = jnp.cos(radians), jnp.sin(radians)
    return jnp.array([[cos, sin], [-sin, cos]])


def warp(image: Array, matrix: Array, shift: Array, fill: float | Array) -> Array:
    """The image whose pixel at ``p`` is the old one's at ``matrix @ p + shift``.

    Args:
        image: shape ``[height, width, channels]``.
        matrix: shape ``[2, 2]``, on (row, column) from the image's centre.
        shift: shape ``[2]``, in pixels.
        fill: the value outside the image, which is blended at its edge.

    Returns:
        Float32, same shape; linear between pixels.
    """
    size = jnp.array(image.shape[:2])
    centre = (size - 1) / 2
    grid = jnp.stack(jnp.meshgrid(*map(jnp.arange, image.shape[:2]), indexing="ij"), -1)
    # No dot product: an accelerator would round it to fewer bits.
    turned = ((grid - centre)[..., None, :] * matrix).sum(-1)
    place = turned + centre + shift
    corner = jnp.floor(place)
    part = place - corner
    result = jnp.zeros(image.shape, jnp.float32)
    for step in ((0, 0), (0, 1), (1, 0), (1, 1)):
        at = corner.astype(jnp.int32) + jnp.array(step)
        inside = ((at >= 0) & (at < size)).all(-1, keepdims=True)
        row, column = jnp.moveaxis(jnp.clip(at, 0, size - 1), -1, 0)
        value = jnp.where(inside, image[row, column].astype(jnp.float32), fill)
        weight = jnp.where(jnp.array(step) == 1, part, 1 - part).prod(-1, keepdims=True)
        result += weight * value
    return result
