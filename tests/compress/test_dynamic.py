"""Sparse training: what stays sparse, what grows, and what is forgotten."""

import itertools

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxkd import compress

OPTIMIZERS = {
    "adamw": optax.adamw(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)),
    "injected": optax.inject_hyperparams(optax.adam)(0.1),
    "rmsprop": optax.rmsprop(0.1),
    "lion": optax.lion(0.1),
    "muon": optax.contrib.muon(0.1),
    "partition": optax.partition(
        {"a": optax.adam(0.1), "b": optax.sgd(0.1)}, {"kernel": "a", "bias": "b"}
    ),
    "schedule-free": optax.contrib.schedule_free_sgd(0.1),
}


@pytest.fixture(autouse=True)
def lenient():  # optimisers of others promote freely
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def make_params():
    return {
        "kernel": jax.random.normal(jax.random.key(0), (20, 10)),
        "bias": jnp.ones(10),
    }


def run(tx, steps, params=None):
    params = make_params() if params is None else params

    @jax.jit
    def step(params, state, i):
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(1), i), (20, 10))
        updates, state = tx.update(
            {"kernel": noise, "bias": params["bias"]}, state, params
        )
        return optax.apply_updates(params, updates), state

    state, history = tx.init(params), []
    for i in range(steps):
        params, state = step(params, state, i)
        history.append((params["kernel"], state))
    return history


def moments(state, shape=(20, 10)):
    return [x for x in jax.tree.leaves(state.inner) if jnp.shape(x) == shape]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_forgets_what_is_pruned(name):
    keep = compress.keep_sparse(compress.cubic(0.8, begin=1, end=4))
    history = run(compress.forget_pruned(OPTIMIZERS[name], keep), 6)
    kernel, state = history[-1]
    pruned = ~state.keep.masks["kernel"]
    assert int(pruned.sum()) == 160
    assert not jnp.any(kernel[pruned])
    assert moments(state)
    for moment in moments(state):
        assert not jnp.any(moment[pruned])
        assert jnp.any(moment[~pruned])


def test_without_it_momentum_of_pruned_weights_stays():
    history = run(optax.chain(optax.adam(0.1), compress.keep_sparse(0.8)), 3)
    state = history[-1][1]
    assert jnp.any(state[0][0].mu["kernel"][~state[1].masks["kernel"]])


def test_extra_arguments_reach_the_optimizer():
    tx = compress.forget_pruned(
        optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()),
        compress.keep_sparse(0.5),
    )
    params = make_params()
    updates, _ = tx.update(params, tx.init(params), params, value=jnp.float32(1.0))
    assert int(jnp.sum(optax.apply_updates(params, updates)["kernel"] == 0)) == 100


def test_works_inside_multi_steps():
    keep = compress.forget_pruned(optax.adam(0.1), compress.keep_sparse(0.5))
    tx = optax.MultiSteps(keep, every_k_schedule=2)
    history = run(tx, 4)
    zeros = [int(jnp.sum(kernel == 0)) for kernel, _ in history]
    assert zeros == [0, 100, 100, 100]


def test_masks_by_other_scores_and_patterns():
    taylor = lambda p, g, s: compress.top_masks(compress.taylor_scores(p, g), s)
    keep = compress.keep_sparse(0.5, draw=taylor)
    kernel, state = run(compress.forget_pruned(optax.sgd(0.1), keep), 1)[0]
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(1), 0), (20, 10))
    score = jnp.abs(make_params()["kernel"] * noise)
    want = compress.top_masks({"kernel": score}, 0.5)["kernel"]
    np.testing.assert_array_equal(state.keep.masks["kernel"], want)
    pattern = lambda p, g, s: compress.n_of_m_masks(compress.magnitude_scores(p))
    keep = compress.keep_sparse(0.5, draw=pattern)
    kernel, _ = run(optax.chain(optax.adam(0.1), keep), 3)[-1]
    zeros = (kernel.reshape(5, 4, 10) == 0).sum(axis=1)
    np.testing.assert_array_equal(zeros, 2)


