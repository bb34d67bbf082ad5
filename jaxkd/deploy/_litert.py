"""LiteRT (TFLite): converted from StableHLO without TensorFlow.

A program for any batch length is an order of magnitude slower than one for a fixed
length. So the file holds three entrances, for 1, 4 and 16 examples, which share their
weights; batches of other lengths go through them piece by piece, each core at its own
piece: that is faster than several cores at one, whose arrays then outgrow their caches.
"""

import contextlib
import io
import os
import pathlib
import queue
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

import jax
import numpy as np

from jaxkd._extras import require
from jaxkd.deploy._blame import conversion
from jaxkd.deploy._folder import LITERT, ArtefactError, check_program
from jaxkd.deploy._program import Program, input_specs

_LENGTHS = (1, 4, 16)
_MOST = 16  # interpreters; each has weights of its own
_RECIPES = {8: "dynamic_wi8_afp32", 4: "dynamic_wi4_afp32"}


def check_installed(bits: int | None) -> None:
    """Raises unless all that the export needs is there.

    Args:
        bits: of the weights; ``None`` for floats.

    Raises:
        ModuleNotFoundError: if not; the message says how to install it.
        ValueError: if there is no such number of bits.
    """
    if bits not in (None, *_RECIPES):
        raise ValueError(f"`bits` must be 8, 4 or None, got {bits}.")
    require("litert_converter.converter_api_ext", "litert")
    require("ai_edge_litert.interpreter", "litert")
    if bits is not None:
        require("litert_quantizer", "litert")


def write_litert(
    folder: pathlib.Path, program: Program, bits: int | None
) -> dict[str, Any]:
    """Writes the program for batches of 1, 4 and 16.

    Args:
        folder: where to.
        program: what; its weights are floats.
        bits: of the weights; activations are rounded to int8 while it runs. ``None``
            for floats.

    Returns:
        What the manifest says of it.

    Raises:
        ArtefactError: if an operation is refused.
    """
    with conversion(program, "LiteRT"):
        content = _convert(program)
        if bits is not None:
            content = _quantize(content, bits)
    (folder / LITERT).write_bytes(content)
    return {
        "runtime": "litert",
        "numbers": "float" if bits is None else f"int{bits}",
        "lengths": list(_LENGTHS),
    }


def _convert(program: Program) -> bytes:
    converter = require("litert_converter.converter_api_ext", "litert")
    ir = require("litert_converter.mlir.ir", "litert")
    passes = require("litert_converter.mlir.passmanager", "litert")
    names = list(program.inputs)
    context = ir.Context()
    converter.prepare_mlir_context(context)
    with context:
        modules = []
        for length in _LENGTHS:
            module = ir.Module.parse(_stablehlo(program, length))
            for operation in module.body.operations:
                if operation.attributes["sym_name"].value == f"predict_{length}":
                    converter.set_signature(
                        operation.operation, f"predict_{length}", names, ["logits"]
                    )
            modules.append(module)
        merged = converter.merge_modules(modules)
        converter.run_convert_to_tfl_passes(
            merged, passes.PassManager(), converter.ConvertToTFLConfig()
        )
        return bytes(converter.export_flatbuffer_to_bytes(merged.operation))


def _stablehlo(program: Program, length: int) -> str:
    """The program's text for one batch length, its functions renamed after it."""

    def run(*arrays: Any) -> Any:
        inputs = dict(zip(program.inputs, arrays, strict=True))
        return program.run(program.weights, inputs)

    lower = jax.export.export(jax.jit(run), platforms=["cpu"])
    text = lower(*input_specs(program, length).values()).mlir_module()
    own = set(re.findall(r"func\.func \w+ @(\w+)\(", text))

    def rename(match: re.Match[str]) -> str:
        return f"{match[0]}_{length}" if match[1] in own else match[0]

    return re.sub(r"@(\w+)", rename, text).replace("@main_", "@predict_")


def _quantize(content: bytes, bits: int) -> bytes:
    quantizer = require("litert_quantizer", "litert")
    recipe = require("litert_quantizer.recipe", "litert")
    silence = io.StringIO()  # it prints its sizes and its progress
    with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        work = quantizer.Quantizer(content)
        work.load_quantization_recipe(getattr(recipe, _RECIPES[bits])())
        return bytes(work.quantize().quantized_model)


def read_litert(
    folder: pathlib.Path, manifest: Mapping[str, Any]
) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """The program as a function of its inputs.

    Args:
        folder: the artefact's.
        manifest: what its manifest says.

    Returns:
        ``inputs -> logits``.

    Raises:
        ArtefactError: if the program is not one.
        ModuleNotFoundError: if ai-edge-litert is not installed.
    """
    litert = require("ai_edge_litert.interpreter", "litert")
    try:
        content = (folder / LITERT).read_bytes()
        lengths = sorted(manifest["lengths"])
        if lengths[0] != 1:
            raise ValueError(f"it has no entrance for one example, but for {lengths}")
        count = min(len(os.sched_getaffinity(0)), _MOST)
        # One interpreter serves one thread at a time: whoever needs one takes it out.
        free: queue.SimpleQueue[dict[int, Any]] = queue.SimpleQueue()
        for _ in range(count):
            work = litert.Interpreter(model_content=content, num_threads=1)
            free.put({n: _entrance(work, n, folder, manifest) for n in lengths})
    except Exception as error:  # whatever a program of foreign bytes raises
        raise ArtefactError(
            f"{folder / LITERT} is no program for this LiteRT: {error!r}."
        ) from error
    pool = futures.ThreadPoolExecutor(count)

    def run(inputs: dict[str, np.ndarray]) -> np.ndarray:
        def piece(start: int, length: int) -> np.ndarray:
            cut = {name: x[start : start + length] for name, x in inputs.items()}
            runners = free.get()
            try:
                return runners[length](**cut)["logits"].copy()
            finally:
                free.put(runners)

        pieces = _pieces(len(next(iter(inputs.values()))), lengths, count)
        each = map if len(pieces) == 1 else pool.map
        return np.concatenate(list(each(piece, *zip(*pieces, strict=True))))

    return run


def _entrance(
    work: Any, length: int, folder: pathlib.Path, manifest: Mapping[str, Any]
) -> Any:
    """The function for batches of one length, if it is one for such inputs."""
    runner = work.get_signature_runner(f"predict_{length}")
    details = runner.get_input_details()
    found = {
        name: (x["shape"].tolist(), np.dtype(x["dtype"]).name)
        for name, x in details.items()
    }
    check_program(folder / LITERT, found, manifest)
    if any(shape[:1] != [length] for shape, _ in found.values()):
        raise ValueError(f"its entrance for {length} examples is for others")
    return runner


def _pieces(total: int, lengths: Sequence[int], cores: int) -> list[tuple[int, int]]:
    """Where each piece begins and how long it is: long ones, but one for each core."""
    pieces, start = [], 0
    for length in sorted(lengths, reverse=True):
        if length * cores <= total or length == 1:
            stop = total - (total - start) % length
            pieces += [(i, length) for i in range(start, stop, length)]
            start = stop
    return pieces
