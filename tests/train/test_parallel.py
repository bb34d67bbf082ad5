import chex
import jax
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec as P

from jaxkd import compress, losses, models, objectives, train

STEPS = 20


def modes(step):
    eight = train.data_mesh(jax.devices()[:8])
    grid = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    halves = [("kernel$", P("model"))]
    teacher = [("params/dense1/kernel$", P(None, ("data", "model")))]
    return {
        "jit, 8 devices": train.jit_step(step, eight),
        "jit, FSDP": train.jit_step(
            step, eight, rules=train.fsdp(min_size=8), teacher_rules=train.fsdp()
        ),
        "jit, 4 x 2": train.jit_step(step, grid, rules=halves, teacher_rules=teacher),
        "pmap, 8 devices": train.pmap_step(step, jax.devices()[:8]),
        "shard_map, 8 devices": train.shard_map_step(step, eight),
        "pmap, 3 devices": train.pmap_step(step, jax.devices()[:3]),
    }


def run(step, state, case, length=13):
    for i in range(STEPS):
        # Ragged: 13 does not divide by 8, and some rows are masked.
        batch = {k: np.roll(x, i, axis=0)[:length] for k, x in case.batch.items()}
        batch["mask"] = np.arange(length) % 5 != 2
        state, metrics = step(state, case.variables, batch)
        if i % 8 == 7:
            jax.block_until_ready(metrics)
    return state, metrics


@pytest.fixture(scope="module")
def tx():
    # SGD: Adam would hide a gradient that is eight times too large.
    return optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.3, momentum=0.9))


def objective():
    return objectives.combine(
        soft=(
            optax.linear_schedule(1.0, 0.5, STEPS),
            objectives.soft_target(temperature=4.0),
        ),
        hard=(0.5, objectives.hard_label()),
    )


def test_every_mode_equals_one_device(setup, tx):
    case = setup(tx=tx, objective=objective())
    state, step = case.state(), case.step()
    expected, expected_metrics = run(jax.jit(step), state, case)
    for name, mode in modes(step).items():
        got, metrics = run(mode, state, case)
        for a, b in ((got.params, expected.params), (metrics, expected_metrics)):
            chex.assert_trees_all_close(a, b, atol=1e-6, rtol=1e-5, custom_message=name)


def test_every_mode_prunes_alike(setup):
    schedule = compress.cubic(0.5, begin=0, end=10)
    tx = optax.chain(optax.sgd(0.1), compress.keep_sparse(schedule))
    case = setup(tx=tx)
    state, step = case.state(), case.step()
    expected, _ = run(jax.jit(step), state, case)
    kernel = expected.params["student"]["dense1"]["kernel"]
    assert np.sum(np.asarray(kernel) == 0) == 24
    for name in modes(step):
        traces = []

        def counted(*args, traces=traces, **kwargs):
            traces.append(1)
            return step(*args, **kwargs)

        got, _ = run(modes(counted)[name], state, case)
        assert len(traces) == 1, name  # masks are drawn and kept by one program
        chex.assert_trees_all_close(
            got.params, expected.params, atol=1e-6, custom_message=name
        )
        np.testing.assert_array_equal(
            got.params["student"]["dense1"]["kernel"] == 0, kernel == 0, name
        )


@pytest.fixture
def batchnorm_case(setup, tx):
    cnn = lambda *widths: models.from_linen(models.CNN(widths=widths, classes=3))
    case = setup(
        tx=tx,
        student=cnn(2, 3),
        objective=objectives.combine(
            soft=(0.5, objectives.soft_target(temperature=4.0)),
            hint=(
                0.1,
                objectives.hint(
                    student="block2",
                    teacher="block2",
                    adapter=objectives.linear_adapter(normalize=True),
                ),
            ),
            relation=(
                1.0,
                objectives.on_features(
                    losses.similarity_preserving, student="block2", teacher="block2"
                ),
            ),
        ),
        teacher=None,
    )
    rng = np.random.default_rng(0)
    case.batch["image"] = rng.normal(size=(16, 4, 4, 1)).astype(np.float32)
    case.teacher = cnn(4, 5)
    case.variables = case.teacher.init(jax.random.key(7), case.batch)
    return case


