"""RandAugment."""

import math
from collections.abc import Callable

import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd._types import PRNGKey
from jaxkd.data._arrays import Transform
from jaxkd.data.augment._base import per_example
from jaxkd.data.augment._colour import (
    brighten,
    check_channels,
    saturate,
    spread,
)
from jaxkd.data.augment._warps import rotation, warp

_LEVELS = 256


def rand_augment(
    *, operations: int = 2, magnitude: float = 9.0, fill: float = 0.5
) -> Transform:
    """Does a few operations to each image, drawn from fourteen, all of one strength.

    With ``m = magnitude / 10`` and a random sign: rotation by ``30 m`` degrees, shear
    by ``0.3 m`` and translation by ``0.45 m`` of the side, along rows or columns;
    brightness, contrast, saturation and sharpness times ``1 ± 0.9 m``; solarize (what
    is above ``1 - m`` becomes its negative), posterize (to ``8 - 4 m`` bits),
    autocontrast, equalize, and nothing at all.

    Args:
        operations: how many, one after the other.
        magnitude: how strong, in ``[0, 10]``.
        fill: the value where a moved image does not reach.

    Returns:
        A transform of floating point images in ``[0, 1]``, of one or three channels.

    Raises:
        ValueError: if there is no operation or the magnitude is outside ``[0, 10]``;
            when called, if the images have neither one nor three channels.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxkd.data import augment
        >>> batch = {"image": jnp.full((2, 8, 8, 3), 0.5)}
        >>> augment.rand_augment()(jax.random.key(0), batch)["image"].shape
        (2, 8, 8, 3)

    References:
        Cubuk et al., `RandAugment: Practical automated data augmentation with a reduced
        search space <https://arxiv.org/abs/1909.13719>`_, 2019, section 3.
    """
    if operations < 1:
        raise ValueError(f"`operations` must be at least 1, got {operations}.")
    if not 0 <= magnitude <= 10:
        raise ValueError(f"`magnitude` must be in [0, 10], got {magnitude}.")

    def one(key: PRNGKey, image: Array) -> Array:
        check_channels(image, "rand_augment")

        def step(x: Array, key: PRNGKey) -> tuple[Array, None]:
            return _operate(key, x, magnitude / 10, fill), None

        keys = jax.random.split(key, operations)
        return jax.lax.scan(step, image.astype(jnp.float32), keys)[0]

    return per_example(one, "rand_augment")


def _operate(key: PRNGKey, image: Array, m: float, fill: float) -> Array:
    which_key, sign_key = jax.random.split(key)
    which = jax.random.randint(which_key, (), 0, len(MOVES) + len(COLOURS))
    signed = jnp.where(jax.random.bernoulli(sign_key), m, -m)
    # Mapped over a batch, all branches run: so all moves share one warp.
    move = jnp.where(which < len(MOVES), which, 0)
    height, width = image.shape[:2]
    matrices = jnp.stack([make(signed)[0] for make in MOVES])
    shifts = jnp.stack([make(signed)[1] for make in MOVES])
    moved = warp(image, matrices[move], shifts[move] * jnp.array([height, width]), fill)
    branches = [lambda x, s: x, *COLOURS]
    return jax.lax.switch(
        jnp.maximum(which - len(MOVES) + 1, 0), branches, moved, signed
    )


def _shift(row: float, column: float) -> Callable[[Array], tuple[Array, Array]]:
    return lambda s: (jnp.eye(2), 0.45 * s * jnp.array([row, column]))


def _shear(row: float, column: float) -> Callable[[Array], tuple[Array, Array]]:
    across = ((0.0, row), (column, 0.0))
    return lambda s: (jnp.eye(2) + 0.3 * s * jnp.array(across), jnp.zeros(2))


def _turn(signed: Array) -> tuple[Array, Array]:
    return rotation(math.radians(30) * signed), jnp.zeros(2)


def _sharpen(image: Array, signed: Array) -> Array:
    kernel = jnp.array([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]]) / 13
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = image.shape[:2]
    smooth = sum(
        kernel[i, j] * padded[i : i + height, j : j + width]
        for i in range(3)
        for j in range(3)
    )
    return jnp.clip(image + 0.9 * signed * (image - smooth), 0.0, 1.0)


def _solarize(image: Array, signed: Array) -> Array:
    return jnp.where(image > 1 - abs(signed), 1 - image, image)


def _posterize(image: Array, signed: Array) -> Array:
    step = 2.0 ** jnp.round(4 * abs(signed))
    level = jnp.round(image * (_LEVELS - 1))
    coarse = jnp.floor(level / step) * step / (_LEVELS - 1)
    return jnp.where(step > 1, coarse, image)


def _autocontrast(image: Array, _: Array) -> Array:
    low, high = image.min((0, 1)), image.max((0, 1))
    span = jnp.where(high > low, high - low, 1.0)
    return jnp.where(high > low, (image - low) / span, image)


def _equalize(image: Array, _: Array) -> Array:
    return jax.vmap(_equalize_channel, in_axes=-1, out_axes=-1)(image)


def _equalize_channel(channel: Array) -> Array:
    level = jnp.clip(jnp.round(channel * (_LEVELS - 1)), 0, _LEVELS - 1).astype(int)
    below = jnp.cumsum(jnp.zeros(_LEVELS).at[level].add(1.0))
    lowest = below[level.min()]  # how many pixels are of the darkest level
    others = channel.size - lowest
    flat = (below[level] - lowest) / jnp.maximum(others, 1.0)
    return jnp.where(others > 0, flat, channel)


# Moves of the pixels: from the signed strength to a matrix, and a shift in sides.
MOVES: list[Callable[[Array], tuple[Array, Array]]] = [
    _shift(0.0, 0.0),  # nothing
    _turn,
    _shear(1.0, 0.0),
    _shear(0.0, 1.0),
    _shift(1.0, 0.0),
    _shift(0.0, 1.0),
]
# Changes of the colours: from an image and the signed strength to another image.
COLOURS: list[Callable[[Array, Array], Array]] = [
    lambda x, s: brighten(x, 1 + 0.9 * s),
    lambda x, s: spread(x, 1 + 0.9 * s),
    lambda x, s: saturate(x, 1 + 0.9 * s),
    _sharpen,
    _solarize,
    _posterize,
    _autocontrast,
    _equalize,
]
