import os
import pathlib

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxkd import models, objectives, train

GOLDEN = pathlib.Path(
    os.environ.get("JAXKD_GOLDEN_DIR", pathlib.Path(__file__).parents[1] / "golden")
)


def loss_of(objective, view):
    def loss(params, student):
        terms, _ = objective.apply(
            params, {}, view._replace(student=models.Out(student))
        )
        return sum(t.weight * t.mean.value for t in terms.values())

    return loss


def test_equals_the_reference_with_the_gradient_of_the_temperature():
    case = np.load(GOLDEN / "methods.npz")
    get = lambda name: jnp.asarray(case[f"CTKD_global/{name}"], jnp.float32)
    objective = objectives.curriculum_temperature(reversal=0.7)
    view = objectives.View(
        models.Out(get("student")),
        models.Out(get("teacher")),
        {},
        jnp.int32(0),
        jax.random.key(0),
    )
    params, _ = objective.init(jax.random.key(0), view)
    value, (by_params, by_student) = jax.value_and_grad(
        loss_of(objective, view), argnums=(0, 1)
    )(params, get("student"))
    np.testing.assert_allclose(value, get("loss"), rtol=1e-5)
    np.testing.assert_allclose(by_student, get("grad_student"), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(by_params["g"], get("aux_grad_global_T")[0], rtol=1e-3)
    terms, _ = objective.apply(params, {}, view)
    np.testing.assert_allclose(
        terms["temperature"].mean.value, get("aux_temp")[0], rtol=1e-6
    )


def make(reversal):
    mlp = lambda width: models.from_linen(models.MLP(hidden=(width,), classes=3))
    objective = objectives.combine(
        kd=(1.0, objectives.curriculum_temperature(reversal=reversal))
    )
    return mlp(8), mlp(32), objective, optax.sgd(0.1)


@pytest.mark.parametrize(("reversal", "moves"), [(0.0, 0), (5.0, 1), (-5.0, -1)])
def test_the_step_trains_it_against_the_student(reversal, moves):
    batch = {"image": np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)}
    student, teacher, objective, tx = make(reversal)
    followed = teacher.init(jax.random.key(1), batch)
    key = jax.random.key(0)
    state = train.init_state(key, student, teacher, objective, tx, batch)
    step = jax.jit(train.make_train_step(student, teacher, objective, tx))
    before = state.params["objective"]["kd"]["g"]

    def loss_at(g):
        changed = {**state.params, "objective": {"kd": {"g": g}}}
        moved = train.TrainState(**{**vars(state), "params": changed})
        return float(step(moved, followed, batch)[1]["kd/soft_target"])

    harder = 1 if loss_at(before + 0.1) > loss_at(before) else -1
    new, metrics = step(state, followed, batch)
    after = new.params["objective"]["kd"]["g"]
    assert np.sign(after - before) == moves * harder
    expected = 1 + 20 * jax.nn.sigmoid(1.0)
    np.testing.assert_allclose(metrics["kd/temperature"], expected, rtol=1e-6)
    assert metrics["kd/temperature/weighted"] == 0


def test_the_curriculum_goes_from_easy_to_hard():
    schedule = optax.cosine_decay_schedule(1.0, 10)
    objective = objectives.curriculum_temperature(reversal=lambda s: 1 - schedule(s))
    assert repr(objective).startswith("curriculum_temperature(reversal=schedule")
    teacher, student = jnp.array([[3.0, 0.0]]), jnp.array([[0.0, 0.0]])

    def gradient(step):
        view = objectives.View(
            models.Out(student),
            models.Out(teacher),
            {},
            jnp.int32(step),
            jax.random.key(0),
        )
        return jax.grad(loss_of(objective, view))({"g": jnp.ones(())}, student)["g"]

    found = [abs(float(gradient(step))) for step in (0, 5, 10)]
    assert found[0] == 0
    np.testing.assert_allclose(found[1] / found[2], 0.5, rtol=1e-5)
