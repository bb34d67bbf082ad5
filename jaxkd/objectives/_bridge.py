"""From a loss to an objective, in one line."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _checks
from jaxkd._types import Params, Tree
from jaxkd.losses import Mean
from jaxkd.objectives._base import Objective, Term, Terms, View, at_step, shown
from jaxkd.objectives._modules import Adapter, Projectors, trained_objective
from jaxkd.objectives._reduce import counted, mean_over_batch, teacher_of

Loss: TypeAlias = Callable[..., Array]
# The name of one feature, or of several.
Names: TypeAlias = str | Sequence[str]


def on_logits(
    loss: Loss,
    *,
    label: str = "label",
    where: str | None = None,
    **hyperparameters: Any,
) -> Objective:
    """Any loss on logits as an objective.

    Its positional arguments are read by their names: ``student_logits`` and
    ``teacher_logits`` from the models, ``labels`` from ``batch[label]``, and any other,
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
        if argument == "student_logits":
            return view.student.logits
        if argument == "teacher_logits":
            return teacher_of(view, name).logits
        return _checks.get(
            view.batch, label if argument == "labels" else argument, name
        )

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

    Its first two arguments are the features of student and teacher; any other
    positional one is read from the entry of the batch of its name. With several
    features on each side, the loss is taken of each pair, and all are added.

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
    ours, theirs = names_of(student), names_of(teacher)
    if len(ours) != len(theirs):
        raise ValueError(
            f"{name}: {len(ours)} features of the student {ours} cannot be paired with "
            f"{len(theirs)} of the teacher {theirs}."
        )
    more = positional(loss)[2:]

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
        others = [_checks.get(view.batch, key, name) for key in more]
        found = {}
        for s, t in zip(ours, theirs, strict=True):
            arrays = [projected[s], features[t], *others]
            counts = arrays[0].shape[:1]
            mean = mean_of(loss, name, arrays, view, counts, where, **hyperparameters)
            found[name if len(ours) == 1 else s] = Term(mean, jnp.float32(1.0))
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
        mask = _checks.get(view.batch, where, name)
        if jnp.ndim(mask) > 1:  # of positions
            options["where"] = jnp.asarray(mask, bool)
    values = loss(*arrays, **options)
    if values.ndim == 0:
        return Mean(values, jnp.ones((), values.dtype))
    return mean_over_batch(view.batch, values, where, name)


def name_of(loss: Loss) -> str:
    """How a loss is called.

    Args:
        loss: a function, or a :func:`functools.partial` of one.

    Returns:
        Its name.
    """
    inner = getattr(loss, "func", loss)
    return getattr(inner, "__name__", type(inner).__name__).strip("<>")


def names_of(features: Names) -> tuple[str, ...]:
    """One name or several, as a tuple.

    Args:
        features: a name, or a sequence of them.

    Returns:
        The names.

    Raises:
        ValueError: if there are none.
    """
    names = (features,) if isinstance(features, str) else tuple(features)
    if not names:
        raise ValueError("at least one feature must be named, got none.")
    return names


def positional(loss: Loss) -> list[str]:
    """The names of a loss's positional arguments.

    Args:
        loss: a function.

    Returns:
        Their names in order.
    """
    parameters = inspect.signature(loss).parameters.values()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def check_hyperparameters(loss: Loss, hyperparameters: Mapping[str, Any]) -> None:
    """Raises if a loss has no hyperparameter of some name.

    Args:
        loss: a function.
        hyperparameters: by name.

    Raises:
        TypeError: naming those there are.
    """
    given = {"where", "axis_name"}  # these the objective gives
    parameters = inspect.signature(loss).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - given
    for name in hyperparameters:
        if name not in known:
            raise TypeError(
                f"{name_of(loss)} has no hyperparameter {name!r}; "
                f"{_checks.nearest(name, known)}"
            )


def describe(kind: str, *words: str, **options: Any) -> str:
    """How an objective prints: as the call that made it.

    Args:
        kind: the function.
        *words: what comes first.
        **options: arguments by name; those that are ``None`` are left out.

    Returns:
        ``"kind(word, name=value)"``.
    """
    given = [
        f"{key}={shown(value)}" for key, value in options.items() if value is not None
    ]
    return f"{kind}({', '.join([*words, *given])})"


def _nothing(key: Any, view: View) -> tuple[Params, Tree]:
    """No parameters and no state."""
    return {}, {}
