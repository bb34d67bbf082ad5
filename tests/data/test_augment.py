"""Laws that all augmentations obey, and what each does to pixels."""

import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import data
from jaxkd.data import augment

RNG = np.random.default_rng(0)
PLAIN = {  # they leave the labels
    "flip": augment.flip(),
    "pad_crop": augment.pad_crop(padding=2),
    "pad_crop, reflect": augment.pad_crop(padding=2, reflect=True),
    "cutout": augment.cutout(size=4),
    "rotate": augment.rotate(degrees=30),
    "zoom": augment.zoom(),
    "colour": augment.colour(hue=0.1),
    "rand_augment": augment.rand_augment(),
    "noise": augment.noise(),
    "blur": augment.blur(),
    "compose": augment.compose(augment.flip(), augment.colour()),
}
MIXING = {"mixup": augment.mixup(alpha=1.0), "cutmix": augment.cutmix()}
SPECTRA = {"spec_augment": augment.spec_augment(time=(1, 4), mel=(1, 3), entry="image")}
ALL = {**PLAIN, **MIXING, **SPECTRA}


def make(name, n=16, dtype=np.float32):
    shape = (n, 12, 8) if name in SPECTRA else (n, 9, 7, 3)
    return {
        "image": RNG.uniform(size=shape).astype(dtype),
        "label": np.arange(n) % 3,
        "index": np.arange(n, dtype=np.int32),
        "mask": np.arange(n) < n - 1,
    }


@functools.cache
def compiled(transform):
    return jax.jit(transform)


def draw(transform, batch, seed=0):
    return compiled(transform)(jax.random.key(seed), batch)


@pytest.mark.parametrize("name", ALL)
def test_laws(name):
    batch, transform = make(name), ALL[name]
    result = draw(transform, batch)
    image = np.asarray(result["image"])
    assert image.shape == batch["image"].shape
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert name == "noise" or (image.min() >= 0 and image.max() <= 1)
    np.testing.assert_array_equal(result["index"], batch["index"])
    np.testing.assert_array_equal(result["mask"], batch["mask"])
    assert ("label" in result) == (name not in MIXING)
    np.testing.assert_array_equal(result.get("label", batch["label"]), batch["label"])
    changed = (image != batch["image"]).any((1, 2, 3)[: image.ndim - 1])
    assert changed.sum() >= 4
    np.testing.assert_array_equal(draw(transform, batch)["image"], image)
    again = draw(transform, batch, seed=1)["image"]
    assert np.array_equal(again, image) == (name == "blur")  # nothing is drawn there


@pytest.mark.parametrize("name", ["flip", "pad_crop", "rotate", "cutmix"])
def test_jit_equals_eager(name):
    batch = make(name, n=4)
    inside = draw(ALL[name], batch)
    eager = ALL[name](jax.random.key(0), batch)
    np.testing.assert_allclose(inside["image"], eager["image"], atol=2e-6)


@pytest.mark.parametrize("name", ALL)
def test_dtypes_are_kept(name):
    batch = make(name, dtype=jnp.bfloat16)
    result = draw(ALL[name], batch)["image"]
    assert result.dtype == jnp.bfloat16
    full = draw(ALL[name], {**batch, "image": batch["image"].astype(np.float32)})
    if name not in {"rand_augment", "compose", "colour"}:  # jumps of many levels
        np.testing.assert_allclose(result.astype(np.float32), full["image"], atol=0.01)


@pytest.mark.parametrize("name", ["flip", "pad_crop", "cutout", "spec_augment"])
def test_bytes_will_do_where_nothing_is_computed(name):
    batch = make(name)
    batch["image"] = (255 * batch["image"]).astype(np.uint8)
    assert draw(ALL[name], batch)["image"].dtype == np.uint8


@pytest.mark.parametrize("name", ["rotate", "zoom", "colour", "rand_augment", "mixup"])
def test_bytes_are_refused_where_something_is(name):
    batch = {**make(name), "image": np.zeros((2, 4, 4, 3), np.uint8)}
    with pytest.raises(TypeError, match=rf"`{name}` needs .* got uint8; .*to_float"):
        draw(ALL[name], batch)
    first = augment.compose(augment.to_float(), augment.rotate())
    assert draw(first, batch)["image"].dtype == np.float32
    with pytest.raises(TypeError, match="takes images of bytes"):
        draw(augment.to_float(), make(name))


@pytest.mark.parametrize("name", ["flip", "mixup"])
def test_wrong_entries_are_named(name):
    with pytest.raises(KeyError, match=rf"`{name}` needs batch\['image'\]; did you"):
        draw(ALL[name], {"images": np.zeros((2, 4, 4, 3))})
    with pytest.raises(ValueError, match=r"\[batch, height, width, channels\], got"):
        draw(ALL[name], {"image": np.zeros((2, 4, 4), np.float32)})


