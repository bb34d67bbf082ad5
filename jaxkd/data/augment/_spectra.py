"""SpecAugment."""

import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd._types import PRNGKey
from jaxkd.data._arrays import Transform
from jaxkd.data.augment._base import per_example


def spec_augment(
    *,
    time: tuple[int, int] = (2, 40),
    mel: tuple[int, int] = (2, 27),
    fill: float = 0.0,
    entry: str = "mel",
) -> Transform:
    """Hides stretches of time and bands of frequency of log-mel spectrograms.

    Each mask's width is uniform from 0 to its bound, and so is its place among those
    inside. The paper's time warping, which it finds to matter little, is left out.

    Args:
        time: how many masks, and the bound of their width in frames.
        mel: how many masks, and the bound of their width in mel channels.
        fill: the value inside; 0 is the mean of standardised spectrograms.
        entry: the entry of the batch, ``[batch, time, mel]``.

    Returns:
        A transform of spectrograms of any dtype.

    Raises:
        ValueError: if a number is negative.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxkd.data import augment
        >>> batch = {"mel": jnp.ones((1, 100, 40))}
        >>> hide = augment.spec_augment(time=(1, 10), mel=(0, 0))
        >>> kept = hide(jax.random.key(0), batch)["mel"].sum() / 40
        >>> print(90 <= kept <= 100)
        True

    References:
        Park et al., `SpecAugment: A Simple Data Augmentation Method for Automatic
        Speech Recognition <https://arxiv.org/abs/1904.08779>`_, 2019, section 2.
    """
    for name, pair in {"time": time, "mel": mel}.items():
        if min(pair) < 0:
            raise ValueError(
                f"`{name}` must be (masks, width), not below 0, got {pair}."
            )

    def one(key: PRNGKey, x: Array) -> Array:
        time_key, mel_key = jax.random.split(key)
        hidden = _masks(time_key, x.shape[0], *time)[:, None]
        hidden |= _masks(mel_key, x.shape[1], *mel)[None, :]
        return jnp.where(hidden, jnp.asarray(fill, x.dtype), x)

    return per_example(
        one, "spec_augment", entry=entry, axes="batch, time, mel", floating=False
    )


def _masks(key: PRNGKey, length: int, count: int, bound: int) -> Array:
    width_key, place_key = jax.random.split(key)
    width = jax.random.randint(width_key, (count,), 0, min(bound, length) + 1)
    first = jax.random.randint(place_key, (count,), 0, length - width + 1)
    place = jnp.arange(length)[:, None]
    return ((place >= first) & (place < first + width)).any(-1)
