"""ONNX: converted by jax2onnx, quantized and run by onnxruntime."""

import contextlib
import logging
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxkd._extras import require
from jaxkd.deploy._blame import conversion
from jaxkd.deploy._folder import (
    ONNX,
    ArtefactError,
    check_inputs,
    check_program,
)
from jaxkd.deploy._program import Program, input_specs

_LAYERS = ["Conv", "Gemm", "MatMul"]
# A plain dependency would pull back orbax-checkpoint, which jax2onnx does not need.
_COMMAND = " && pip install --no-deps jax2onnx"


def check_installed() -> None:
    """Raises unless all that the export needs is there.

    Raises:
        ModuleNotFoundError: if not; the message says how to install it.
    """
    for module in ("onnx", "onnxruntime", "jax2onnx"):
        require(module, "onnx", command=_COMMAND)


def write_onnx(folder: pathlib.Path, program: Program) -> dict[str, Any]:
    """Writes the program for any batch length.

    Args:
        folder: where to.
        program: what; its weights are floats.

    Returns:
        What the manifest says of it.

    Raises:
        ArtefactError: if an operation is refused.
    """
    (folder / ONNX).write_bytes(_convert(program))
    return {"runtime": "onnxruntime", "numbers": "float"}


def _convert(program: Program) -> bytes:
    jax2onnx = require("jax2onnx", "onnx", command=_COMMAND)
    (batch,) = jax.export.symbolic_shape("batch")
    specs = input_specs(program, batch)

    def run(*arrays: Any) -> Any:
        return program.run(program.weights, dict(zip(specs, arrays, strict=True)))

    with conversion(program, "ONNX"), _quiet():
        model = jax2onnx.to_onnx(
            run,
            list(specs.values()),
            model_name="jaxkd",
            input_names=list(specs),
            output_names=["logits"],
        )
        return model.SerializeToString()


def write_quantized(
    folder: pathlib.Path, program: Program, batches: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Writes the program with convolutions and dense layers in int8, on both sides.

    Args:
        folder: where to.
        program: what; its weights are floats.
        batches: inputs from which the ranges of the activations are found.

    Returns:
        What the manifest says of it.

    Raises:
        ArtefactError: if there are no batches, or an operation is refused.
    """
    quantization = require("onnxruntime.quantization", "onnx", command=_COMMAND)
    shapes = require("onnxruntime.quantization.shape_inference", "onnx")
    wanted = {
        name: {"shape": ["batch", *x.shape[1:]], "dtype": str(x.dtype)}
        for name, x in program.inputs.items()
    }
    stream = (
        check_inputs({k: b[k] for k in wanted if k in b}, wanted) for b in batches
    )
    reader, count = _reader(quantization, stream)
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        plain, ready = (pathlib.Path(scratch) / name for name in ("a.onnx", "b.onnx"))
        plain.write_bytes(_convert(program))
        with conversion(program, "int8 ONNX"):
            # Folds BatchNorm into the convolutions before they are rounded.
            shapes.quant_pre_process(plain, ready, skip_symbolic_shape=True)
            quantization.quantize_static(
                ready,
                folder / ONNX,
                reader,
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=_LAYERS,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
    return {
        "runtime": "onnxruntime",
        "numbers": "int8",
        "calibration_batches": count[0],
    }


def _reader(quantization: Any, stream: Iterator[Any]) -> tuple[Any, list[int]]:
    count = [0]
    first = next(stream, None)
    if first is None:
        raise ArtefactError("`calibration` has no batches, and nothing was written.")

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> Any:
            found = first if count[0] == 0 else next(stream, None)
            count[0] += found is not None
            return found

    return Reader(), count


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences what the converters log about their own inner life."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def read_onnx(
    folder: pathlib.Path, manifest: Mapping[str, Any]
) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """The program as a function of its inputs.

    Args:
        folder: the artefact's.
        manifest: what its manifest says.

    Returns:
        ``inputs -> logits``.

    Raises:
        ArtefactError: if the program is not one, or of other inputs.
        ModuleNotFoundError: if onnxruntime is not installed.
    """
    runtime = require("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    try:
        session = runtime.InferenceSession(
            (folder / ONNX).read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # of a type of its own for each failure
        raise ArtefactError(
            f"{folder / ONNX} is no program for this onnxruntime: {error}."
        ) from error
    found = {x.name: (x.shape, _dtype(x.type)) for x in session.get_inputs()}
    check_program(folder / ONNX, found, manifest)

    def run(inputs: dict[str, np.ndarray]) -> np.ndarray:
        return session.run(None, {name: inputs[name] for name in found})[0]

    return run


def _dtype(kind: str) -> str:
    """From ``"tensor(float)"`` to ``"float32"``."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
