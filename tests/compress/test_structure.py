"""The law of structured removal, on models of many forms: smaller equals zeroed."""

import re

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from structures import CASES
from structures_plain import find, normal

from jaxkd import compress, trees


@pytest.fixture(autouse=True)
def lenient():  # the models of others promote freely
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def members(group):
    return {str(member) for member in group.members}


@pytest.mark.parametrize("name", CASES)
def test_the_shrunk_model_equals_the_zeroed_one(name):
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
        rebuild=case.rebuild,
    )
    apply = jax.jit(case.apply)
    zero = lambda variables: compress.zero_units(variables, groups, report.kept)
    zeroed = jax.jit(zero)(case.variables)  # one program, not one for each array
    expected = apply(zeroed, *case.inputs)
    got = jax.jit(report.apply)(smaller, *case.inputs)
    scale = np.abs(expected).max()
    assert scale > 0.1
    np.testing.assert_allclose(got / scale, expected / scale, atol=1e-5)
    assert report.inexact == ()
    dense = apply(case.variables, *case.inputs)
    assert np.abs(dense - expected).max() > 1e-3 * scale  # something was removed
    assert report.after["parameters"] == trees.count(smaller)
    assert report.after["bytes"] == trees.num_bytes(smaller)
    widths = {
        f"{path}:{i}": n
        for path, leaf in trees.flatten(smaller).items()
        for i, n in enumerate(leaf.shape)
    }
    assert report.widths == widths


# A compilation for each: one of a kind by default.
QUICK = ("plain MLP", "Linen VGG", "plain decoder")


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES],
)
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
