from functools import partial

import chex
import jax
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from jaxkd import compress, models, objectives, train

STEPS = 20


def shard_map_step(step, mesh):
    """Also the checker: it proves that every output is the same on all devices."""
    mapped = jax.jit(
        jax.shard_map(
            partial(step, axis_name="data"),
            mesh=mesh,
            in_specs=(P(), P(), P("data")),
            out_specs=P(),
            check_vma=True,
        )
    )
    return lambda state, teacher, batch: mapped(
        state, teacher, train.pad_batch(batch, mesh.size)
    )


def modes(step):
    eight = train.data_mesh(jax.devices()[:8])
    return {
        "jit, 8 devices": train.jit_step(step, eight),
        "pmap, 8 devices": train.pmap_step(step, jax.devices()[:8]),
        "shard_map, 8 devices": shard_map_step(step, eight),
        "pmap, 3 devices": train.pmap_step(step, jax.devices()[:3]),
    }


def run(step, state, case):
    for i in range(STEPS):
        # Ragged: 13 does not divide by 8, and the last rows are masked.
        batch = {k: np.roll(x, i, axis=0)[:13] for k, x in case.batch.items()}
        batch["mask"] = np.arange(13) % 5 != 2
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
    for name, mode in modes(step).items():
        got, _ = run(mode, state, case)
        chex.assert_trees_all_close(
            got.params, expected.params, atol=1e-6, custom_message=name
        )


def test_batchnorm_under_jit_uses_the_global_batch(setup, tx):
    student = models.from_linen(models.CNN(widths=(2, 3), classes=3))
    case = setup(tx=tx, student=student, objective=objectives.hard_label())
    rng = np.random.default_rng(0)
    case.teacher = case.variables = None
    case.batch["image"] = rng.normal(size=(16, 4, 4, 1)).astype(np.float32)
    state, step = case.state(), case.step()
    eight = train.jit_step(step, train.data_mesh(jax.devices()[:8]))
    one, _ = jax.jit(step)(state, None, case.batch)
    many, _ = eight(state, None, case.batch)
    chex.assert_trees_all_close(many.params, one.params, atol=1e-6)
    chex.assert_trees_all_close(many.model_state, one.model_state, atol=1e-6)


@pytest.mark.parametrize("length", [1, 6, 8])
def test_batchnorm_under_jit_sees_no_padding(setup, tx, length):
    student = models.from_linen(models.CNN(widths=(2,), classes=3))
    case = setup(tx=tx, student=student, objective=objectives.hard_label())
    rng = np.random.default_rng(0)
    case.teacher = case.variables = None
    case.batch["image"] = rng.normal(size=(16, 4, 4, 1)).astype(np.float32)
    state, step = case.state(), case.step()
    batch = {name: x[:length] for name, x in case.batch.items()}
    one, _ = jax.jit(step)(state, None, batch)
    four, _ = train.jit_step(step, train.data_mesh(jax.devices()[:4]))(
        state, None, batch
    )
    chex.assert_trees_all_close(four.params, one.params, atol=1e-6)
    chex.assert_trees_all_close(four.model_state, one.model_state, atol=1e-6)


def test_batchnorm_under_pmap_leaves_all_devices_with_one_state(setup, tx):
    student = models.from_linen(models.CNN(widths=(2,), classes=3))
    case = setup(tx=tx, student=student, objective=objectives.hard_label())
    rng = np.random.default_rng(0)
    case.teacher = case.variables = None
    case.batch["image"] = rng.normal(size=(16, 4, 4, 1)).astype(np.float32)
    eight = train.data_mesh(jax.devices()[:8])
    # check_vma refuses an output which may differ between devices.
    state, _ = shard_map_step(case.step(), eight)(case.state(), None, case.batch)
    mapped, _ = train.pmap_step(case.step())(case.state(), None, case.batch)
    chex.assert_trees_all_close(mapped.model_state, state.model_state, atol=1e-6)


@pytest.mark.parametrize("wrap", [train.jit_step, train.pmap_step])
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


@pytest.mark.parametrize("wrap", [train.jit_step, train.pmap_step])
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
