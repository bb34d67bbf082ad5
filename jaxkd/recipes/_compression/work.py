"""What each stage does to a student."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from jaxkd import compress, objectives, trees
from jaxkd._types import Params, Tree
from jaxkd.models import Model, Variables
from jaxkd.objectives import Objective
from jaxkd.recipes._compression.config import CompressConfig
from jaxkd.recipes._compression.stages import (
    AnyStage,
    Cluster,
    Distil,
    Factorize,
    FineTune,
    Prune,
    Quantize,
    Shrink,
)
from jaxkd.recipes._compression.student import (
    Schemes,
    Student,
    Task,
    open_up,
    rules_of,
    running,
)
from jaxkd.recipes._stages import Runner, make_stage

_RATIOS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)


class Workshop(NamedTuple):
    """What the stages work with.

    Attributes:
        config: the settings of all stages.
        task: the teacher and the data.
        runner: where they train.
        name: the stage's name.
    """

    config: CompressConfig
    task: Task
    runner: Runner
    name: str


def work(stage: AnyStage, student: Student, shop: Workshop) -> Student:
    """Does what a stage says, but for exports.

    Args:
        stage: the stage.
        student: the student before.
        shop: what the stage works with.

    Returns:
        The student after.
    """
    for kind, do in _DO.items():
        if isinstance(stage, kind):
            return do(stage, student, shop)
    raise TypeError(f"{stage!r} is no stage that changes the student.")


def _distil(stage: Any, student: Student, shop: Workshop) -> Student:
    return _train(stage, student, shop) if stage.steps else student


def _fine_tune(stage: FineTune, student: Student, shop: Workshop) -> Student:
    return _train(stage, student, shop, labels_alone=True)


def _prune(stage: Prune, student: Student, shop: Workshop) -> Student:
    chosen = _chosen(student.variables.params, stage.where)
    if stage.steps:
        schedule = compress.cubic(stage.sparsity, begin=0, end=max(1, stage.steps // 2))
        link = compress.keep_sparse(
            schedule, where=_among(chosen), across=stage.across, every=10
        )
        student = _train(stage, student, shop, link=link)
    else:
        params, _ = compress.magnitude_prune(
            student.variables.params,
            stage.sparsity,
            where=stage.where,
            across=stage.across,
        )
        student = _with_params(student, params)
    return student._replace(pruned=(*student.pruned, stage.where))


def _shrink(stage: Shrink, student: Student, shop: Workshop) -> Student:
    return _distil(stage, cut(stage, student, shop.task), shop)


def cut(stage: Shrink, student: Student, task: Task) -> Student:
    """Removes units, without training.

    Args:
        stage: how many.
        student: the student before.
        task: how to build a smaller model, and examples for shapes.

    Returns:
        The smaller student.

    Raises:
        ValueError: if the model does not run on smaller arrays, or the target cannot be
            met.
    """
    names = task.inputs
    tree = student.variables._asdict()

    def program(model: Model) -> Callable[..., Any]:
        def apply(tree: Tree, *inputs: Any) -> Any:
            batch = dict(zip(names, inputs, strict=True))
            return model.apply(tree["params"], tree["state"], batch).logits

        return apply

    rebuild = task.rebuild
    inputs = [jnp.asarray(task.test[name][:2]) for name in names]
    groups = compress.dependency_groups(program(student.model), tree, *inputs)
    smaller, report = compress.shrink(
        tree,
        groups,
        compress.l2_importance(tree, groups),
        target=getattr(compress, stage.of)(float(stage.keep)),
        round_to=stage.round_to,
        rebuild=(lambda widths: program(rebuild(widths))) if rebuild else None,
    )
    return student._replace(
        model=rebuild(report.widths) if rebuild else student.model,
        variables=Variables(**smaller),
        widths=report.widths,
    )


def _quantize(stage: Quantize, student: Student, shop: Workshop) -> Student:
    format = getattr(compress, stage.format.upper())
    chosen = _chosen(student.variables.params, stage.where)
    schemes = {path: compress.Scheme(format) for path in chosen}
    if stage.steps:
        return _train(stage, student, shop, schemes=schemes)
    if stage.calibrate:
        schemes = _calibrated(stage, student, shop.task, schemes)
    params = compress.quantize_by_rules(student.variables.params, rules_of(schemes))
    return _with_params(student, params)


def _calibrated(
    stage: Quantize, student: Student, task: Task, schemes: Schemes
) -> Schemes:
    """Narrows the range of each array in turn, as far as the logits gain by it."""
    params, state = student.variables
    batch = {name: task.train[name][: stage.calibrate] for name in task.inputs}
    model = running(student)
    want = jax.jit(model.apply)(params, state, batch).logits

    @jax.jit
    def error(params: Params, ratios: dict[str, Any]) -> Any:
        rules = rules_of({k: _narrowed(s, ratios[k]) for k, s in schemes.items()})
        rounded = compress.dequantize(compress.quantize_by_rules(params, rules))
        return jnp.mean((model.apply(rounded, state, batch).logits - want) ** 2)

    ratios = dict.fromkeys(schemes, 1.0)
    for path in schemes:
        errors = {r: float(error(params, {**ratios, path: r})) for r in _RATIOS}
        ratios[path] = min(errors, key=errors.__getitem__)
    return {k: _narrowed(s, ratios[k]) for k, s in schemes.items()}


def _narrowed(scheme: compress.Scheme, ratio: Any) -> compress.Scheme:
    def narrow(x: Any, format: compress.Format) -> tuple[Any, Any]:
        usual = compress.minmax if format.affine else compress.absmax
        usual = compress.mean_abs if format == compress.BINARY else usual
        low, high = usual(x, format)
        return low * ratio, high * ratio

    return scheme._replace(range=narrow)


def _factorize(stage: Factorize, student: Student, shop: Workshop) -> Student:
    params = compress.factorize(
        student.variables.params, where=stage.where, energy=stage.energy
    )
    student = _with_params(student, params)._replace(factored=True)
    return _distil(stage, student, shop)


def _cluster(stage: Cluster, student: Student, shop: Workshop) -> Student:
    params = compress.cluster(
        student.variables.params, bits=stage.bits, where=stage.where
    )
    return _distil(stage, _with_params(student, params), shop)


_DO: dict[type[Any], Callable[..., Student]] = {
    Distil: _distil,
    FineTune: _fine_tune,
    Prune: _prune,
    Shrink: _shrink,
    Quantize: _quantize,
    Factorize: _factorize,
    Cluster: _cluster,
}


def _with_params(student: Student, params: Tree) -> Student:
    return student._replace(variables=student.variables._replace(params=params))


def _chosen(params: Tree, where: str) -> list[str]:
    marked = trees.flatten(trees.mask(params, where))
    return [path for path, yes in marked.items() if yes]


def _among(paths: list[str]) -> str:
    """A pattern of the student's paths in the tree that the optimizer sees."""
    return f"^student/({'|'.join(map(re.escape, paths))})$"


