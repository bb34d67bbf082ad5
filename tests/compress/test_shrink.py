"""Importance of units, targets, what follows the arrays, and bad input."""

import re

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from structures import CASES
from structures_plain import find, normal

from jaxkd import compress


@pytest.fixture(autouse=True)
def lenient():  # the models of others promote freely
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def simple():
    p = {"up": normal(3, 16), "b": normal(16), "down": normal(16, 2, seed=1)}
    apply = lambda p, x: jax.nn.relu(x @ p["up"] + p["b"]) @ p["down"]
    return p, compress.dependency_groups(apply, p, normal(1, 3))


def test_l2_by_hand():
    p, groups = simple()
    expected = (np.square(p["up"]).sum(0) + np.square(p["down"]).sum(1)) / 2
    got = compress.l2_importance(p, groups)["up:1"]
    np.testing.assert_allclose(got, expected / expected.mean(), rtol=1e-5)
    only = compress.l2_importance(p, groups, where="^b$")["up:1"]
    np.testing.assert_allclose(only, p["b"] ** 2 / np.mean(p["b"] ** 2), rtol=1e-5)


def test_taylor_by_hand():
    p, groups = simple()
    g = jax.tree.map(jnp.cos, p)
    up = np.abs((p["up"] * g["up"]).sum(0))
    down = np.abs((p["down"] * g["down"]).sum(1))
    got = compress.taylor_importance(p, g, groups)["up:1"]
    np.testing.assert_allclose(got, (up + down) / (up + down).mean(), rtol=1e-5)


def test_median_by_hand():
    p, groups = simple()
    rows = np.asarray(p["down"])
    expected = np.linalg.norm(rows[:, None] - rows[None], axis=-1).sum(1)
    got = compress.median_importance(p, groups, where="down")["up:1"]
    np.testing.assert_allclose(got, expected / expected.mean(), rtol=1e-4)


def test_scales_of_batch_norm():
    case = CASES["Linen ResNet"]()
    scores = compress.scale_importance(case.variables, find(case))
    norms = case.variables["params"]
    np.testing.assert_allclose(
        scores["params/Conv_0/kernel:3"],
        np.abs(norms["BatchNorm_0"]["scale"] + norms["BatchNorm_2"]["scale"]) / 2,
        rtol=1e-5,
    )


def test_the_most_important_units_stay_in_their_order():
    p, groups = simple()
    score = jnp.arange(16.0)[::-1] % 5
    smaller, report = compress.shrink(
        p, groups, {"up:1": score}, target=compress.units(8)
    )
    kept = np.sort(np.argsort(-score, stable=True)[:8])
    np.testing.assert_array_equal(np.flatnonzero(report.kept["up:1"]), kept)
    np.testing.assert_array_equal(smaller["up"], p["up"][:, kept])
    np.testing.assert_array_equal(smaller["down"], p["down"][kept])


def test_arrays_of_numpy_stay_on_the_host():
    p, groups = simple()
    host = jax.tree.map(np.asarray, p)
    kept = {"up:1": np.arange(16) % 3 > 0}
    for change in (compress.take_units, compress.zero_units):
        ours, theirs = change(host, groups, kept), change(p, groups, kept)
        assert all(type(x) is np.ndarray for x in jax.tree.leaves(ours))
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("target", [compress.params, compress.flops, compress.bytes])
@pytest.mark.parametrize("across", [False, True])
def test_targets_are_met_and_not_overshot(target, across):
    case = CASES["Linen ResNet"]()
    groups = find(case)
    scores = compress.l2_importance(case.variables, groups)
    _, report = compress.shrink(
        case.variables,
        groups,
        scores,
        target=target(0.5),
        round_to=1,
        across=across,
        rebuild=case.rebuild,
    )
    unit = target(0.5).unit
    assert 0.4 < report.after[unit] / report.before[unit] <= 0.5


def test_widths_are_multiples():
    p = [normal(5, 64), normal(64, 100), normal(100, 3)]
    apply = lambda p, x: jax.nn.relu(jax.nn.relu(x @ p[0]) @ p[1]) @ p[2]
    groups = compress.dependency_groups(apply, p, normal(1, 5))
    scores = compress.l2_importance(p, groups)
    smaller, _ = compress.shrink(p, groups, scores, target=compress.params(0.3))
    assert smaller[1].shape == (32, 48)
    both, _ = compress.shrink(
        p, groups, scores, target=compress.params(0.3), across=True
    )
    assert all(n % 8 == 0 for n in both[1].shape)


@pytest.mark.parametrize("optimizer", [optax.adamw(0.1), optax.sgd(0.1, momentum=0.9)])
def test_the_state_of_the_optimizer_shrinks_along(optimizer):
    case = CASES["Linen ResNet"]()
    groups = find(case)
    params, scores = (
        case.variables["params"],
        compress.l2_importance(case.variables, groups),
    )
    update = jax.jit(optimizer.update)
    _, state = update(params, jax.jit(optimizer.init)(params), params)
    smaller, report = compress.shrink(
        case.variables,
        groups,
        scores,
        target=compress.params(0.5),
        rebuild=case.rebuild,
    )
    state = compress.take_units_along(state, groups, report.kept)
    fresh = jax.eval_shape(optimizer.init, smaller["params"])
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, fresh)
    after, _ = update(smaller["params"], state, smaller["params"])
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, smaller["params"])


