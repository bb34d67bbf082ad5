"""A run seen from outside: its speed, its memory, its profile, its buffers."""

import contextlib
import pathlib
import time
from collections.abc import Iterator

import jax

from jaxkd import trees
from jaxkd._types import Tree


class Speed:
    """Examples per second between two readings.

    Examples:
        >>> from jaxkd import train
        >>> speed = train.Speed()
        >>> speed.add(64)
        >>> speed.read() > 0
        True
    """

    def __init__(self) -> None:
        """Starts the clock."""
        self._examples, self._since = 0, time.perf_counter()

    def add(self, examples: int) -> None:
        """Counts examples.

        Args:
            examples: number of them.
        """
        self._examples += examples

    def read(self) -> float:
        """The speed since the last reading, which starts the clock again.

        Returns:
            Examples per second.
        """
        now = time.perf_counter()
        rate = self._examples / max(now - self._since, 1e-9)
        self._examples, self._since = 0, now
        return rate

    def metrics(self) -> dict[str, float]:
        """The speed and the memory, to be logged with a step's metrics.

        Returns:
            ``examples_per_s``, which starts the clock again, and what
            :func:`device_memory` tells.
        """
        return {"examples_per_s": self.read(), **device_memory()}


def device_memory() -> dict[str, float]:
    """The memory of the first local device.

    Returns:
        ``bytes_in_use`` and ``peak_bytes_in_use``, where the device tells; CPUs do not.

    Examples:
        >>> from jaxkd import train
        >>> set(train.device_memory()) <= {"bytes_in_use", "peak_bytes_in_use"}
        True
    """
    known = jax.local_devices()[0].memory_stats() or {}
    names = ("bytes_in_use", "peak_bytes_in_use")
    return {name: float(known[name]) for name in names if name in known}


@contextlib.contextmanager
def profile(folder: str | pathlib.Path) -> Iterator[None]:
    """Records what runs inside, for TensorBoard or Perfetto.

    The parts of a step are called ``teacher``, ``student`` and ``loss`` there. Wait for
    the results inside: ``jax.block_until_ready(metrics)``.

    Args:
        folder: where the trace is written.

    Yields:
        Nothing.

    Raises:
        NotADirectoryError: if there is a file of that name.

    Examples:
        >>> import tempfile, jax.numpy as jnp
        >>> from jaxkd import train
        >>> with tempfile.TemporaryDirectory() as folder, train.profile(folder):
        ...     _ = jnp.ones(3).sum().block_until_ready()
    """
    path = pathlib.Path(folder)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file; a profile needs a folder.")
    with jax.profiler.trace(path):
        yield


def check_not_aliased(**named: Tree) -> None:
    """Raises if two arrays share memory, which donation of one would take from both.

    ``init_state`` and the steps copy, so this is for states that you put together by
    hand, and for debugging.

    Args:
        **named: trees of arrays, under names for the error.

    Raises:
        ValueError: naming the two paths.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import train
        >>> w = jnp.ones(3)
        >>> train.check_not_aliased(state={"w": w}, teacher={"v": w})
        Traceback (most recent call last):
            ...
        ValueError: 'state/w' and 'teacher/v' share memory: copy one, train.copy(tree).
    """
    seen: dict[int, str] = {}
    for path, x in trees.flatten(named).items():
        if not isinstance(x, jax.Array) or x.size == 0:
            continue
        if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.random.key_data(x)
        for shard in x.addressable_shards:
            where = shard.data.unsafe_buffer_pointer()
            if seen.setdefault(where, path) != path:
                raise ValueError(
                    f"{seen[where]!r} and {path!r} share memory: copy one, "
                    "train.copy(tree)."
                )
