"""The adapter of Equinox (an extra)."""

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from jax import numpy as jnp

from jaxkd._extras import require
from jaxkd._types import Batch, Params, PRNGKey, Tree
from jaxkd.models._protocol import Model, Out, Variables, pick_features, read_inputs


def from_equinox(
    module: Any,
    *,
    inputs: str | Sequence[str] = "image",
    state: Any = None,
    channels_first: bool = True,
) -> Model:
    """Makes a model of an Equinox module, which acts on one example at a time.

    An Equinox module carries its values, so ``init`` returns a copy of those and draws
    nothing from its key. Features are the outputs of its submodules, by their path
    (``"layers/0"``), and what it returns beside the logits. With ``state``, layers such
    as ``eqx.nn.BatchNorm`` see the batch as the axis ``"batch"``: all examples of a
    device count, whatever the batch's mask.

    Args:
        module: a callable module of one example, ``module(x)``, or ``module(x, key=)``
            if it draws random numbers; it returns the logits, or
            ``(logits, {name: feature})``.
        inputs: the entries of the batch which are its positional arguments.
        state: of ``eqx.nn.make_with_state``, if there are stateful layers; the module
            is then ``module(x, state)``, and returns ``(logits, state)``.
        channels_first: whether features with three or more axes for an example, images
            as a rule, are turned to have their channels last, as losses want them.

    Returns:
        A :class:`~jaxkd.models.Model`.

    Raises:
        ModuleNotFoundError: if Equinox is not installed.
        KeyError: at the call, for a missing input or an unknown feature.

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp
        >>> from jaxkd import models
        >>> module = eqx.nn.MLP(4, 3, 8, 1, key=jax.random.key(0))
        >>> model = models.from_equinox(module, inputs="x")
        >>> batch = {"x": jnp.ones((2, 4))}
        >>> params, state = model.init(jax.random.key(0), batch)
        >>> out = model.apply(params, state, batch, features=["layers/0"])
        >>> out.logits.shape, out.features["layers/0"].shape
        ((2, 3), (2, 8))
    """
    eqx = require("equinox", "equinox", "from_equinox")
    names = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    takes_key = "key" in inspect.signature(type(module).__call__).parameters
    values, static = eqx.partition(module, eqx.is_inexact_array)
    held, structure = jax.tree.flatten(state)

    def init(key: PRNGKey, batch: Batch) -> Variables:
        return jax.tree.map(lambda x: x.copy(), Variables(values, held))

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
        before = jax.tree.unflatten(structure, state)
        arguments = read_inputs(batch, names)
        keys = rng
        if rng is not None and takes_key:
            keys = jax.random.split(rng, arguments[0].shape[0])

        def one(key: PRNGKey | None, *x: Any) -> tuple[Any, Any]:
            options = {"key": key} if takes_key and key is not None else {}
            stateful = () if before is None else (before,)
            seen, watched = _watched(eqx, live) if features else ({}, live)
            out = watched(*x, *stateful, **options)
            out, after = (out, None) if before is None else out
            logits, returned = out if isinstance(out, tuple) else (out, {})
            found = {name: _last(x, channels_first) for name, x in seen.items()}
            return (logits, found | dict(returned)), after

        mapped = (0 if takes_key and rng is not None else None, *[0] * len(arguments))
        run = jax.vmap(one, mapped, (0, None), axis_name="batch")
        (logits, found), after = run(keys, *arguments)
        kept = state if before is None or not train else jax.tree.leaves(after)
        return Out(logits, pick_features(features, found), kept)

    return Model(init, apply)


def _watched(eqx: Any, module: Any) -> tuple[dict[str, Any], Any]:
    """The module with submodules that note what they return, by path."""
    seen: dict[str, Any] = {}

    class Watch(eqx.Module):
        inner: Any
        name: str = eqx.field(static=True)

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            out = self.inner(*args, **kwargs)
            first = out[0] if isinstance(out, tuple) else out
            if isinstance(first, jax.Array):
                seen[self.name] = first
            return out

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    deepest_first = sorted(_submodules(eqx, module), key=lambda found: -len(found[1]))
    for name, path in deepest_first:
        at = lambda tree, path=path: _follow(tree, path)
        module = eqx.tree_at(at, module, Watch(at(module), name))
    return seen, module


def _submodules(
    eqx: Any, tree: Any, path: tuple[Any, ...] = ()
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The callable modules inside, with their names and the steps that lead there."""
    if path and isinstance(tree, eqx.Module) and callable(tree):
        yield "/".join(map(str, path)), path
    if isinstance(tree, eqx.Module):
        module: Any = tree
        names = [field.name for field in dataclasses.fields(module)]
        inner = {name: getattr(module, name, None) for name in names}
    elif isinstance(tree, Mapping):
        inner = dict(tree)
    elif isinstance(tree, (list, tuple)):
        inner = dict(enumerate(tree))
    else:
        return
    for step, branch in inner.items():
        yield from _submodules(eqx, branch, (*path, step))


def _follow(tree: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        by_name = isinstance(step, str) and not isinstance(tree, Mapping)
        tree = getattr(tree, step) if by_name else tree[step]
    return tree


def _last(feature: jax.Array, channels_first: bool) -> jax.Array:
    """An image of one example with its channels last."""
    if channels_first and feature.ndim > 2:
        return jnp.moveaxis(feature, 0, -1)
    return feature