def test_every_mode_equals_one_device_with_batchnorm_hints_and_relations(
    batchnorm_case,
):
    case = batchnorm_case
    state, step = case.state(), case.step()
    expected, expected_metrics = run(jax.jit(step), state, case)
    eight = train.data_mesh(jax.devices()[:8])
    for name, mode in {
        "jit": train.jit_step(step, eight, rules=train.fsdp(min_size=8)),
        "pmap": train.pmap_step(step, jax.devices()[:3]),
        "shard_map": train.shard_map_step(step, eight),
    }.items():
        got, metrics = run(mode, state, case)
        chex.assert_trees_all_close(
            (got.params, got.model_state, got.objective_state, metrics),
            (
                expected.params,
                expected.model_state,
                expected.objective_state,
                expected_metrics,
            ),
            atol=3e-6,
            rtol=1e-4,
            custom_message=name,
        )


@pytest.mark.parametrize("length", [1, 6, 8])
def test_padding_never_reaches_batchnorm(batchnorm_case, length):
    case = batchnorm_case
    case.objective = objectives.hard_label()
    state, step = case.state(), case.step()
    batch = {name: x[:length] for name, x in case.batch.items()}
    one, _ = jax.jit(step)(state, case.variables, batch)
    for mode in (train.jit_step, train.pmap_step, train.shard_map_step):
        many, _ = mode(step)(state, case.variables, batch)
        chex.assert_trees_all_close(many.params, one.params, atol=1e-6)
        chex.assert_trees_all_close(many.model_state, one.model_state, atol=1e-6)


def test_a_transformer_with_dropout_is_the_same_under_jit(setup, tx):
    build = lambda width, **kwargs: models.from_linen(
        models.Transformer(50, 3, width=width, heads=2, max_length=8, **kwargs),
        inputs=("tokens", "attention_mask"),
    )
    case = setup(tx=tx, student=build(8, dropout=0.1), teacher=None)
    case.teacher = build(16)
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 8, 16)
    case.batch = {
        "tokens": rng.integers(0, 50, (16, 8)).astype(np.int32),
        "attention_mask": np.arange(8) < lengths[:, None],
        "label": case.batch["label"],
    }
    case.variables = case.teacher.init(jax.random.key(7), case.batch)
    case.objective = objectives.hint(
        student="block2", teacher="block2", where="attention_mask"
    )
    state, step = case.state(), case.step()
    expected, _ = run(jax.jit(step), state, case, length=16)
    eight = train.data_mesh(jax.devices()[:8])
    rules = train.fsdp(min_size=64)
    got, _ = run(train.jit_step(step, eight, rules=rules), state, case, length=16)
    chex.assert_trees_all_close(got.params, expected.params, atol=1e-6)


@pytest.mark.parametrize(
    "wrap", [train.jit_step, train.pmap_step, train.shard_map_step]
)
def test_donation_never_eats_the_callers_arrays(setup, wrap):
    case = setup(tx=optax.adam(0.1))
    # A student initialised from the teacher's own arrays.
    case.student = case.teacher
    state = case.state(variables=case.variables)
    step = wrap(case.step())
    for _ in range(2):  # the same state twice: it must survive the first call
        new, _ = step(state, case.variables, case.batch)
        new, metrics = step(new, case.variables, case.batch)
        jax.block_until_ready(metrics)
    for leaf in jax.tree.leaves((state, case.variables)):
        assert not leaf.is_deleted()


@pytest.mark.parametrize(
    "wrap", [train.jit_step, train.pmap_step, train.shard_map_step]
)
def test_is_traced_once(setup, wrap):
    case, traces = setup(), []
    pure = case.step()

    def counted(*args, **kwargs):
        traces.append(1)
        return pure(*args, **kwargs)

    state, step = case.state(), wrap(counted)
    for _ in range(3):
        state, metrics = step(state, case.variables, case.batch)
        jax.block_until_ready(metrics)
    assert int(state.step) == 3
    assert len(traces) == 1


def test_dropout_differs_between_devices_and_is_reproducible(setup):
    student = models.from_linen(models.MLP(hidden=(64,), classes=3, dropout=0.5))
    case = setup(student=student)
    # One example, sixteen times: without dropout every device would see one gradient.
    case.batch = {k: np.repeat(x[:1], 16, axis=0) for k, x in case.batch.items()}
    state = case.state()
    two = train.pmap_step(case.step(), jax.devices()[:2])
    eight = train.pmap_step(case.step(), jax.devices()[:8])
    loss = lambda step: float(step(state, case.variables, case.batch)[1]["loss"])
    assert loss(eight) == loss(eight)
    assert loss(eight) != loss(two)
