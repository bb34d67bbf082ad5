"""Colours of images in [0, 1]."""

import math

import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import PRNGKey
from jaxkd.data._arrays import Transform
from jaxkd.data.augment._base import per_example, uniform

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def colour(
    *,
    brightness: float = 0.2,
    contrast: float = 0.2,
    saturation: float = 0.2,
    hue: float = 0.0,
) -> Transform:
    r"""Changes brightness, contrast, saturation and hue, in this order.

    Brightness is :math:`f x`, contrast :math:`m + f (x - m)` with the mean luma
    :math:`m` of the image, saturation :math:`g + f (x - g)` with the luma :math:`g` of
    the pixel; each has its own :math:`f`, uniform in one minus to one plus the number.
    The hue turns about the axis of greys. The result is cut off at 0 and 1.

    Args:
        brightness: in ``[0, 1]``.
        contrast: in ``[0, 1]``.
        saturation: in ``[0, 1]``; nothing happens to images of one channel.
        hue: the largest turn in ``[0, 1]`` of half a circle, either way; nothing
            happens to images of one channel.

    Returns:
        A transform of floating point images in ``[0, 1]``, of one or three channels.

    Raises:
        ValueError: if a number is outside ``[0, 1]``; when called, if the images have
            neither one nor three channels.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxkd.data import augment
        >>> batch = {"image": jnp.full((1, 2, 2, 3), 0.5)}
        >>> image = augment.colour(brightness=0.1)(jax.random.key(0), batch)["image"]
        >>> print((abs(image - 0.5) <= 0.05).all())
        True
    """
    _checks.check_fraction(
        brightness=brightness, contrast=contrast, saturation=saturation, hue=hue
    )

    def one(key: PRNGKey, image: Array) -> Array:
        check_channels(image, "colour")
        keys = jax.random.split(key, 4)
        x = image.astype(jnp.float32)
        x = brighten(x, uniform(keys[0], (1 - brightness, 1 + brightness)))
        x = spread(x, uniform(keys[1], (1 - contrast, 1 + contrast)))
        x = saturate(x, uniform(keys[2], (1 - saturation, 1 + saturation)))
        if hue and image.shape[-1] == 3:
            x = turn_hue(x, math.pi * uniform(keys[3], (-hue, hue)))
        return jnp.clip(x, 0.0, 1.0)

    return per_example(one, "colour")


def check_channels(image: Array, name: str) -> None:
    """Raises unless an image is grey or red, green and blue.

    Args:
        image: shape ``[height, width, channels]``.
        name: of the transform.

    Raises:
        ValueError: if it has neither one nor three channels.
    """
    if image.shape[-1] not in {1, 3}:
        raise ValueError(
            f"`{name}` needs images of 1 or 3 channels, got {image.shape[-1]}."
        )


def luma(image: Array) -> Array:
    """How bright each pixel looks.

    Args:
        image: shape ``[height, width, channels]``, one or three channels.

    Returns:
        Shape ``[height, width, 1]``.
    """
    if image.shape[-1] == 1:
        return image
    return (image * jnp.array(_LUMA)).sum(-1, keepdims=True)


def brighten(image: Array, factor: Array) -> Array:
    """The image times a factor.

    Args:
        image: an image in ``[0, 1]``.
        factor: 1 changes nothing.

    Returns:
        Another, in ``[0, 1]``.
    """
    return jnp.clip(factor * image, 0.0, 1.0)


def spread(image: Array, factor: Array) -> Array:
    """The image's distances from its mean luma, times a factor: contrast.

    Args:
        image: an image in ``[0, 1]``.
        factor: 1 changes nothing.

    Returns:
        Another, in ``[0, 1]``.
    """
    mean = luma(image).mean()
    return jnp.clip(image + (factor - 1) * (image - mean), 0.0, 1.0)


def saturate(image: Array, factor: Array) -> Array:
    """Each pixel's distance from its own grey, times a factor.

    Args:
        image: an image in ``[0, 1]``.
        factor: 1 changes nothing.

    Returns:
        Another, in ``[0, 1]``.
    """
    return jnp.clip(image + (factor - 1) * (image - luma(image)), 0.0, 1.0)


def turn_hue(image: Array, radians: Array) -> Array:
    """Turns colours about the axis of greys (Rodrigues' formula); greys stay.

    Args:
        image: shape ``[height, width, 3]``.
        radians: the angle; a third of a circle makes red green.

    Returns:
        Another, not yet cut off.
    """
    mean = image.mean(-1, keepdims=True)
    away = image - mean
    across = jnp.roll(image, 1, axis=-1) - jnp.roll(image, -1, axis=-1)
    turned = jnp.cos(radians) * away + jnp.sin(radians) / math.sqrt(3) * across
    return image + (turned - away)
