"""One table and one plot that compare models."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxkd._extras import require
from jaxkd.report._page import markdown_lines


class Row(NamedTuple):
    """One model, measured.

    Attributes:
        name: what it is.
        accuracy: the share of right answers, one number for each seed.
        agreement: the share of examples on which it answers as the teacher of its seed;
            empty if nobody counted.
        parameters: how many numbers were trained.
        nonzeros: how many of them are not zero.
        num_bytes: size on disk of the exported model.
        latency: seconds for one batch.
        throughput: examples a second.
        quality: what ``accuracy`` is, where it is something else.
    """

    name: str
    accuracy: tuple[float, ...]
    agreement: tuple[float, ...]
    parameters: int
    nonzeros: int
    num_bytes: int
    latency: float
    throughput: float
    quality: str = "accuracy"


_HEADER = (
    "agreement %",
    "parameters",
    "non-zeros",
    "kB on disk",
    "ms a batch",
    "examples/s",
)


def compare(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The cells of the table; the first row is what the others are compared with.

    Args:
        rows: the models, the teacher first.

    Returns:
        The header, then a tuple of texts for each model. Each number is followed by its
        ratio to the first row's. Where nobody counted agreement, it has no column.

    Examples:
        >>> from jaxkd import report
        >>> teacher = report.Row("big", (0.99, 0.97), (1, 1), 400, 400, 8000, 0.01, 1)
        >>> student = report.Row("small", (0.98,), (0.9,), 100, 20, 2000, 0.005, 2)
        >>> for line in report.compare([teacher, student])[1:]:
        ...     print(line[:5])
        ('big', '98.00 ± 1.41', '100.00 ± 0.00', '400', '400')
        ('small', '98.00 (1.000×)', '90.00 (0.900×)', '100 (÷4.0)', '20 (÷20.0)')
    """
    teacher = rows[0]
    table = [
        ("model", f"{_quality(rows)} %", *_HEADER),
        *(_cells(row, None if row is teacher else teacher) for row in rows),
    ]
    if any(row.agreement for row in rows):
        return table
    return [(name, share, *rest) for name, share, _, *rest in table]


def _cells(row: Row, teacher: Row | None) -> tuple[str, ...]:
    def smaller(text: str, of: str) -> str:
        if teacher is None:
            return text
        return f"{text} (÷{getattr(teacher, of) / max(getattr(row, of), 1e-12):.1f})"

    def share(of: str) -> str:
        found = getattr(row, of)
        if not found:
            return "–"
        text, beside = mean_and_std(found), teacher and getattr(teacher, of)
        if not beside or not np.mean(beside):
            return text
        return f"{text} ({np.mean(found) / np.mean(beside):.3f}×)"

    times = "" if teacher is None else f" ({row.throughput / teacher.throughput:.1f}×)"
    return (
        row.name,
        share("accuracy"),
        share("agreement"),
        smaller(f"{row.parameters:,}", "parameters"),
        smaller(f"{row.nonzeros:,}", "nonzeros"),
        smaller(f"{row.num_bytes / 1000:,.1f}", "num_bytes"),
        smaller(f"{1000 * row.latency:.2f}", "latency"),
        f"{row.throughput:,.0f}{times}",
    )


def _quality(rows: Sequence[Row]) -> str:
    return " or ".join(dict.fromkeys(row.quality for row in rows))


def mean_and_std(shares: Sequence[float]) -> str:
    """Shares in per cent, as mean ± sample standard deviation over the seeds.

    Args:
        shares: numbers in ``[0, 1]``, one for each seed.

    Returns:
        ``"98.00 ± 1.41"``, or ``"98.00"`` for one seed.
    """
    percent = 100 * np.asarray(shares)
    if len(percent) == 1:
        return f"{percent[0]:.2f}"
    return f"{percent.mean():.2f} ± {percent.std(ddof=1):.2f}"


def print_table(console: Any, rows: Sequence[Row]) -> None:
    """Prints the table on the terminal, ratios on a second line.

    Args:
        console: of :func:`~jaxkd.report.make_console`.
        rows: the models, the teacher first.
    """
    header, *lines = compare(rows)
    table = require("rich.table", "report", "a report").Table(
        box=None, pad_edge=False, padding=(0, 1, 1, 0)
    )
    for i, title in enumerate(header):
        two_lines = title.replace(" ", "\n", 1).replace("-", "-\n")
        table.add_column(
            two_lines if i else title,
            justify="right" if i else "left",
            no_wrap=i > 0,
        )
    for name, *cells in lines:
        narrow = (cell.replace(" ± ", "±").replace(" (", "\n(") for cell in cells)
        table.add_row(name, *narrow)
    console.print(table)


def markdown_table(rows: Sequence[Row]) -> str:
    """The table in Markdown.

    Args:
        rows: the models, the teacher first.

    Returns:
        Lines of Markdown.
    """
    return markdown_lines(compare(rows))


def plot_accuracy_against_size(
    rows: Sequence[Row], file: str | pathlib.Path, *, title: str
) -> None:
    """Draws accuracy against bytes on disk, each model by name.

    Args:
        rows: the models, the teacher first.
        file: the picture to write (PNG).
        title: what stands above it.

    Raises:
        ModuleNotFoundError: if the extra ``report`` is not installed.
    """
    figure_module = require("matplotlib.figure", "report", "a report")
    height = 4 + 0.2 * ((len(rows) + 1) // 2)  # inches: the plot, and its legend
    figure = figure_module.Figure(figsize=(8, height), dpi=120, layout="constrained")
    axes = figure.subplots()
    places = _apart([row.num_bytes / 1000 for row in rows])
    for i, (row, place) in enumerate(zip(rows, places, strict=True)):
        percent = 100 * np.asarray(row.accuracy)
        spread = percent.std(ddof=1) if len(percent) > 1 else None
        axes.errorbar(
            place,
            percent.mean(),
            yerr=spread,
            fmt="os^Dv*Ph"[i % 8],
            markersize=9,
            capsize=4,
            label=f"{row.name} ({percent.mean():.1f} %)",
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    if max(places) > 5 * min(places):  # the labels of all multiples would collide
        ticker = require("matplotlib.ticker", "report", "a report")
        axes.xaxis.set_minor_locator(ticker.LogLocator(subs=(2, 5)))
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="x", which="both", length=3.5)  # labels on one line
    axes.set_xlabel(
        "size of the exported model [kB, log scale; like sizes drawn side by side]"
    )
    axes.set_ylabel(f"{_quality(rows)} on the test split [%]")
    axes.set_title(title)
    axes.grid(alpha=0.3, which="both")
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)  # hides no mark
    figure.savefig(file)


def _apart(sizes: Sequence[float]) -> list[float]:
    """Moves like sizes a little apart, so that their marks do not hide each other."""
    seen: dict[float, int] = {}
    places = []
    for size in sizes:
        about = round(float(np.log(size)), 1)
        seen[about] = seen.get(about, 0) + 1
        places.append(size * 1.04 ** (seen[about] - 1))
    return places
