import itertools

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxkd import compress, train


@pytest.fixture(autouse=True)
def lenient():  # optimisers of others promote freely
    with jax.numpy_dtype_promotion("standard"):
        yield


def make_params(dtype=jnp.float32):
    key = jax.random.key(0)
    return {
        "kernel": jax.random.normal(key, (20, 10), dtype),
        "bias": jnp.ones(10, dtype),
    }


def run(tx, params, steps):
    @jax.jit
    def step(params, state, i):
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(1), i), (20, 10))
        grads = {"kernel": noise.astype(params["kernel"].dtype), "bias": params["bias"]}
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state, history = tx.init(params), []
    for i in range(steps):
        params, state = step(params, state, i)
        history.append(params)
    return history, state


def zeros(params):
    return int(jnp.sum(params["kernel"] == 0))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    "optimizer", [optax.adamw(0.1), optax.sgd(0.1, momentum=0.9), optax.lion(0.1)]
)
def test_pruned_weights_are_exactly_zero_with_any_optimizer(optimizer, dtype):
    tx = optax.chain(optimizer, compress.keep_sparse(0.8))
    history, _ = run(tx, make_params(dtype), 5)
    assert [zeros(p) for p in history] == [160] * 5
    assert zeros({"kernel": history[-1]["bias"]}) == 0
    assert history[-1]["kernel"].dtype == dtype


def test_updates_of_lower_precision_leave_exact_zeros_too():
    coarse = optax.stateless(
        lambda u, p: jax.tree.map(lambda x: x.astype(jnp.bfloat16), u)
    )
    tx = optax.chain(optax.sgd(0.1), coarse, compress.keep_sparse(0.8))
    history, _ = run(tx, make_params(), 3)
    assert [zeros(p) for p in history] == [160] * 3


@pytest.mark.parametrize("every", [1, 3, 7, 100])
@pytest.mark.parametrize("end", [10, 11])
def test_the_target_is_reached_at_the_end_step_whatever_the_interval(every, end):
    schedule = compress.cubic(0.8, begin=2, end=end)
    tx = optax.chain(optax.adam(0.1), compress.keep_sparse(schedule, every=every))
    history, _ = run(tx, make_params(), end + 3)
    assert zeros(history[end - 4]) < 160
    assert [zeros(p) for p in history[end - 1 :]] == [160] * 4


def test_sparsity_follows_the_schedule_step_by_step():
    schedule = compress.cubic(0.9, begin=0, end=10)
    tx = optax.chain(optax.sgd(0.1), compress.keep_sparse(schedule))
    history, _ = run(tx, make_params(), 12)
    expected = [int(jnp.round(200 * schedule(i))) for i in range(1, 13)]
    assert [zeros(p) for p in history] == expected


def test_growing_sparsity_never_revives_a_weight():
    schedule = compress.cubic(0.9, begin=0, end=10)
    tx = optax.chain(optax.adam(1.0), compress.keep_sparse(schedule))
    history, _ = run(tx, make_params(), 10)
    for before, after in itertools.pairwise(history):
        assert not jnp.any((before["kernel"] == 0) & (after["kernel"] != 0))


def test_works_inside_partition_which_masks_the_frozen_leaves():
    params = {"student": make_params(), "teacher": make_params()}
    tx = optax.partition(
        {
            "train": optax.chain(optax.adam(0.1), compress.keep_sparse(0.5)),
            "frozen": optax.set_to_zero(),
        },
        {"student": "train", "teacher": "frozen"},
    )
    updates, _ = tx.update(params, tx.init(params), params)
    new = optax.apply_updates(params, updates)
    assert zeros(new["student"]) == 100
    np.testing.assert_array_equal(new["teacher"]["kernel"], params["teacher"]["kernel"])


def test_works_inside_multi_steps():
    keep = optax.chain(optax.adam(0.1), compress.keep_sparse(0.5))
    tx = optax.MultiSteps(keep, every_k_schedule=2)
    history, state = run(tx, make_params(), 6)
    assert [zeros(p) for p in history] == [0, *[100] * 5]
    assert int(state.inner_opt_state[1].step) == 3  # whole updates are counted


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_works_inside_inject_hyperparams(dtype):
    @optax.inject_hyperparams
    def make(learning_rate):
        return optax.chain(optax.adamw(learning_rate), compress.keep_sparse(0.5))

    tx = make(optax.linear_schedule(0.1, 0.0, 4))
    history, state = run(tx, make_params(dtype), 5)
    assert [zeros(p) for p in history] == [100] * 5
    assert state.hyperparams["learning_rate"] == 0.0
    np.testing.assert_array_equal(history[-1]["kernel"], history[-2]["kernel"])


def test_with_schedule_free_both_the_weights_and_their_average_are_sparse():
    free = optax.contrib.schedule_free(optax.sgd(0.1), learning_rate=0.1)
    schedule = compress.cubic(0.5, begin=1, end=4)
    tx = compress.forget_pruned(free, compress.keep_sparse(schedule))
    history, state = run(tx, make_params(), 6)
    assert [zeros(p) for p in history[3:]] == [100] * 3
    average = optax.contrib.schedule_free_eval_params(state.inner, history[-1])
    np.testing.assert_array_equal(average["kernel"] == 0, history[-1]["kernel"] == 0)
    assert jnp.any(average["kernel"] != history[-1]["kernel"])


def test_works_inside_freeze():
    params = {"body": make_params(), "head": make_params()}
    keep = compress.keep_sparse(0.5, where="kernel$")
    tx = train.freeze(optax.chain(optax.adam(0.1), keep), [("^body/", "frozen")])
    updates, _ = tx.update(params, tx.init(params), params)
    new = optax.apply_updates(params, updates)
    assert zeros(new["head"]) == 100
    np.testing.assert_array_equal(new["body"]["kernel"], params["body"]["kernel"])


def test_needs_params():
    tx = compress.keep_sparse(0.5)
    params = make_params()
    with pytest.raises(ValueError, match="needs `params`"):
        tx.update(params, tx.init(params))


def test_numbers_out_of_range_are_errors():
    with pytest.raises(ValueError, match="`every` must be at least 1"):
        compress.keep_sparse(0.5, every=0)
    with pytest.raises(ValueError, match="`sparsity`"):
        compress.keep_sparse(1.0)
    with pytest.raises(ValueError, match=r"`end` \(5\) must be after `begin` \(5\)"):
        compress.cubic(0.5, begin=5, end=5)


def test_cubic_by_hand():
    schedule = compress.cubic(0.8, begin=10, end=20, initial=0.2)
    steps = jnp.array([9, 10, 15, 20, 99])
    expected = [0.0, 0.2, 0.8 - 0.6 * 0.125, 0.8, 0.8]
    np.testing.assert_allclose(jax.vmap(schedule)(steps), expected, rtol=1e-6)
    assert schedule(20) == jnp.float32(0.8)
