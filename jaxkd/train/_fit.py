"""The loop."""

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxkd._types import Batch, Metrics
from jaxkd.models import Variables
from jaxkd.train._state import TrainState
from jaxkd.train._step import TrainStep


class NonFiniteError(ArithmeticError):
    """Training met a loss or an update that is NaN or infinite.

    Attributes:
        step: the update, counted from 1, at which it happened.
    """

    def __init__(self, step: int, name: str, value: float) -> None:
        self.step = step
        super().__init__(
            f"{name} is {value} at step {step}: training stopped, and checkpoints "
            "saved before it are as they were. Usual causes: a learning rate too high, "
            "labels outside [0, classes), or NaN in the batch."
        )


class Hook(NamedTuple):
    """Something to do while training.

    Attributes:
        every: it is called when the number of updates is a multiple of this, and at the
            end.
        call: ``call(state, metrics)``; the state is valid until it returns.
    """

    every: int
    call: Callable[[TrainState, Metrics], Any]


def fit(
    step: TrainStep,
    state: TrainState,
    teacher: Variables | None,
    batches: Iterator[Batch],
    *,
    steps: int,
    hooks: Sequence[Hook] = (),
    stop: Callable[[int], bool] = lambda step: False,
    max_in_flight: int = 8,
) -> Iterator[tuple[TrainState, Metrics]]:
    """Trains, as a generator of ``(state, metrics)``, one for each update.

    The host never runs further ahead of the devices than ``max_in_flight`` updates. All
    updates up to a hook's are checked to be finite before it is called, so a hook that
    saves never saves NaN.

    Args:
        step: a compiled step, of :func:`jit_step` or :func:`pmap_step`.
        state: the state to begin with; one that has done ``k`` updates goes on with
            update ``k + 1``.
        teacher: the teacher's variables; ``None`` without one.
        batches: an endless iterator, such as :class:`jaxkd.data.TrainBatches`. Each
            update draws one batch, just before.
        steps: the number of updates at which to stop, those done before included.
        hooks: what to do while training.
        stop: asked after each update, with the number done, whether to stop there; then
            all hooks are called. See :func:`stop_on_signal` and :class:`Best`.
        max_in_flight: how many updates may be unfinished.

    Yields:
        The state and the metrics after each update. The next update reuses the state's
        buffers: copy what you want to keep (``train.copy``).

    Raises:
        TypeError: if ``state`` is none.
        NonFiniteError: if a loss or an update is NaN or infinite, unless the optimizer
            leaves such updates out: see :func:`skip_nonfinite`.
        ValueError: if the batches end too early.

    Examples:
        >>> import jax, numpy as np, optax
        >>> from jaxkd import data, models, objectives, train
        >>> rng = np.random.default_rng(0)
        >>> arrays = {"image": rng.normal(size=(64, 4)).astype("float32")}
        >>> arrays["label"] = (arrays["image"].sum(1) > 0).astype("int32")
        >>> batches = data.TrainBatches(arrays, batch_size=16, seed=0)
        >>> student = models.from_linen(models.MLP(hidden=(8,), classes=2))
        >>> objective, tx = objectives.hard_label(), optax.adam(0.05)
        >>> state = train.init_state(
        ...     jax.random.key(0), student, None, objective, tx, batches.peek()
        ... )
        >>> step = train.jit_step(train.make_train_step(student, None, objective, tx))
        >>> for state, metrics in train.fit(step, state, None, batches, steps=100):
        ...     pass
        >>> bool(metrics["loss"] < 0.2)
        True
    """
    if not isinstance(state, TrainState):
        raise TypeError(
            f"`state` must be a TrainState, as of init_state; got a "
            f"{type(state).__name__}. The order is fit(step, state, teacher, batches)."
        )
    _check_hooks(hooks)
    unchecked: collections.deque[tuple[int, Metrics]] = collections.deque()
    for number, batch in _numbered(batches, int(state.step), steps):
        state, metrics = step(state, teacher, batch)
        unchecked.append((number, metrics))
        last = number == steps or stop(number)
        due = [h for h in hooks if last or number % h.every == 0]
        _settle(unchecked, 0 if due or last else max_in_flight)
        _call(due, state, metrics)
        if not last and stop(number):  # a hook found that it gets no better
            last = True
            _call([h for h in hooks if h not in due], state, metrics)
        yield state, metrics
        if last:
            return


def _numbered(
    batches: Iterator[Batch], done: int, steps: int
) -> Iterator[tuple[int, Batch]]:
    batches = iter(batches)
    for number in range(done + 1, steps + 1):
        batch = next(batches, None)
        if batch is None:
            raise ValueError(
                f"the batches ended after {number - 1 - done} updates; {steps - done} "
                "were asked for."
            )
        yield number, batch


def _settle(unchecked: collections.deque[tuple[int, Metrics]], allowed: int) -> None:
    """Waits until no more than so many updates are unfinished, and looks at them."""
    while len(unchecked) > allowed:
        _check_finite(*unchecked.popleft())


def _call(hooks: Sequence[Hook], state: TrainState, metrics: Metrics) -> None:
    for hook in hooks:
        hook.call(state, metrics)


def _check_hooks(hooks: Sequence[Hook]) -> None:
    for hook in hooks:
        if hook.every < 1:
            raise ValueError(f"a hook's `every` must be at least 1, got {hook.every}.")


def _check_finite(number: int, metrics: Metrics) -> None:
    """Waits for an update, and looks at it; a guarded one may be without effect."""
    if "skipped" in metrics:
        jax.block_until_ready(metrics)
        return
    for name in ("loss", "update_norm"):
        if name in metrics:
            value = float(jax.device_get(metrics[name]))
            if not np.isfinite(value):
                raise NonFiniteError(number, name, value)
