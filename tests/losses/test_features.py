"""Values of the losses on features: by hand, by loops, and by what must not matter."""

import itertools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import losses

FEATURES = jnp.zeros((64, 8, 8, 32))


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def pair(*shape):
    return normal(0, *shape), normal(1, *shape)


def close(a, b, rtol=2e-5, atol=1e-6):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def channels(x):
    """One example's maps as rows, `[channels, positions]`."""
    return np.asarray(x).reshape(-1, x.shape[-1]).T


def test_positions_that_do_not_count_are_as_if_absent():
    student, teacher = pair(2, 5, 3)
    where = jnp.array([[True, True, False, True, False]] * 2)
    spoiled, kept = student.at[:, 2].set(jnp.nan), (0, 1, 3)
    for fn in (losses.feature_mse, losses.feature_squared_distance):
        loss = lambda s, fn=fn: fn(s, teacher, where=where).sum()
        fewer = fn(student[:, kept], teacher[:, kept])
        close(fn(spoiled, teacher, where=where), fewer)
        slope = jax.grad(loss)(spoiled)
        np.testing.assert_array_equal(slope[:, 2], 0.0)
        assert jnp.all(jnp.isfinite(slope))


def test_an_example_of_which_nothing_counts_gives_zero():
    student, teacher = pair(2, 5, 3)
    where = jnp.zeros((2, 5), bool).at[0].set(True)
    value = losses.feature_mse(student, teacher, where=where)
    close(value[0], losses.feature_mse(student, teacher)[0])
    assert value[1] == 0


@pytest.mark.own_checks
def test_a_mask_of_another_shape_is_refused():
    student, teacher = pair(2, 5, 3)
    with pytest.raises(ValueError, match=r"`where` must have shape \(2, 5\)"):
        losses.feature_mse(student, teacher, where=jnp.ones((2, 5, 3), bool))


@pytest.mark.parametrize(("n", "m"), [(7, 3), (8, 4), (5, 4), (4, 1)])
def test_the_larger_map_is_averaged_over_windows_that_cover_it(n, m):
    student, teacher = normal(0, 1, n, 2), normal(1, 1, m, 2)
    starts = [i * n // m for i in range(m)]
    ends = [-(-(i + 1) * n // m) for i in range(m)]
    averaged = jnp.stack(
        [student[:, a:b].mean(1) for a, b in zip(starts, ends, strict=True)], axis=1
    )
    for fn in (losses.attention_transfer, losses.neuron_selectivity):
        close(fn(student, teacher), fn(averaged, teacher))
        close(fn(teacher, student), fn(teacher, averaged))


def test_maps_and_tokens_are_not_compared():
    with pytest.raises(ValueError, match="same kind of positions"):
        losses.attention_transfer(normal(0, 2, 4, 4, 3), normal(1, 2, 16, 3))


def test_a_detectors_student_is_interpolated_to_its_teacher():
    student, teacher = normal(0, 2, 4, 6, 3), normal(1, 2, 8, 3, 3)
    resized = jax.image.resize(student, teacher.shape, "linear", antialias=False)
    close(
        losses.standardized_feature_mse(student, teacher),
        losses.standardized_feature_mse(resized, teacher),
    )


def test_context_levels_above_the_resolution_are_left_out():
    student, teacher = pair(2, 2, 2, 3)
    mse = losses.feature_mse
    pooled = mse(student.mean((1, 2)), teacher.mean((1, 2)))
    close(
        losses.hierarchical_context(student, teacher),
        (mse(student, teacher) + pooled / 2) / 1.5,
    )


def test_a_neuron_on_the_right_side_by_the_margin_costs_nothing():
    teacher = jnp.array([[0.1, 5.0, -0.1, 0.0]])
    student = jnp.array([[2.0, 1.0, -2.0, -1.0]])
    assert losses.activation_boundary(student, teacher) == 0
    close(losses.activation_boundary(student, teacher, margin=1.5), [0.5])
    close(losses.activation_boundary(-student, teacher), [9 + 4 + 9 + 4])


def test_overhaul_asks_for_what_is_positive_and_for_less_than_the_rest():
    margin = jnp.array([-1.0])
    for s, t, expected in (
        (3.0, 2.0, 1.0),
        (-3.0, 2.0, 25.0),
        (-0.8, -0.5, 0.0),
        (0.5, -0.5, 1.0),
        (-1.5, -9.0, 0.0),
        (0.0, -9.0, 1.0),
    ):
        value = losses.overhaul_distance(jnp.array([[s]]), jnp.array([[t]]), margin)
        close(value, [expected])


@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.5), (-2.0, -1.0), (0.3, 0.6)])
def test_the_margin_is_the_mean_of_what_is_negative(scale, bias):
    x = np.linspace(-12 * abs(scale) + bias, 0.0, 400_001)
    density = np.exp(-(((x - bias) / scale) ** 2) / 2)
    expected = (x * density).sum() / density.sum()
    margin = losses.batchnorm_margin(jnp.array([scale]), jnp.array([bias]))
    close(margin, [expected], rtol=1e-3)


