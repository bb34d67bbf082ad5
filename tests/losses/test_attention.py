"""Transformers: what is padding changes nothing; which layer learns from which."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import losses

maps = losses.layer_maps
SCORES = (
    losses.attention_score_mse,
    losses.attention_map_kl,
    losses.attention_map_cross_entropy,
)
LENGTHS = (3, 5, 2)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def close(a, b, rtol=2e-5, atol=1e-6):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def padding(tokens=5):
    return jnp.arange(tokens)[None] < jnp.array(LENGTHS)[:, None]


def spoil(x, where):
    return jnp.where(where, x, jnp.nan)


@pytest.mark.parametrize("fn", SCORES)
def test_padding_is_as_if_absent(fn):
    student, teacher = normal(0, 3, 2, 5, 5), normal(1, 3, 2, 5, 5)
    where = padding()
    pairs = (where[:, :, None] & where[:, None, :])[:, None]
    loss = lambda s: fn(s, spoil(teacher, pairs), where=where)
    spoiled = spoil(student, pairs)
    for i, n in enumerate(LENGTHS):
        cut = (x[i : i + 1, :, :n, :n] for x in (student, teacher))
        close(loss(spoiled)[i : i + 1], fn(*cut))
    slope = jax.grad(lambda s: loss(s).sum())(spoiled)
    assert jnp.all(jnp.isfinite(slope))
    np.testing.assert_array_equal(slope[~jnp.broadcast_to(pairs, slope.shape)], 0.0)
    close(fn(student, teacher, where=pairs[:, 0]), loss(student))


@pytest.mark.parametrize("fn", SCORES)
def test_a_causal_mask_hides_the_later_keys(fn):
    student, teacher = normal(0, 1, 2, 4, 4), normal(1, 1, 2, 4, 4)
    causal = jnp.tril(jnp.ones((1, 4, 4), bool))
    value = fn(student, teacher, where=causal)
    rows = [
        fn(student[:, :, i : i + 1, : i + 1], teacher[:, :, i : i + 1, : i + 1])
        for i in range(4)
    ]
    weights = [1, 2, 3, 4] if fn is losses.attention_score_mse else [1, 1, 1, 1]
    close(value, np.average(np.stack(rows), axis=0, weights=weights))
    hidden = jnp.where(causal[:, None], student, -jnp.inf)
    masked = jnp.where(causal[:, None], teacher, -jnp.inf)
    close(fn(hidden, masked, where=causal), value)
    assert jnp.all(jnp.isfinite(fn(hidden, masked)))


@pytest.mark.parametrize("fn", SCORES)
def test_nothing_that_counts_gives_nothing(fn):
    student, teacher = normal(0, 3, 2, 5, 5), normal(1, 3, 2, 5, 5)
    loss = lambda s: fn(s, teacher, where=jnp.zeros((3, 5), bool)).sum()
    assert loss(student) == 0
    np.testing.assert_array_equal(jax.grad(loss)(student), 0.0)


@pytest.mark.own_checks
def test_masks_of_other_shapes_are_refused():
    student, teacher = normal(0, 3, 2, 5, 4), normal(1, 3, 2, 5, 4)
    for wrong in ((3, 5), (3, 4), (3, 4, 5), (1, 5, 4), (3, 2, 5, 4)):
        for fn in SCORES:
            with pytest.raises(ValueError, match="`where` must have shape"):
                fn(student, teacher, where=jnp.ones(wrong, bool))
    with pytest.raises(ValueError, match="batch, heads, queries, keys"):
        losses.attention_score_mse(student[:, 0], teacher[:, 0])


def test_the_entropy_is_all_that_differs():
    student, teacher = normal(0, 3, 2, 5, 5), normal(1, 3, 2, 5, 5)
    cross = losses.attention_map_cross_entropy
    entropy = cross(teacher, teacher, where=padding())
    kl = losses.attention_map_kl(student, teacher, where=padding())
    close(cross(student, teacher, where=padding()) - entropy, kl)


@pytest.mark.parametrize(
    "fn",
    [
        lambda *a, **k: losses.token_relation_kl(*a, heads=2, **k),
        losses.token_similarity_mse,
    ],
)
def test_relations_of_padding_are_as_if_absent(fn):
    shapes = ((3, 5, 4), (3, 5, 4), (3, 5, 6), (3, 5, 6))
    layers = [normal(i, *shape) for i, shape in enumerate(shapes)]
    where = padding()
    spoiled = [spoil(x, where[..., None]) for x in layers]
    loss = lambda *layers: fn(*layers, where=where)
    for i, n in enumerate(LENGTHS):
        cut = [x[i : i + 1, :n] for x in layers]
        close(loss(*spoiled)[i : i + 1], fn(*cut))
    slopes = jax.grad(lambda *a: loss(*a).sum(), argnums=(0, 1))(*spoiled)
    for slope in slopes:
        assert jnp.all(jnp.isfinite(slope))
        np.testing.assert_array_equal(slope[~where], 0.0)


def test_relations_are_split_anew_into_heads():
    q, k = normal(0, 1, 3, 6), normal(1, 1, 3, 6)
    teacher = normal(2, 1, 3, 9)
    total = 0.0
    for a in range(3):
        s = q[0, :, 2 * a : 2 * a + 2] @ k[0, :, 2 * a : 2 * a + 2].T / 2**0.5
        t = teacher[0, :, 3 * a : 3 * a + 3]
        p = jax.nn.softmax(t @ t.T / 3**0.5)
        total += (p * (jnp.log(p) - jax.nn.log_softmax(s))).sum(-1).mean()
    close(losses.token_relation_kl(q, k, teacher, teacher, heads=3), [total / 3])


@pytest.mark.own_checks
def test_heads_must_divide_and_layers_agree():
    x, y = normal(0, 1, 3, 6), normal(1, 1, 3, 4)
    with pytest.raises(ValueError, match="got 3 heads for 4 channels"):
        losses.token_relation_kl(x, x, y, y, heads=3)
    with pytest.raises(ValueError, match="both layers of a side"):
        losses.token_similarity_mse(x, y, x, x)


@pytest.mark.parametrize(
    ("of", "numbers", "expected"),
    [
        (maps.every_other, (6, 12), (1, 3, 5, 7, 9, 11)),
        (maps.every_other, (4, 4), (0, 1, 2, 3)),
        (maps.last, (3, 12), (9, 10, 11)),
        (maps.uniform, (5, 12), (1, 3, 6, 8, 11)),
        (maps.tinybert, (4, 12), (0, 3, 6, 9, 12)),
        (maps.distilbert, (6, 12), (0, 2, 4, 7, 9, 11)),
        (maps.distilbert, (1, 12), (11,)),
        (maps.distil_whisper, (2, 32), (0, 31)),
        (maps.distil_whisper, (6, 12), (0, 2, 4, 6, 8, 11)),
    ],
)
def test_layer_maps(of, numbers, expected):
    assert of(*numbers) == expected


@pytest.mark.parametrize(
    "of", [maps.last, maps.uniform, maps.distilbert, maps.distil_whisper]
)
def test_layer_maps_increase_to_the_last_layer(of):
    for teacher in range(1, 34):
        for student in range(1, teacher + 1):
            found = of(student, teacher)
            assert len(found) == student
            assert sorted(set(found)) == list(found)
            assert found[0] >= 0
            assert found[-1] == teacher - 1


def test_layer_maps_refuse_what_they_cannot_map():
    for of in (maps.every_other, maps.tinybert):
        with pytest.raises(ValueError, match="no multiple of the student's 5"):
            of(5, 12)
    for of in (maps.last, maps.uniform, maps.distilbert, maps.distil_whisper):
        for numbers in ((0, 4), (5, 4)):
            with pytest.raises(ValueError, match="at least one layer"):
                of(*numbers)
