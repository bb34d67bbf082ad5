"""The contenders of `peers.py` that are jaxkd: with a teacher, and with its answers."""

from typing import Any

import jax
import numpy as np
import optax
from peers_jax import as_params, modules
from peers_models import RATE, SOFT, TEMPERATURE

from jaxkd import models, objectives, train


def build(problem):
    """The teacher runs in the step."""
    wide, narrow = modules(problem.pair)
    teacher_params, params = as_params(problem.teacher), as_params(problem.student)
    batch = problem.batch
    metrics: Any = None
    # begin
    teacher, student = models.from_linen(wide), models.from_linen(narrow)
    if problem.method == "kd":
        soft = objectives.soft_target(temperature=TEMPERATURE)
    else:
        soft = objectives.hint(student="feature", teacher="feature")
    objective = objectives.combine(
        soft=(SOFT, soft), hard=(1 - SOFT, objectives.hard_label())
    )
    parts = (student, teacher, objective, optax.adam(RATE))
    start_from, followed = models.Variables(params), models.Variables(teacher_params)
    key = jax.random.key(0)
    state = train.init_state(key, *parts, batch(0), variables=start_from)
    step = train.jit_step(train.make_train_step(*parts))

    def run(start, stop):
        nonlocal state, metrics
        for i in range(start, stop):
            state, metrics = step(state, followed, batch(i))
        return float(metrics["loss"])

    # end
    return run


def build_cached(problem):
    """The teacher was asked before, by this process, and comes with the batch."""
    wide, narrow = modules(problem.pair, both=True)[0], modules(problem.pair)[1]
    params = as_params(problem.student)
    ask = jax.jit(lambda x: wide.apply({"params": as_params(problem.teacher)}, x))
    size = len(problem.image) // problem.pair.batch
    answers = [ask(problem.batch(i)["image"]) for i in range(size)]
    answers = [tuple(np.asarray(x) for x in pair) for pair in answers]

    def batch(i):
        logits, feature = answers[i]
        return problem.batch(i) | {"teacher_logits": logits, "teacher_feature": feature}

    metrics: Any = None

    # begin
    def stored(params, batch):
        return batch["teacher_logits"], {"feature": batch["teacher_feature"]}

    teacher, student = models.from_function(stored), models.from_linen(narrow)
    if problem.method == "kd":
        soft = objectives.soft_target(temperature=TEMPERATURE)
    else:
        soft = objectives.hint(student="feature", teacher="feature")
    objective = objectives.combine(
        soft=(SOFT, soft), hard=(1 - SOFT, objectives.hard_label())
    )
    parts = (student, teacher, objective, optax.adam(RATE))
    key, start_from = jax.random.key(0), models.Variables(params)
    state = train.init_state(key, *parts, batch(0), variables=start_from)
    step = train.jit_step(train.make_train_step(*parts))

    def run(start, stop):
        nonlocal state, metrics
        for i in range(start, stop):
            state, metrics = step(state, models.Variables({}), batch(i))
        return float(metrics["loss"])

    # end
    return run
