"""Artefacts: a folder that holds all it takes to run a model.

``program.bin`` is the compiled model's StableHLO, of :mod:`jax.export`, for any batch
length; ``weights.safetensors`` its weights, quantized ones as integers; and
``manifest.json`` says what goes in, and the SHA-256 of both files.
"""

import hashlib
import importlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from jaxkd import _checks, compress, trees
from jaxkd._types import Tree
from jaxkd._version import __version__
from jaxkd.models import Model, Variables

_FORMAT = 1
_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
_PROGRAM, _WEIGHTS, _MANIFEST = "program.bin", "weights.safetensors", "manifest.json"


class ArtefactError(RuntimeError):
    """An artefact that cannot be written or used, and why."""


class Artefact(NamedTuple):
    """A loaded artefact.

    Attributes:
        predict: maps ``{name: array}`` of any batch length to logits.
        manifest: what ``manifest.json`` says.
        num_bytes: size on disk of the whole folder.
    """

    predict: Callable[[Mapping[str, Any]], jax.Array]
    manifest: dict[str, Any]
    num_bytes: int


def export(
    model: Model,
    variables: Variables,
    inputs: Mapping[str, Any],
    directory: str | pathlib.Path,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> Artefact:
    """Writes a model in evaluation mode as an artefact, and checks it.

    The artefact runs on CPU, GPU and TPU, without the code that made the model. It is
    loaded back and must give the model's logits before it appears under its name.

    Args:
        model: the model.
        variables: its variables; leaves quantized by :func:`jaxkd.compress.quantize`
            stay integers in the file, and are dequantized in the program.
        inputs: example inputs, exactly the entries of a batch that the model reads; the
            first axis of each is the batch's.
        directory: the folder to make.
        metadata: plain values to keep in the manifest.

    Returns:
        The :class:`Artefact`, loaded.

    Raises:
        ArtefactError: if the folder exists or cannot be written, or the program does
            not give the model's logits.
        ModuleNotFoundError: if the extra ``deploy`` is not installed.

    Examples:
        >>> import tempfile
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import deploy, models
        >>> model = models.from_linen(models.MLP(hidden=(8,), classes=3))
        >>> inputs = {"image": jnp.ones((2, 4))}
        >>> variables = model.init(jax.random.key(0), inputs)
        >>> folder = tempfile.mkdtemp() + "/student"
        >>> artefact = deploy.export(model, variables, inputs, folder)
        >>> artefact.predict({"image": jnp.ones((5, 4))}).shape
        (5, 3)
    """
    safetensors = _require("safetensors.numpy")
    _require("flatbuffers")
    directory = pathlib.Path(directory)
    if directory.exists():
        raise ArtefactError(
            f"{directory} exists already, and nothing was written: remove it, "
            "or choose another name."
        )
    try:
        metadata = json.loads(json.dumps(dict(metadata or {})))
    except TypeError as error:
        raise ArtefactError(f"`metadata` must be plain values: {error}.") from error
    weights, run = _program(model, variables)
    exported = _export(run, weights, inputs)
    try:
        staging = directory.with_name(f".export-{directory.name}-{os.getpid()}")
        staging.mkdir(parents=True)
    except OSError as error:
        raise ArtefactError(f"cannot write {directory}: {error}.") from error
    try:
        (staging / _PROGRAM).write_bytes(exported.serialize())
        (staging / _WEIGHTS).write_bytes(safetensors.save(weights))
        manifest = _manifest(staging, exported, inputs, metadata)
        (staging / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        _verify(load(staging), run, weights, inputs)
        staging.rename(directory)
    except OSError as error:
        raise ArtefactError(f"cannot write {directory}: {error}.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return load(directory)


def load(directory: str | pathlib.Path) -> Artefact:
    """Loads an artefact, after checking that its files are as they were written.

    Args:
        directory: the folder.

    Returns:
        An :class:`Artefact`.

    Raises:
        FileNotFoundError: if there is no artefact.
        ArtefactError: if a file is missing, has changed, or is of another format.
        ModuleNotFoundError: if the extra ``deploy`` is not installed.
    """
    safetensors = _require("safetensors.numpy")
    _require("flatbuffers")
    directory = pathlib.Path(directory)
    manifest = _read_manifest(directory)
    for name, expected in manifest["files"].items():
        if not (directory / name).is_file():
            raise ArtefactError(f"{directory / name} is missing.")
        if _sha256(directory / name) != expected["sha256"]:
            raise ArtefactError(
                f"{directory / name} has changed since it was written (SHA-256); it is "
                "not used."
            )
    try:
        program = bytearray((directory / _PROGRAM).read_bytes())
        exported = jax.export.deserialize(program)
    except Exception as error:  # whatever a program of foreign bytes raises
        raise ArtefactError(
            f"{directory / _PROGRAM} is no program for this version of jax: {error!r}."
        ) from error
    weights = jax.device_put(safetensors.load_file(directory / _WEIGHTS))
    run = jax.jit(exported.call)

    def predict(inputs: Mapping[str, Any]) -> jax.Array:
        return run(weights, _check_inputs(inputs, manifest["inputs"]))

    size = sum(file.stat().st_size for file in directory.iterdir())
    return Artefact(predict, manifest, size)


def _program(
    model: Model, variables: Variables
) -> tuple[dict[str, np.ndarray], Callable[..., jax.Array]]:
    """The weights as ``{path: array}``, and the model as a function of them."""
    paths = list(trees.flatten(variables))
    leaves, treedef = jax.tree.flatten(jax.tree.map(_as_array, variables))
    # Typed keys (the random streams of NNX) play no part in evaluation.
    keys = [jnp.issubdtype(x.dtype, jax.dtypes.prng_key) for x in leaves]
    weights = {
        path: np.asarray(x, order="C")
        for path, x, key in zip(paths, leaves, keys, strict=True)
        if not key
    }

    def run(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> jax.Array:
        merged = [weights.get(p, x) for p, x in zip(paths, leaves, strict=True)]
        params, state = jax.tree.unflatten(treedef, merged)
        return model.apply(compress.dequantize(params), state, inputs).logits

    return weights, run


def _as_array(x: Any) -> Any:
    return x if hasattr(x, "dtype") else jnp.asarray(x)


def _export(
    run: Callable[..., jax.Array],
    weights: Mapping[str, np.ndarray],
    inputs: Mapping[str, Any],
) -> Any:
    (batch,) = jax.export.symbolic_shape("batch")
    shapes = {
        name: jax.ShapeDtypeStruct((batch, *np.shape(x)[1:]), jnp.result_type(x))
        for name, x in inputs.items()
    }
    specs: Tree = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), weights
    )
    return jax.export.export(jax.jit(run), platforms=_PLATFORMS)(dict(specs), shapes)


def _manifest(
    folder: pathlib.Path,
    exported: Any,
    inputs: Mapping[str, Any],
    metadata: Mapping[str, Any] | None,
) -> dict[str, Any]:
    (output,) = exported.out_avals
    return {
        "format": _FORMAT,
        "jaxkd": __version__,
        "jax": jax.__version__,
        "platforms": list(exported.platforms),
        "inputs": {
            name: {
                "shape": ["batch", *np.shape(x)[1:]],
                "dtype": str(jnp.result_type(x)),
            }
            for name, x in inputs.items()
        },
        "output": {
            "shape": ["batch", *output.shape[1:]],
            "dtype": str(output.dtype),
        },
        "files": {
            name: {
                "sha256": _sha256(folder / name),
                "bytes": (folder / name).stat().st_size,
            }
            for name in (_PROGRAM, _WEIGHTS)
        },
        "metadata": dict(metadata or {}),
    }


def _verify(
    artefact: Artefact,
    run: Callable[..., jax.Array],
    weights: Mapping[str, np.ndarray],
    inputs: Mapping[str, Any],
) -> None:
    got = np.asarray(artefact.predict(inputs), np.float32)
    want = np.asarray(jax.jit(run)(weights, dict(inputs)), np.float32)
    same = got == want  # infinities of masked classes among them
    apart = np.subtract(got, want, where=~same, out=np.zeros_like(want))
    worst = float(np.max(np.abs(apart), initial=0.0))
    size = float(np.max(np.abs(want), where=np.isfinite(want), initial=1.0))
    if not worst <= 1e-4 * size:
        raise ArtefactError(
            f"the exported program differs from the model by {worst:.3g}; nothing was "
            "written."
        )


def _read_manifest(directory: pathlib.Path) -> dict[str, Any]:
    file = directory / _MANIFEST
    if not file.is_file():
        raise FileNotFoundError(f"{directory} is no artefact: it has no {_MANIFEST}.")
    try:
        manifest = json.loads(file.read_text())
        known = set(manifest["files"]) == {_PROGRAM, _WEIGHTS}
        version, inputs = manifest["format"], dict(manifest["inputs"])
        known = known and all(found["sha256"] for found in manifest["files"].values())
        for wanted in inputs.values():
            np.dtype(wanted["dtype"])
            known = known and wanted["shape"][0] == "batch"
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ArtefactError(f"{file} is damaged: {error!r}.") from error
    if version != _FORMAT or not known:
        raise ArtefactError(
            f"{file} has format {version}; this version reads format {_FORMAT}."
        )
    return manifest


def _check_inputs(
    inputs: Mapping[str, Any], wanted: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The inputs in the dtypes of the program, or an error in words."""
    extra = set(inputs) - set(wanted)
    if extra:
        raise ValueError(
            f"unknown input {min(extra)!r}; {_checks.nearest(min(extra), wanted)}"
        )
    checked = {}
    for name, want in wanted.items():
        x = np.asarray(_checks.get(inputs, name, "the artefact"))
        if list(x.shape[1:]) != want["shape"][1:] or x.ndim == 0 or len(x) == 0:
            raise ValueError(
                f"input {name!r} has shape {x.shape}, but must be "
                f"({', '.join(map(str, want['shape']))})."
            )
        if not np.can_cast(x.dtype, want["dtype"], "same_kind"):
            raise TypeError(
                f"input {name!r} is {x.dtype}, but must be {want['dtype']}."
            )
        checked[name] = x.astype(want["dtype"])
    return checked


def _sha256(file: pathlib.Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _require(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"exporting needs {module.split('.')[0]}: pip install 'jaxkd[deploy]'."
        ) from error
