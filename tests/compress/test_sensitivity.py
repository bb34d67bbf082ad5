"""Curves of the loss, the search on them, measured targets, and whole layers."""

import functools
import itertools
import re

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from structures_plain import decoder, find, normal, plain_decoder

from jaxkd import compress


@pytest.fixture(autouse=True)
def lenient():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@functools.cache
def deep():
    """Three hidden layers; the first unit of each matters more than the next."""
    sizes = (6, 32, 24, 16, 3)
    shapes = itertools.pairwise(sizes)
    params = [normal(a, b, seed=i) / a**0.5 for i, (a, b) in enumerate(shapes)]
    apply = jax.jit(_run)
    x = normal(64, 6, seed=9)
    groups = compress.dependency_groups(apply, params, x)
    wanted = apply(params, x)
    loss = jax.jit(lambda p, x: jnp.mean((_run(p, x) - wanted) ** 2))
    return params, groups, loss, x


def _run(p, x):
    for w in p[:-1]:
        x = jax.nn.relu(x @ w)
    return x @ p[-1]


@pytest.fixture(scope="module")
def curves():
    params, groups, loss, x = deep()
    scores = compress.l2_importance(params, groups)
    found = compress.unit_sensitivity(
        loss, params, groups, scores, [x], steps=7, round_to=4
    )
    return params, groups, scores, found


def test_each_leaf_is_pruned_alone():
    params, _, loss, x = deep()
    params = dict(zip("abcd", params, strict=True))
    of_dict = jax.jit(lambda p, x: loss(list(p.values()), x))
    sparsities = (0.9, 0.25, 0.5)
    curves = compress.sensitivity(
        of_dict, params, [x, x], sparsities=sparsities, where="[abc]$"
    )
    assert list(curves.left) == ["a", "b", "c"]
    np.testing.assert_allclose(curves.left["b"], [1, 0.75, 0.5, 0.1])
    for s, got in zip((0, 0.25, 0.5, 0.9), curves.losses["b"], strict=True):
        one = compress.magnitude_prune(params, s, where="b$")[0]
        np.testing.assert_allclose(got, of_dict(one, x), rtol=1e-5, atol=1e-9)


def test_the_loss_is_compiled_once(curves):
    params, groups, loss, x = deep()
    traces = []

    def counted(p, x):
        traces.append(1)
        return loss(p, x)

    scores = compress.l2_importance(params, groups)
    compress.unit_sensitivity(counted, params, groups, scores, [x, x])
    assert len(traces) == 1


def test_curves_are_those_of_zeroed_units(curves):
    params, groups, scores, found = curves
    _, _, loss, x = deep()
    np.testing.assert_array_equal(
        found.left["1:1"], [24, *range(20, 0, -4)]
    )  # 24 units, multiples of four
    best = np.argsort(-scores["1:1"], stable=True)[:8]
    kept = {"1:1": np.isin(np.arange(24), best)}
    zeroed = compress.zero_units(params, groups, kept)
    i = list(found.left["1:1"]).index(8)
    np.testing.assert_allclose(found.losses["1:1"][i], loss(zeroed, x), rtol=1e-5)
    assert found.losses["1:1"][0] == found.dense


def test_rises_grow_and_what_is_not_finite_is_never_taken():
    left = {"a": np.array([4, 3, 2, 1])}
    losses = {"a": np.array([1.0, 0.5, 3.0, np.nan])}
    rises = compress.Sensitivity(1.0, left, losses).rises("a")
    np.testing.assert_array_equal(rises, [0, 0, 2, np.inf])


def test_the_table_has_a_row_for_each_point(curves):
    found = curves[-1]
    rows = found.table()
    assert len(rows) == 1 + sum(map(len, found.left.values()))
    assert rows[1] == ("0:1", "32", "0.0000", "+0.0000")
    assert str(found).splitlines()[0].split() == ["part", "left", "loss", "rise"]