def test_a_factored_state_is_refused():
    params = {"up": normal(128, 256), "down": normal(256, 2)}
    apply = lambda p, x: jax.nn.relu(x @ p["up"]) @ p["down"]
    groups = compress.dependency_groups(apply, params, normal(1, 128))
    state = optax.scale_by_factored_rms().init(params)
    with pytest.raises(ValueError, match="initialise this state anew"):
        compress.take_units_along(state, groups, {"up:1": np.arange(256) < 8})


# Bad input


def test_a_target_that_cannot_be_met_says_how_far_it_got():
    p, groups = simple()
    scores = compress.l2_importance(p, groups)
    with pytest.raises(ValueError, match=r"48 of 96 remain.*down:1 .*outputs"):
        compress.shrink(p, groups, scores, target=compress.params(0.3))


@pytest.mark.parametrize("limit", [0, -1, 0.0, 1.5, float("nan")])
def test_targets_out_of_range_are_errors(limit):
    with pytest.raises(ValueError, match="the target of parameters must be a fraction"):
        compress.params(limit)


def test_bad_scores_and_choices_are_errors():
    p, groups = simple()
    target = compress.params(0.9)
    with pytest.raises(KeyError, match=r"no group 'up:2'.*did you mean 'up:1'"):
        compress.shrink(p, groups, {"up:2": jnp.ones(16)}, target=target)
    with pytest.raises(ValueError, match=r"'up:1' must be 16 finite numbers.*\(5,\)"):
        compress.shrink(p, groups, {"up:1": jnp.ones(5)}, target=target)
    with pytest.raises(ValueError, match="not all finite"):
        compress.shrink(p, groups, {"up:1": jnp.full(16, jnp.nan)}, target=target)
    with pytest.raises(ValueError, match="`round_to` must be a whole number"):
        compress.shrink(p, groups, {}, target=target, round_to=0)
    with pytest.raises(ValueError, match=r"'up:1' must be booleans of shape \(16,\)"):
        compress.zero_units(p, groups, {"up:1": np.ones(16)})
    with pytest.raises(ValueError, match=r"found on an array 'b' of shape \(16,\)"):
        compress.zero_units({**p, "b": jnp.ones(3)}, groups, {})


def test_activations_by_hand():
    p, _ = simple()
    x = normal(5, 7, 3)
    hidden = lambda p, x: jax.nn.relu(x @ p["up"] + p["b"])
    apply = lambda p, x: hidden(p, x) @ p["down"]
    groups = compress.dependency_groups(apply, p, x)
    more = normal(5, 7, 3, seed=4)
    got = compress.activation_importance(p, groups, [(x,), (more,)])["up:1"]
    active = np.concatenate([hidden(p, x), hidden(p, more)])
    expected = np.sqrt(np.square(np.abs(active).mean(axis=1)).sum(axis=0))
    np.testing.assert_allclose(got, expected / expected.mean(), rtol=1e-5)
    with pytest.raises(ValueError, match="a batch has shapes"):
        compress.activation_importance(p, groups, [(x[:2],)])
    with pytest.raises(ValueError, match="at least one batch"):
        compress.activation_importance(p, groups, [])


@pytest.mark.parametrize(
    "name",
    [
        "NNX net",
        pytest.param("plain DenseNet, gated", marks=pytest.mark.slow),
        pytest.param("plain decoder, scanned", marks=pytest.mark.slow),
        pytest.param("Linen VGG", marks=pytest.mark.slow),
    ],
)
def test_units_that_are_never_active_are_the_least_important(name):
    case = CASES[name]()
    groups = find(case)
    plain = compress.activation_importance(case.variables, groups, [case.inputs])
    exact = [k for k in plain if re.search(case.only, k) and "/q:" not in k]
    assert exact
    for chosen in exact[:2]:
        kept = {chosen: np.arange(groups[chosen].size) > 0}
        zeroed = compress.zero_units(case.variables, groups, kept)
        scores = compress.activation_importance(zeroed, groups, [case.inputs])
        assert scores[chosen][0] < 0.9 * plain[chosen][0]
    assert set(plain) == {group.name for group in groups}


def test_activations_in_a_loop_are_those_of_the_unrolled_blocks():
    case, unrolled = (CASES[f"plain decoder{s}"]() for s in (", scanned", ""))
    first, second = (
        jax.tree.map(lambda x, i=i: x[i], case.variables["blocks"]) for i in (0, 1)
    )
    variables = case.variables | {"blocks": [first, second]}
    flat = compress.dependency_groups(unrolled.apply, variables, *case.inputs)
    parts = compress.activation_importance(variables, flat, [case.inputs])
    whole = compress.activation_importance(case.variables, find(case), [case.inputs])
    a, b = (parts[f"blocks/{i}/gate:1"] for i in (0, 1))
    # The squares of both blocks add up, each with its own normalization.
    squares = np.stack([a * a, b * b], axis=1)
    mix, *_ = np.linalg.lstsq(squares, whole["blocks/gate:2"] ** 2, rcond=None)
    np.testing.assert_allclose(squares @ mix, whole["blocks/gate:2"] ** 2, rtol=1e-3)