def test_flips():
    batch = make("flip")
    for transform, expected in (
        (augment.flip(probability=1.0), batch["image"][:, :, ::-1]),
        (augment.flip(probability=1.0, vertical=True), batch["image"][:, ::-1]),
        (augment.flip(probability=0.0), batch["image"]),
    ):
        np.testing.assert_array_equal(draw(transform, batch)["image"], expected)
    many = make("flip", n=1000)
    same = (draw(augment.flip(probability=0.3), many)["image"] == many["image"]).all(
        (1, 2, 3)
    )
    assert 0.65 < same.mean() < 0.75


@pytest.mark.parametrize("reflect", [False, True])
def test_crops_are_windows_of_the_padded_image(reflect):
    batch = make("pad_crop", n=200)
    fill = {"mode": "reflect"} if reflect else {"constant_values": 0.25}
    padded = np.pad(batch["image"], ((0, 0), (2, 2), (2, 2), (0, 0)), **fill)
    transform = augment.pad_crop(padding=2, reflect=reflect, fill=0.25)
    seen = set()
    for image, wide in zip(draw(transform, batch)["image"], padded, strict=True):
        places = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if np.array_equal(wide[i : i + 9, j : j + 7], image)
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) == 25


def test_holes_are_squares_cut_at_the_edges():
    batch = {"image": np.ones((300, 9, 7, 1), np.float32)}
    image = np.asarray(draw(augment.cutout(size=4, fill=0.5), batch)["image"])[..., 0]
    assert set(np.unique(image)) == {0.5, 1.0}
    rows, columns = (image == 0.5).any(2).sum(1), (image == 0.5).any(1).sum(1)
    np.testing.assert_array_equal((image == 0.5).sum((1, 2)), rows * columns)
    assert (rows.max(), columns.max()) == (4, 4)
    assert (rows.min(), columns.min()) == (2, 2)


def test_rotations_of_known_angles():
    batch = {"image": RNG.uniform(size=(3, 7, 7, 2)).astype(np.float32)}
    for turns in range(4):
        transform = augment.rotate(degrees=(90.0 * turns, 90.0 * turns))
        expected = np.rot90(batch["image"], turns, axes=(1, 2))
        got = draw(transform, batch)["image"]
        np.testing.assert_allclose(got, expected, atol=1e-6 if turns else 0)


def test_rotations_agree_with_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    image = RNG.uniform(size=(11, 8)).astype(np.float32)
    batch = {"image": image[None, ..., None]}
    got = draw(augment.rotate(degrees=(25, 25), fill=0.5), batch)["image"][0, ..., 0]
    padded = np.pad(image, 1, constant_values=0.5)  # the edge is blended with the fill
    expected = ndimage.rotate(padded, 25, reshape=False, order=1, cval=0.5)
    np.testing.assert_allclose(got, expected[1:-1, 1:-1], atol=1e-5)


def test_blur_agrees_with_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    batch = make("blur")
    got = augment.blur(sigma=1.5)(jax.random.key(0), batch)["image"]
    sigma = (0, 1.5, 1.5, 0)
    want = ndimage.gaussian_filter(batch["image"], sigma, mode="nearest", radius=4)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_noise_has_the_asked_deviation_and_no_mean():
    batch = {"image": np.zeros((8, 32, 32, 3), np.float32)}
    drawn = np.asarray(augment.noise(std=0.3)(jax.random.key(0), batch)["image"])
    assert drawn.std() == pytest.approx(0.3, rel=0.02)
    assert drawn.mean() == pytest.approx(0, abs=0.01)


def test_angles_are_drawn_from_the_range():
    # How far the tip of a pointer goes says the angle.
    image = np.zeros((400, 41, 41, 1), np.float32)
    image[:, 20, 39:] = 1
    turned = np.asarray(
        draw(augment.rotate(degrees=(10, 40)), {"image": image})["image"]
    )
    grid = np.arange(41) - 20
    rows = (turned[..., 0].sum(2) * grid).sum(1) / turned.sum((1, 2, 3))
    columns = (turned[..., 0].sum(1) * grid).sum(1) / turned.sum((1, 2, 3))
    degrees = np.rad2deg(np.arctan2(-rows, columns))  # up is the way of row 0
    assert 9.5 < degrees.min() < 12
    assert 38 < degrees.max() < 40.5


def test_zooming():
    batch = {"image": RNG.uniform(size=(1, 8, 8, 1)).astype(np.float32)}
    same = draw(augment.zoom(factor=(1.0, 1.0)), batch)["image"]
    np.testing.assert_array_equal(same, batch["image"])
    x = batch["image"][0, :, :, 0]
    small = draw(augment.zoom(factor=(0.5, 0.5)), batch)["image"][0, ..., 0]
    means = x.reshape(4, 2, 4, 2).mean((1, 3))
    np.testing.assert_allclose(small[2:6, 2:6], means, atol=1e-6)
    assert small[:2].sum() == small[6:].sum() == 0
    large = draw(augment.zoom(factor=(3.0, 3.0)), batch)["image"][0, ..., 0]
    grid = 3.5 + (np.arange(8) - 3.5) / 3  # linear between the middle pixels
    along = np.stack([np.interp(grid, np.arange(8), column) for column in x.T], 1)
    expected = np.stack([np.interp(grid, np.arange(8), row) for row in along])
    np.testing.assert_allclose(large, expected, atol=1e-6)


