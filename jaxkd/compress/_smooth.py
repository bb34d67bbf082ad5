"""SmoothQuant: large activations made smaller, by making their weights larger."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxkd import _checks, trees
from jaxkd._types import Params, Real


def smooth_scales(
    inputs_absmax: Float[Array, " features"],
    weights_absmax: Float[Array, " features"],
    *,
    strength: Real = 0.5,
) -> Float[Array, " features"]:
    r"""By how much to divide each input of a layer, and multiply its weights.

    .. math::
        s_j = \max(|X_j|)^{a} / \max(|W_j|)^{1 - a}

    and at least 1e-5.

    Args:
        inputs_absmax: the largest magnitude of each input; see :func:`stream_absmax`.
        weights_absmax: the largest magnitude of the weights of each input.
        strength: :math:`a`; 0 leaves the weights flat, 1 the inputs.

    Returns:
        One scale for each input, 1 where it or its weights are always 0.

    Raises:
        ValueError: if the shapes differ or the strength is not in ``[0, 1]``.

    References:
        Xiao et al., `SmoothQuant <https://arxiv.org/abs/2211.10438>`_, 2023, section 4.
    """
    _checks.check_same_shape(inputs_absmax=inputs_absmax, weights_absmax=weights_absmax)
    _checks.check_fraction(strength=strength)
    used = (inputs_absmax > 0) & (weights_absmax > 0)
    inputs = jnp.where(used, inputs_absmax, 1)
    weights = jnp.where(used, weights_absmax, 1)
    return jnp.maximum(inputs**strength / weights ** (1 - strength), 1e-5)


def smooth(
    params: Params,
    inputs_absmax: Float[Array, " features"],
    apply: Callable[[Params], Array],
    *,
    producers: str,
    consumers: str,
    strength: Real = 0.5,
) -> Params:
    r"""Moves the size of activations into the weights which they meet.

    .. math::
        y = x W = (x / s)\, (s W)

    What makes the activations is divided by :math:`s` along its last axis, usually
    the scale and bias of a normalisation; the kernels are multiplied along their axis
    -2. This is no change only if nothing but a product stands between, and
    nobody else reads the activations; a normalisation that multiplies by one plus its
    scale, say, breaks it. So the outputs are compared.

    Args:
        params: a tree of arrays.
        inputs_absmax: the largest magnitude of each activation.
        apply: maps parameters to outputs on some fixed inputs.
        producers: a regular expression for the paths of what makes the activations.
        consumers: another for the kernels which read them.
        strength: see :func:`smooth_scales`.

    Returns:
        A tree like ``params`` with the same outputs.

    Raises:
        ValueError: if the outputs are not the same to 1e-4 of the largest, a path
            matches nothing or both, or a shape does not fit.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {
        ...     "norm": {"scale": jnp.ones(2)},
        ...     "dense": {"kernel": jnp.ones((2, 3))},
        ... }
        >>> x = jnp.array([[100.0, 1.0]])
        >>> apply = lambda p: (x * p["norm"]["scale"]) @ p["dense"]["kernel"]
        >>> smoothed = compress.smooth(
        ...     params,
        ...     jnp.array([100.0, 1.0]),
        ...     apply,
        ...     producers="^norm",
        ...     consumers="^dense",
        ... )
        >>> print(smoothed["norm"]["scale"])
        [0.1 1. ]

    References:
        Xiao et al., `SmoothQuant <https://arxiv.org/abs/2211.10438>`_, 2023, section 4.
    """
    roles = trees.assign(
        params, [(producers, "producer"), (consumers, "consumer")], default=""
    )
    both = trees.mask(params, consumers)
    _check_roles(params, roles, both, inputs_absmax)
    scales = smooth_scales(
        inputs_absmax, _weights_absmax(params, roles), strength=strength
    )

    def one(x: Array, role: str) -> Array:
        if not role:
            return x
        s = scales.astype(x.dtype)
        s = s.reshape((1,) * (x.ndim - 1) + (-1,))
        return x / s if role == "producer" else x * jnp.swapaxes(s, -1, -2)

    smoothed = jax.tree.map(one, params, roles)
    check_same_outputs(apply, params, smoothed)
    return smoothed


def check_same_outputs(
    apply: Callable[[Params], Any],
    before: Params,
    after: Params,
    *,
    tolerance: Real = 1e-4,
) -> None:
    """Raises unless two sets of parameters give the same outputs.

    Args:
        apply: maps parameters to outputs, on inputs of its own.
        before: parameters.
        after: parameters that should mean the same.
        tolerance: the largest difference, as a fraction of the largest output.

    Raises:
        ValueError: if they differ by more, or one of them is not finite.
    """
    wants, gots = (jax.tree.leaves(apply(p)) for p in (before, after))
    for want, got in zip(wants, gots, strict=True):
        want, got = np.asarray(want, np.float32), np.asarray(got, np.float32)
        size = np.abs(want).max(initial=0.0)
        apart = np.abs(got - want).max(initial=0.0)
        if not apart <= tolerance * size:
            raise ValueError(
                f"the outputs changed by {apart:.3g}, of at most {size:.3g}: the "
                "scales do not cancel in this model, so nothing was changed."
            )


def _check_roles(params: Params, roles: Any, both: Any, inputs_absmax: Array) -> None:
    n = inputs_absmax.shape[-1]
    found = trees.flatten(roles)
    for (path, role), also in zip(found.items(), jax.tree.leaves(both), strict=True):
        if role == "producer" and also:
            raise ValueError(f"{path!r} matches both `producers` and `consumers`.")
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(params)]
    for (path, role), shape in zip(found.items(), shapes, strict=True):
        axis = -1 if role == "producer" else -2
        if role and (len(shape) < -axis or shape[axis] != n):
            raise ValueError(
                f"{path!r} has shape {shape}, but as a {role} of {n} activations it "
                f"needs {n} along axis {axis}."
            )


def _weights_absmax(params: Params, roles: Any) -> Float[Array, " features"]:
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(roles), strict=True)
    kernels = [x for x, role in pairs if role == "consumer"]
    others = lambda x: tuple(i for i in range(x.ndim) if i != x.ndim - 2)
    each = [jnp.max(jnp.abs(x), axis=others(x)).astype(jnp.float32) for x in kernels]
    return jnp.max(jnp.stack(each), axis=0)