@pytest.mark.parametrize("kind", [compress.params, compress.flops, compress.bytes])
@pytest.mark.parametrize("fraction", [0.7, 0.4, 0.2])
def test_the_search_comes_near_the_best_of_all_choices(curves, kind, fraction):
    _, groups, _, found = curves
    target = kind(fraction)
    limit = target.bound(groups)
    cost = lambda units: sum(
        found.rises(k)[list(found.left[k]).index(n)] for k, n in units.items()
    )
    every = [
        dict(zip(found.left, widths, strict=True))
        for widths in itertools.product(*found.left.values())
    ]
    best = min(cost(u) for u in every if target.measure(groups, u) <= limit)
    units = compress.search_units(found, groups, target)
    rough = compress.search_units(found, groups, target, refine=False)
    assert target.measure(groups, units) <= limit
    assert best <= cost(units) <= min(cost(rough), 1.1 * best)
    assert units == compress.search_units(found, groups, target)


def test_shrink_takes_the_widths_that_were_found(curves):
    params, groups, scores, found = curves
    _, _, loss, x = deep()
    target = compress.flops(0.4)
    units = compress.search_units(found, groups, target)
    smaller, report = compress.shrink(params, groups, scores, target=units)
    assert [w.shape[1] for w in smaller[:-1]] == list(units.values())
    assert report.after["FLOPs"] <= 0.4 * report.before["FLOPs"]
    alike, _ = compress.shrink(params, groups, scores, target=target, round_to=4)
    assert loss(smaller, x) < loss(alike, x)


def test_widths_that_do_not_fit_are_errors(curves):
    params, groups, scores, found = curves
    with pytest.raises(KeyError, match=r"5 units for '1:2'.*did you mean '1:1'"):
        compress.shrink(params, groups, scores, target={"1:2": 5})
    with pytest.raises(
        ValueError, match="25 units for '1:1'; it must keep a whole number from 1 to 24"
    ):
        compress.shrink(params, groups, scores, target={"1:1": 25})
    with pytest.raises(ValueError, match=r"at most 20 parameters cannot be met: with"):
        compress.search_units(found, groups, compress.params(20))


def test_bad_input_of_curves():
    params, groups, loss, x = deep()
    tree = {"kernel": params[0]}
    with pytest.raises(ValueError, match="`batches` must hold at least one"):
        compress.sensitivity(loss, tree, [])
    with pytest.raises(ValueError, match=r"`sparsity`.*in \[0, 1\), got 1.0"):
        compress.sensitivity(loss, tree, [x], sparsities=(0.5, 1.0))
    with pytest.raises(ValueError, match="'kernl' matches no path"):
        compress.sensitivity(loss, tree, [x], where="kernl")
    with pytest.raises(ValueError, match="`steps` and `round_to` must be at least 1"):
        compress.unit_sensitivity(loss, params, groups, {}, [x], steps=0)
    with pytest.raises(KeyError, match="no group '7:1' can shrink"):
        compress.unit_sensitivity(loss, params, groups, {"7:1": jnp.ones(3)}, [x])


# Latency


def slow_clock(run):
    """Seconds that are the number of weights of the model in the function."""
    cells = (cell.cell_contents for cell in run.__closure__)
    return next(sum(x.size for x in c) for c in cells if isinstance(c, list)) * 1e-3


def test_a_latency_is_measured_once_for_each_width_and_met(curves):
    params, groups, scores, found = curves
    calls = []

    def clock(run):
        calls.append(run)
        return slow_clock(run)

    target = compress.latency(0.5, params, rounds=2, clock=clock)
    units = compress.search_units(found, groups, target, refine=False)
    measured = target.measure(groups, units)
    expected = 1000 * compress.params(1.0).measure(groups, units)
    assert measured == pytest.approx(expected, abs=1)
    assert measured <= 0.5 * target.measure(groups, {})
    before = len(calls)
    target.measure(groups, units)
    assert len(calls) == before
    _, report = compress.shrink(params, groups, scores, target=target)
    assert report.after["microseconds"] <= 0.5 * report.before["microseconds"]


