"""What a caller may bring, wrong or only odd, in every mode."""

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxkd import compress, models, objectives, train

MODES = {
    "jit": lambda step: train.jit_step(step, train.data_mesh(jax.devices()[:4])),
    "pmap": lambda step: train.pmap_step(step, jax.devices()[:4]),
    "shard_map": lambda step: train.shard_map_step(
        step, train.data_mesh(jax.devices()[:4])
    ),
}
modes = pytest.mark.parametrize("wrap", MODES.values(), ids=MODES)


@modes
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda b: {}, ValueError, "the batch is empty"),
        (lambda b: {k: x[:0] for k, x in b.items()}, ValueError, "the batch is empty"),
        (lambda b: {**b, "label": b["label"][:8]}, ValueError, "different lengths"),
        (lambda b: {**b, "mask": np.ones(8, bool)}, ValueError, "different lengths"),
        (
            lambda b: {**b, "rate": np.float32(1)},
            ValueError,
            r"'rate'\] has shape \(\)",
        ),
        (lambda b: {**b, "ids": [1] * 16}, TypeError, r"'ids'\] is a list"),
        (lambda b: {**b, "sub": {"x": b["image"]}}, TypeError, r"'sub'\] is a dict"),
    ],
)
def test_a_batch_that_is_none(setup, wrap, change, error, message):
    case = setup()
    with pytest.raises(error, match=message):
        wrap(case.step())(case.state(), case.variables, change(case.batch))


@modes
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(("dtype", "shape"), [(np.float32, (13, 2)), (np.int32, (13,))])
def test_masks_of_any_kind_and_typed_keys_are_padded(setup, wrap, parts, dtype, shape):
    case = setup()
    batch = {name: x[:13] for name, x in case.batch.items()}
    batch["mask"] = np.ones(shape, dtype)
    batch["mask"][5] = 0
    batch["key"] = jax.random.split(jax.random.key(0), 13)
    expected, _ = jax.jit(case.step())(case.state(), case.variables, batch)
    step = train.make_train_step(
        case.student, case.teacher, case.objective, case.tx, accumulate=parts
    )
    got, _ = wrap(step)(case.state(), case.variables, batch)
    chex.assert_trees_all_close(got.params, expected.params, atol=1e-6)


WRONG = {
    "a pair for a batch": (
        lambda case, step: step(
            case.state(), case.variables, tuple(case.batch.values())
        ),
        "a batch must be a dict of arrays, .* got a tuple",
    ),
    "a dict for the teacher": (
        lambda case, step: step(case.state(), {"params": {}}, case.batch),
        r"`teacher_variables` must be of type Variables, such as .* got a dict",
    ),
    "batch and teacher swapped": (
        lambda case, step: step(case.state(), case.batch, case.variables),
        "`teacher_variables` must be of type Variables",
    ),
    "a name for the optimizer": (
        lambda case, step: setattr(case, "tx", "adam") or case.step(),
        "`tx` must be an optimizer of optax, such as .* got a str",
    ),
    "objective and optimizer swapped": (
        lambda case, step: train.make_train_step(
            case.student, case.teacher, case.tx, case.objective
        ),
        "`objective` must be of type Objective, such as objectives.hard_label",
    ),
    "a step for the state": (
        lambda case, step: next(
            train.fit(case.state(), step, case.variables, iter([case.batch]), steps=1)
        ),
        r"`state` must be a TrainState.* fit\(step, state, teacher, batches\)",
    ),
    "quantized parameters to train": (
        lambda case, step: case.state(
            variables=models.Variables(compress.quantize(case.state().student.params))
        ),
        "`variables` are quantized, and integers cannot be trained",
    ),
    "one batch for many": (
        lambda case, step: train.evaluate(
            train.make_eval_step(case.student), case.state().student, case.batch
        ),
        "`batches` is one dict; evaluate takes several",
    ),
    "pairs for batches": (
        lambda case, step: train.evaluate(
            train.make_eval_step(case.student), case.state().student, [(1, 2)]
        ),
        "a batch must be a dict of arrays",
    ),
}


@pytest.mark.parametrize(("call", "words"), WRONG.values(), ids=WRONG)
def test_arguments_of_the_wrong_kind(setup, call, words):
    case = setup()
    with pytest.raises(TypeError, match=words):
        call(case, train.jit_step(case.step()))


def test_an_error_says_whether_it_is_the_teachers(setup):
    case = setup()
    other = models.from_linen(models.MLP(hidden=(16,), classes=3))
    variables = other.init(jax.random.key(0), case.batch)
    with pytest.raises(Exception, match="kernel") as caught:
        case.state(teacher_variables=variables)
    assert "This happened in the teacher." in caught.value.__notes__
    with pytest.raises(Exception, match="kernel") as caught:
        case.state(variables=variables)
    assert "This happened in the student." in caught.value.__notes__
    with pytest.raises(Exception, match="kernel") as caught:
        train.jit_step(case.step())(case.state(), variables, case.batch)
    assert "This happened in the teacher." in caught.value.__notes__


