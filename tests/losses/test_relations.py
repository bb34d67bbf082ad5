"""Values of the losses on relations: by loops, and by what must not matter."""

import itertools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import losses
from jaxkd.losses import _relations


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def close(a, b, rtol=2e-5, atol=1e-6):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def huber(x):
    return x * x / 2 if abs(x) <= 1 else abs(x) - 0.5


def test_distances_are_compared_in_units_of_their_mean():
    student, teacher = normal(0, 4, 3), normal(1, 4, 5)
    relative = []
    for x in map(np.asarray, (student, teacher)):
        d = np.array([[np.linalg.norm(a - b) for b in x] for a in x])
        relative.append(d * 12 / d.sum())  # of 16, but 4 are with itself
    expected = np.mean([huber(x) for x in (relative[0] - relative[1]).ravel()])
    close(losses.relational_distance(student, teacher), expected)
    close(losses.relational_distance(7 * student, teacher), expected)


def test_angles_are_those_at_each_vertex():
    student, teacher = normal(0, 4, 3), normal(1, 4, 5)

    def angle(x, i, j, k):
        a, b = x[j] - x[i], x[k] - x[i]
        size = np.linalg.norm(a) * np.linalg.norm(b)
        return a @ b / size if size else 0.0

    s, t = np.asarray(student), np.asarray(teacher)
    triples = itertools.product(range(4), repeat=3)
    expected = np.mean([huber(angle(s, *ijk) - angle(t, *ijk)) for ijk in triples])
    close(losses.relational_angle(student, teacher), expected)
    close(losses.relational_angle(7 * student + 1, teacher), expected)


@pytest.mark.parametrize("fn", [losses.relational_distance, losses.relational_angle])
def test_few_vertices_at_a_time_give_the_same(fn, monkeypatch):
    student, teacher = normal(0, 7, 3), normal(1, 7, 5)
    value_and_slope = lambda: jax.value_and_grad(fn)(student, teacher)
    whole = value_and_slope()
    monkeypatch.setattr(_relations, "AT_ONCE", 200)
    jax.tree.map(close, value_and_slope(), whole)


def test_many_examples_need_no_memory_for_all_their_angles(monkeypatch):
    x = jnp.zeros((128, 4))
    monkeypatch.setattr(_relations, "AT_ONCE", 2**16)
    fn = jax.jit(jax.value_and_grad(losses.relational_angle))
    memory = fn.lower(x, x).compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 128**3 * 4 / 2


@pytest.mark.parametrize("fn", [losses.relational_distance, losses.relational_angle])
def test_two_equal_examples_have_a_moderate_gradient(fn):
    student, teacher = normal(0, 5, 3), normal(1, 5, 3)
    student = student.at[1].set(student[0])
    slope = jax.grad(fn)(student, teacher)
    assert jnp.max(jnp.abs(slope)) < 1


def test_probabilities_of_being_a_neighbour():
    student, teacher = normal(0, 4, 3), normal(1, 4, 5)

    def probabilities(x):
        x = np.asarray(x) / np.linalg.norm(x, axis=1, keepdims=True)
        kernel = (x @ x.T + 1) / 2
        return kernel / kernel.sum(1, keepdims=True)

    q, p = probabilities(student), probabilities(teacher)
    expected = np.mean(p * np.log(p / q))
    loss = losses.probabilistic_knowledge_transfer
    close(loss(student, teacher), expected, atol=1e-6)
    close(loss(7 * student, teacher), expected, atol=1e-6)


def test_the_next_example_is_the_next_that_counts():
    gaps = jnp.array([[1.0], [-2.0], [jnp.nan], [3.0], [5.0]])
    where = jnp.array([True, True, False, True, False])
    value = losses.neighbour_correlation(gaps, jnp.zeros((5, 1)), where=where)
    close(value, (1 * 2 + 2 * 3) / 2)
    alone = jnp.arange(5) == 1
    assert losses.neighbour_correlation(gaps, jnp.zeros((5, 1)), where=alone) == 0


