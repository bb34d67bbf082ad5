"""Tables: a wide network teaches a narrow one several tasks at once."""

import dataclasses
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import numpy as np
from jax import numpy as jnp

from jaxkd import _checks, data, models, objectives
from jaxkd._types import Logits, Params, PRNGKey, Tree
from jaxkd.models import Model, Out, Variables
from jaxkd.objectives import Objective, Terms, View
from jaxkd.recipes._experiment.value import (
    Experiment,
    MeasureModel,
    Splits,
    Training,
    Way,
)
from jaxkd.recipes._systems.columns import Task, make_inputs, make_task, read_table

_TEST, _VALIDATION, _FEWEST = 0.25, 0.125, 16


@dataclasses.dataclass(frozen=True)
class TabularConfig(Training):
    """Settings of :func:`tabular`.

    Attributes:
        data: ``"wine"``, 178 wines that come with scikit-learn, or the path of a
            ``.csv`` with a header, an ``.npz``, or a Parquet file.
        tasks: what is predicted: columns of classes, or ``"COLUMN>NUMBER"``, whether a
            number is above another.
        weights: of the tasks in the loss; equal by default.
        columns: what it is predicted from; by default all that no task is made of.
        labels: how many training examples have labels for the students; 0 for all. The
            teacher has all, and its soft targets are for all.
        teacher: widths of the teacher's hidden layers.
        student: widths of the student's.
        embedding: numbers in which a word of a column is put.
    """

    data: str = "wine"
    tasks: tuple[str, ...] = ("cultivar", "alcohol>13")
    weights: tuple[float, ...] = ()
    columns: tuple[str, ...] = ()
    labels: int = 0
    teacher: tuple[int, ...] = (256, 256)
    student: tuple[int, ...] = (8,)
    embedding: int = 4
    temperature: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"`tasks` must name different tasks, got {self.tasks!r}.")
        if self.weights and len(self.weights) != len(self.tasks):
            raise ValueError(
                f"`weights` must have one for each of {len(self.tasks)} tasks, got "
                f"{len(self.weights)}."
            )
        for weight in self.weights:
            _checks.check_positive(weights=weight)
        if self.labels < 0:
            raise ValueError(f"`labels` must not be negative, got {self.labels}.")
        if min(*self.teacher, *self.student, self.embedding) < 1:
            raise ValueError(
                "`teacher`, `student` and `embedding` must be positive widths."
            )


class TableNet(nn.Module):
    """Numbers and embedded words through dense layers to the logits of all tasks.

    Attributes:
        hidden: widths of the hidden layers.
        classes: how many, in all tasks together.
        words: how many there are in all columns together.
        embedding: numbers in which a word is put.
    """

    hidden: tuple[int, ...]
    classes: int
    words: int = 0
    embedding: int = 4

    @nn.compact
    def __call__(self, *columns: jax.Array, train: bool = False) -> Logits:
        """Returns logits; arrays of integers are words, others numbers."""
        parts = []
        for x in columns:
            if jnp.issubdtype(x.dtype, jnp.integer):
                x = nn.Embed(self.words, self.embedding, name="words")(x)
            parts.append(x.reshape(x.shape[0], -1))
        mlp = models.MLP(hidden=self.hidden, classes=self.classes, name="mlp")
        return mlp(jnp.concatenate(parts, axis=-1), train=train)


def tabular(config: TabularConfig) -> Experiment:
    r"""Several tasks on one table: a student alone, and distilled.

    .. math::
        L = \sum_i w_i \bigl(\alpha L^\text{soft}_i + (1 - \alpha) L^\text{hard}_i\bigr)

    over the tasks; each has its own part of the logits. A quarter of the rows is for
    the test, an eighth for validation, always the same ones.

    Args:
        config: what to do.

    Returns:
        The experiment, for :func:`jaxkd.recipes.run_experiment`.

    Raises:
        FileNotFoundError: if the table is not there.
        KeyError: if it lacks a column.
        ValueError: if a task is none, or there are too few rows.
        ModuleNotFoundError: if the extra that reads it is not installed.
    """
    table = read_table(config.data, _wanted(config))
    tasks = [make_task(table, name, config.data) for name in config.tasks]
    taken = {task.column for task in tasks}
    columns = [c for c in config.columns or table if c not in taken]
    splits, words = _splits(config, table, tasks, columns)
    inputs = tuple(name for name in ("numbers", "words") if name in splits.train)
    parts = _parts(tasks)

    def network(widths: tuple[int, ...]) -> Model:
        net = TableNet(widths, len(splits.classes), words, config.embedding)
        return models.from_linen(net, inputs=inputs)

    student = network(config.student)
    where = "labelled" if config.labels else None
    distilled = _all_tasks(config, parts, config.soft_weight, where)
    alone = _all_tasks(config, parts, 0.0, where)
    return Experiment(
        splits,
        inputs,
        network(config.teacher),
        {
            "student, alone": Way(student, alone),
            "student, distilled": Way(student, distilled, True, None, "student, alone"),
        },
        objective=_all_tasks(config, parts, 0.0, None),
        measure=_make_measure(parts),
        quality="mean accuracy of the tasks" if len(tasks) > 1 else "accuracy",
    )


