"""The order in which examples come: a function of a seed and a position."""

from collections.abc import Mapping

import jax
import numpy as np

from jaxkd._types import PRNGKey


class Order:
    """Epochs, each a permutation, that follow each other without a gap."""

    def __init__(
        self, length: int, *, batch_size: int, seed: int, shard: tuple[int, int]
    ) -> None:
        """Checks the sizes.

        Args:
            length: examples in the dataset.
            batch_size: examples in a batch, of all processes together.
            seed: of the permutations.
            shard: number of this process and of all.

        Raises:
            ValueError: if the batch cannot be shared.
        """
        index, count = shard
        if not 0 <= index < count or batch_size % count:
            raise ValueError(
                f"a batch of {batch_size} cannot be shared by {count} processes, of "
                f"which this is number {index}."
            )
        first, last = (i * batch_size // count for i in (index, index + 1))
        self.own = slice(first, last)
        self.shared = count > 1
        self._length = length
        self._batch_size = batch_size
        self._seed = seed
        self._epoch: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def rows(self, position: int) -> np.ndarray:
        """The examples of a batch, of all processes.

        Args:
            position: batches before it.

        Returns:
            Integers, ``[batch_size]``.
        """
        start = position * self._batch_size
        stream = np.arange(start, start + self._batch_size)
        epochs, places = np.divmod(stream, self._length)
        index = np.empty(self._batch_size, np.int64)
        for epoch in np.unique(epochs):
            inside = epochs == epoch
            index[inside] = self._permutation(int(epoch))[places[inside]]
        return index

    def key(self, position: int) -> PRNGKey:
        """The transform's key.

        Args:
            position: batches before this one.

        Returns:
            A typed key.
        """
        return jax.random.fold_in(jax.random.key(self._seed), position)

    def state(self, position: int) -> dict[str, int]:
        """What to save.

        Args:
            position: batches done.

        Returns:
            Plain numbers.
        """
        return {
            "batches": position,
            "batch_size": self._batch_size,
            "seed": self._seed,
            "examples": self._length,
        }

    def position(self, state: Mapping[str, int]) -> int:
        """The position of a saved state.

        Args:
            state: of :meth:`state`.

        Returns:
            Batches done.

        Raises:
            ValueError: if it is of other batches.
        """
        own = self.state(0)
        for name in ("batch_size", "seed", "examples"):
            if state[name] != own[name]:
                raise ValueError(
                    f"the saved position is of batches with {name} {state[name]}, "
                    f"these have {own[name]}."
                )
        return state["batches"]

    def _permutation(self, epoch: int) -> np.ndarray:
        known = self._epoch  # read once: threads share it
        if known[0] != epoch:
            rng = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
            known = (epoch, rng.permutation(self._length))
            self._epoch = known
        return known[1]
