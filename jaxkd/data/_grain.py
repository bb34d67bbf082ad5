"""Batches of examples that do not fit into memory, read ahead by Grain."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from jaxkd._extras import require
from jaxkd.data._arrays import Transform
from jaxkd.data._order import Order

_AHEAD = 4  # batches, each read by a thread


class Source(Protocol):
    """Examples that are read one by one, at any place, by many threads.

    ``tfds.data_source``, a list, or a class of one's own.
    """

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, place: Any, /) -> Mapping[str, Any]:
        """One example: a dict of arrays or numbers."""
        ...


class GrainBatches:
    """An endless, shuffled, exactly resumable iterator; see :func:`grain_batches`."""

    def __init__(
        self, source: Source, order: Order, transform: Transform | None
    ) -> None:
        self._grain = require("grain", "data", "reading ahead")
        self._source = source
        self._order = order
        self._transform = transform
        self._position = 0
        self._ahead: Iterator[dict[str, Any]] | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        if self._ahead is None:
            places = self._grain.MapDataset.range(self._position, sys.maxsize)
            options = self._grain.ReadOptions(
                num_threads=_AHEAD, prefetch_buffer_size=_AHEAD
            )
            self._ahead = iter(places.map(self._read).to_iter_dataset(options))
        batch = self._finish(next(self._ahead), self._position)
        self._position += 1
        return batch

    def peek(self) -> dict[str, Any]:
        """The next batch, without moving on.

        Returns:
            A batch.
        """
        return self._finish(self._read(self._position), self._position)

    def get_state(self) -> dict[str, int]:
        """The position, to be saved with a checkpoint.

        Returns:
            A dict of plain numbers, that of :class:`TrainBatches`.
        """
        return self._order.state(self._position)

    def set_state(self, state: Mapping[str, int]) -> None:
        """Goes to a position.

        Args:
            state: of :meth:`get_state`, of batches of the same data, size and seed.

        Raises:
            ValueError: if it is of other batches.
        """
        self._position = self._order.position(state)
        self._ahead = None

    def _read(self, position: int) -> dict[str, Any]:
        rows = self._order.rows(int(position))
        if self._transform is None:  # which must see the whole batch
            rows = rows[self._order.own]
        examples = [self._source[row] for row in rows.tolist()]
        batch: dict[str, Any] = {
            name: _stack(name, [example[name] for example in examples])
            for name in examples[0]
        }
        batch.setdefault("index", rows.astype(np.int32))
        batch.setdefault("mask", np.ones(len(rows), bool))
        return batch

    def _finish(self, batch: dict[str, Any], position: int) -> dict[str, Any]:
        if self._transform is None:
            return batch
        whole = self._transform(self._order.key(position), batch)
        if not self._order.shared:
            return whole
        return {name: x[self._order.own] for name, x in whole.items()}


def grain_batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    transform: Transform | None = None,
    shard: tuple[int, int] = (0, 1),
) -> GrainBatches:
    """The batches of :class:`TrainBatches`, of examples larger than memory.

    They come in the same order, with the same ``index`` and ``mask``, and the position
    is the same numbers, also after a resume with another number of processes. A few
    batches are read ahead, in threads. A process reads its own examples only; with a
    transform, which sees whole batches, all of them.

    Args:
        source: of examples, such as :func:`tfds_source`.
        batch_size: examples in a batch, of all processes together.
        seed: of the permutations and of the transform's keys.
        transform: as in :class:`TrainBatches`.
        shard: number of this process and of all.

    Returns:
        An iterator with ``get_state()``, ``set_state(state)`` and ``peek()``.

    Raises:
        ValueError: if there are no examples, or the batch size is not positive or
            cannot be shared; when read, if examples differ in shape.
        ModuleNotFoundError: if Grain is not installed.

    Examples:
        >>> import numpy as np
        >>> from jaxkd import data
        >>> source = [{"x": np.float32(i)} for i in range(5)]
        >>> batches = data.grain_batches(source, batch_size=2, seed=0)
        >>> same = data.TrainBatches({"x": np.arange(5)}, batch_size=2, seed=0)
        >>> [next(batches)["x"].tolist() == next(same)["x"].tolist() for _ in range(4)]
        [True, True, True, True]
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    if len(source) == 0:
        raise ValueError("the dataset is empty: `source` has no examples.")
    order = Order(len(source), batch_size=batch_size, seed=seed, shard=shard)
    return GrainBatches(source, order, transform)


def _stack(name: str, values: list[Any]) -> np.ndarray:
    arrays = [np.asarray(value) for value in values]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ValueError(
            f"examples of one batch have {name!r} of different shapes: "
            f"{sorted(shapes)}; bring them to one before."
        )
    return np.stack(arrays)
