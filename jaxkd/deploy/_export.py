"""Exports: a model in evaluation mode, written and checked at once."""

import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxkd import compress
from jaxkd._extras import require
from jaxkd.deploy import _litert, _onnx
from jaxkd.deploy._artefact import Artefact, load
from jaxkd.deploy._blame import find_module
from jaxkd.deploy._folder import WEIGHTS, ArtefactError, seal, staged
from jaxkd.deploy._program import Program, describe, make_program
from jaxkd.deploy._stablehlo import write_stablehlo
from jaxkd.deploy._weights import read_arrays, write_arrays
from jaxkd.models import Model, Variables

_TOLERANCE = 1e-4


def export(
    model: Model,
    variables: Variables,
    inputs: Mapping[str, Any],
    directory: str | pathlib.Path,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> Artefact:
    """Writes a model in evaluation mode as StableHLO, and checks it.

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
        The :class:`Artefact`, loaded; ``manifest["check"]`` says how close it is.

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
    require("safetensors.numpy", "deploy")
    require("flatbuffers", "deploy")
    program = make_program(model, variables, inputs)
    return _publish(directory, "stablehlo", program, write_stablehlo, metadata)


def export_safetensors(
    model: Model,
    variables: Variables,
    inputs: Mapping[str, Any],
    directory: str | pathlib.Path,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> Artefact:
    """Writes the weights alone, by path names, and checks them.

    Other frameworks read the file; :func:`load_weights` gives it back to the model.
    What it takes to run them is not in it, so ``predict`` refuses.

    Args:
        model: the model.
        variables: its variables, quantized or not.
        inputs: example inputs.
        directory: the folder to make.
        metadata: plain values to keep in the manifest.

    Returns:
        The :class:`Artefact`, loaded.

    Raises:
        ArtefactError: if the folder exists or cannot be written.
        ModuleNotFoundError: if the extra ``deploy`` is not installed.
    """
    require("safetensors.numpy", "deploy")
    program = make_program(model, variables, inputs)

    def write(folder: pathlib.Path, program: Program) -> dict[str, Any]:
        write_arrays(folder / WEIGHTS, program.weights)
        return {}

    return _publish(directory, "safetensors", program, write, metadata)


def export_onnx(
    model: Model,
    variables: Variables,
    inputs: Mapping[str, Any],
    directory: str | pathlib.Path,
    *,
    calibration: Iterable[Mapping[str, Any]] | None = None,
    min_agreement: float = 0.9,
    metadata: Mapping[str, Any] | None = None,
) -> Artefact:
    """Writes a model as ONNX, for any batch length, in floats or in int8.

    With ``calibration``, convolutions and dense layers compute in int8: weights per
    output channel, as :func:`jaxkd.compress.quantize` rounds them, activations by the
    smallest and the largest value seen (static quantization, QDQ).

    Args:
        model: the model.
        variables: its variables, quantized or not; the file holds floats, or int8 with
            ``calibration``.
        inputs: example inputs, on which the artefact is compared with the model.
        directory: the folder to make.
        calibration: batches of inputs; other entries of them are ignored.
        min_agreement: the share of the examples on which an int8 artefact must choose
            the model's class.
        metadata: plain values to keep in the manifest.

    Returns:
        The :class:`Artefact`, loaded; ``manifest["check"]`` says how close it is.

    Raises:
        ArtefactError: if the folder exists, an operation is refused (the message names
            its module), or the artefact is too far from the model.
        ModuleNotFoundError: if the extra ``onnx`` is not installed.
    """
    _onnx.check_installed()
    program = make_program(model, _floats(variables), inputs)
    if calibration is None:
        return _publish(directory, "onnx", program, _onnx.write_onnx, metadata)

    def write(folder: pathlib.Path, program: Program) -> dict[str, Any]:
        return _onnx.write_quantized(folder, program, calibration)

    return _publish(directory, "onnx", program, write, metadata, min_agreement)


def export_litert(
    model: Model,
    variables: Variables,
    inputs: Mapping[str, Any],
    directory: str | pathlib.Path,
    *,
    bits: int | None = None,
    min_agreement: float = 0.9,
    metadata: Mapping[str, Any] | None = None,
) -> Artefact:
    """Writes a model as LiteRT (TFLite), in floats or with weights of 8 or 4 bits.

    With ``bits``, weights are rounded per output channel, and activations to int8 while
    the program runs (dynamic quantization), so that no calibration is needed.

    Args:
        model: the model.
        variables: its variables, quantized or not; the file holds what ``bits`` says.
        inputs: example inputs, on which the artefact is compared with the model.
        directory: the folder to make.
        bits: 8, 4 or, for floats, ``None``.
        min_agreement: the share of the examples on which a quantized artefact must
            choose the model's class.
        metadata: plain values to keep in the manifest.

    Returns:
        The :class:`Artefact`, loaded; ``manifest["check"]`` says how close it is.

    Raises:
        ArtefactError: if the folder exists, an operation is refused (the message names
            its module), or the artefact is too far from the model.
        ModuleNotFoundError: if the extra ``litert`` is not installed.
        ValueError: if there is no such number of bits.
    """
    _litert.check_installed(bits)
    program = make_program(model, _floats(variables), inputs)

    def write(folder: pathlib.Path, program: Program) -> dict[str, Any]:
        return _litert.write_litert(folder, program, bits)

    needed = None if bits is None else min_agreement
    return _publish(directory, "litert", program, write, metadata, needed)


def _floats(variables: Variables) -> Variables:
    return variables._replace(params=compress.dequantize(variables.params))


class _Check(NamedTuple):
    examples: int
    max_difference: float
    agreement: float


def _publish(
    directory: str | pathlib.Path,
    kind: str,
    program: Program,
    write: Callable[[pathlib.Path, Program], dict[str, Any]],
    metadata: Mapping[str, Any] | None,
    min_agreement: float | None = None,
) -> Artefact:
    """Writes, loads, compares, and only then gives the folder its name."""
    content = {"kind": kind, **describe(program, metadata)}
    with staged(directory) as folder:
        content |= write(folder, program)
        seal(folder, content)
        if kind == "safetensors":
            got = _from_weights(program, read_arrays(folder / WEIGHTS))
        else:
            got = _answers(folder, kind, program)
        check = _compare(got, program, min_agreement)
        seal(folder, {**content, "check": check._asdict()})
    return load(directory)


def _answers(folder: pathlib.Path, kind: str, program: Program) -> np.ndarray:
    try:
        return np.asarray(load(folder).predict(program.inputs), np.float32)
    except ArtefactError as error:
        said = str(error.__cause__ or error)
        raise ArtefactError(
            f"{find_module(program, said)}cannot be run as {kind}, and nothing was "
            f"written: {' '.join(said.split())}"
        ) from error


def _from_weights(program: Program, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.asarray(jax.jit(program.run)(dict(weights), program.inputs), np.float32)


def _compare(got: np.ndarray, program: Program, min_agreement: float | None) -> _Check:
    want = _from_weights(program, program.weights)
    if got.shape != want.shape:
        raise ArtefactError(
            f"the artefact gives {got.shape}, but the model {want.shape}; nothing was "
            "written."
        )
    same = got == want  # infinities of masked classes among them
    apart = np.subtract(got, want, where=~same, out=np.zeros_like(want))
    worst = float(np.max(np.abs(apart), initial=0.0))
    size = float(np.max(np.abs(want), where=np.isfinite(want), initial=1.0))
    agreement = float(np.mean(np.argmax(got, -1) == np.argmax(want, -1)))
    if min_agreement is None and not worst <= _TOLERANCE * size:
        raise ArtefactError(
            f"the exported program differs from the model by {worst:.3g}; nothing was "
            "written."
        )
    if min_agreement is not None and not agreement >= min_agreement:
        raise ArtefactError(
            "the quantized program agrees with the model on "
            f"{100 * agreement:.1f} % of the examples, less than `min_agreement`, "
            f"{100 * min_agreement:.1f} %; nothing was written."
        )
    return _Check(len(want), worst, agreement)
