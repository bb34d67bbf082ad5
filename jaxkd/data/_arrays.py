"""Batches of arrays in memory."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from jaxkd import _checks, _names
from jaxkd._types import PRNGKey
from jaxkd.data._order import Order

Arrays: TypeAlias = Mapping[str, Any]
Transform: TypeAlias = Callable[[PRNGKey, dict[str, Any]], dict[str, Any]]


class TrainBatches:
    """An endless, shuffled, exactly resumable iterator of training batches.

    Every epoch is a permutation of all examples, drawn from the seed and the number of
    the epoch. The epochs follow each other without a gap: what is left over at the end
    of one begins the next batch. So each batch is full, each example comes exactly once
    in an epoch, and the position is one number.

    Batches are dicts of the arrays, with ``index`` (the example's row, int32) and
    ``mask`` (all true).

    Examples:
        >>> import numpy as np
        >>> from jaxkd import data
        >>> batches = data.TrainBatches({"x": np.arange(5)}, batch_size=2, seed=0)
        >>> first = [next(batches)["x"].tolist() for _ in range(5)]
        >>> state = batches.get_state()
        >>> more = next(batches)["x"].tolist()
        >>> batches.set_state(state)
        >>> next(batches)["x"].tolist() == more
        True
        >>> sorted(sum(first, [])) == sorted(2 * [0, 1, 2, 3, 4])
        True
    """

    def __init__(
        self,
        arrays: Arrays,
        *,
        batch_size: int,
        seed: int,
        transform: Transform | None = None,
        num_classes: int | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Checks the arrays.

        Args:
            arrays: a dict of arrays of one length, on the host.
            batch_size: examples in a batch, of all processes together.
            seed: of the permutations and of the transform's keys.
            transform: ``transform(key, batch) -> batch``, applied to whole batches,
                such as a jitted augmentation; its key follows from the seed and the
                position.
            num_classes: if given, every ``label`` must be in ``[0, num_classes)``.
            shard: number of this process and of all, ``(jax.process_index(),
                jax.process_count())``: each takes its rows of every batch, and the
                batches do not depend on how many share them.

        Raises:
            ValueError: if there are no examples, lengths differ, the batch size is not
                positive or cannot be shared, or a label is out of range.
        """
        self._arrays = check_arrays(arrays, batch_size)
        length = len(next(iter(self._arrays.values())))
        if num_classes is not None:
            labels = _names.get(self._arrays, "label", "`num_classes`")
            _checks.check_label_range(labels, num_classes)
        self._order = Order(length, batch_size=batch_size, seed=seed, shard=shard)
        self._transform = transform
        self._position = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        batch = self._batch(self._position)
        self._position += 1
        return batch

    def peek(self) -> dict[str, Any]:
        """The next batch, without moving on.

        Returns:
            A batch.
        """
        return self._batch(self._position)

    def get_state(self) -> dict[str, int]:
        """The position, to be saved with a checkpoint.

        Returns:
            A dict of plain numbers.
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

    def _batch(self, position: int) -> dict[str, Any]:
        index, own = self._order.rows(position), self._order.own
        if self._transform is None:
            return _take(self._arrays, index[own])
        whole = self._transform(self._order.key(position), _take(self._arrays, index))
        if not self._order.shared:
            return whole
        return {name: x[own] for name, x in whole.items()}


class EvalBatches:
    """All examples once, in order; the last batch is padded and masked.

    It can be iterated many times. See :func:`eval_batches`.
    """

    def __init__(self, arrays: dict[str, np.ndarray], batch_size: int) -> None:
        self._arrays = arrays
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(next(iter(self._arrays.values()))) // self._batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        length = len(next(iter(self._arrays.values())))
        for start in range(0, length, self._batch_size):
            index = np.arange(start, start + self._batch_size)
            batch = _take(self._arrays, np.minimum(index, length - 1))
            batch["mask"] = index < length
            yield batch


def eval_batches(arrays: Arrays, *, batch_size: int) -> EvalBatches:
    """All examples once, in order, in batches of one size.

    Args:
        arrays: a dict of arrays of one length, on the host.
        batch_size: examples in a batch; the last is padded, with ``mask`` false.

    Returns:
        An iterable of batches, each time from the start.

    Raises:
        ValueError: if there are no examples, lengths differ, or the batch size is not
            positive.

    Examples:
        >>> import numpy as np
        >>> from jaxkd import data
        >>> batches = data.eval_batches({"x": np.arange(3)}, batch_size=2)
        >>> [batch["mask"].tolist() for batch in batches]
        [[True, True], [True, False]]
    """
    return EvalBatches(check_arrays(arrays, batch_size), batch_size)


def _take(arrays: Mapping[str, np.ndarray], index: np.ndarray) -> dict[str, Any]:
    batch: dict[str, Any] = {name: x[index] for name, x in arrays.items()}
    batch.setdefault("index", index.astype(np.int32))
    batch.setdefault("mask", np.ones(len(index), bool))
    return batch


def check_arrays(arrays: Arrays, batch_size: int = 1) -> dict[str, np.ndarray]:
    """The arrays on the host, of which there must be examples, as many in each.

    Args:
        arrays: a dict of arrays.
        batch_size: at least 1.

    Returns:
        A dict of NumPy arrays.

    Raises:
        TypeError: if they are no dict.
        ValueError: if there are no examples, lengths differ, or the batch size is not
            positive.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    _checks.check_batch_type(arrays, "`arrays`")
    arrays = {name: np.asarray(x) for name, x in arrays.items()}
    lengths = {name: len(x) if x.ndim else None for name, x in arrays.items()}
    if not lengths or 0 in lengths.values():
        raise ValueError(f"the dataset is empty: {lengths}.")
    if None in lengths.values() or len(set(lengths.values())) > 1:
        raise ValueError(f"the arrays have different lengths: {lengths}.")
    return arrays
