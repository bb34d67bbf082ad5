"""Several updates in one call."""

from collections.abc import Iterable, Iterator

import jax
import numpy as np
from jax import lax

from jaxkd._types import Batch, Metrics
from jaxkd.models import Variables
from jaxkd.train._state import TrainState
from jaxkd.train._step import TrainStep


def scan_steps(step: TrainStep) -> TrainStep:
    """Does one update for each of a stack of batches, in one call.

    Saves the time between calls, which counts for small models on fast devices; on
    CPUs it seldom pays. Compile it as any step, with :func:`shard_map_step` or
    :func:`jax.jit`; the batches come from :func:`stacked`.

    Args:
        step: a pure step, of :func:`make_train_step`.

    Returns:
        A step that takes batches along a first axis more, and returns the metrics of
        the last.

    Examples:
        >>> import jax, numpy as np, optax
        >>> from jaxkd import models, objectives, train
        >>> student = models.from_linen(models.MLP((8,), 3))
        >>> objective, tx = objectives.hard_label(), optax.sgd(0.1)
        >>> batch = {"image": np.ones((4, 5)), "label": np.zeros(4, int)}
        >>> state = train.init_state(
        ...     jax.random.key(0), student, None, objective, tx, batch
        ... )
        >>> step = train.make_train_step(student, None, objective, tx)
        >>> many = next(train.stacked([batch] * 3, 3))
        >>> state, metrics = jax.jit(train.scan_steps(step))(state, None, many)
        >>> int(state.step)
        3
    """

    def scanned(
        state: TrainState,
        teacher_variables: Variables | None,
        batch: Batch,
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        def one(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            return step(state, teacher_variables, batch, axis_name=axis_name)

        state, metrics = lax.scan(one, state, dict(batch))
        return state, jax.tree.map(lambda x: x[-1], metrics)

    return scanned


def stacked(batches: Iterable[Batch], number: int) -> Iterator[Batch]:
    """Stacks batches for :func:`scan_steps`.

    Args:
        batches: batches of one length.
        number: of batches in each stack; what remains in the end is left out.

    Yields:
        A batch with arrays of shape ``[number, batch, ...]``.

    Examples:
        >>> import numpy as np
        >>> from jaxkd import train
        >>> [b["x"].shape for b in train.stacked([{"x": np.ones(4)}] * 5, 2)]
        [(2, 4), (2, 4)]
    """
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == number:
            yield {k: np.stack([np.asarray(b[k]) for b in group]) for k in group[0]}
            group = []