def test_colours_one_by_one():
    batch = make("colour", n=64)
    luma = batch["image"] @ np.array([0.299, 0.587, 0.114], np.float32)
    off = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
    same = draw(augment.colour(**off), batch)["image"]
    np.testing.assert_allclose(same, batch["image"], atol=1e-7)
    fixed = {
        "brightness": np.zeros_like(batch["image"]),
        "contrast": np.broadcast_to(
            luma.mean((1, 2))[:, None, None, None], batch["image"].shape
        ),
        "saturation": np.broadcast_to(luma[..., None], batch["image"].shape),
    }
    for name, centre in fixed.items():
        got = np.asarray(draw(augment.colour(**{**off, name: 0.3}), batch)["image"])
        inside = (got > 0) & (got < 1)
        a, b = got - centre, batch["image"] - centre
        factors = [
            (a[i][inside[i]] * b[i][inside[i]]).sum() / (b[i][inside[i]] ** 2).sum()
            for i in range(64)
        ]
        assert 0.69 < min(factors) < 0.75
        assert 1.25 < max(factors) < 1.31
        expected = np.clip(centre + np.reshape(factors, (-1, 1, 1, 1)) * b, 0, 1)
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_hues_turn_about_the_greys():
    grey = np.full((8, 2, 2, 3), 0.3, np.float32)
    off = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
    turn = augment.colour(**off, hue=1.0)
    np.testing.assert_allclose(draw(turn, {"image": grey})["image"], grey, atol=1e-6)
    dull = 0.4 + 0.2 * RNG.uniform(size=(8, 2, 2, 3)).astype(np.float32)
    got = np.asarray(draw(turn, {"image": dull})["image"])
    np.testing.assert_allclose(got.mean(-1), dull.mean(-1), atol=1e-6)
    np.testing.assert_allclose(got.std(-1), dull.std(-1), atol=1e-6)
    assert abs(got - dull).max() > 0.05


def test_grey_images_have_no_saturation():
    batch = {"image": RNG.uniform(size=(4, 5, 5, 1)).astype(np.float32)}
    only = augment.colour(brightness=0, contrast=0, saturation=1.0, hue=1.0)
    np.testing.assert_array_equal(draw(only, batch)["image"], batch["image"])
    with pytest.raises(ValueError, match="`colour` needs images of 1 or 3 channels"):
        draw(augment.colour(), {"image": np.zeros((1, 4, 4, 2), np.float32)})


def test_spectrograms_lose_stretches_and_bands():
    batch = {"mel": np.ones((200, 50, 20), np.float32), "length": np.arange(200)}
    transform = augment.spec_augment(time=(1, 10), mel=(2, 3), fill=-1.0)
    result = draw(transform, batch)
    hidden = np.asarray(result["mel"]) == -1
    np.testing.assert_array_equal(result["length"], batch["length"])
    frames, bands = hidden.all(2), hidden.all(1)
    np.testing.assert_array_equal(hidden, frames[:, :, None] | bands[:, None, :])
    assert set(frames.sum(1)) == set(range(11))
    assert set(bands.sum(1)) == set(range(7))
    starts = np.diff(frames.astype(int), axis=1, prepend=0) == 1
    assert starts.sum(1).max() == 1  # one stretch
    assert frames[:, 0].any()
    assert frames[:, -1].any()


@pytest.mark.parametrize(
    ("make_transform", "message"),
    [
        (lambda: augment.flip(probability=2.0), "`probability` must be in"),
        (lambda: augment.pad_crop(padding=-1), "`padding` must be at least 0, got -1"),
        (lambda: augment.cutout(size=0), "`size` must be positive, got 0"),
        (lambda: augment.rotate(degrees=(3, 1)), r"`degrees` must be .* got \(3, 1\)"),
        (lambda: augment.zoom(factor=(0.0, 1.0)), "`factor` must be .* above 0"),
        (lambda: augment.colour(hue=-0.1), "`hue` must be in"),
        (lambda: augment.mixup(alpha=0.0), "`alpha` must be positive"),
        (lambda: augment.rand_augment(operations=0), "`operations` must be at least 1"),
        (lambda: augment.rand_augment(magnitude=11), r"`magnitude` must be in \[0, 10"),
        (lambda: augment.spec_augment(mel=(1, -1)), r"`mel` must be .* got \(1, -1\)"),
    ],
)
def test_wrong_settings_are_refused_at_once(make_transform, message):
    with pytest.raises(ValueError, match=message):
        make_transform()


def test_transforms_follow_the_position_of_the_batches():
    arrays = {"image": RNG.uniform(size=(10, 5, 5, 1)).astype(np.float32)}
    build = lambda: data.TrainBatches(
        arrays, batch_size=4, seed=0, transform=ALL["compose"]
    )
    batches = build()
    seen = [next(batches) for _ in range(3)]
    other = build()
    other.set_state({**other.get_state(), "batches": 2})
    np.testing.assert_array_equal(next(other)["image"], seen[2]["image"])
