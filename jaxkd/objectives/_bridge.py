"""From a loss to an objective, in one line."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _names
from jaxkd._types import Params, Tree
from jaxkd.losses import Mean
from jaxkd.objectives._base import Objective, Term, Terms, View, at_step
from jaxkd.objectives._modules import Adapter, Projectors, trained_objective
from jaxkd.objectives._names import (
    Loss,
    Names,
    check_hyperparameters,
    describe,
    name_of,
    paired,
    positional,
)
from jaxkd.objectives._reduce import counted, mean_over_batch, teacher_of


def on_logits(
    loss: Loss,
    *,
    label: str = "label",
    where: str | None = None,
    **hyperparameters: Any,
) -> Objective:
    """Any loss on logits as an objective.

    Its positional arguments are read by their names: ``student_logits`` or ``student``,
    and the teacher's, from the models, ``labels`` from ``batch[label]``, and any other,
    such as the ``teacher_ids`` and ``teacher_values`` of a sparse teacher, from the
    entry of the batch of that name.

    Args:
        loss: a loss of :mod:`jaxkd.losses`, or one of your own in the same form.
        label: the entry of the batch with integer labels.
        where: an entry of the batch, true for what counts: examples or positions.
        **hyperparameters: the loss's own. A schedule, a function from the number of
            updates done to a number, is called at each step.

    Returns:
        An :class:`Objective` of one term, named after the loss.

    Raises:
        TypeError: if the loss has no such hyperparameter.
        KeyError: at ``init_state``, if an entry of the batch is missing.
        ValueError: at ``init_state``, if shapes do not fit, or there is no teacher.

    Examples:
        >>> from jaxkd import losses, objectives
        >>> objectives.on_logits(losses.decoupled_kd, beta=2.0)
        on_logits(decoupled_kd, beta=2.0)
    """
    name = name_of(loss)
    words = describe("on_logits", name, where=where, **hyperparameters)
    return logit_objective(loss, name, label, where, words, **hyperparameters)


def logit_objective(
    loss: Loss,
    name: str,
    label: str,
    where: str | None,
    shown: str,
    **hyperparameters: Any,
) -> Objective:
    """:func:`on_logits` under a name of its own.

    Args:
        loss: a loss on logits.
        name: of the term, and in errors.
        label: the entry of the batch with integer labels.
        where: an entry of the batch.
        shown: how the objective prints.
        **hyperparameters: the loss's own.

    Returns:
        An :class:`Objective`.
    """
    check_hyperparameters(loss, hyperparameters)
    arguments = positional(loss)

    def read(view: View, argument: str) -> Array:
        if argument in {"student_logits", "student"}:
            return view.student.logits
        if argument in {"teacher_logits", "teacher"}:
            return teacher_of(view, name).logits
        return _names.get(view.batch, label if argument == "labels" else argument, name)

    def apply(params: Params, state: Tree, view: View) -> tuple[Terms, Tree]:
        arrays = [read(view, argument) for argument in arguments]
        counts = arrays[0].shape[:-1]
        mean = mean_of(loss, name, arrays, view, counts, where, **hyperparameters)
        return {name: Term(mean, jnp.float32(1.0))}, state

    return Objective(_nothing, apply, description=shown)


def on_features(
    loss: Loss,
    *,
    student: Names,
    teacher: Names,
    adapter: Adapter | None = None,
    where: str | None = None,
    **hyperparameters: Any,
) -> Objective:
    """Any loss on features as an objective.

    Its first arguments are the features of student and teacher; any other positional
    one is read from the entry of the batch of its name. With several features on each
    side, the loss is taken of each pair, and all are added. A loss of two following
    layers, such as :func:`losses.flow_of_solution`, is taken of all that follow.

    Args:
        loss: a loss of :mod:`jaxkd.losses`, or one of your own in the same form.
        student: the student's feature, or a sequence of them; see
            :func:`jaxkd.models.list_features`.
        teacher: the teacher's feature, or as many.
        adapter: makes the trainable map from the student's shape to the teacher's,
            such as :func:`linear_adapter`; none is made where the shapes agree.
        where: an entry of the batch, true for what counts: examples, or positions
            (such as tokens that are no padding).
        **hyperparameters: the loss's own; a schedule is called at each step.

    Returns:
        An :class:`Objective` of one term for each pair of features.

    Raises:
        TypeError: if the loss has no such hyperparameter.
        ValueError: if there are not as many features on both sides; at ``init_state``,
            if shapes do not fit, or there is no teacher.
        KeyError: at ``init_state``, if a model has no such feature.

    Examples:
        >>> from jaxkd import losses, objectives
        >>> objectives.on_features(
        ...     losses.attention_transfer, student="block2", teacher="block3"
        ... )
        on_features(attention_transfer, student='block2', teacher='block3')
    """
    name = name_of(loss)
    words = describe(
        "on_features",
        name,
        student=student,
        teacher=teacher,
        where=where,
        **hyperparameters,
    )
    return feature_objective(
        loss, name, student, teacher, adapter, where, words, **hyperparameters
    )


def feature_objective(
    loss: Loss,
    name: str,
    student: Names,
    teacher: Names,
    adapter: Adapter | None,
    where: str | None,
    shown: str,
    **hyperparameters: Any,
) -> Objective:
    """:func:`on_features` under a name of its own.

    Args:
        loss: a loss on features.
        name: of the term, or in errors.
        student: names of features.
        teacher: as many.
        adapter: makes the trainable maps.
        where: an entry of the batch.
        shown: how the objective prints.
        **hyperparameters: the loss's own.

    Returns:
        An :class:`Objective`.
    """
    check_hyperparameters(loss, hyperparameters)
    ours, theirs = paired(name, student, teacher)
    arguments = positional(loss)
    more = [a for a in arguments if not a.startswith(("student", "teacher"))]
    span = len([a for a in arguments if a.startswith("student")])
    if len(ours) < span:
        raise ValueError(f"{name} takes {span} or more features, got {ours}.")

    def module(view: View) -> Projectors:
        features = teacher_of(view, name).features
        adapters = {}
        for s, t in zip(ours, theirs, strict=True):
            wanted = features[t].shape
            same = view.student.features[s].shape == wanted
            adapters[s] = None if same or adapter is None else adapter(wanted)
        return Projectors(adapters)

    def terms(view: View, projected: Mapping[str, Array]) -> Terms:
        features = teacher_of(view, name).features
        others = [_names.get(view.batch, key, name) for key in more]
        found = {}
        for i in range(len(ours) - span + 1):
            s = [projected[s] for s in ours[i : i + span]]
            t = [features[t] for t in theirs[i : i + span]]
            arrays, counts = [*s, *t, *others], s[0].shape[:1]
            mean = mean_of(loss, name, arrays, view, counts, where, **hyperparameters)
            key = name if len(ours) == span else ours[i]
            found[key] = Term(mean, jnp.float32(1.0))
        return found

    return trained_objective(
        name,
        module=module,
        inputs=lambda view: ({s: view.student.features[s] for s in ours},),
        terms=terms,
        student=ours,
        teacher=theirs,
        shown=shown,
    )


def mean_of(
    loss: Loss,
    name: str,
    arrays: Sequence[Array],
    view: View,
    counts: tuple[int, ...],
    where: str | None,
    **hyperparameters: Any,
) -> Mean:
    """The mean of a loss over what counts.

    Args:
        loss: one value per example or position, or one number for the batch; the
            latter takes ``where`` and ``axis_name``.
        name: for errors.
        arrays: its positional arguments.
        view: for the batch, the step and the mapped axis.
        counts: shape of the mask of a loss that couples the batch.
        where: an entry of the batch, true for what counts.
        **hyperparameters: the loss's own, or schedules.

    Returns:
        A :class:`~jaxkd.losses.Mean`, of count 1 for one number.
    """
    taken = inspect.signature(loss).parameters
    options = {
        key: at_step(value, view.step) if callable(value) else value
        for key, value in hyperparameters.items()
    }
    if "axis_name" in taken:
        options["where"] = counted(view.batch, counts, where, name)
        options["axis_name"] = view.axis_name
    elif "where" in taken and where is not None:
        mask = _names.get(view.batch, where, name)
        if jnp.ndim(mask) > 1:  # of positions
            options["where"] = jnp.asarray(mask, bool)
    values = loss(*arrays, **options)
    if values.ndim == 0:
        return Mean(values, jnp.ones((), values.dtype))
    return mean_over_batch(view.batch, values, where, name)


def _nothing(key: Any, view: View) -> tuple[Params, Tree]:
    """No parameters and no state."""
    return {}, {}
