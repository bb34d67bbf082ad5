"""Accumulation, guarded updates, loss scaling, averages and scans."""

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxkd import models, objectives, train


def updated(case, batch, wrap=jax.jit, **kwargs):
    step = train.make_train_step(
        case.student, case.teacher, case.objective, case.tx, **kwargs
    )
    return wrap(step)(case.state(), case.variables, batch)


@pytest.mark.parametrize("parts", [2, 3, 16])
@pytest.mark.parametrize("mode", ["jit", "4 devices", "pmap", "shard_map"])
def test_accumulation_gives_the_update_of_the_whole_batch(setup, parts, mode):
    case = setup(tx=optax.sgd(0.5))
    case.batch["labelled"] = np.arange(16) % 3 == 0
    case.objective = objectives.combine(
        soft=(0.9, objectives.soft_target(temperature=4.0)),
        hard=(0.1, objectives.hard_label(where="labelled")),
    )
    batch = {k: x[:13] for k, x in case.batch.items()}
    batch["mask"] = np.arange(13) % 5 != 2
    expected, metrics = updated(case, batch)
    four = jax.devices()[:4]
    wrap = {
        "jit": jax.jit,
        "4 devices": lambda step: train.jit_step(step, train.data_mesh(four)),
        "pmap": lambda step: train.pmap_step(step, four),
        "shard_map": lambda step: train.shard_map_step(step, train.data_mesh(four)),
    }[mode]
    got, more = updated(case, batch, wrap, accumulate=parts)
    chex.assert_trees_all_close(got.params, expected.params, atol=1e-6)
    chex.assert_trees_all_close(more, metrics, rtol=1e-5, atol=1e-6)


def test_counting_for_accumulation_costs_no_forward_pass(setup):
    flops = lambda n: (
        jax.jit(
            train.make_train_step(
                case.student, case.teacher, case.objective, case.tx, accumulate=n
            )
        )
        .lower(case.state(), case.variables, case.batch)
        .compile()
        .cost_analysis()["flops"]
    )
    case = setup(student=models.from_linen(models.MLP((256,), 3)))
    # XLA counts the body of a loop once: half the batch, and no second forward pass.
    assert flops(2) < 0.62 * flops(1)


def test_batchnorm_state_goes_through_the_parts(setup):
    student = models.from_linen(models.CNN(widths=(2,), classes=3))
    case = setup(student=student, objective=objectives.hard_label(), teacher=None)
    case.batch["image"] = np.random.default_rng(0).normal(size=(16, 4, 4, 1))
    case.batch["image"] = case.batch["image"].astype("float32")
    state, _ = updated(case, case.batch, accumulate=4)
    before = case.state().model_state["batch_stats"]["block1"]["norm"]["var"]
    after = state.model_state["batch_stats"]["block1"]["norm"]["var"]
    assert jnp.all(before != after)


def test_accumulate_must_be_positive(setup):
    with pytest.raises(ValueError, match="`accumulate` must be at least 1, got 0"):
        updated(setup(), {}, accumulate=0)


def test_an_update_that_is_not_finite_is_skipped_and_counted(setup):
    student = models.from_linen(models.CNN(widths=(2,), classes=3))
    tx = train.skip_nonfinite(optax.adam(0.1))
    case = setup(
        tx=tx, student=student, objective=objectives.hard_label(), teacher=None
    )
    rng = np.random.default_rng(0)
    good = {**case.batch, "image": rng.normal(size=(16, 4, 4, 1)).astype("float32")}
    case.batch = good
    bad = {**good, "image": np.where(good["image"] > 2, np.nan, good["image"])}
    assert np.isnan(bad["image"]).any()
    step = jax.jit(case.step())
    first, metrics = step(case.state(), None, good)
    assert int(metrics["skipped"]) == 0
    second, metrics = step(first, None, bad)
    assert int(metrics["skipped"]) == 1
    chex.assert_trees_all_equal(second.params, first.params)
    chex.assert_trees_all_equal(second.model_state, first.model_state)
    chex.assert_trees_all_equal(second.opt_state.inner, first.opt_state.inner)
    third, _ = step(second, None, good)
    chex.assert_tree_all_finite(third.params)
    batches = [good, bad, good]
    run = train.fit(step, case.state(), None, iter(batches), steps=3)
    assert [int(m["skipped"]) for _, m in run] == [0, 1, 1]