def test_the_margin_of_rare_and_of_dead_channels():
    scale, bias = jnp.array([2.0, 0.0, 0.0, 1.0]), jnp.array([7.0, 1.0, -1.0, 1e9])
    close(losses.batchnorm_margin(scale, bias), [-6.0, 0.0, -1.0, -3.0])


@pytest.mark.parametrize("shapes", [((3, 4), (3, 5)), ((2, 6), (2, 5))])
def test_selectivity_is_the_discrepancy_under_its_kernel(shapes):
    student, teacher = (normal(i, 1, *shape) for i, shape in enumerate(shapes))
    s, t = (unit(channels(x[0])) for x in (student, teacher))
    kernel = lambda a, b: np.mean([(x @ y) ** 2 for x in a for y in b])
    expected = kernel(s, s) + kernel(t, t) - 2 * kernel(s, t)
    close(losses.neuron_selectivity(student, teacher), [expected])


def test_affinity_is_the_norm_of_the_outer_products():
    student, teacher = pair(1, 3, 2, 4)
    student = student.at[..., 1].set(0.0)
    total = 0.0
    for c in range(4):
        s, t = (channels(x[0])[c] for x in (student, teacher))
        s, t = s / max(np.linalg.norm(s), 1e-9), t / np.linalg.norm(t)
        total += np.linalg.norm(np.outer(s, s) - np.outer(t, t))
    close(losses.channel_affinity(student, teacher), [total / 6])


def test_singular_vectors_are_those_of_numpy():
    arrays = [normal(i, 1, 6, 5) + 1.0 for i in range(4)]
    directions = []
    for x in arrays:
        x = np.asarray(x[0], np.float64)
        v = np.linalg.svd(x)[2]
        directions.append(v * np.sign(v @ x.mean(0))[:, None])
    relation = []
    for s, t in ((0, 2), (1, 3)):
        first = directions[t][0]
        cosines = directions[s][:4] @ first
        nearest = np.abs(cosines).argmax()
        relation.append((directions[s][nearest] * np.sign(cosines[nearest]), first))
    kernel = lambda a, b: np.exp(-((a[:, None] - b) ** 2) / 8)
    (vs, vt), (ws, wt) = relation
    expected = ((kernel(vs, ws) - kernel(vt, wt)) ** 2).sum()
    close(losses.singular_vector_relation(*arrays), [expected], rtol=1e-4)


def test_the_sign_and_the_size_of_the_student_do_not_matter():
    student, following, teacher, teacher_next = (normal(i, 2, 6, 5) for i in range(4))
    close(
        losses.singular_vector_relation(-student, 3 * following, teacher, teacher_next),
        losses.singular_vector_relation(student, following, teacher, teacher_next),
        rtol=1e-4,
    )


def test_equal_singular_values_have_a_finite_gradient():
    student, other = jnp.stack([jnp.eye(4), 2 * jnp.eye(4)]), normal(0, 2, 4, 4)
    loss = lambda s: losses.singular_vector_relation(s, s, other, other[::-1]).sum()
    assert jnp.all(jnp.isfinite(jax.grad(loss)(student)))


def test_pixel_wise_is_the_divergence_of_each_pixel():
    student, teacher = pair(2, 3, 4, 5)
    value = losses.soft_target_kl(student, teacher, temperature=2.0)
    assert value.shape == (2, 3, 4)
    pixels = [x.reshape(-1, 5) for x in (student, teacher)]
    close(value.reshape(-1), losses.soft_target_kl(*pixels, temperature=2.0))


def test_channels_count_the_same_however_strong():
    student, teacher = pair(2, 3, 4, 5)
    shift = normal(2, 5)[None, None, None]
    close(
        losses.channel_wise_kl(student + shift, teacher - shift),
        losses.channel_wise_kl(student, teacher),
    )


@pytest.mark.parametrize("window", [0.5, 0.4, 0.0])
def test_regions_are_the_maxima_over_windows(window):
    student, teacher = normal(0, 1, 5, 4, 3), normal(1, 1, 5, 4, 6)
    h, w = max(1, int(5 * window)), max(1, int(4 * window))
    corners = list(itertools.product(range(0, 5, h), range(0, 4, w)))
    cosines = []
    for x in (student, teacher):
        regions = [np.max(x[0, i : i + h, j : j + w], (0, 1)) for i, j in corners]
        rows = unit(np.stack(regions))
        cosines.append(rows @ rows.T)
    expected = np.mean((cosines[0] - cosines[1]) ** 2)
    close(losses.pair_wise_similarity(student, teacher, window=window), [expected])


