"""The law of structured removal, on models of many forms: smaller equals zeroed."""

import re

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from structures import CASES, normal

from jaxkd import compress, trees


@pytest.fixture(autouse=True)
def lenient():  # the models of others promote freely
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def find(case):
    return compress.dependency_groups(case.apply, case.variables, *case.inputs)


def members(group):
    return {str(member) for member in group.members}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("across", [False, True])
def test_the_shrunk_model_equals_the_zeroed_one(name, across):
    case = CASES[name]()
    groups = find(case)
    scores = compress.random_importance(groups, jax.random.key(1))
    scores = {k: s for k, s in scores.items() if re.search(case.only, k)}
    assert scores
    target = compress.units(0.5 if len(scores) == len(groups) else 0.8)
    smaller, report = compress.shrink(
        case.variables,
        groups,
        scores,
        target=target,
        round_to=1,
        across=across,
        rebuild=case.rebuild,
    )
    zeroed = compress.zero_units(case.variables, groups, report.kept)
    expected = case.apply(zeroed, *case.inputs)
    got = report.apply(smaller, *case.inputs)
    scale = np.abs(expected).max()
    assert scale > 0.1
    np.testing.assert_allclose(got / scale, expected / scale, atol=1e-5)
    assert report.inexact == ()
    dense = case.apply(case.variables, *case.inputs)
    assert np.abs(dense - expected).max() > 1e-3 * scale  # something was removed
    assert report.after["parameters"] == trees.count(smaller)
    assert report.after["bytes"] == trees.num_bytes(smaller)
    widths = {
        f"{path}:{i}": n
        for path, leaf in trees.flatten(smaller).items()
        for i, n in enumerate(leaf.shape)
    }
    assert report.widths == widths


@pytest.mark.parametrize("name", CASES)
def test_flops_are_those_that_the_compiler_counts(name):
    case = CASES[name]()
    if "scanned" in name or "Mobile" in name:
        pytest.skip("XLA counts loops once, and depthwise convolutions in full")
    groups = find(case)
    _, report = compress.shrink(
        case.variables, groups, {}, target=compress.flops(1.0), rebuild=case.rebuild
    )
    compiled = jax.jit(case.apply).lower(case.variables, *case.inputs).compile()
    counted = compiled.cost_analysis()["flops"]
    # XLA adds what is no product, and leaves out what falls on padding.
    assert 0.6 * counted < report.before["FLOPs"] < 1.5 * counted


def test_a_residual_width_couples_statistics_and_all_that_is_added():
    groups = find(CASES["Linen ResNet"]())
    assert sorted(group.size for group in groups) == [8, 12, 20]
    assert members(groups["params/Conv_0/kernel:3"]) >= {
        "batch_stats/BatchNorm_0/mean:0",
        "batch_stats/BatchNorm_2/var:0",
        "params/BatchNorm_2/scale:0",
        "params/Conv_1/kernel:2",
        "params/Conv_2/kernel:3",
        "params/Conv_4/kernel:2",
    }
    assert all(group.exact for group in groups)


def test_flattened_channels_own_every_nth_row():
    group = find(CASES["Linen VGG"]())["params/Conv_1/kernel:3"]
    (rows,) = (m for m in group.members if m.path == "params/Dense_1/kernel")
    np.testing.assert_array_equal(rows.units, np.tile(np.arange(12), 4))
    assert (rows.offset, rows.stride) == (0, 1)


def test_concatenated_channels_stand_one_after_the_other():
    groups = find(CASES["plain DenseNet, gated"]())
    assert members(groups["b:1"]) == {"b:1", "c:0[13::1]", "mean:0[13::1]"} | {
        "var:0[13::1]"
    }
    assert groups["c:1"].size == 8  # half: the gate and what it gates


def test_heads_that_share_a_key_shrink_by_the_key():
    groups = find(CASES["plain decoder"]())
    assert members(groups["blocks/0/k:1"]) == {
        "blocks/0/k:1",
        "blocks/0/v:1",
        "blocks/0/q:1[0::2]",
        "blocks/0/o:0[0::2]",
    }
    assert members(groups["blocks/0/q:1"]) == {"blocks/0/q:1[0::1]"} | {
        "blocks/0/o:0[0::1]"
    }


def test_tied_embeddings_and_every_block_share_the_residual_width():
    groups = find(CASES["plain decoder"]())
    (residual,) = (g for g in groups if "embed:1" in members(g))
    assert len(residual.members) == 20
    assert not residual.exact
    assert "rms_norm" in residual.inexact


def test_rotated_widths_are_frozen_with_the_reason():
    groups = find(CASES["plain decoder"]())
    (frozen,) = (g for g in groups.frozen if g.name == "blocks/0/k:2")
    assert re.search(r"counted by iota .*\(rotate\)", frozen.frozen)
    with pytest.raises(KeyError, match="counted by iota"):
        groups["blocks/0/k:2"]


