"""``python -m jaxkd.deploy._worker FOLDER``: times an artefact, as it is told to."""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxkd.deploy._artefact import load

_SECONDS, _CALLS = 0.02, 3


def main(folder: str) -> None:
    """Reads a batch length from each line, and answers with seconds for a batch.

    Args:
        folder: the artefact's.
    """
    artefact = load(folder)
    for line in sys.stdin:
        inputs = make_inputs(artefact.manifest["inputs"], int(line))
        seconds = _time(lambda inputs=inputs: artefact.predict(inputs))
        sys.stdout.write(f"{seconds}\n")
        sys.stdout.flush()


def make_inputs(wanted: Mapping[str, Any], length: int) -> dict[str, np.ndarray]:
    """Random inputs; integers are zeros, since nobody knows what they count.

    Args:
        wanted: what the manifest says of the inputs.
        length: of the batch.

    Returns:
        ``{name: array}``.
    """
    draw = np.random.default_rng(0)
    return {
        name: draw.normal(size=(length, *want["shape"][1:])).astype(want["dtype"])
        if jax.numpy.issubdtype(want["dtype"], np.floating)
        else np.zeros((length, *want["shape"][1:]), want["dtype"])
        for name, want in wanted.items()
    }


def _time(run: Callable[[], Any]) -> float:
    run()  # while the others had their turn, its threads went to sleep
    times: list[float] = []
    while sum(times) < _SECONDS or len(times) < _CALLS:
        began = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    main(sys.argv[1])
