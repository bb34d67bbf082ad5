"""The adapter of Equinox (an extra)."""

import inspect
from collections.abc import Sequence
from typing import Any

import jax

from jaxkd._types import Batch, Params, PRNGKey, Tree
from jaxkd.models._protocol import Model, Out, Variables, pick_features, read_inputs


def from_equinox(module: Any, *, inputs: str | Sequence[str] = "image") -> Model:
    """Makes a model of an Equinox module, which acts on one example at a time.

    An Equinox module carries its values, so ``init`` returns a copy of those and draws
    nothing from its key. Stateful layers (``eqx.nn.State``) and features by name are
    not supported: return ``(logits, features)`` from the module to offer features.

    Args:
        module: a callable module of one example, ``module(x)``, or ``module(x, key=)``
            if it draws random numbers; it returns the logits, or
            ``(logits, {name: feature})``.
        inputs: the entries of the batch which are its positional arguments.

    Returns:
        A :class:`~jaxkd.models.Model`.

    Raises:
        ModuleNotFoundError: if Equinox is not installed.
        KeyError: at the call, for a missing input or an unknown feature.

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp
        >>> from jaxkd import models
        >>> module = eqx.nn.Linear(4, 3, key=jax.random.key(0))
        >>> model = models.from_equinox(module, inputs="x")
        >>> batch = {"x": jnp.ones((2, 4))}
        >>> params, state = model.init(jax.random.key(0), batch)
        >>> model.apply(params, state, batch).logits.shape
        (2, 3)
    """
    try:
        import equinox as eqx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "from_equinox needs Equinox: pip install 'jaxkd[equinox]'."
        ) from error

    names = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    takes_key = "key" in inspect.signature(type(module).__call__).parameters
    values, static = eqx.partition(module, eqx.is_inexact_array)

    def init(key: PRNGKey, batch: Batch) -> Variables:
        return Variables(jax.tree.map(lambda x: x.copy(), values))

    def apply(
        params: Params,
        state: Tree,
        batch: Batch,
        *,
        rng: PRNGKey | None = None,
        train: bool = False,
        features: Sequence[str] = (),
        axis_name: str | None = None,
    ) -> Out:
        live = eqx.nn.inference_mode(eqx.combine(params, static), not train)
        arguments = read_inputs(batch, names)
        if rng is None or not takes_key:
            out = jax.vmap(live)(*arguments)
        else:
            keys = jax.random.split(rng, arguments[0].shape[0])
            out = jax.vmap(lambda key, *x: live(*x, key=key))(keys, *arguments)
        logits, found = out if isinstance(out, tuple) else (out, {})
        return Out(logits, pick_features(features, found), state)

    return Model(init, apply)
