"""The model protocol: every model is one pure function, whatever wrote it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax

from jaxkd import _names
from jaxkd._types import Batch, Params, PRNGKey, Tree

ALL_FEATURES: tuple[str, ...] = ("*",)
# How modules of the field call their training switch, and its value in training.
_SWITCHES = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
}


class Out(NamedTuple):
    """What a model returns.

    Attributes:
        logits: shape ``[*batch, classes]``.
        features: the intermediate values that were asked for, by name.
        state: the model's state after the call (BatchNorm statistics); as it was, if
            the call was not in training mode.
    """

    logits: Any
    features: Mapping[str, Any] = {}
    state: Tree = {}


class Variables(NamedTuple):
    """The values of a model.

    Attributes:
        params: what the optimizer trains.
        state: what the forward pass updates by itself, such as BatchNorm statistics;
            ``{}`` for none.
    """

    params: Params
    state: Tree = {}


class Apply(Protocol):
    """``apply(params, state, batch, *, rng, train, features, axis_name) -> Out``."""

    def __call__(
        self,
        params: Params,
        state: Tree,
        batch: Batch,
        *,
        rng: PRNGKey | None = None,
        train: bool = False,
        features: Sequence[str] = (),
        axis_name: str | None = None,
    ) -> Out:
        """Runs the model.

        Args:
            params: the trained values.
            state: the other values.
            batch: a dict of arrays, of which the model reads its inputs.
            rng: a typed key for dropout and its like; without it, none is drawn.
            train: training mode (dropout on, BatchNorm by batch statistics).
            features: names of the intermediate values to return.
            axis_name: the mapped axis in training under ``pmap`` or ``shard_map``, for
                what couples the examples: BatchNorm.

        Returns:
            An :class:`Out`.
        """
        ...


class Model(NamedTuple):
    """A model as two pure functions.

    Attributes:
        init: ``(key, batch) -> Variables``.
        apply: see :class:`Apply`.
    """

    init: Callable[[PRNGKey, Batch], Variables]
    apply: Apply


def from_function(
    fn: Callable[[Params, Batch], Any],
    init: Callable[[PRNGKey, Batch], Params] | None = None,
) -> Model:
    """Makes a model of a plain function.

    Without parameters it serves teacher outputs that come with the batch, from a cache
    or a service: ``from_function(lambda params, batch: batch["teacher_logits"])``.

    Args:
        fn: ``(params, batch) -> logits``, or ``-> (logits, {name: feature})``.
        init: ``(key, batch) -> params``; by default there are no parameters.

    Returns:
        A :class:`Model` without state, the same in training and evaluation.

    Raises:
        KeyError: at the call, if a feature asked for is not returned.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import models
        >>> linear = models.from_function(
        ...     lambda params, batch: batch["x"] @ params,
        ...     lambda key, batch: jnp.ones((batch["x"].shape[-1], 2)),
        ... )
        >>> batch = {"x": jnp.ones((1, 3))}
        >>> params, state = linear.init(jax.random.key(0), batch)
        >>> print(linear.apply(params, state, batch).logits)
        [[3. 3.]]
    """

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
        out = fn(params, batch)
        logits, found = out if isinstance(out, tuple) else (out, {})
        return Out(logits, pick_features(features, found), state)

    return Model(lambda key, b: Variables(init(key, b) if init else {}), apply)


def pick_features(names: Sequence[str], found: Mapping[str, Any]) -> dict[str, Any]:
    """Chooses features by name.

    Args:
        names: the names asked for.
        found: the features there are.

    Returns:
        The features asked for.

    Raises:
        KeyError: for a name that is not there, with the nearest ones.
    """
    if tuple(names) == ALL_FEATURES:
        return dict(found)
    for name in names:
        if name not in found:
            raise KeyError(
                f"the model has no feature {name!r}; {_names.nearest(name, found)}"
            )
    return {name: found[name] for name in names}


def read_inputs(batch: Batch, inputs: Sequence[str]) -> list[Any]:
    """The entries of the batch which a model takes.

    Args:
        batch: a dict of arrays.
        inputs: their names, in the order of the model's arguments.

    Returns:
        The arrays.

    Raises:
        KeyError: if one is missing.
    """
    for name in inputs:
        if name not in batch:
            raise KeyError(
                f"the model needs batch[{name!r}]; {_names.nearest(name, batch)} "
                "The adapter's `inputs` say which entries the model takes."
            )
    return [batch[name] for name in inputs]


def check_module(module: Any, kind: type, adapter: str, example: str) -> None:
    """Raises unless a module is of the library that an adapter is for.

    Args:
        module: what was given.
        kind: the class of that library's modules.
        adapter: the adapter's name, for the message.
        example: a module, for the message.

    Raises:
        TypeError: if it is not an instance.
    """
    if not isinstance(module, kind):
        what = "a class" if isinstance(module, type) else f"a {type(module).__name__}"
        library = ".".join(kind.__module__.split(".")[:2])
        raise TypeError(
            f"{adapter} takes a module of {library}, made, such as {example}; got "
            f"{what}. For others there are from_linen, from_nnx, from_equinox and "
            "from_function."
        )


def training_switch(module: Any) -> Callable[[bool], dict[str, bool]]:
    """How to tell a module whether it is in training.

    Args:
        module: a module; the arguments of its ``__call__`` decide.

    Returns:
        A function from the mode to keyword arguments, such as ``{"train": True}``.
    """
    arguments = inspect.signature(type(module).__call__).parameters
    name = next((n for n in _SWITCHES if n in arguments), None)
    if name is None:
        return lambda train: {}
    return lambda train: {name: train is _SWITCHES[name]}


def random_streams(names: Sequence[str], key: PRNGKey | None) -> dict[str, PRNGKey]:
    """A key for each random stream of a module.

    Args:
        names: the streams.
        key: a typed key, or ``None``.

    Returns:
        Keys by name; none without a key.
    """
    if key is None:
        return {}
    return {name: jax.random.fold_in(key, i) for i, name in enumerate(names)}


def check_output(logits: Any) -> Any:
    """Raises unless a module returned one array.

    Args:
        logits: what it returned.

    Returns:
        The same.

    Raises:
        TypeError: if it is anything else.
    """
    if not hasattr(logits, "shape"):
        raise TypeError(
            f"the module returned a {type(logits).__name__}; it must return the logits "
            "alone. Intermediate values are captured by name, see `features`."
        )
    return logits


def list_features(model: Model, batch: Batch) -> dict[str, jax.ShapeDtypeStruct]:
    """The features that a model can return, with their shapes; nothing is computed.

    Args:
        model: the model; of :func:`from_linen`, :func:`from_nnx`, or any whose
            ``apply`` takes ``features=ALL_FEATURES``.
        batch: a dict of arrays or of :class:`jax.ShapeDtypeStruct`.

    Returns:
        ``{"block1": ShapeDtypeStruct(...), ...}``.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import models
        >>> model = models.from_linen(models.MLP(hidden=(8,), classes=3))
        >>> shapes = models.list_features(model, {"image": jnp.ones((2, 4))})
        >>> {name: s.shape for name, s in shapes.items()}
        {'dense1': (2, 8), 'head': (2, 3)}
    """

    def run(batch: Batch) -> Mapping[str, Any]:
        variables = model.init(jax.random.key(0), batch)
        return model.apply(*variables, batch, features=ALL_FEATURES).features

    return dict(jax.eval_shape(run, dict(batch)))
