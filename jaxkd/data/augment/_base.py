"""From a function of one example to a transform of whole batches."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _names
from jaxkd._types import PRNGKey
from jaxkd.data._arrays import Transform

Range: TypeAlias = float | tuple[float, float]


def compose(*transforms: Transform) -> Transform:
    """Transforms one after the other, each with its own key.

    Args:
        *transforms: the first comes first.

    Returns:
        A transform.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxkd.data import augment
        >>> view = augment.compose(augment.flip(), augment.pad_crop(padding=4))
        >>> batch = {"image": jnp.ones((2, 8, 8, 3)), "label": jnp.array([0, 1])}
        >>> view(jax.random.key(0), batch)["image"].shape
        (2, 8, 8, 3)
    """

    def transform(key: PRNGKey, batch: dict[str, Any]) -> dict[str, Any]:
        for i, one in enumerate(transforms):
            batch = one(jax.random.fold_in(key, i), batch)
        return batch

    return transform


def to_float(*, dtype: Any = jnp.float32) -> Transform:
    """Images of bytes, 0 to 255, as floats in ``[0, 1]``.

    Args:
        dtype: of the result.

    Returns:
        A transform.

    Raises:
        TypeError: when called, if the images are not uint8.

    Examples:
        >>> import jax
        >>> import numpy as np
        >>> from jaxkd.data import augment
        >>> batch = {"image": np.full((1, 1, 1, 1), 255, np.uint8)}
        >>> print(augment.to_float()(jax.random.key(0), batch)["image"].ravel())
        [1.]
    """

    def transform(_: PRNGKey, batch: dict[str, Any]) -> dict[str, Any]:
        image = _names.get(batch, "image", "`to_float`")
        if image.dtype != jnp.uint8:
            raise TypeError(
                f"`to_float` takes images of bytes (uint8), got {image.dtype}."
            )
        return {**batch, "image": (jnp.asarray(image) / 255).astype(dtype)}

    return transform


def per_example(
    function: Callable[[PRNGKey, Array], Array],
    name: str,
    *,
    entry: str = "image",
    axes: str = "batch, height, width, channels",
    floating: bool = True,
) -> Transform:
    """A transform which changes one entry, each example by a key of its own.

    Args:
        function: from a key and an example, ``[height, width, channels]``, to another
            of the same shape; jitted and mapped over the batch here.
        name: of the transform, for errors.
        entry: the entry of the batch.
        axes: the axes it must have.
        floating: whether it must be floating point.

    Returns:
        A transform; it raises ``KeyError``, ``ValueError`` or ``TypeError`` when
        called, if the entry is missing, or has other axes or another dtype.
    """

    @jax.jit
    def run(key: PRNGKey, x: Array) -> Array:
        keys = jax.random.split(key, len(x))
        return jax.vmap(function)(keys, x).astype(x.dtype)

    def transform(key: PRNGKey, batch: dict[str, Any]) -> dict[str, Any]:
        x = read(batch, name, entry, axes, floating=floating)
        return {**batch, entry: run(key, x)}

    return transform


def read(
    batch: dict[str, Any], name: str, entry: str, axes: str, *, floating: bool = True
) -> Any:
    """An entry of the batch, checked.

    Args:
        batch: a batch.
        name: of the transform, for errors.
        entry: the entry of the batch.
        axes: the axes it must have.
        floating: whether it must be floating point.

    Returns:
        The entry.

    Raises:
        KeyError: if it is missing.
        ValueError: if it has other axes.
        TypeError: if it is not floating point.
    """
    x = _names.get(batch, entry, f"`{name}`")
    if x.ndim != len(axes.split(",")):
        raise ValueError(
            f"`{name}` needs batch[{entry!r}] of shape [{axes}], got {x.shape}."
        )
    if floating and not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"`{name}` needs batch[{entry!r}] in floating point, got {x.dtype}; "
            "`augment.to_float()` before it makes bytes so."
        )
    return x


def check_range(name: str, bounds: Range, least: float) -> tuple[float, float]:
    """Two bounds, from a number or a pair.

    Args:
        name: of the argument.
        bounds: a pair, or ``x`` for ``(-x, x)``.
        least: what the lower bound must be above.

    Returns:
        The bounds.

    Raises:
        ValueError: if they are out of order or out of range.
    """
    low, high = bounds if isinstance(bounds, Sequence) else (-bounds, bounds)
    if not least < low <= high < float("inf"):
        above = f", above {least:g}" if least > float("-inf") else ""
        raise ValueError(
            f"`{name}` must be a range (low, high) of numbers{above}, got {bounds}."
        )
    return float(low), float(high)


def uniform(key: PRNGKey, bounds: tuple[float, float]) -> Array:
    """A number of a range, exact if both bounds are the same.

    Args:
        key: a typed key.
        bounds: the range.

    Returns:
        A float32 scalar.
    """
    low, high = bounds
    return low + (high - low) * jax.random.uniform(key)
