"""A model in evaluation mode, as one function of named weights and inputs."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from jaxkd import _checks, compress, trees
from jaxkd.deploy._folder import ArtefactError
from jaxkd.deploy._weights import is_key
from jaxkd.models import Model, Variables


class Program(NamedTuple):
    """What is exported.

    Attributes:
        weights: ``{path: array}``.
        run: ``(weights, inputs) -> logits``.
        inputs: the example inputs.
    """

    weights: dict[str, np.ndarray]
    run: Callable[..., jax.Array]
    inputs: dict[str, np.ndarray]


def make_program(
    model: Model, variables: Variables, inputs: Mapping[str, Any]
) -> Program:
    """The weights as ``{path: array}``, and the model as a function of them.

    Args:
        model: the model.
        variables: its variables, quantized or not.
        inputs: example inputs, the first axis of each the batch's.

    Returns:
        A :class:`Program`.

    Raises:
        TypeError: if one of the arguments is of another kind.
        ValueError: if the inputs have no common first axis.
    """
    if not isinstance(model, Model) or not isinstance(variables, Variables):
        raise TypeError(
            "an export takes a Model, such as models.from_linen(module), and its "
            "Variables, such as models.Variables(params, state); got a "
            f"{type(model).__name__} and a {type(variables).__name__}."
        )
    _checks.check_batch_type(inputs, "`inputs`")
    examples = {name: _as_jax_sees(x) for name, x in inputs.items()}
    if len({x.shape[:1] for x in examples.values()} - {(), (0,)}) != 1:
        shapes = {name: x.shape for name, x in examples.items()}
        raise ValueError(
            f"`inputs` must be arrays with one first axis, the batch's, got {shapes}."
        )
    paths = list(trees.flatten(variables))
    leaves, treedef = jax.tree.flatten(jax.tree.map(_as_array, variables))
    # Typed keys (the random streams of NNX) play no part in evaluation.
    weights = {
        path: _as_jax_sees(x)
        for path, x in zip(paths, leaves, strict=True)
        if not is_key(x)
    }

    def run(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> jax.Array:
        merged = [weights.get(p, x) for p, x in zip(paths, leaves, strict=True)]
        params, state = jax.tree.unflatten(treedef, merged)
        return model.apply(compress.dequantize(params), state, inputs).logits

    return Program(weights, run, examples)


def _as_jax_sees(x: Any) -> np.ndarray:
    """On the host, and in 32 bits where jax would round to them."""
    array = np.asarray(x, order="C")
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)


def _as_array(x: Any) -> Any:
    return x if hasattr(x, "dtype") else jnp.asarray(x)


def describe(program: Program, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the manifest says of a program, whatever the kind of artefact.

    Args:
        program: the program.
        metadata: plain values to keep.

    Returns:
        Part of a manifest.

    Raises:
        ArtefactError: if the metadata are no plain values.
    """
    try:
        kept = json.loads(json.dumps(dict(metadata or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ArtefactError(f"`metadata` must be plain values: {error}.") from error
    output = jax.eval_shape(program.run, program.weights, program.inputs)
    return {
        "jax": jax.__version__,
        "inputs": {name: _signature(x) for name, x in program.inputs.items()},
        "output": _signature(output),
        "metadata": kept,
    }


def _signature(x: Any) -> dict[str, Any]:
    return {"shape": ["batch", *x.shape[1:]], "dtype": str(jnp.result_type(x.dtype))}


def input_specs(program: Program, batch: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the inputs for a batch of some length.

    Args:
        program: the program.
        batch: a length, or a symbol.

    Returns:
        ``{name: shape and dtype}``.
    """
    return {
        name: jax.ShapeDtypeStruct((batch, *x.shape[1:]), jnp.result_type(x))
        for name, x in program.inputs.items()
    }
