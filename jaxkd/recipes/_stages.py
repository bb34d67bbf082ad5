"""One stage of a recipe: a training run that survives being killed."""

import collections
import dataclasses
import pathlib
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import optax

from jaxkd import checkpoint, data, report, train, trees
from jaxkd._types import Metrics
from jaxkd.models import Model, Variables
from jaxkd.objectives import Objective

#: From variables to numbers, ``accuracy`` among them.
Measure: TypeAlias = Callable[[Variables], dict[str, float]]


class Stage(NamedTuple):
    """What is trained, how, and for how long.

    Attributes:
        name: the stage's name, and its folder's.
        student: the model to train.
        teacher: the model to follow, if any.
        objective: what is minimised.
        tx: the optimizer.
        steps: number of updates.
        step: the compiled step; one for all seeds.
    """

    name: str
    student: Model
    teacher: Model | None
    objective: Objective
    tx: optax.GradientTransformation
    steps: int
    step: train.TrainStep


def make_stage(
    name: str,
    student: Model,
    teacher: Model | None,
    objective: Objective,
    tx: optax.GradientTransformation,
    steps: int,
) -> Stage:
    """Compiles a stage's step, once for all seeds.

    Args:
        name: the stage's name.
        student: the model to train.
        teacher: the model to follow; ``None`` for none.
        objective: what is minimised.
        tx: the optimizer.
        steps: number of updates.

    Returns:
        A :class:`Stage`.
    """
    pure = train.make_train_step(student, teacher, objective, tx)
    step = train.jit_step(pure)
    return Stage(name, student, teacher, objective, tx, steps, step)


@dataclasses.dataclass(frozen=True)
class Runner:
    """Where stages run, and who watches.

    Attributes:
        folder: the run's folder.
        seed: of initial values and of the order of the data.
        console: of :func:`jaxkd.report.make_console`.
        records: the run's ``metrics.jsonl``.
        save_every: steps from one checkpoint to the next.
        log_every: steps from one record to the next.
    """

    folder: pathlib.Path
    seed: int
    console: Any
    records: report.JsonLines
    save_every: int = 100
    log_every: int = 20

    def run(
        self,
        stage: Stage,
        arrays: data.Arrays,
        *,
        batch_size: int,
        transform: data.Transform | None,
        variables: Variables | None = None,
        teacher: Variables | None = None,
    ) -> Variables:
        """Trains, from the last checkpoint if there is one.

        Args:
            stage: what to do.
            arrays: the training examples.
            batch_size: examples in a batch.
            transform: augmentation of whole batches; ``None`` for none.
            variables: the student's variables to start from; drawn by default.
            teacher: the teacher's variables, if the stage has one.

        Returns:
            The trained variables.
        """
        last, _ = self.run_measured(
            stage,
            arrays,
            batch_size=batch_size,
            transform=transform,
            variables=variables,
            teacher=teacher,
            measure=None,
        )
        return last

    def run_measured(
        self,
        stage: Stage,
        arrays: data.Arrays,
        *,
        batch_size: int,
        transform: data.Transform | None,
        measure: Measure | None,
        variables: Variables | None = None,
        teacher: Variables | None = None,
    ) -> tuple[Variables, Variables]:
        """Trains as :meth:`run`, and keeps the checkpoint of the best accuracy besides.

        Args:
            stage: what to do.
            arrays: the training examples.
            batch_size: examples in a batch.
            transform: augmentation of whole batches; ``None`` for none.
            measure: from variables to numbers, ``accuracy`` among them, at every
                checkpoint; they are recorded as ``validation``.
            variables: the student's variables to start from; drawn by default.
            teacher: the teacher's variables, if the stage has one.

        Returns:
            The last and the best variables; the same without ``measure``.
        """
        batches = data.TrainBatches(
            arrays, batch_size=batch_size, seed=self.seed, transform=transform
        )
        state = train.init_state(
            jax.random.fold_in(
                jax.random.key(self.seed), zlib.crc32(stage.name.encode())
            ),
            stage.student,
            stage.teacher,
            stage.objective,
            stage.tx,
            batches.peek(),
            variables=variables,
            teacher_variables=teacher,
        )
        fingerprint = None if teacher is None else trees.digest(teacher)
        folder = self.folder / "checkpoints" / f"seed{self.seed}" / stage.name
        best = None if measure is None else "accuracy"
        with checkpoint.Checkpointer(
            folder, teacher=fingerprint, best=best
        ) as checkpointer:
            restored = checkpointer.restore(state)
            if restored is not None:
                state = restored.state
                batches.set_state(restored.data)
            self._forget_after(stage.name, int(state.step))
            last = self._fit(stage, state, teacher, batches, checkpointer, measure)
        if measure is None:
            return last.student, last.student
        with checkpoint.Checkpointer(
            folder, teacher=fingerprint, best=best
        ) as checkpointer:
            found = checkpointer.restore(last, best=True)
        return last.student, (last if found is None else found.state).student

    def _fit(
        self,
        stage: Stage,
        state: train.TrainState,
        teacher: Variables | None,
        batches: data.TrainBatches,
        checkpointer: checkpoint.Checkpointer,
        measure: Measure | None,
    ) -> train.TrainState:
        title = f"seed {self.seed}: {stage.name}"

        def save(state: train.TrainState, metrics: Metrics) -> None:
            found = {} if measure is None else measure(state.student)
            validation = {f"validation_{name}": x for name, x in found.items()}
            if found:
                self._record(stage.name, int(state.step), validation)
            checkpointer.save(
                int(state.step), state, data=batches.get_state(), metrics=found
            )

        with report.show_progress(self.console, title, stage.steps) as advance:

            def log(state: train.TrainState, metrics: Metrics) -> None:
                numbers = {k: float(v) for k, v in jax.device_get(metrics).items()}
                self._record(stage.name, int(state.step), numbers)
                advance(int(state.step), numbers["loss"])

            hooks = [
                train.Hook(self.log_every, log),
                train.Hook(self.save_every, save),
            ]
            run = train.fit(
                stage.step, state, teacher, batches, steps=stage.steps, hooks=hooks
            )
            last = collections.deque(run, maxlen=1)
        return last[0][0] if last else state

    def _record(self, stage: str, step: int, numbers: dict[str, float]) -> None:
        self.records.write({"seed": self.seed, "stage": stage, "step": step, **numbers})

    def _forget_after(self, stage: str, step: int) -> None:
        """Drops the records which the steps to come will write again."""

        def before(record: dict[str, Any]) -> bool:
            own = (record["seed"], record["stage"]) == (self.seed, stage)
            return not own or record.get("step", 0) <= step

        self.records.keep(before)