def on_part(objective: Objective, part: slice) -> Objective:
    """An objective of some of the logits: those of one task.

    Args:
        objective: such as ``objectives.soft_target(temperature=2.0)``.
        part: which logits, of student and teacher.

    Returns:
        An :class:`~jaxkd.objectives.Objective` with the same terms.

    Examples:
        >>> from jaxkd import objectives, recipes
        >>> recipes.on_part(objectives.hard_label(label="income"), slice(0, 2))
        on_part(hard_label(label='income'), 0:2)
    """

    def seen(view: View) -> View:
        cut = lambda out: out._replace(logits=_cut(out, part))
        teacher = None if view.teacher is None else cut(view.teacher)
        return view._replace(student=cut(view.student), teacher=teacher)

    def init(key: PRNGKey, view: View) -> tuple[Params, Tree]:
        return objective.init(key, seen(view))

    def apply(params: Params, state: Tree, view: View) -> tuple[Terms, Tree]:
        return objective.apply(params, state, seen(view))

    words = f"on_part({objective!r}, {part.start}:{part.stop})"
    return objective._replace(init=init, apply=apply, description=words)


def _cut(out: Out, part: slice) -> jax.Array | jax.ShapeDtypeStruct:
    if isinstance(out.logits, jax.ShapeDtypeStruct):  # at `init`, of shapes
        return jax.eval_shape(lambda x: x[..., part], out.logits)
    return out.logits[..., part]


def _wanted(config: TabularConfig) -> tuple[str, ...]:
    """The columns to read; none for all."""
    if not config.columns:
        return ()
    names = [name.rpartition(">")[0].strip() or name for name in config.tasks]
    return tuple(dict.fromkeys((*config.columns, *names)))


def _splits(
    config: TabularConfig,
    table: Mapping[str, np.ndarray],
    tasks: Sequence[Task],
    columns: Sequence[str],
) -> tuple[Splits, int]:
    length = len(tasks[0].labels)
    order = np.random.default_rng(0).permutation(length)
    test, held = round(_TEST * length), round(_VALIDATION * length)
    rows = (order[test + held :], order[test : test + held], order[:test])
    if len(rows[0]) < max(_FEWEST, config.labels) or not columns:
        raise ValueError(
            f"{config.data} has {length} rows and {len(columns)} columns to predict "
            f"from; {len(rows[0])} rows are left to train on, which is too few."
        )
    inputs, words = make_inputs(table, columns, rows[0])
    labelled = np.isin(np.arange(length), rows[0][: config.labels])
    arrays = {
        **inputs,
        **{task.name: task.labels for task in tasks},
        "labelled": labelled if config.labels else np.ones(length, bool),
    }
    classes = [f"{t.name}: {name}" for t in tasks for name in t.classes]
    about = f"{config.data.rpartition('/')[2]}: {', '.join(config.tasks)}."
    if config.labels:
        about += f" The students have the labels of {config.labels:,} rows."
    made = [{name: x[r] for name, x in arrays.items()} for r in rows]
    return Splits(*made, classes=tuple(classes), about=about), words


def _parts(tasks: Sequence[Task]) -> dict[str, slice]:
    """Which logits are those of which task."""
    ends = np.cumsum([len(task.classes) for task in tasks]).tolist()
    return {
        task.name: slice(end - len(task.classes), end)
        for task, end in zip(tasks, ends, strict=True)
    }


def _all_tasks(
    config: TabularConfig,
    parts: Mapping[str, slice],
    soft_weight: float,
    where: str | None,
) -> Objective:
    weights = config.weights or (1 / len(parts),) * len(parts)

    def own(name: str) -> Objective:
        hard = objectives.hard_label(label=name, where=where)
        if not soft_weight:
            return hard
        soft = objectives.soft_target(temperature=config.temperature)
        terms = {"soft": (soft_weight, soft), "hard": (1 - soft_weight, hard)}
        return objectives.combine(**terms)

    found = {
        name: (weight, on_part(own(name), part))
        for (name, part), weight in zip(parts.items(), weights, strict=True)
    }
    return objectives.combine(**found)


def _make_measure(parts: Mapping[str, slice]) -> MeasureModel:
    def answers(
        model: Model, variables: Variables, batch: data.Arrays
    ) -> dict[str, jax.Array]:
        out = model.apply(variables.params, variables.state, batch)
        return {name: out.logits[..., part].argmax(-1) for name, part in parts.items()}

    run = jax.jit(answers, static_argnums=0)

    def measure(
        model: Model, variables: Variables, arrays: data.Arrays
    ) -> dict[str, float]:
        found = jax.device_get(run(model, variables, dict(arrays)))
        right = {n: float(np.mean(found[n] == arrays[n])) for n in parts}
        return {"accuracy": float(np.mean(list(right.values()))), **right}

    return measure
