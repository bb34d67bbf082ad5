import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxkd import losses, models, objectives, train, trees


def test_student_learns_and_teacher_stays_bit_for_bit(setup):
    case = setup(tx=optax.adamw(1e-2, weight_decay=0.1))
    before = trees.digest(case.variables)
    state, step = case.state(), jax.jit(case.step())
    state, first = step(state, case.variables, case.batch)
    for _ in range(200):
        state, last = step(state, case.variables, case.batch)
    assert last["soft"] < 0.2 * first["soft"]
    assert trees.digest(case.variables) == before


def test_equals_a_step_written_by_hand(setup):
    case = setup()
    state = case.state()
    new, metrics = jax.jit(case.step())(state, case.variables, case.batch)

    def logits(model, variables):
        return model.apply(*variables, case.batch).logits

    def loss(params):
        s = logits(case.student, (params, {}))
        t = logits(case.teacher, case.variables)
        soft = losses.soft_target_kl(s, t, temperature=4.0).mean()
        hard = losses.cross_entropy(s, jnp.asarray(case.batch["label"])).mean()
        return 0.9 * soft + 0.1 * hard, (soft, hard)

    params = state.params["student"]
    (value, (soft, hard)), grads = jax.value_and_grad(loss, has_aux=True)(params)
    by_hand = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    chex.assert_trees_all_close(new.params["student"], by_hand, atol=1e-6)
    expected = {
        "loss": value,
        "soft": soft,
        "soft/weighted": 0.9 * soft,
        "hard": hard,
        "hard/weighted": 0.1 * hard,
        "update_norm": 0.1 * optax.tree.norm(grads),
    }
    chex.assert_trees_all_close(metrics, expected, rtol=1e-5)


def test_optimizer_memory_is_that_of_the_student_alone(setup):
    case = setup(tx=optax.adam(1e-3))
    state = case.state()
    moments = 2 * trees.count(state.params["student"])
    assert trees.count(state.opt_state) == moments + 1  # and the counter


def test_masked_rows_change_nothing(setup):
    case = setup()
    state, step = case.state(), jax.jit(case.step())
    padded = train.pad_batch(case.batch, 5)
    assert len(padded["mask"]) == 20
    padded["image"][16:] = 1e3
    one, metrics = step(state, case.variables, case.batch)
    two, padded_metrics = step(state, case.variables, padded)
    chex.assert_trees_all_close(one.params, two.params, rtol=1e-6, atol=1e-7)
    chex.assert_trees_all_close(metrics, padded_metrics, rtol=1e-5)


def test_a_batch_that_is_all_masked_changes_nothing(setup):
    case = setup()
    state = case.state()
    batch = {**case.batch, "mask": np.zeros(16, bool)}
    new, metrics = jax.jit(case.step())(state, case.variables, batch)
    chex.assert_trees_all_equal(new.params, state.params)
    assert metrics["loss"] == 0


def test_is_traced_once(setup):
    case = setup(tx=optax.adam(optax.cosine_decay_schedule(1e-2, 10)))
    step, state = case.step(), case.state()
    jitted = jax.jit(chex.assert_max_traces(step, n=1))
    for _ in range(4):
        state, _ = jitted(state, case.variables, case.batch)
    assert int(state.step) == 4


def test_scheduled_weights_follow_the_step(setup):
    weight = optax.linear_schedule(0.0, 1.0, 4)
    objective = objectives.combine(
        soft=(weight, objectives.soft_target(temperature=1.0))
    )
    case = setup(objective=objective)
    step, state = jax.jit(case.step()), case.state()
    for i in range(6):
        state, metrics = step(state, case.variables, case.batch)
        np.testing.assert_allclose(
            metrics["soft/weighted"], metrics["soft"] * min(i / 4, 1), rtol=1e-6
        )


def test_trains_without_a_teacher(setup):
    case = setup(objective=objectives.hard_label(), teacher=None)
    _, metrics = jax.jit(case.step())(case.state(), None, case.batch)
    assert metrics["loss"] == metrics["hard_label"] > 0


def test_teacher_outputs_may_come_with_the_batch(setup):
    cached = models.from_function(lambda params, batch: batch["teacher_logits"])
    live = setup()
    logits = live.teacher.apply(*live.variables, live.batch).logits
    case = setup(teacher=None)
    case.teacher, case.batch = cached, {**case.batch, "teacher_logits": logits}
    one, _ = jax.jit(live.step())(live.state(), live.variables, live.batch)
    two, _ = jax.jit(case.step())(case.state(), models.Variables({}), case.batch)
    chex.assert_trees_all_close(one.params, two.params, rtol=1e-6)


def test_frozen_layers_of_the_student_stay_and_take_no_memory(setup):
    rules = [(r"^student/dense1/", "frozen")]
    tx = train.freeze(
        optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(0.1)), rules
    )
    case = setup(tx=tx)
    state = case.state()
    new, _ = jax.jit(case.step())(state, case.variables, case.batch)
    before, after = state.params["student"], new.params["student"]
    chex.assert_trees_all_equal(before["dense1"], after["dense1"])
    assert not np.allclose(before["head"]["kernel"], after["head"]["kernel"])
    head = trees.count(before["head"])
    assert trees.count(state.opt_state) == 2 * head + 1


