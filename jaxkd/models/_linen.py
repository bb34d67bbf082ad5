"""The adapter of Flax Linen."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from jaxkd._types import Batch, Params, PRNGKey, Tree
from jaxkd.models._batchnorm import exact_linen_batchnorm
from jaxkd.models._protocol import (
    ALL_FEATURES,
    Model,
    Out,
    Variables,
    check_module,
    check_output,
    pick_features,
    random_streams,
    read_inputs,
    training_switch,
)


def from_linen(
    module: nn.Module,
    *,
    inputs: str | Sequence[str] = "image",
    rngs: Sequence[str] = ("dropout",),
) -> Model:
    """Makes a model of a Flax Linen module, without touching it.

    Its BatchNorm layers count, in training, what the batch's ``mask`` counts, on all
    devices. If ``__call__`` has an argument named ``train``, ``training``,
    ``is_training`` or ``deterministic``, it is set by the mode. The features are the
    outputs of all submodules, by path: ``"block1/conv"``; and what they ``sow`` into
    the collection ``"intermediates"``: ``"block1/attention/attention_weights"``.

    Args:
        module: the module; its call returns the logits.
        inputs: the entries of the batch which are its positional arguments.
        rngs: names of its random streams.

    Returns:
        A :class:`~jaxkd.models.Model`; all collections but ``params`` are its state.

    Raises:
        TypeError: if it is no module of Linen.
        KeyError: at the call, for a missing input or an unknown feature.

    Examples:
        >>> import flax.linen as nn, jax, jax.numpy as jnp
        >>> from jaxkd import models
        >>> model = models.from_linen(nn.Dense(3), inputs="x")
        >>> batch = {"x": jnp.ones((2, 4))}
        >>> params, state = model.init(jax.random.key(0), batch)
        >>> model.apply(params, state, batch).logits.shape
        (2, 3)
    """
    check_module(module, nn.Module, "from_linen", "nn.Dense(3)")
    names = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    switch = training_switch(module)
    dynamic: Any = module  # its signature is the user's

    def init(key: PRNGKey, batch: Batch) -> Variables:
        streams = random_streams(("params", *rngs), key)
        variables = dict(
            dynamic.init(streams, *read_inputs(batch, names), **switch(False))
        )
        params = variables.pop("params", {})
        variables.pop("intermediates", None)
        return Variables(params, variables)

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
        exact = exact_linen_batchnorm(batch, axis_name)

        def run(features: Sequence[str]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
            captures = ["intermediates"] if features else []
            with nn.intercept_methods(exact):
                logits, updated = dynamic.apply(
                    {"params": params, **state},
                    *read_inputs(batch, names),
                    **switch(train),
                    rngs=random_streams(rngs, rng),
                    mutable=[*state, *captures] if train else captures,
                    capture_intermediates=_wanted(features),
                )
            updated = dict(updated)
            found = _flatten_captures(updated.pop("intermediates", {}))
            return logits, updated, found

        logits, updated, found = run(features)
        if features != ALL_FEATURES:
            if not set(features) <= set(found):  # list all there are, by shape only
                found = jax.eval_shape(lambda: run(ALL_FEATURES)[2])
            found = pick_features(features, found)
        return Out(check_output(logits), found, _next_state(state, updated))

    return Model(init, apply)


def _next_state(state: Tree, updated: dict[str, Any]) -> Tree:
    # What is sown grows at every call: that is a record, not a state.
    kept = {
        name: updated[name]
        if name in updated
        and jax.tree.structure(updated[name]) == jax.tree.structure(before)
        else before
        for name, before in state.items()
    }
    return kept


def _wanted(features: Sequence[str]) -> Callable[[nn.Module, str], bool] | bool:
    if not features:
        return False

    def wanted(module: nn.Module, method: str) -> bool:
        path = "/".join(module.path)
        return (
            method == "__call__"
            and path != ""
            and (features == ALL_FEATURES or path in features)
        )

    return wanted


def _flatten_captures(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten_captures(value, f"{prefix}{key}/")
        elif isinstance(value, tuple):  # one entry for each call, or each `sow`
            name = prefix.removesuffix("/") if key == "__call__" else f"{prefix}{key}"
            flat[name] = value[-1]
    return flat