def test_standardized_error_is_one_minus_the_correlation():
    student, teacher = pair(3, 20, 20, 2)
    value = losses.standardized_feature_mse(5 * student - 3, teacher)
    correlations = [
        np.corrcoef(student[..., c].ravel(), teacher[..., c].ravel())[0, 1]
        for c in range(2)
    ]
    close(value, 1 - np.mean(correlations), rtol=2e-3)


def test_only_sums_for_each_channel_are_gathered():
    run = lambda s, t: losses.standardized_feature_mse(s, t, axis_name="devices")
    maps = jnp.zeros((2, 50, 50, 3))
    trace = jax.make_jaxpr(run, axis_env=[("devices", 4)])(maps, maps)
    gathered = [
        eqn.invars[0].aval.size
        for eqn in trace.eqns
        if eqn.primitive.name.startswith("all_gather")
    ]
    assert gathered
    assert max(gathered) <= 2 * 3


def test_attention_weighs_the_positions():
    student, teacher = pair(2, 4, 3)
    looks = [np.abs(np.asarray(x)).mean(2) / 0.5 for x in (student, teacher)]
    weights = sum(4 / 2 * np.exp(a) / np.exp(a).sum(1, keepdims=True) for a in looks)
    squares = ((student - teacher) ** 2).sum(2)
    close(
        losses.attention_weighted_distance(student, teacher),
        np.sqrt((weights * squares).sum(1)),
    )


def test_pooled_distance_is_that_of_the_means():
    student, teacher = pair(2, 4, 3)
    by = lambda axis: np.linalg.norm(student.mean(axis) - teacher.mean(axis), axis=1)
    close(losses.pooled_feature_distance(student, teacher), by(2) + by(1))


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_powers_that_overflow_or_vanish_are_still_compared(scale):
    student, teacher = pair(4, 3)
    close(
        losses.log_power_distance(scale * student, scale * teacher),
        losses.log_power_distance(student, teacher) + 4 * np.log(scale),
    )


def test_a_perfect_match_is_the_least_value():
    x = normal(0, 4, 3)
    for fn in (losses.log_power_distance, losses.representation_correlation):
        match, near = fn(x, x), fn(x, x + 1e-3 * normal(1, 4, 3))
        assert jnp.isfinite(match)
        assert match <= near


def test_full_correlation_is_finite():
    """As the original divides a sum by n and not n - 1, it takes an effort."""
    student = jnp.array([[0.0], [1.0]])
    loss = lambda t: losses.representation_correlation(student, t)
    assert jnp.isfinite(loss(student))
    assert loss(student) < loss(-student)


def test_vectors_are_asked_for():
    with pytest.raises(ValueError, match="flatten the positions first"):
        losses.representation_correlation(*pair(4, 3, 2))


@pytest.mark.parametrize(
    ("fn", "ratio"), [(losses.channel_mask, 0.15), (losses.position_mask, 0.65)]
)
def test_hides_the_ratio_on_average(fn, ratio):
    keep = fn(jax.random.key(0), FEATURES)
    assert keep.dtype == bool
    assert abs(1 - keep.mean() - ratio) < 0.03
    assert not jnp.array_equal(keep[0], keep[1])
    assert not jnp.array_equal(keep, fn(jax.random.key(1), FEATURES))
    assert fn(jax.random.key(0), FEATURES, ratio=0.0).all()
    assert not fn(jax.random.key(0), FEATURES, ratio=1.0).any()


def test_hides_as_many_tokens_of_each_example():
    keep = losses.token_mask(jax.random.key(0), FEATURES, ratio=0.3)
    assert keep.shape == FEATURES.shape[:-1]
    np.testing.assert_array_equal(keep.sum((1, 2)), 64 - 19)
    assert not jnp.array_equal(keep[0], keep[1])


def test_a_ratio_is_a_part():
    for fn in (losses.channel_mask, losses.position_mask, losses.token_mask):
        with pytest.raises(ValueError, match="`ratio` must be in"):
            fn(jax.random.key(0), FEATURES, ratio=15.0)


def test_a_power_below_one_is_refused():
    for fn in (
        losses.attention_transfer,
        losses.attention_distance,
        losses.factor_transfer,
    ):
        with pytest.raises(ValueError, match="`power` must be at least 1"):
            fn(*pair(2, 3, 4), power=0.5)


def test_attention_distance_is_the_root_of_the_sum():
    student, teacher = pair(2, 3, 4, 5)
    close(
        losses.attention_distance(student, teacher) ** 2 / 12,
        losses.attention_transfer(student, teacher),
    )


@pytest.mark.parametrize("rank", [0, 6])
def test_a_rank_above_the_channels_is_refused(rank):
    with pytest.raises(ValueError, match=r"`rank` must be in \[1, 5\]"):
        losses.singular_vector_relation(*[normal(0, 2, 6, 5)] * 4, rank=rank)


def test_other_channels_are_refused_by_name():
    with pytest.raises(ValueError, match=r"`student` has channels \(3,\)"):
        losses.inter_channel_correlation(normal(0, 2, 4, 3), normal(1, 2, 4, 5))
