"""Progress on the terminal: live bars, or plain lines where there is no terminal."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from jaxkd._extras import require

Advance = Callable[[int, float], None]


def make_console(*, quiet: bool = False) -> Any:
    """A rich console; as wide as a table needs when the output is not a terminal.

    Args:
        quiet: print nothing.

    Returns:
        A ``rich.console.Console``.

    Raises:
        ModuleNotFoundError: if the extra ``report`` is not installed.
    """
    console = require("rich.console", "report", "a report").Console(
        quiet=quiet, highlight=False
    )
    if not console.is_terminal:
        console.width = 110
    return console


@contextlib.contextmanager
def show_progress(console: Any, title: str, total: int) -> Iterator[Advance]:
    """Shows how far one stage is.

    Args:
        console: of :func:`make_console`.
        title: what is under way.
        total: the number of steps.

    Yields:
        ``advance(step, loss)``, to be called now and then.
    """
    began, last = time.perf_counter(), [0, float("nan")]

    def remember(step: int, loss: float) -> None:
        last[:] = [step, loss]

    if not console.is_terminal:
        yield remember
    else:
        with _bar() as bar:
            task = bar.add_task(title, total=total, loss="")

            def advance(step: int, loss: float) -> None:
                remember(step, loss)
                bar.update(task, completed=step, loss=f"loss {loss:.4f}")

            yield advance
    if not last[0]:  # of a run that was resumed behind this stage
        console.print(f"{title:<36} done before")
        return
    seconds = time.perf_counter() - began
    console.print(
        f"{title:<36} {last[0]:>5}/{total} steps   loss {last[1]:7.4f}   "
        f"{seconds:5.1f} s"
    )


@contextlib.contextmanager
def _bar() -> Iterator[Any]:
    progress = require("rich.progress", "report", "a report")
    with progress.Progress(
        progress.TextColumn("{task.description:<36}"),
        progress.BarColumn(bar_width=20),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[loss]}"),
        progress.TimeRemainingColumn(),
        transient=True,
    ) as bar:
        yield bar
