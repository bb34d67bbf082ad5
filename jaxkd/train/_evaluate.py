"""Evaluation, exact over ragged batches."""

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import jax
from jax import numpy as jnp

from jaxkd import _checks, losses, objectives
from jaxkd._types import Batch
from jaxkd.losses import Mean
from jaxkd.models import Model, Variables
from jaxkd.train._state import restored


class EvalStep(Protocol):
    """``step(variables, teacher, batch) -> {name: Mean}``."""

    def __call__(
        self,
        variables: Variables,
        teacher_variables: Variables | None,
        batch: Batch,
    ) -> dict[str, Mean]:
        """Measures one batch.

        Args:
            variables: the model's variables; quantized leaves are dequantized.
            teacher_variables: the teacher's, likewise; ``None`` without one.
            batch: a dict of arrays; where ``mask`` is false, an example is left out.

        Returns:
            Means as pairs of sums, to be added over batches.
        """
        ...


def make_eval_step(
    model: Model, teacher: Model | None = None, *, label: str = "label"
) -> EvalStep:
    """Builds one pure step of evaluation.

    Args:
        model: the model to measure.
        teacher: if given, agreement with it is measured too.
        label: the entry of the batch with integer labels; without it, only the teacher
            is compared with.

    Returns:
        An :class:`EvalStep` of the means ``accuracy`` and ``cross_entropy`` (in nats)
        where there are labels, ``agreement`` (share of examples on which model and
        teacher choose one class) and ``teacher_kl`` (nats, temperature 1) where there
        is a teacher.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import models, train
        >>> model = models.from_function(lambda params, batch: batch["x"])
        >>> step = train.make_eval_step(model)
        >>> batch = {"x": jnp.eye(3), "label": jnp.array([0, 1, 1])}
        >>> means = step(models.Variables({}), None, batch)
        >>> print(means["accuracy"].total, means["accuracy"].count)
        2.0 3.0
    """

    def step(
        variables: Variables, teacher_variables: Variables | None, batch: Batch
    ) -> dict[str, Mean]:
        logits = model.apply(*restored(variables), batch).logits
        values = _label_measures(logits, batch, label)
        if teacher is not None:
            if teacher_variables is None:
                raise ValueError("the step has a teacher: pass its variables.")
            followed = teacher.apply(*restored(teacher_variables), batch).logits
            values |= _teacher_measures(logits, followed)
        if not values:
            raise KeyError(f"nothing to measure: no teacher and no batch[{label!r}].")
        return {
            name: objectives.mean_over_batch(batch, found, None, name)
            for name, found in values.items()
        }

    return step


def _label_measures(
    logits: jax.Array, batch: Mapping[str, Any], label: str
) -> dict[str, jax.Array]:
    if label not in batch:
        return {}
    right = jnp.argmax(logits, axis=-1) == batch[label]
    return {
        "accuracy": right.astype(jnp.float32),
        "cross_entropy": losses.cross_entropy(logits, batch[label]),
    }


def _teacher_measures(logits: jax.Array, teacher: jax.Array) -> dict[str, jax.Array]:
    same = jnp.argmax(logits, axis=-1) == jnp.argmax(teacher, axis=-1)
    return {
        "agreement": same.astype(jnp.float32),
        "teacher_kl": losses.soft_target_kl(logits, teacher),
    }


def evaluate(
    step: EvalStep,
    variables: Variables,
    batches: Iterable[Batch],
    *,
    teacher: Variables | None = None,
) -> dict[str, float]:
    """Measures a model on a dataset.

    Args:
        step: an evaluation step, usually ``jax.jit(make_eval_step(...))``.
        variables: the model's variables.
        batches: batches of the dataset, such as :func:`jaxkd.data.eval_batches`.
        teacher: the teacher's variables, if the step has one.

    Returns:
        Each mean over all examples, as numbers.

    Raises:
        TypeError: if the batches are one dict, or one of them is none.
        ValueError: if there are no batches.

    Warns:
        UserWarning: if a mean is NaN, as labels outside ``[0, classes)`` make it.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import data, models, train
        >>> model = models.from_function(lambda params, batch: batch["x"])
        >>> arrays = {"x": jnp.eye(3), "label": jnp.array([0, 1, 1])}
        >>> step = jax.jit(train.make_eval_step(model))
        >>> batches = data.eval_batches(arrays, batch_size=2)
        >>> train.evaluate(step, models.Variables({}), batches)["accuracy"]
        0.6666666865348816
    """
    if isinstance(batches, Mapping):
        raise TypeError(
            "`batches` is one dict; evaluate takes several, such as "
            "data.eval_batches(arrays, batch_size=256)."
        )
    total: dict[str, Mean] | None = None
    for batch in batches:
        _checks.check_batch_type(batch)
        means = step(variables, teacher, batch)
        # Waits for each batch: bounded run-ahead, see `fit`.
        means = jax.block_until_ready(means)
        total = means if total is None else jax.tree.map(jnp.add, total, means)
    if total is None:
        raise ValueError("there is nothing to evaluate: no batches.")
    found = {name: float(mean.value) for name, mean in total.items()}
    if any(map(math.isnan, found.values())):
        warnings.warn(
            f"what was measured is not a number: {found}. Usual causes: labels outside "
            "[0, classes), or NaN in the parameters or the batches.",
            stacklevel=2,
        )
    return found
