"""Pictures of a run: how it learned, how sure it is, who pays, where models differ."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxkd._extras import require

_MARKS = "os^Dv*Ph"


def plot_learning_curves(
    curves: Mapping[str, Sequence[tuple[int, float]]],
    file: str | pathlib.Path,
    *,
    title: str,
    ylabel: str = "accuracy on the validation split [%]",
) -> None:
    """Draws a number against the updates done, one line for each model.

    Args:
        curves: ``(updates, number)`` by the model's name; of several with the same
            number of updates, such as those of several seeds, the mean is drawn within
            a band from the least to the largest.
        file: the picture to write (PNG).
        title: what stands above it.
        ylabel: what the numbers are, and their unit.

    Raises:
        ModuleNotFoundError: if the extra ``report`` is not installed.
    """
    figure, axes = _figure()
    for i, (name, points) in enumerate(curves.items()):
        steps = sorted({step for step, _ in points})
        values = [[y for step, y in points if step == x] for x in steps]
        mean = [float(np.mean(found)) for found in values]
        color = f"C{i % 10}"
        axes.plot(steps, mean, _MARKS[i % 8] + "-", color=color, label=name, ms=4)
        axes.fill_between(
            steps,
            list(map(min, values)),
            list(map(max, values)),
            color=color,
            alpha=0.2,
        )
    axes.set_xlabel("updates")
    axes.set_ylabel(ylabel)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize=9)
    figure.savefig(file)


def plot_reliability(
    logits: Mapping[str, Any],
    labels: Any,
    file: str | pathlib.Path,
    *,
    title: str,
    bins: int = 10,
) -> None:
    """Draws accuracy against confidence, in bins of equal width.

    Args:
        logits: of each model by name, shape ``[n, classes]``.
        labels: integers, shape ``[n]``.
        file: the picture to write (PNG).
        title: what stands above it.
        bins: number of bins; those with fewer than 5 examples are left out.

    Raises:
        ModuleNotFoundError: if the extra ``report`` is not installed.

    References:
        Guo, Pleiss, Sun, Weinberger, `On calibration of modern neural networks
        <https://arxiv.org/abs/1706.04599>`_, 2017, section 2.
    """
    figure, axes = _figure()
    axes.plot([0, 100], [0, 100], ":", color="gray", label="calibrated")
    for i, (name, found) in enumerate(logits.items()):
        places, shares = _reliability(np.asarray(found, np.float64), labels, bins)
        axes.plot(places, shares, _MARKS[i % 8] + "-", label=name, ms=5)
    axes.set_xlabel("confidence: probability of the chosen class [%]")
    axes.set_ylabel("share of right answers [%]")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize=9)
    figure.savefig(file)


def _reliability(
    logits: np.ndarray, labels: Any, bins: int
) -> tuple[list[float], list[float]]:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    sure = 1 / np.exp(shifted).sum(axis=-1)
    right = logits.argmax(axis=-1) == np.asarray(labels)
    places = np.minimum((sure * bins).astype(int), bins - 1)
    kept = [b for b in range(bins) if np.sum(places == b) >= 5]
    return (
        [100 * float(sure[places == b].mean()) for b in kept],
        [100 * float(right[places == b].mean()) for b in kept],
    )


def plot_class_changes(
    changes: Mapping[str, Sequence[float]],
    classes: Sequence[str],
    file: str | pathlib.Path,
    *,
    title: str,
) -> None:
    """Draws how much accuracy each class lost or gained.

    Args:
        changes: points by the model's name, one number for each class.
        classes: the names of the classes; of more than 20, those that changed most
            are drawn.
        file: the picture to write (PNG).
        title: what stands above it.

    Raises:
        ModuleNotFoundError: if the extra ``report`` is not installed.
    """
    figure, axes = _figure()
    most = np.max([np.abs(np.nan_to_num(x)) for x in changes.values()], axis=0)
    shown = sorted(np.argsort(-most, kind="stable")[:20].tolist())
    width = 0.8 / len(changes)
    for i, (name, points) in enumerate(changes.items()):
        places = np.arange(len(shown)) + (i - (len(changes) - 1) / 2) * width
        color = f"C{(i + 1) % 10}"  # the first is the teacher's, in other pictures
        axes.bar(places, np.asarray(points)[shown], width, color=color, label=name)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(shown)), [classes[c] for c in shown])
    if max(len(classes[c]) for c in shown) > 3:
        axes.tick_params(axis="x", rotation=45)
    axes.set_xlabel("class")
    axes.set_ylabel("change of accuracy [points]")
    axes.set_title(title)
    axes.grid(alpha=0.3, axis="y")
    # Below, for among many bars there is no free place.
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    figure.savefig(file)


def plot_bars(
    values: Mapping[str, float], file: str | pathlib.Path, *, title: str, xlabel: str
) -> None:
    """Draws numbers as bars, one below the other, with the largest on top.

    Args:
        values: by name.
        file: the picture to write (PNG).
        title: what stands above it.
        xlabel: what the numbers are, and their unit.

    Raises:
        ModuleNotFoundError: if the extra ``report`` is not installed.
    """
    figure, axes = _figure()
    names = sorted(values, key=lambda name: values[name])
    bars = axes.barh(names, [values[name] for name in names])
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xlabel(xlabel)
    axes.set_title(title)
    axes.grid(alpha=0.3, axis="x")
    axes.margins(x=0.1)
    figure.savefig(file)


def plot_images(
    images: Any, captions: Sequence[str], file: str | pathlib.Path, *, title: str
) -> None:
    """Draws images in a grid, each with its caption.

    Args:
        images: shape ``[n, h, w, 1 or 3]``; the range of all is stretched to that of
            the colours.
        captions: what stands above each.
        file: the picture to write (PNG).
        title: what stands above all.

    Raises:
        ModuleNotFoundError: if the extra ``report`` is not installed.
    """
    images = np.asarray(images, np.float64)
    low, high = images.min(), images.max()
    images = (images - low) / max(high - low, 1e-12)
    columns = min(5, len(images))
    rows = -(-len(images) // columns)
    module = require("matplotlib.figure", "report", "a report")
    size = (2.1 * columns, 2.4 * rows + 0.4)
    figure = module.Figure(figsize=size, dpi=120, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for axes, image, caption in zip(grid.ravel(), images, captions, strict=False):
        gray = image.shape[-1] == 1
        axes.imshow(image[..., 0] if gray else image, cmap="gray" if gray else None)
        axes.set_title(caption, fontsize=8)
    figure.suptitle(title)
    figure.savefig(file)


def _figure() -> tuple[Any, Any]:
    module = require("matplotlib.figure", "report", "a report")
    figure = module.Figure(figsize=(8, 5), dpi=120, layout="constrained")
    return figure, figure.subplots()
