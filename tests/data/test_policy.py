"""The operations of RandAugment, against Pillow's."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from PIL import Image, ImageEnhance, ImageOps

from jaxkd.data import augment
from jaxkd.data.augment import _policy

IMAGE = np.random.default_rng(0).integers(20, 200, (12, 10, 3), dtype=np.uint8)
BRIGHT, CONTRAST, SATURATE, SHARPEN, SOLARIZE, POSTERIZE, AUTO, EQUALIZE = range(8)


def run(operation, signed, image=IMAGE):
    x = jnp.asarray(image, jnp.float32) / 255
    return 255 * np.asarray(jax.jit(_policy.COLOURS[operation])(x, signed))


@pytest.mark.parametrize("signed", [-0.7, 0.0, 0.4])
@pytest.mark.parametrize(
    ("operation", "enhance"),
    [
        (BRIGHT, ImageEnhance.Brightness),
        (CONTRAST, ImageEnhance.Contrast),
        (SATURATE, ImageEnhance.Color),
        (SHARPEN, ImageEnhance.Sharpness),
    ],
)
def test_enhancements(operation, enhance, signed):
    expected = np.asarray(enhance(Image.fromarray(IMAGE)).enhance(1 + 0.9 * signed))
    inside = slice(1, -1)  # Pillow does not smooth the border
    found = run(operation, signed)[inside, inside]
    np.testing.assert_allclose(found, expected[inside, inside], atol=1.6)


@pytest.mark.parametrize("strength", [0.0, 0.25, 0.5, 1.0])
def test_solarize_and_posterize(strength):
    image = Image.fromarray(IMAGE)
    above = 256 if strength == 0 else int(np.floor(255 * (1 - strength))) + 1
    expected = ImageOps.solarize(image, above)
    np.testing.assert_allclose(run(SOLARIZE, -strength), expected, atol=1e-3)
    expected = ImageOps.posterize(image, 8 - round(4 * strength))
    np.testing.assert_allclose(run(POSTERIZE, strength), expected, atol=1e-3)


def test_autocontrast_and_equalize():
    expected = ImageOps.autocontrast(Image.fromarray(IMAGE))
    np.testing.assert_allclose(run(AUTO, 0.0), expected, atol=1.0)
    levels = np.random.default_rng(1).permutation(240)[:100].reshape(10, 10, 1)
    ranks = levels.ravel().argsort().argsort().reshape(levels.shape)
    found = run(EQUALIZE, 0.0, levels.astype(np.uint8))
    np.testing.assert_allclose(found, 255 * ranks / 99, atol=1e-3)
    twice = np.array([[[0], [7]], [[7], [9]]], np.uint8)  # ties share a level
    found = run(EQUALIZE, 0.0, twice).ravel()
    np.testing.assert_allclose(found, [0, 170, 170, 255], atol=1e-3)
    flat = np.full((4, 4, 1), 77, np.uint8)
    for operation in (AUTO, EQUALIZE):
        np.testing.assert_allclose(run(operation, 0.0, flat), flat, atol=1e-4)


def test_moves():
    x = jnp.asarray(IMAGE, jnp.float32)
    down = x[:-3]
    find = lambda i, s: [np.asarray(part) for part in _policy.MOVES[i](jnp.float32(s))]
    matrix, shift = find(4, -0.5)
    size = np.array(IMAGE.shape[:2])
    np.testing.assert_allclose(shift * size, [-0.45 * 0.5 * 12, 0])
    np.testing.assert_array_equal(matrix, np.eye(2))
    moved = jax.jit(_policy.warp)(x, np.eye(2), np.array([-3.0, 0.0]), 0.0)
    np.testing.assert_array_equal(moved[3:], down)
    np.testing.assert_array_equal(moved[:3], 0)
    np.testing.assert_allclose(find(2, 1.0)[0], [[1, 0.3], [0, 1]])
    np.testing.assert_allclose(find(3, 1.0)[0], [[1, 0], [0.3, 1]])
    np.testing.assert_array_equal(find(0, 1.0)[0], np.eye(2))
    turn = find(1, 1.0)[0]
    np.testing.assert_allclose(turn[0], [np.cos(np.pi / 6), 0.5], atol=1e-6)


def test_all_operations_are_drawn_alike():
    """At strength 0 only autocontrast and equalize do anything."""
    image = np.broadcast_to(IMAGE[None], (700, *IMAGE.shape)).astype(np.float32) / 255
    batch = {"image": image}
    none = augment.rand_augment(operations=1, magnitude=0.0)
    found = np.asarray(none(jax.random.key(0), batch)["image"])
    changed = abs(found - image).max((1, 2, 3)) > 1e-6
    assert 0.1 < changed.mean() < 0.19  # 2 of 14
    kinds = np.unique(found[changed].reshape(changed.sum(), -1).round(4), axis=0)
    assert len(kinds) == 2
    full = augment.rand_augment(operations=1, magnitude=10.0)
    found = np.asarray(full(jax.random.key(0), batch)["image"])
    kinds = np.unique(found.reshape(700, -1).round(4), axis=0)
    # 9 have two signs; solarize, posterize, autocontrast, equalize, nothing have one.
    assert len(kinds) == 2 * 9 + 5
