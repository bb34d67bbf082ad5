"""The same stages in different orders, from one teacher, side by side."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxkd import _names, deploy, report
from jaxkd.recipes._compression.config import CompressConfig
from jaxkd.recipes._compression.folder import BATCH, FloorError
from jaxkd.recipes._compression.images import images_task
from jaxkd.recipes._compression.pipeline import compress
from jaxkd.recipes._compression.stages import (
    AnyStage,
    Cluster,
    Distil,
    Export,
    Factorize,
    FineTune,
    Prune,
    Quantize,
    Shrink,
)
from jaxkd.recipes._compression.student import Task
from jaxkd.recipes._demo import versions
from jaxkd.recipes._experiment.value import Splits, slug
from jaxkd.recipes._exports import export_formats
from jaxkd.recipes._folder import lock_folder, open_folder
from jaxkd.recipes._result import Result
from jaxkd.recipes._settings import check_counts, to_json
from jaxkd.recipes._sources import load_images
from jaxkd.recipes._stages import Runner

_NEAR = 0.5  # points


@dataclasses.dataclass(frozen=True)
class OrdersConfig:
    """Settings of :func:`orders`.

    Attributes:
        data: images, see :func:`jaxkd.recipes.load_images`.
        widths: of the teacher, a :class:`jaxkd.models.CNN`.
        orders: each a sequence of words: ``extract`` (a narrow network learns from the
            teacher; first, if at all), ``distil``, ``fine_tune``, ``prune``,
            ``shrink``, ``quantize``, ``factorize`` and ``cluster``.
        student: widths of the network of ``extract``.
        keep: fraction of the parameters that ``shrink`` leaves.
        sparsity: fraction of zeros after ``prune``.
        steps: updates of each stage; ``quantize``, ``factorize`` and ``cluster`` have
            half as many.
        learning_rate: peak of their cosine schedules.
        format: of the exported models, see :func:`jaxkd.recipes.export_formats`.
        floor: the least accuracy, in ``[0, 1]``; an order that breaks it ends there.
        seed: of initial values and of the order of the data.
        batch_size: examples in a batch.
        temperature: of the soft targets.
        soft_weight: weight of the soft targets; hard labels have 1 minus it.
        teacher_steps: updates of the teacher.
        teacher_learning_rate: peak of the cosine schedule of its AdamW.
        save_every: updates from one checkpoint to the next.
    """

    data: str = "digits"
    widths: tuple[int, ...] = (32, 64, 128)
    orders: tuple[str, ...] = (
        "quantize",
        "prune quantize",
        "shrink quantize",
        "prune shrink quantize",
        "shrink prune quantize",
        "extract quantize",
        "extract prune quantize",
        "factorize quantize",
        "shrink cluster",
    )
    student: tuple[int, ...] = (16, 32, 64)
    keep: float = 0.25
    sparsity: float = 0.8
    steps: int = 300
    learning_rate: float = 5e-3
    format: str = "stablehlo"
    floor: float = 0.0
    seed: int = 0
    batch_size: int = 64
    temperature: float = 1.0
    soft_weight: float = 0.9
    teacher_steps: int = 600
    teacher_learning_rate: float = 2e-2
    save_every: int = 100

    def __post_init__(self) -> None:
        check_counts(self, "steps")
        if self.format not in export_formats():
            raise ValueError(
                f"`format` has no {self.format!r}; "
                f"{_names.nearest(self.format, export_formats())}"
            )
        if not self.orders or len(set(map(slug, self.orders))) < len(self.orders):
            raise ValueError("`orders` must be different, and at least one.")
        for order in self.orders:
            stages_of(self, order)


def stages_of(config: OrdersConfig, order: str) -> CompressConfig:
    """The compression that an order stands for.

    Args:
        config: the settings of its stages.
        order: its words.

    Returns:
        A config of :func:`jaxkd.recipes.compress`.

    Raises:
        ValueError: if a word is none, or stands where it cannot.
    """
    steps, rate = config.steps, config.learning_rate
    half = max(1, steps // 2)
    make: dict[str, Callable[[], AnyStage]] = {
        "extract": lambda: Distil(steps, rate),
        "distil": lambda: Distil(steps, rate),
        "fine_tune": lambda: FineTune(steps, rate),
        "prune": lambda: Prune(config.sparsity, steps, rate),
        "shrink": lambda: Shrink(config.keep, steps=steps, learning_rate=rate),
        "quantize": lambda: Quantize(steps=half),
        "factorize": lambda: Factorize(steps=half),
        "cluster": lambda: Cluster(steps=half),
    }
    words = order.split()
    for word in words:
        if word not in make:
            raise ValueError(
                f"order {order!r}: {word!r} is no stage; {_names.nearest(word, make)}"
            )
    if not words or "extract" in words[1:]:
        raise ValueError(
            f"order {order!r}: there is no stage, or extract is not the first."
        )
    names = {field.name for field in dataclasses.fields(CompressConfig)}
    shared = {k: v for k, v in vars(config).items() if k in names}
    shared["student"] = config.student if words[0] == "extract" else ()
    try:
        stages = (*(make[word]() for word in words), Export((config.format,)))
        return CompressConfig(stages, **shared)
    except ValueError as error:
        raise ValueError(f"order {order!r}: {error}") from error


class _Outcome(NamedTuple):
    """What an order gave: the rows of its stages, or why it ended."""

    rows: Sequence[report.Row] = ()
    broken: str = ""


def orders(
    config: OrdersConfig,
    folder: str | pathlib.Path,
    *,
    resume: bool = False,
    quiet: bool = False,
    loggers: Sequence[report.MakeLogger] = (),
) -> Result:
    """Compresses one trained CNN in several orders of stages, and compares them.

    Each order is a run of :func:`jaxkd.recipes.compress` in ``FOLDER/orders``, whose
    own report tells what every stage did.

    Args:
        config: what to do.
        folder: where the run leaves its report.
        resume: continue the run that is there; without it, the folder must not hold
            one.
        quiet: show no progress, only the result.
        loggers: what else gets every record, such as ``report.tensorboard``.

    Returns:
        The rows of the table, and the result in words.

    Raises:
        FileNotFoundError: if the images are not there.
        FolderError: if the folder holds another run, or cannot be written.
        FloorError: if no order keeps to the floor.
        ModuleNotFoundError: if an extra is not installed.
    """
    console = report.make_console(quiet=quiet)
    splits = load_images(config.data)
    settings = {"recipe": "orders", **to_json(config)}
    folder = open_folder(folder, settings, versions(), resume=resume)
    with lock_folder(folder):
        records = report.open_records(folder, loggers)
        runner = Runner(folder, config.seed, console, records, config.save_every)
        found = {}
        for order in config.orders:
            chosen = stages_of(config, order)
            task = images_task(chosen, runner)
            place = folder / "orders" / slug(order)
            found[order] = _try(chosen, place, task, quiet=quiet, loggers=loggers)
        whole = {order: x for order, x in found.items() if not x.broken}
        broken = [
            f"“{order}” ended: {x.broken}" for order, x in found.items() if x.broken
        ]
        if not whole:
            raise FloorError(" ".join(broken))
        rows = _measure(folder, whole, splits)
        words = [*_explain(config, rows, splits.about), *broken]
        return _write(folder, rows, words, whole)


def _try(
    config: CompressConfig, folder: pathlib.Path, task: Task, **options: Any
) -> _Outcome:
    try:
        return _Outcome(compress(config, folder, task, resume=True, **options).rows)
    except FloorError as error:
        return _Outcome(broken=str(error))


def _measure(
    folder: pathlib.Path, whole: Mapping[str, _Outcome], splits: Splits
) -> list[report.Row]:
    """The last row of each order, with the times of all artefacts in turn."""
    first = next(iter(whole))
    places = {"teacher": folder / "orders" / slug(first) / "exported" / "teacher"}
    rows = {"teacher": whole[first].rows[0]}
    for order, outcome in whole.items():
        rows[order] = outcome.rows[-1]
        exported = folder / "orders" / slug(order) / "exported"
        places[order] = exported / outcome.rows[-1].name
    artefacts = {name: deploy.load(place) for name, place in places.items()}
    inputs = {"image": np.asarray(splits.test["image"][:BATCH])}
    length = len(inputs["image"])
    latency = report.measure_latency(
        {name: lambda a=a: a.predict(inputs) for name, a in artefacts.items()}
    )
    return [
        row._replace(
            name=name,
            num_bytes=artefacts[name].num_bytes,
            latency=latency[name],
            throughput=length / latency[name],
        )
        for name, row in rows.items()
    ]


def _explain(config: OrdersConfig, rows: Sequence[report.Row], about: str) -> list[str]:
    teacher, *others = rows
    lost = {r.name: 100 * (teacher.accuracy[0] - r.accuracy[0]) for r in others}
    near = [row for row in others if lost[row.name] <= _NEAR]
    words = (
        f"{about} The teacher is dense, in float32; orders end in {config.format}. "
        f"One seed. Times are of {BATCH} examples at most, in turn, on "
        f"{jax.devices()[0].device_kind}; sizes are those of the exported folders."
    )
    if not near:
        return [words, f"No order stayed within {_NEAR} points of the teacher."]
    best = min(near, key=lambda row: row.num_bytes)
    return [
        words,
        f"The smallest within {_NEAR} points of the teacher is “{best.name}”: "
        f"{teacher.num_bytes / best.num_bytes:.1f} times smaller, "
        f"{best.throughput / teacher.throughput:.1f} times the throughput, "
        f"{lost[best.name]:.2f} points lost.",
    ]


def _write(
    folder: pathlib.Path,
    rows: list[report.Row],
    words: list[str],
    whole: Mapping[str, _Outcome],
) -> Result:
    picture = folder / "report.png"
    header = ("order", "accuracy after each stage, %")
    table = [header, *((order, _path(x.rows)) for order, x in whole.items())]
    report.plot_accuracy_against_size(rows, picture, title="Orders of compression")
    parts = [
        report.Part("", words, report.compare(rows)),
        report.Part("Stage by stage", table=table),
        report.Part("Accuracy against size", picture=picture),
    ]
    report.write_report(folder, "jaxkd orders", parts)
    report.write_result(folder, rows, words)
    return Result(rows, words)


def _path(rows: Sequence[report.Row]) -> str:
    shown = (f"{row.name} {100 * row.accuracy[0]:.2f}" for row in rows)
    return " → ".join(shown)
