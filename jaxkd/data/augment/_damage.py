"""Damage that a model should withstand: noise and blur."""

import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import PRNGKey
from jaxkd.data._arrays import Transform
from jaxkd.data.augment._base import per_example


def noise(*, std: float = 0.1) -> Transform:
    """Gaussian noise on every pixel; nothing is clipped.

    Args:
        std: standard deviation, in the images' unit.

    Returns:
        A transform of floating images.

    Raises:
        ValueError: if ``std`` is not positive.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxkd.data import augment
        >>> batch = {"image": jnp.zeros((4, 16, 16, 3))}
        >>> image = augment.noise(std=0.5)(jax.random.key(0), batch)["image"]
        >>> print(round(float(image.std()), 1))
        0.5

    References:
        Hendrycks, Dietterich, `Benchmarking neural network robustness to common
        corruptions and perturbations <https://arxiv.org/abs/1903.12261>`_, 2019.
    """
    _checks.check_positive(std=std)

    def one(key: PRNGKey, image: Array) -> Array:
        return image + std * jax.random.normal(key, image.shape)

    return per_example(one, "noise")


def blur(*, sigma: float = 1.0) -> Transform:
    r"""Gaussian blur: each pixel becomes the mean of its neighbours.

    The weights are :math:`\exp(-d^2 / 2 \sigma^2)` up to :math:`3 \sigma` away, and sum
    to 1; beyond the border the outermost pixels go on.

    Args:
        sigma: standard deviation, in pixels.

    Returns:
        A transform of floating images.

    Raises:
        ValueError: if ``sigma`` is not positive.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxkd.data import augment
        >>> image = jnp.zeros((1, 9, 9, 1)).at[0, 4, 4, 0].set(1.0)
        >>> soft = augment.blur(sigma=1.0)(jax.random.key(0), {"image": image})["image"]
        >>> print(round(float(soft.sum()), 3), float(soft.max()) < 0.2)
        1.0 True

    References:
        Hendrycks, Dietterich, `Benchmarking neural network robustness to common
        corruptions and perturbations <https://arxiv.org/abs/1903.12261>`_, 2019.
    """
    _checks.check_positive(sigma=sigma)
    reach = max(1, round(3 * sigma))
    weights = jnp.exp(-(jnp.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weights = weights / jnp.sum(weights)

    def along(image: Array, axis: int) -> Array:
        sides = [(0, 0)] * image.ndim
        sides[axis] = (reach, reach)
        wide = jnp.pad(image, sides, mode="edge")
        length = image.shape[axis]
        parts = [
            jax.lax.slice_in_dim(wide, i, i + length, axis=axis)
            for i in range(len(weights))
        ]
        return jnp.tensordot(weights, jnp.stack(parts), axes=1)

    def one(_: PRNGKey, image: Array) -> Array:
        return along(along(image, 0), 1)

    return per_example(one, "blur")