def test_positions_beyond_the_inputs_are_frozen():
    groups = find(CASES["Linen encoder"]())
    reasons = {g.size: g.frozen for g in groups.frozen if "places:0" in g.name}
    assert reasons[2] == "no product of the program uses it"


def test_a_norm_over_the_width_is_reported_and_shrinks():
    case = CASES["Linen encoder"]()
    groups = find(case)
    scores = compress.l2_importance(case.variables, groups)
    residual = {n: s for n, s in scores.items() if not groups[n].exact}
    smaller, report = compress.shrink(
        case.variables,
        groups,
        residual,
        target=compress.params(0.6),
        rebuild=case.rebuild,
    )
    assert smaller["params"]["embed"]["embedding"].shape == (11, 8)
    assert any("LayerNorm_0" in reason for reason in report.inexact)
    assert report.apply(smaller, *case.inputs).shape == (2, 3)


def test_a_number_written_into_the_program_that_changes_is_reported():
    def attend(p, x):
        q, k = x @ p["q"], x @ p["k"]
        return jax.nn.softmax(q @ k.T / q.shape[-1] ** 0.5) @ x

    p = {"q": normal(4, 16), "k": normal(4, 16, seed=1)}
    groups = compress.dependency_groups(attend, p, normal(3, 4))
    scores = compress.l2_importance(p, groups)
    target = compress.units(0.25)
    _, report = compress.shrink(p, groups, scores, target=target, round_to=1)
    assert len(report.inexact) == 1
    assert "has the numbers (2.0,), had (4.0,)" in report.inexact[0]


def test_what_is_not_understood_is_frozen_and_named():
    def apply(p, x):
        hidden = x @ p["up"]
        return jnp.linalg.qr(hidden)[0] @ p["down"]

    p = {"up": normal(3, 8), "down": normal(8, 2)}
    groups = compress.dependency_groups(apply, p, normal(20, 3))
    assert len(groups) == 0
    reasons = {g.name: g.frozen for g in groups.frozen}
    assert "qr" in reasons["up:1"]


def test_a_number_of_heads_held_fixed_is_an_error_and_no_wrong_result():
    def apply(p, x):
        heads = (x @ p["v"]).reshape(*x.shape[:-1], 4, -1)  # 4 whatever the width
        mixed = jnp.einsum("thd,thd->thd", heads, jax.nn.relu(heads))
        return mixed.reshape(*x.shape[:-1], -1) @ p["o"]

    p = {"v": normal(5, 32), "o": normal(32, 5)}
    groups = compress.dependency_groups(apply, p, normal(7, 5))
    sizes = {group.size: group.name for group in groups}
    assert set(sizes) == {4, 8}
    scores = compress.l2_importance(p, groups)
    within = {sizes[8]: scores[sizes[8]]}
    smaller, _ = compress.shrink(
        p, groups, within, target=compress.params(0.5), round_to=2
    )
    assert smaller["v"].shape == (5, 16)
    with pytest.raises(ValueError, match="such as its number of heads; pass `rebuild`"):
        compress.shrink(
            p, groups, {sizes[4]: scores[sizes[4]]}, target=compress.params(0.5)
        )


def test_a_model_that_fixes_its_widths_asks_for_rebuild():
    case = CASES["Linen VGG"]()
    groups = find(case)
    scores = compress.l2_importance(case.variables, groups)
    with pytest.raises(ValueError, match="holds a width fixed; pass `rebuild`"):
        compress.shrink(case.variables, groups, scores, target=compress.params(0.5))


def test_unused_branches_of_cond_agree():
    def apply(p, x):
        hidden = x @ p["up"]
        hidden = jax.lax.cond(x[0, 0] > 0, jax.nn.relu, lambda h: h * p["s"], hidden)
        return hidden @ p["down"]

    p = {"up": normal(3, 8), "s": normal(1, 8), "down": normal(8, 2)}
    groups = compress.dependency_groups(apply, p, normal(5, 3))
    assert members(groups["up:1"]) == {"up:1", "s:1", "down:0"}


# Importance, targets, and what follows


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
    _, state = optimizer.update(params, optimizer.init(params), params)
    smaller, report = compress.shrink(
        case.variables,
        groups,
        scores,
        target=compress.params(0.5),
        rebuild=case.rebuild,
    )
    state = compress.take_units_along(state, groups, report.kept)
    fresh = optimizer.init(smaller["params"])
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, fresh)
    after, _ = optimizer.update(smaller["params"], state, smaller["params"])
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
    with pytest.raises(ValueError, match="`round_to` must be at least 1"):
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
    "name", ["plain DenseNet, gated", "plain decoder, scanned", "Linen VGG", "NNX net"]
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