def test_alternating_phases_end_compressed():
    schedule = compress.alternating(0.5, begin=3, end=8, period=2)
    history = run(optax.chain(optax.sgd(0.1), compress.keep_sparse(schedule)), 10)
    zeros = [int(jnp.sum(kernel == 0)) for kernel, _ in history]
    assert zeros == [0, 0, 100, 100, 0, 0, 100, 100, 100, 100]


@pytest.mark.parametrize("make", [compress.rigl, compress.sparse_evolution])
def test_the_number_of_active_weights_never_changes(make):
    link = make(0.8, jax.random.key(2), end=20, every=2)
    history = run(compress.forget_pruned(optax.adam(0.1), link), 8)
    masks = [state.keep.masks["kernel"] for _, state in history]
    assert [int(mask.sum()) for mask in masks] == [40] * 8
    moved = [int(jnp.sum(a != b)) for a, b in itertools.pairwise(masks)]
    assert moved[0] > 0  # from step 1 to 2
    assert moved[1] == 0  # from step 2 to 3
    for kernel, state in history:
        mask = state.keep.masks["kernel"]
        assert not jnp.any(kernel[~mask])
    kernel, state = history[1]
    grown = state.keep.masks["kernel"] & ~masks[0]
    assert grown.any()
    assert not jnp.any(kernel[grown])  # what grows begins at zero
    assert not jnp.any(state.inner[0].mu["kernel"][~state.keep.masks["kernel"]])


def test_rigl_grows_where_gradients_are_largest():
    masks = {"kernel": jnp.array([True, True, True, True, False, False, False, False])}
    weights = {"kernel": jnp.array([4.0, 3.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0])}
    growth = {"kernel": jnp.array([0.0, 0.0, 9.0, 1.0, 2.0, 3.0, 4.0, 5.0])}
    new = compress.regrow_masks(masks, weights, growth, 0.5)["kernel"]
    # 2.0 and 1.0 are dropped; 2.0 has the largest gradient and grows back.
    np.testing.assert_array_equal(new, [1, 1, 1, 0, 0, 0, 0, 1])


def test_everything_can_be_dropped():
    masks = {"kernel": jnp.array([True, True, False, False])}
    growth = {"kernel": jnp.array([0.0, 0.0, 1.0, 2.0])}
    new = compress.regrow_masks(masks, growth, growth, 1.0)["kernel"]
    np.testing.assert_array_equal(new, [False, False, True, True])


def test_rigl_without_gradients_says_how_to_give_them():
    params = make_params()
    tx = optax.chain(optax.sgd(0.1), compress.rigl(0.5, jax.random.key(0), end=5))
    with pytest.raises(ValueError, match="forget_pruned"):
        tx.update(params, tx.init(params), params)


def test_straight_through_masks_forward_only():
    params = make_params()
    pruned = compress.straight_through_prune(params, 0.8)
    assert int(jnp.sum(pruned["kernel"] == 0)) == 160
    np.testing.assert_array_equal(pruned["bias"], params["bias"])
    loss = lambda p: jnp.sum(compress.straight_through_prune(p, 0.8)["kernel"] ** 2)
    gradient = jax.jit(jax.grad(loss))(params)["kernel"]
    np.testing.assert_allclose(gradient, 2 * pruned["kernel"])


def test_iterative_reaches_the_target_in_the_last_round():
    schedule = compress.iterative(0.9, begin=5, every=10, rounds=3)
    left = [1 - float(schedule(step)) for step in (4, 5, 15, 24, 25, 999)]
    part = 0.1 ** (1 / 3)
    np.testing.assert_allclose(left, [1, part, part**2, part**2, 0.1, 0.1], rtol=1e-5)


def test_schedules_refuse_what_is_out_of_range():
    with pytest.raises(ValueError, match="`rounds` must be positive"):
        compress.iterative(0.5, begin=0, every=1, rounds=0)
    with pytest.raises(ValueError, match="`period` must be positive"):
        compress.alternating(0.5, begin=0, end=3, period=0)
    with pytest.raises(ValueError, match="`sparsity`"):
        compress.one_shot(1.0, at=3)
    with pytest.raises(ValueError, match="`power` must be positive"):
        compress.polynomial(0.5, begin=0, end=3, power=0.0)
    with pytest.raises(ValueError, match=r"`drop` must be in \[0, 1\]"):
        compress.rigl(0.5, jax.random.key(0), end=5, drop=1.5)