def _train(
    stage: Any,
    student: Student,
    shop: Workshop,
    *,
    schemes: Schemes | None = None,
    link: optax.GradientTransformation | None = None,
    labels_alone: bool = False,
) -> Student:
    """Distils into the student in its present form, or trains it with labels."""
    config, task = shop.config, shop.task
    opened = open_up(student, schemes)
    schedule = optax.cosine_decay_schedule(stage.learning_rate, stage.steps)
    links = [optax.adamw(schedule, weight_decay=1e-4)]
    links += _keeping_zeros(student, opened.variables.params)
    links += [] if link is None else [link]
    job = make_stage(
        shop.name,
        opened.model,
        None if labels_alone else task.teacher,
        objectives.hard_label() if labels_alone else _distillation(config),
        optax.chain(*links),
        stage.steps,
    )
    trained = shop.runner.run(
        job,
        task.train,
        batch_size=config.batch_size,
        transform=task.transform,
        variables=opened.variables,
        teacher=None if labels_alone else task.variables,
    )
    return student._replace(variables=opened.close(trained))


def _distillation(config: CompressConfig) -> Objective:
    soft = objectives.soft_target(temperature=config.temperature)
    return objectives.combine(
        soft=(config.soft_weight, soft),
        hard=(1 - config.soft_weight, objectives.hard_label()),
    )


def _keeping_zeros(student: Student, params: Params) -> list[Any]:
    """The link that keeps zeros of earlier stages, where their arrays are trained."""
    paths = [
        path
        for path in trees.flatten(params)
        if any(re.search(pattern, path) for pattern in student.pruned)
    ]
    if not paths:
        return []
    nonzero = lambda params, gradients, sparsity: jax.tree.map(lambda x: x != 0, params)
    # The sparsity only says that masks are to be drawn, once, in front of the first
    # update.
    return [compress.keep_sparse(0.5, where=_among(paths), draw=nonzero)]
