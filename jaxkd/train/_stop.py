"""When to stop: at a signal, or when it gets no better."""

import contextlib
import operator
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import jax
from jax.experimental import multihost_utils

from jaxkd._types import Metrics
from jaxkd.train._fit import Hook
from jaxkd.train._state import TrainState, copy

#: From the number of updates done to whether to stop.
Stop: TypeAlias = Callable[[int], bool]


@contextlib.contextmanager
def stop_on_signal(
    signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
) -> Iterator[Stop]:
    """Lets :func:`fit` end cleanly when the process is told to: hooks run first.

    The first signal asks for the end after the update under way; a second one acts as
    ever. With several processes jax watches for SIGTERM, other signals are passed on as
    that, and all processes stop after the same update, whichever was told to.

    Args:
        signals: what to listen to.

    Yields:
        What ``fit(..., stop=...)`` takes.

    Raises:
        RuntimeError: if it is not called in the main thread.

    Examples:
        >>> from jaxkd import train
        >>> with train.stop_on_signal() as stop:
        ...     stop(3)
        False
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("signals can be listened to in the main thread only.")
    asked = threading.Event()
    several = jax.process_count() > 1
    if several:  # jax has its own handler of SIGTERM, which must stay
        signals = [number for number in signals if number != signal.SIGTERM]
    before = {number: signal.getsignal(number) for number in signals}

    def listen(number: int, frame: Any) -> None:
        _handle(before)
        if several:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            asked.set()

    _handle(dict.fromkeys(signals, listen))
    try:
        if several:
            yield multihost_utils.reached_preemption_sync_point
        else:
            yield lambda step: asked.is_set()
    finally:
        _handle(before)


def _handle(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


class Best:
    """Keeps the best state of a run, and says when it gets no better.

    Give ``best.hook`` to ``fit(..., hooks=[...])`` and, to stop early, ``best`` itself
    to ``stop=``.

    Attributes:
        state: a copy of the best state; ``None`` before the first look.
        value: what was measured of it.
        step: the number of updates it had.
        hook: looks every ``every`` updates and at the end.

    Examples:
        >>> from jaxkd import train
        >>> best = train.Best(lambda state: 0.5, every=100, patience=3)
        >>> best.hook.every, best(100)
        (100, False)
    """

    def __init__(
        self,
        measure: Callable[[TrainState], float],
        *,
        every: int,
        patience: int | None = None,
        smaller: bool = False,
    ) -> None:
        """Makes the watch.

        Args:
            measure: from a state to a number, such as its validation accuracy.
            every: number of updates between two looks.
            patience: how many looks in a row may be no better before it says stop;
                ``None`` never to.
            smaller: whether a smaller number is better.
        """
        if patience is not None and patience < 1:
            raise ValueError(f"`patience` must be at least 1, got {patience}.")
        self.state: TrainState | None = None
        self.value: float | None = None
        self.step = 0
        self.hook = Hook(every, self._look)
        self._measure, self._patience = measure, patience
        self._better = operator.lt if smaller else operator.gt
        self._worse = 0

    def _look(self, state: TrainState, metrics: Metrics) -> None:
        value = float(self._measure(state))
        if self.value is None or self._better(value, self.value):
            self.state, self.value, self.step = copy(state), value, int(state.step)
            self._worse = 0
        else:
            self._worse += 1

    def __call__(self, step: int) -> bool:
        """Whether patience has run out.

        Args:
            step: number of updates done.

        Returns:
            True if there were too many looks in a row without a better value.
        """
        return self._patience is not None and self._worse >= self._patience