def test_the_loss_scale_changes_no_update_and_adapts(setup):
    plain = setup(tx=optax.sgd(0.1))
    scaled = setup(
        tx=train.skip_nonfinite(optax.sgd(0.1), loss_scale=2.0**10, growth_interval=2)
    )
    expected, metrics = updated(plain, plain.batch)
    step = jax.jit(scaled.step())
    got, more = step(scaled.state(), scaled.variables, scaled.batch)
    chex.assert_trees_all_close(got.params, expected.params, atol=1e-7)
    assert more["loss"] == pytest.approx(float(metrics["loss"]), rel=1e-6)
    scales = [float(more["loss_scale"])]
    for i in range(4):
        image = scaled.batch["image"] * (np.inf if i == 2 else 1)
        got, more = step(got, scaled.variables, {**scaled.batch, "image": image})
        scales.append(float(more["loss_scale"]))
    assert scales == [2.0**10, 2.0**10, 2.0**11, 2.0**11, 2.0**10]


def test_float16_needs_its_loss_scale():
    model = models.from_function(
        lambda params, batch: batch["x"] * params, lambda key, batch: jnp.full((), 1e-4)
    )
    half = models.cast(model, jnp.float16)
    batch = {"x": jnp.full((4, 1), 1e-3)}
    grad = lambda scale: jax.grad(
        lambda p: scale * jnp.sum(half.apply(p, {}, batch).logits ** 2)
    )(jnp.float32(1e-4))
    assert grad(1.0) == 0.0  # underflows
    assert grad(2.0**15) / 2.0**15 == pytest.approx(8e-10, rel=0.2)


def test_the_average_follows_the_parameters(setup):
    tx = optax.chain(optax.sgd(0.5), train.average_params(0.9))
    case = setup(tx=tx)
    state, step = case.state(), train.jit_step(case.step())
    expected = state.params
    for _ in range(5):
        state, metrics = step(state, case.variables, case.batch)
        jax.block_until_ready(metrics)
        expected = jax.tree.map(
            lambda a, p: 0.9 * a + 0.1 * p, expected, train.copy(state.params)
        )
    chex.assert_trees_all_close(train.averaged(state.opt_state), expected, atol=1e-6)
    with pytest.raises(ValueError, match="has 0 averages"):
        train.averaged(optax.sgd(0.1).init(state.params))
    with pytest.raises(ValueError, match=r"`decay` must be in \[0, 1\]"):
        train.average_params(1.5)


def test_scanned_steps_equal_single_ones(setup):
    case = setup(tx=optax.sgd(0.1))
    pure, batches = (
        case.step(),
        [{k: np.roll(x, i, 0) for k, x in case.batch.items()} for i in range(4)],
    )
    expected, step = case.state(), jax.jit(pure)
    for batch in batches:
        expected, metrics = step(expected, case.variables, batch)
    many = next(train.stacked(batches, 4))
    mesh = train.data_mesh(jax.devices()[:4])
    for wrap in (
        jax.jit,
        lambda s: train.jit_step(s, mesh, batch_axis=1),
        lambda s: train.shard_map_step(s, mesh, batch_axis=1),
    ):
        scanned = wrap(train.scan_steps(pure))
        got, more = scanned(case.state(), case.variables, many)
        chex.assert_trees_all_close(got.params, expected.params, atol=1e-6)
        chex.assert_trees_all_close(more, metrics, rtol=1e-5)
