"""Curves of sensitivity, drawn."""

import pathlib

import numpy as np

from jaxkd import compress
from jaxkd._extras import require


def plot_sensitivity(
    curves: compress.Sensitivity, file: str | pathlib.Path, *, title: str
) -> None:
    """Draws the loss against what is left of each part, one line for each.

    Args:
        curves: of :func:`jaxkd.compress.sensitivity` or
            :func:`jaxkd.compress.unit_sensitivity`.
        file: the picture to write (PNG).
        title: what stands above it.

    Raises:
        ModuleNotFoundError: if the extra ``report`` is not installed.
    """
    figure_module = require("matplotlib.figure", "report", "a report")
    figure = figure_module.Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    for i, (name, left) in enumerate(curves.left.items()):
        share = 100 * np.asarray(left) / left[0]
        axes.plot(share, curves.losses[name], "os^Dv*Ph"[i % 8] + "-", label=name)
    axes.axhline(curves.dense, color="gray", linestyle=":", label="whole model")
    axes.invert_xaxis()
    axes.set_xlabel("what is left of the part, the others being whole [%]")
    axes.set_ylabel("loss")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize=8)
    figure.savefig(file)