def test_a_latency_in_microseconds_by_the_wall(curves):
    params, groups, scores, _ = curves
    target = compress.latency(10**9, params, rounds=1)
    smaller, report = compress.shrink(params, groups, scores, target=target)
    assert jax.tree.map(jnp.shape, smaller) == jax.tree.map(jnp.shape, params)
    assert 0 < report.after["microseconds"] < 10**9
    with pytest.raises(ValueError, match="the target of microseconds must be"):
        compress.latency(0, params)
    with pytest.raises(ValueError, match="`rounds` must be at least 1"):
        compress.latency(0.5, params, rounds=0)
    slow = compress.latency(1, params, rounds=1, clock=slow_clock)
    with pytest.raises(ValueError, match=r"1 microseconds cannot be met.*remain"):
        compress.shrink(params, groups, scores, target=slow)


# Whole layers


def test_layer_importance_by_hand():
    x, y = normal(2, 5, 4), normal(2, 5, 4, seed=1)
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    cosines = np.sum(unit(x) * unit(y), axis=-1)
    got = compress.layer_importance({"one": (x, y), "none": (x, x)})
    np.testing.assert_allclose(got["one"], 1 - cosines.mean(), rtol=1e-5)
    np.testing.assert_allclose(got["none"], 0.0, atol=1e-6)
    where = np.arange(5)[None] < np.array([[2], [3]])
    got = compress.layer_importance({"one": (x, y)}, where=where)["one"]
    np.testing.assert_allclose(got, 1 - cosines[where].mean(), rtol=1e-5)
    zero = compress.layer_importance({"dead": (x, 0 * x)})["dead"]
    assert zero == 1.0
    with pytest.raises(ValueError, match="input of a"):
        compress.layer_importance({"a": (x, y[:1])})


@pytest.mark.parametrize("stacked", [False, True])
def test_a_model_without_a_layer_is_the_one_that_skips_it(stacked):
    case = plain_decoder(stacked)
    three = {**case.variables}
    extra = plain_decoder().variables["blocks"][0]
    extra = jax.tree.map(lambda w: 0 * w, extra)  # changes nothing
    blocks = three["blocks"]
    if stacked:
        put = lambda x, e: jnp.stack([x[0], e, x[1]])
        three["blocks"] = jax.tree.map(put, blocks, extra)
    else:
        three["blocks"] = [blocks[0], extra, blocks[1]]
    where = "^blocks/" if stacked else r"^blocks/(\d+)/"
    cut = compress.take_layers(three, [0, 2], where=where)
    assert jax.tree.structure(cut) == jax.tree.structure(case.variables)
    run = jax.jit(decoder)
    np.testing.assert_allclose(
        run(cut, *case.inputs), run(three, *case.inputs), rtol=1e-5, atol=1e-5
    )
    assert compress.dependency_groups(decoder, cut, *case.inputs).prunable
    assert find(case).prunable


def test_numbered_layers_and_the_optimizers_state_follow():
    params = {"params": {f"block_{i}": {"w": jnp.full(2, i)} for i in (1, 2, 10)}}
    params["params"]["head"] = {"w": jnp.ones(3)}
    state = optax.chain(optax.clip(1.0), optax.adam(0.1)).init(params)
    cut = lambda tree: compress.take_layers(tree, [2, 10], where=r"/block_(\d+)/")
    smaller = cut(params)
    assert set(smaller["params"]) == {"block_1", "block_2", "head"}
    assert int(smaller["params"]["block_2"]["w"][0]) == 10
    fresh = optax.chain(optax.clip(1.0), optax.adam(0.1)).init(smaller)
    assert jax.tree.structure(cut(state)) == jax.tree.structure(fresh)


@pytest.mark.parametrize(
    ("layers", "where", "words"),
    [
        ([0], "blok", "`where` must match a path"),
        ([0, 0], r"block(\d)", "must name each once"),
        ([0, 5], r"block(\d)", "must be some of [0, 1], got [0, 5]"),
        ([], r"block(\d)", "must be some of [0, 1], got []"),
        ([0], r"(block)(\d)", "with one group at most"),
        ([4], "stack", "must be some of [0, 1, 2], got [4]"),
    ],
)
def test_layers_that_are_not_there_are_errors(layers, where, words):
    tree = {"block0": jnp.ones(1), "block1": jnp.ones(1), "stack": jnp.ones((3, 2))}
    with pytest.raises(ValueError, match=re.escape(words)):
        compress.take_layers(tree, layers, where=where)
