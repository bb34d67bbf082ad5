"""StableHLO of :mod:`jax.export`, its weights beside it."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxkd._extras import require
from jaxkd.deploy._folder import PROGRAM, WEIGHTS, ArtefactError, check_program
from jaxkd.deploy._program import Program, input_specs
from jaxkd.deploy._weights import read_arrays, write_arrays

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def write_stablehlo(folder: pathlib.Path, program: Program) -> dict[str, Any]:
    """Writes the program for any batch length, and its weights.

    Args:
        folder: where to.
        program: what.

    Returns:
        What the manifest says of it.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    specs = {
        path: jax.ShapeDtypeStruct(x.shape, x.dtype)
        for path, x in program.weights.items()
    }
    lower = jax.export.export(jax.jit(program.run), platforms=_PLATFORMS)
    exported = lower(specs, input_specs(program, batch))
    (folder / PROGRAM).write_bytes(exported.serialize())
    write_arrays(folder / WEIGHTS, program.weights)
    return {"platforms": list(exported.platforms)}


def read_stablehlo(
    folder: pathlib.Path, manifest: Mapping[str, Any]
) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """The program as a function of its inputs.

    Args:
        folder: the artefact's.
        manifest: what its manifest says.

    Returns:
        ``inputs -> logits``.

    Raises:
        ArtefactError: if the program is not one, or its weights are not its own.
    """
    require("flatbuffers", "deploy")
    weights = read_arrays(folder / WEIGHTS)
    try:
        program = bytearray((folder / PROGRAM).read_bytes())
        exported = jax.export.deserialize(program)
        _, treedef = jax.tree.flatten(((weights, dict(manifest["inputs"])), {}), _leaf)
        wanted = exported.in_avals[: len(weights)]
        fits = treedef == exported.in_tree and all(
            x.shape == aval.shape and x.dtype == aval.dtype
            for x, aval in zip(jax.tree.leaves(weights), wanted, strict=True)
        )
    except Exception as error:  # whatever a program of foreign bytes raises
        raise ArtefactError(
            f"{folder / PROGRAM} is no program for this version of jax: {error!r}."
        ) from error
    if not fits:
        raise ArtefactError(f"{folder / WEIGHTS} are not the weights of its program.")
    inputs = zip(
        sorted(manifest["inputs"]), exported.in_avals[len(weights) :], strict=True
    )
    found = {name: (aval.shape, aval.dtype) for name, aval in inputs}
    check_program(folder / PROGRAM, found, manifest)
    arrays, run = jax.device_put(weights), jax.jit(exported.call)
    return lambda inputs: run(arrays, inputs)


def _leaf(x: Any) -> bool:
    return isinstance(x, Mapping) and "dtype" in x and "shape" in x
