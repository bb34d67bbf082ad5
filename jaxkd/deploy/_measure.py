"""What an artefact weighs, and how fast it answers in a process of its own."""

import contextlib
import os
import pathlib
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from jaxkd.deploy._artefact import load
from jaxkd.deploy._folder import ArtefactError


class Measurement(NamedTuple):
    """What was measured of an artefact.

    Attributes:
        name: its folder's name.
        kind: ``"stablehlo"``, ``"onnx"`` or ``"litert"``.
        numbers: what it computes with, such as ``"int8"``, if the manifest says.
        num_bytes: size on disk of the whole folder, without the model card.
        latency: seconds for a batch, by its length: the median of the rounds.
        throughput: examples a second, by the length of the batch.
        cores: how many it might use.
    """

    name: str
    kind: str
    numbers: str
    num_bytes: int
    latency: dict[int, float]
    throughput: dict[int, float]
    cores: int


def measure(
    directory: str | pathlib.Path,
    *,
    batch_sizes: Sequence[int] = (1, 256),
    rounds: int = 20,
) -> Measurement:
    """Measures an artefact in a fresh process, on random inputs.

    Args:
        directory: the artefact's folder.
        batch_sizes: lengths of batches to time.
        rounds: how often each is timed, for some 20 ms or three batches.

    Returns:
        A :class:`Measurement`.

    Raises:
        ArtefactError: if it cannot be run.
        FileNotFoundError: if there is no artefact.
    """
    (found,) = measure_together([directory], batch_sizes=batch_sizes, rounds=rounds)
    return found


def measure_together(
    directories: Sequence[str | pathlib.Path],
    *,
    batch_sizes: Sequence[int] = (1, 256),
    rounds: int = 20,
) -> list[Measurement]:
    """Measures artefacts side by side, each in a fresh process, in turn.

    So a slow moment of the machine hits all alike, and ratios can be trusted where
    milliseconds cannot.

    Args:
        directories: the artefacts' folders.
        batch_sizes: lengths of batches to time.
        rounds: how often each is timed, for some 20 ms or three batches.

    Returns:
        A :class:`Measurement` of each.

    Raises:
        ArtefactError: if one cannot be run.
        FileNotFoundError: if one is no artefact.
        ValueError: if a number is not positive.
    """
    if rounds < 1 or not batch_sizes or min(batch_sizes) < 1:
        raise ValueError(
            f"`rounds` and `batch_sizes` must be positive, got {rounds} and "
            f"{batch_sizes}."
        )
    folders = [pathlib.Path(directory) for directory in directories]
    artefacts = [load(folder) for folder in folders]
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker(folder)) for folder in folders]
        times = {
            size: _time(workers, folders, size, rounds)
            for size in dict.fromkeys(batch_sizes)
        }
    return [
        Measurement(
            folder.name,
            artefact.manifest["kind"],
            artefact.manifest.get("numbers", ""),
            artefact.num_bytes,
            {size: found[i] for size, found in times.items()},
            {size: size / found[i] for size, found in times.items()},
            len(os.sched_getaffinity(0)),
        )
        for i, (folder, artefact) in enumerate(zip(folders, artefacts, strict=True))
    ]


def _time(
    workers: Sequence[subprocess.Popen[str]],
    folders: Sequence[pathlib.Path],
    size: int,
    rounds: int,
) -> list[float]:
    times: list[list[float]] = [[] for _ in workers]
    for _ in range(1 + rounds):  # the first compiles
        for worker, folder, found in zip(workers, folders, times, strict=True):
            found.append(_ask(worker, folder, size))
    return [statistics.median(found[1:]) for found in times]


def _ask(worker: subprocess.Popen[str], folder: pathlib.Path, size: int) -> float:
    with contextlib.suppress(BrokenPipeError):
        _stream(worker.stdin).write(f"{size}\n")
        _stream(worker.stdin).flush()
    said = _stream(worker.stdout).readline()
    if not said:
        lines = _stream(worker.stderr).read().strip().splitlines()
        last = re.sub(r"^[\w.]+Error: ", "", lines[-1] if lines else "it said nothing.")
        raise ArtefactError(f"{folder} could not be run in a fresh process: {last}")
    return float(said)


def _stream(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise RuntimeError("the process has no pipe.")
    return stream


@contextlib.contextmanager
def _worker(folder: pathlib.Path) -> Iterator[subprocess.Popen[str]]:
    root = str(pathlib.Path(__file__).parents[2])
    before = os.environ.get("PYTHONPATH")
    path = root if before is None else f"{root}{os.pathsep}{before}"
    worker = subprocess.Popen(
        [sys.executable, "-m", "jaxkd.deploy._worker", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        yield worker
    finally:
        worker.kill()
        worker.communicate()


def table(measurements: Sequence[Measurement]) -> str:
    """Measurements side by side, each number with its ratio to the first row's.

    Args:
        measurements: of the same batch lengths.

    Returns:
        A Markdown table, its columns aligned.

    Examples:
        >>> from jaxkd import deploy
        >>> one = deploy.Measurement("a", "onnx", "", 4000, {1: 0.002}, {1: 500.0}, 2)
        >>> two = one._replace(name="b", num_bytes=1000, latency={1: 0.001})
        >>> print(deploy.table([one, two]))
        | artefact | runs as |       kB |      ms, 1 | examples/s, 1 |
        | -------- | ------- | -------: | ---------: | ------------: |
        | a        | onnx    |      4.0 |      2.000 |           500 |
        | b        | onnx    | 1.0 ÷4.0 | 1.000 ÷2.0 |      500 ×1.0 |
    """
    first = measurements[0]
    header = ["artefact", "runs as", "kB"]
    header += [f"ms, {size}" for size in first.latency]
    header += [f"examples/s, {size}" for size in first.throughput]
    lines = [header, *(_cells(m, None if m is first else first) for m in measurements)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ruler = ["-" * w if i < 2 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in (header, ruler, *lines[1:])
    )


def _cells(found: Measurement, first: Measurement | None) -> list[str]:
    def ratio(sign: str, number: float) -> str:
        return "" if first is None else f" {sign}{number:.1f}"

    base = first or found
    return [
        found.name,
        f"{found.kind} {found.numbers}".strip(),
        f"{found.num_bytes / 1000:.1f}" + ratio("÷", base.num_bytes / found.num_bytes),
        *(
            f"{1000 * seconds:.3f}" + ratio("÷", base.latency[size] / seconds)
            for size, seconds in found.latency.items()
        ),
        *(
            f"{speed:,.0f}" + ratio("×", speed / base.throughput[size])
            for size, speed in found.throughput.items()
        ),
    ]