def test_labels_that_no_class_has_are_told_after_evaluation(setup):
    case = setup()
    batch = {**case.batch, "label": case.batch["label"] + 1}
    step = jax.jit(train.make_eval_step(case.student))
    with pytest.warns(UserWarning, match=r"labels outside \[0, classes\)"):
        found = train.evaluate(step, case.state().student, [batch])
    assert np.isnan(found["cross_entropy"])


SPARSE = {
    "given": lambda: compress.keep_sparse(0.5),
    "evolving": lambda: compress.rigl(0.5, jax.random.key(0), end=9),
}


@pytest.mark.parametrize("make", SPARSE.values(), ids=SPARSE)
def test_what_keeps_zeros_comes_last(setup, make):
    sparse = make()
    around = optax.chain(optax.chain(optax.sgd(0.1), sparse), optax.scale(0.5))
    for tx in (optax.chain(sparse, optax.adam(0.1)), around):
        with pytest.raises(ValueError, match="must be the last link of the chain"):
            setup(tx=tx).state()
    averaged = optax.chain(optax.adam(0.1), sparse, train.average_params(0.9))
    assert int(setup(tx=averaged).state().step) == 0


def test_stacked_batches_must_divide(setup):
    case = setup()
    scanned = train.jit_step(
        train.scan_steps(case.step()),
        train.data_mesh(jax.devices()[:4]),
        batch_axis=1,
    )
    ragged = {name: x[:13] for name, x in case.batch.items()}
    many = next(train.stacked([ragged] * 2, 2))
    with pytest.raises(ValueError, match=r"13 examples in .* by 4 devices"):
        scanned(case.state(), case.variables, many)
    padded = next(train.stacked([train.pad_batch(ragged, 4)] * 2, 2))
    state, _ = scanned(case.state(), case.variables, padded)
    assert int(state.step) == 2


@modes
@pytest.mark.parametrize("parts", [1, 2])
def test_the_objectives_state_may_be_of_any_type(setup, wrap, parts):
    plain = objectives.hard_label()

    def init(key, view):
        state = {"n": jnp.int32(0), "odd": jnp.bool_(False), "key": jax.random.key(5)}
        return {}, state

    def apply(params, state, view):
        terms, _ = plain.apply(params, {}, view)
        state = {"n": state["n"] + 1, "odd": ~state["odd"], "key": state["key"]}
        return terms, state

    case = setup(objective=plain._replace(init=init, apply=apply))
    step = train.make_train_step(
        case.student, case.teacher, case.objective, case.tx, accumulate=parts
    )
    state, _ = wrap(step)(case.state(), case.variables, case.batch)
    after = state.objective_state
    assert (int(after["n"]), bool(after["odd"])) == (parts, parts == 1)
    assert after["key"] == jax.random.key(5)


@modes
def test_batchnorm_goes_through_the_parts_alike(setup, wrap):
    student = models.from_linen(models.CNN(widths=(2,), classes=3))
    case = setup(student=student, objective=objectives.hard_label(), teacher=None)
    image = np.random.default_rng(0).normal(size=(16, 4, 4, 1))
    case.batch["image"] = image.astype(np.float32)
    step = train.make_train_step(student, None, case.objective, case.tx, accumulate=2)
    expected, _ = jax.jit(step)(case.state(), None, case.batch)
    got, _ = wrap(step)(case.state(), None, case.batch)
    chex.assert_trees_all_close(got.student, expected.student, atol=1e-6)


OPTIMIZERS = {
    "MultiSteps": lambda: optax.MultiSteps(optax.sgd(0.1), 2),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.sgd)(
        optax.linear_schedule(0.1, 0.0, 9)
    ),
    "schedule_free": lambda: optax.contrib.schedule_free(optax.sgd(0.1), 0.1),
    "apply_if_finite": lambda: optax.apply_if_finite(optax.sgd(0.1), 3),
}


@pytest.mark.parametrize("tx", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers_around_optimizers(setup, tx):
    case = setup(tx=tx())

    def run(step):
        state = case.state()
        for length in (13, 16, 13):
            batch = {name: x[:length] for name, x in case.batch.items()}
            state, metrics = step(state, case.variables, batch)
            jax.block_until_ready(metrics)
        return state.params

    expected = run(jax.jit(case.step()))
    for name, wrap in MODES.items():
        got = run(wrap(case.step()))
        chex.assert_trees_all_close(got, expected, atol=1e-6, custom_message=name)


@modes
def test_a_teacher_without_variables(setup, wrap):
    case = setup()
    expected, _ = jax.jit(case.step())(case.state(), case.variables, case.batch)
    case.teacher = models.bake(case.teacher, case.variables)
    got, _ = wrap(case.step())(case.state(), models.Variables({}), case.batch)
    chex.assert_trees_all_close(got.params, expected.params, atol=1e-6)


def test_a_guard_inside_another_transformation(setup):
    guard = train.skip_nonfinite(optax.sgd(0.1), loss_scale=2.0**10)
    for tx in (optax.chain(optax.clip(1.0), guard), optax.MultiSteps(guard, 2)):
        case = setup(tx=tx)
        with pytest.raises(ValueError, match="goes around all of the optimizer"):
            case.step()(case.state(), case.variables, case.batch)
