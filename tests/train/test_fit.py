import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxkd import data, models, objectives, train


def batches_of(case, seed=0):
    return data.TrainBatches(case.batch, batch_size=4, seed=seed)


def test_yields_every_update_and_stops(setup):
    case = setup()
    step = train.jit_step(case.step())
    steps = [
        int(state.step)
        for state, _ in train.fit(
            step, case.state(), case.variables, batches_of(case), steps=20
        )
    ]
    assert steps == list(range(1, 21))


def test_goes_on_where_the_state_stands(setup):
    case = setup()
    step, batches = train.jit_step(case.step()), batches_of(case)
    *_, (state, _) = train.fit(step, case.state(), case.variables, batches, steps=5)
    more = [m for _, m in train.fit(step, state, case.variables, batches, steps=8)]
    assert len(more) == 3
    assert batches.get_state()["batches"] == 8


def test_hooks_are_called_on_time_and_at_the_end(setup):
    case, called = setup(), []
    hook = train.Hook(3, lambda state, metrics: called.append(int(state.step)))
    run = train.fit(
        train.jit_step(case.step()),
        case.state(),
        case.variables,
        batches_of(case),
        steps=8,
        hooks=[hook],
    )
    for _ in run:
        pass
    assert called == [3, 6, 8]


@pytest.mark.parametrize("bad", [1, 5, 20])
def test_a_loss_that_is_nan_stops_and_names_the_step(setup, bad):
    case, saved = setup(), []
    batches = iter(
        [
            {**case.batch, "image": np.full((16, 6), np.nan, np.float32)}
            if i == bad
            else case.batch
            for i in range(1, 31)
        ]
    )
    save = train.Hook(1, lambda state, metrics: saved.append(int(state.step)))
    run = train.fit(
        train.jit_step(case.step()),
        case.state(),
        case.variables,
        batches,
        steps=30,
        hooks=[save],
    )
    with pytest.raises(train.NonFiniteError, match=f"loss is nan at step {bad}:"):
        for _ in run:
            pass
    assert saved == list(range(1, bad))


@pytest.mark.parametrize("bad", [1, 5, 20])
def test_without_hooks_nan_is_noticed_within_the_run_ahead(setup, bad):
    case = setup()
    good, nan = case.batch, {**case.batch, "image": np.full((16, 6), np.nan)}
    batches = [nan if i == bad else good for i in range(1, 31)]
    run = train.fit(
        train.jit_step(case.step()),
        case.state(),
        case.variables,
        iter(batches),
        steps=30,
    )
    seen = []
    with pytest.raises(train.NonFiniteError, match=f"loss is nan at step {bad}:"):
        seen.extend(metrics["loss"] for _, metrics in run)
    assert len(seen) <= bad + 8


def test_a_hook_never_sees_a_state_that_is_not_finite(setup):
    case, saved = setup(tx=optax.sgd(1e30)), []
    save = train.Hook(1, lambda state, _: saved.append(train.copy(state.params)))
    run = train.fit(
        train.jit_step(case.step()),
        case.state(),
        case.variables,
        iter([case.batch] * 30),
        steps=30,
        hooks=[save],
    )
    with pytest.raises(train.NonFiniteError):
        for _ in run:
            pass
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(saved))


def test_batches_that_end_too_early(setup):
    case = setup()
    run = train.fit(
        train.jit_step(case.step()),
        case.state(),
        case.variables,
        iter([case.batch] * 3),
        steps=9,
    )
    with pytest.raises(ValueError, match="ended after 3 updates; 9 were asked for"):
        for _ in run:
            pass


def test_many_steps_on_many_devices_do_not_deadlock(setup):
    # On jax < 0.12 about 32 unfinished steps with a collective stop for ever.
    case = setup()
    run = train.fit(
        train.jit_step(case.step()),
        case.state(),
        case.variables,
        batches_of(case),
        steps=200,
    )
    *_, (state, _) = run
    assert int(state.step) == 200


def test_evaluation_is_exact_over_a_ragged_last_batch(setup):
    case = setup()
    step = jax.jit(train.make_eval_step(case.student, case.teacher))
    variables = case.state().student
    whole = train.evaluate(step, variables, [case.batch], teacher=case.variables)
    ragged = data.eval_batches(case.batch, batch_size=5)
    parts = train.evaluate(step, variables, ragged, teacher=case.variables)
    assert set(whole) == {"accuracy", "cross_entropy", "agreement", "teacher_kl"}
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-6)
    logits = case.student.apply(*variables, case.batch).logits
    right = np.argmax(logits, axis=1) == case.batch["label"]
    assert whole["accuracy"] == pytest.approx(right.mean())


def test_positions_of_masked_examples_do_not_count():
    model = models.from_function(lambda params, batch: batch["x"])
    x = np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float32)
    label = np.argmax(x, axis=-1)
    label[3:] = (label[3:] + 1) % 3
    batches = data.eval_batches({"x": x, "label": label}, batch_size=4)
    step = jax.jit(train.make_eval_step(model))
    found = train.evaluate(step, models.Variables({}), batches)
    assert found["accuracy"] == pytest.approx(3 / 5)


def test_a_model_agrees_with_itself(setup):
    case = setup()
    step = jax.jit(train.make_eval_step(case.teacher, case.teacher))
    found = train.evaluate(step, case.variables, [case.batch], teacher=case.variables)
    assert found["agreement"] == 1.0
    assert found["teacher_kl"] == pytest.approx(0.0, abs=1e-6)


def test_nothing_to_evaluate():
    model = models.from_function(lambda params, batch: batch["x"])
    step = train.make_eval_step(model)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        train.evaluate(step, models.Variables({}), [])
    with pytest.raises(KeyError, match="nothing to measure"):
        train.evaluate(step, models.Variables({}), [{"x": np.eye(2)}])


def test_objectives_print_what_they_are():
    objective = objectives.combine(
        soft=(optax.linear_schedule(1, 0, 5), objectives.soft_target(temperature=2.0)),
        hard=(0.5, objectives.hard_label(where="labelled")),
    )
    assert repr(objective) == (
        "combine(soft=(schedule, soft_target(temperature=2.0)), "
        "hard=(0.5, hard_label(where='labelled')))"
    )
