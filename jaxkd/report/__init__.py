"""Reports: records, progress, tables, plots, measurements."""

from jaxkd.report._compare import (
    Row,
    compare,
    markdown_table,
    mean_and_std,
    plot_accuracy_against_size,
    print_table,
)
from jaxkd.report._curves import plot_sensitivity
from jaxkd.report._loggers import Logger, MakeLogger, find_logger, tensorboard, wandb
from jaxkd.report._measure import measure_latency
from jaxkd.report._page import Part, write_page, write_report
from jaxkd.report._pictures import (
    plot_bars,
    plot_class_changes,
    plot_images,
    plot_learning_curves,
    plot_reliability,
)
from jaxkd.report._progress import make_console, show_progress
from jaxkd.report._records import JsonLines, open_records, write_atomically
from jaxkd.report._result import read_result, write_result

__all__ = [
    "JsonLines",
    "Logger",
    "MakeLogger",
    "Part",
    "Row",
    "compare",
    "find_logger",
    "make_console",
    "markdown_table",
    "mean_and_std",
    "measure_latency",
    "open_records",
    "plot_accuracy_against_size",
    "plot_bars",
    "plot_class_changes",
    "plot_images",
    "plot_learning_curves",
    "plot_reliability",
    "plot_sensitivity",
    "print_table",
    "read_result",
    "show_progress",
    "tensorboard",
    "wandb",
    "write_atomically",
    "write_page",
    "write_report",
    "write_result",
]
