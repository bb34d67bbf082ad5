"""The adapter of Flax NNX."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jax import numpy as jnp

from jaxkd._types import Batch, Params, PRNGKey, Tree
from jaxkd.models._batchnorm import (
    batch_moments,
    blend,
    examples_that_count,
    normalize,
)
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


def from_nnx(
    module: nnx.Module,
    *,
    inputs: str | Sequence[str] = "image",
    rngs: Sequence[str] = ("default", "dropout"),
) -> Model:
    """Makes a model of a Flax NNX module, which stays as it is.

    An NNX module carries its values, so ``init`` returns a copy of those and draws
    nothing from its key. Training is switched by ``train()`` and ``eval()``, and by an
    argument of ``__call__`` if :func:`from_linen` would find one. The features are the
    outputs of all submodules, by path:
    ``"layers/0"``.

    Args:
        module: the module; its call returns the logits.
        inputs: the entries of the batch which are its positional arguments.
        rngs: names of its random streams.

    Returns:
        A :class:`~jaxkd.models.Model`; ``nnx.Param`` are its parameters, all other
        variables its state.

    Raises:
        TypeError: if it is no module of NNX.
        KeyError: at the call, for a missing input or an unknown feature.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import models
        >>> model = models.from_nnx(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), inputs="x")
        >>> batch = {"x": jnp.ones((2, 4))}
        >>> params, state = model.init(jax.random.key(0), batch)
        >>> model.apply(params, state, batch).logits.shape
        (2, 3)
    """
    check_module(module, nnx.Module, "from_nnx", "nnx.Linear(4, 3, rngs=nnx.Rngs(0))")
    names = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    switch = training_switch(module)
    graph, values, others = nnx.split(module, nnx.Param, ...)

    def init(key: PRNGKey, batch: Batch) -> Variables:
        return jax.tree.map(lambda x: x.copy(), Variables(values, others))

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
        # A copy, or updating BatchNorm under `grad` is an update of another trace.
        live = nnx.merge(graph, params, state, copy=True)
        _set_mode(live, train, batch, axis_name)
        if rng is not None:
            reseed: Any = nnx.reseed  # its keywords are the streams
            reseed(live, **random_streams(rngs, rng))
        arguments, mode = read_inputs(batch, names), switch(train)
        if not features:
            logits = check_output(live(*arguments, **mode))
            return Out(logits, {}, _state(live, state, train))
        forward = nnx.capture(live, nnx.Intermediate, method_outputs=nnx.Intermediate)
        logits, captured = forward(*arguments, **mode)
        found = _flatten_captures(captured)
        if features != ALL_FEATURES:
            found = pick_features(features, found)
        return Out(check_output(logits), found, _state(live, state, train))

    return Model(init, apply)


def _set_mode(
    live: nnx.Module, train: bool, batch: Batch, axis_name: str | None
) -> None:
    """In training, BatchNorm counts what the batch's mask counts, on all devices."""
    if not train:
        live.eval()
        return
    live.train()

    class Exact(nnx.BatchNorm):
        def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
            if self.use_running_average or args or kwargs or self.axis != -1:
                return super().__call__(x, *args, **kwargs)
            where = examples_that_count(batch, x)
            mean, var = batch_moments(x, where, self.axis_name or axis_name)
            self.mean[...] = blend(self.mean[...], mean, self.momentum)
            self.var[...] = blend(self.var[...], var, self.momentum)
            scale, bias = (v if v is None else v[...] for v in (self.scale, self.bias))
            y = normalize(x, mean, var, scale, bias, self.epsilon)
            return y.astype(self.dtype or jnp.result_type(x))

    for _, layer in nnx.iter_modules(live):
        if type(layer) is nnx.BatchNorm:
            layer.__class__ = Exact  # of our copy only


def _state(live: nnx.Module, before: Tree, train: bool) -> Tree:
    if not train:
        return before
    nnx.pop(live, nnx.Intermediate)  # what is sown is a record, not a state
    return nnx.split(live, nnx.Param, ...)[2]


def _flatten_captures(captured: Tree) -> dict[str, Any]:
    return {
        "/".join(map(str, path)).removesuffix("/__call__"): jax.tree.leaves(value)[-1]
        for path, value in nnx.to_flat_state(captured)
        if len(path) > 1
    }