def test_clipping_inside_freeze_counts_trained_parameters_only():
    params = {"teacher": jnp.full(4, 2.0), "student": jnp.full(4, 1.0)}
    grads = {"teacher": jnp.full(4, 1e6), "student": jnp.full(4, 0.5)}  # norm 1
    tx = train.freeze(
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0)),
        [("^teacher", "frozen")],
    )
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["student"], -0.5)
    np.testing.assert_array_equal(updates["teacher"], 0.0)


def test_freeze_refuses_rules_that_do_nothing_or_mean_nothing():
    params = {"teacher": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"'\^techer' matches no path.*'teacher'"):
        train.freeze(optax.sgd(0.1), [("^techer", "frozen")]).init(params)
    with pytest.raises(ValueError, match="must say 'train' or 'frozen'"):
        train.freeze(optax.sgd(0.1), [("^teacher", "freeze")])


def test_optimizers_that_watch_the_loss_see_it(setup):
    plateau = optax.contrib.reduce_on_plateau(patience=1, factor=0.1)
    case = setup(tx=optax.chain(optax.sgd(0.0), plateau))
    state, step = case.state(), jax.jit(case.step())
    for _ in range(4):
        state, _ = step(state, case.variables, case.batch)
    assert state.opt_state[1].scale < 1.0


def test_dropout_is_a_function_of_key_and_step(setup):
    student = models.from_linen(models.MLP(hidden=(8,), classes=3, dropout=0.5))
    case = setup(student=student)
    step, state = jax.jit(case.step()), case.state()
    _, one = step(state, case.variables, case.batch)
    _, same = step(state, case.variables, case.batch)
    _, other = step(
        train.TrainState(**{**vars(state), "step": state.step + 1}),
        case.variables,
        case.batch,
    )
    assert one["loss"] == same["loss"]
    assert one["loss"] != other["loss"]


def test_batchnorm_statistics_of_the_student_move_and_of_the_teacher_do_not(setup):
    cnn = lambda width: models.from_linen(models.CNN(widths=(width,), classes=3))
    case = setup(student=cnn(2))
    case.teacher = cnn(4)
    case.batch["image"] = np.random.default_rng(0).normal(size=(16, 4, 4, 1))
    case.batch["image"] = case.batch["image"].astype(np.float32)
    case.variables = case.teacher.init(jax.random.key(1), case.batch)
    state = case.state()
    new, _ = jax.jit(case.step())(state, case.variables, case.batch)
    before = state.model_state["batch_stats"]["block1"]["norm"]["mean"]
    after = new.model_state["batch_stats"]["block1"]["norm"]["mean"]
    assert not np.allclose(before, after)


# Mistakes are found by init_state, before anything runs.


def test_class_counts_that_differ(setup):
    case = setup(student=models.from_linen(models.MLP(hidden=(8,), classes=4)))
    with pytest.raises(ValueError, match=r"4 classes .* `teacher_logits` has 3"):
        case.state()


def test_a_missing_entry_of_the_batch_names_the_nearest(setup):
    case = setup()
    case.batch["lable"] = case.batch.pop("label")
    with pytest.raises(KeyError, match=r"hard_label needs batch\['label'\].*'lable'"):
        case.state()


def test_a_missing_teacher(setup):
    with pytest.raises(ValueError, match="soft_target needs a teacher"):
        setup(teacher=None).state()


def test_labels_out_of_range(setup):
    case = setup()
    case.batch["label"][5] = 3
    with pytest.raises(ValueError, match=r"label 3 at position 5 is outside \[0, 3\)"):
        case.state()


def test_an_empty_or_ragged_batch(setup):
    case = setup()
    case.batch = {name: x[:0] for name, x in case.batch.items()}
    with pytest.raises(ValueError, match="the batch is empty"):
        case.state()
    case = setup()
    case.batch["label"] = case.batch["label"][:3]
    with pytest.raises(ValueError, match="different lengths"):
        case.state()


def test_an_untyped_key(setup):
    case = setup()
    with pytest.raises(TypeError, match=r"jax\.random\.key\(seed\)"):
        train.init_state(
            jnp.zeros(2, jnp.uint32),
            case.student,
            case.teacher,
            case.objective,
            case.tx,
            case.batch,
        )


def test_arguments_in_the_wrong_place(setup):
    case = setup()
    with pytest.raises(
        TypeError, match=r"`teacher_variables` must be of type Variables"
    ):
        case.state(teacher_variables={"params": case.variables.params})
    case.objective = losses.soft_target_kl
    with pytest.raises(TypeError, match="`objective` must be of type Objective"):
        case.state()
    case = setup(student=models.MLP(hidden=(8,), classes=3))
    with pytest.raises(
        TypeError, match=r"`student` must be of type Model, such as .*MLP"
    ):
        case.state()


def test_forgotten_teacher_variables(setup):
    case = setup()
    with pytest.raises(ValueError, match="pass its variables"):
        case.step()(case.state(), None, case.batch)