def test_the_taylor_polynomial_is_near_the_gaussian():
    student, teacher = (
        x / jnp.linalg.norm(x, axis=1, keepdims=True)
        for x in (normal(0, 4, 3), normal(1, 4, 5))
    )
    kernel = lambda x: jnp.exp(-0.4 * jnp.sum((x[:, None] - x[None]) ** 2, -1))
    expected = jnp.mean((kernel(student) - kernel(teacher)) ** 2)
    close(losses.gaussian_congruence(student, teacher, order=12), expected)
    close(losses.gaussian_congruence(student, teacher), expected, rtol=0.2)


def test_congruence_refuses_what_is_no_kernel():
    x = normal(0, 4, 3)
    with pytest.raises(ValueError, match="`order` must be positive"):
        losses.gaussian_congruence(x, x, order=0)
    with pytest.raises(ValueError, match="`ridge` must be positive"):
        losses.similarity_mahalanobis(x, x, ridge=0.0)


def test_with_a_great_ridge_the_mahalanobis_length_is_the_euclidean():
    student, teacher = normal(0, 4, 3), normal(1, 4, 5)
    s, t = (x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (student, teacher))
    expected = jnp.linalg.norm(s @ s.T - t @ t.T, axis=1).mean()
    value = losses.similarity_mahalanobis(student, teacher, ridge=1e6)
    close(value * 1e3, expected, rtol=1e-4)


def test_a_perfect_match_of_channels_is_the_best():
    """The sign that a known implementation has wrong."""
    x, other = normal(0, 2, 4, 6), normal(1, 2, 4, 6)
    loss = losses.channel_relation
    close(loss(3 * x + 1, x), 0.0)
    close(loss(-x, x), 2.0)
    assert jnp.all(loss(x, x) < loss(other, x))
    close(loss(jnp.ones_like(x), x), 1.0)


def test_positions_that_do_not_count_are_as_if_absent():
    student, teacher = normal(0, 2, 4, 6), normal(1, 2, 4, 6)
    where = jnp.array([[True, True, False, True]] * 2)
    kept = jnp.array([0, 1, 3])
    spoiled = student.at[:, 2].set(jnp.nan)
    for fn in (losses.channel_relation, losses.feature_cosine_distance):
        loss = lambda s, fn=fn: fn(s, teacher, where=where)
        close(loss(spoiled), fn(student[:, kept], teacher[:, kept]))
        slope = jax.grad(lambda s, loss=loss: loss(s).sum())(spoiled)
        assert jnp.all(jnp.isfinite(slope))
        np.testing.assert_array_equal(slope[:, 2], 0.0)


@pytest.mark.own_checks
def test_positions_of_another_number_are_refused():
    student, teacher = normal(0, 2, 4, 6), normal(1, 2, 4, 6)
    for fn in (losses.channel_relation, losses.feature_cosine_distance):
        with pytest.raises(ValueError, match="`where` must have shape"):
            fn(student, teacher, where=jnp.ones((2, 2), bool))


def test_places_are_correlated_over_the_batch():
    student, teacher = normal(0, 5, 2, 3, 4), normal(1, 5, 2, 3, 6)
    s, t = (np.asarray(x.mean(-1)).reshape(5, -1) for x in (student, teacher))
    rho = [np.corrcoef(s[:, p], t[:, p])[0, 1] for p in range(6)]
    close(losses.spatial_relation(student, teacher), 1 - np.mean(rho))
    with pytest.raises(ValueError, match="positions"):
        losses.spatial_relation(student, teacher[:, :1])


def test_patience_scales_every_layer_alone():
    student, teacher = normal(0, 2, 3, 4), normal(1, 2, 3, 4)
    layers = (
        losses.unit_feature_distance(student[:, i], teacher[:, i]) for i in range(3)
    )
    scales = jnp.array([1.0, 5.0, 0.1])[None, :, None]
    close(losses.patient_distance(student * scales, teacher), sum(layers))
