import dataclasses

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import models, recipes
from jaxkd.recipes._experiment.made import made_examples
from jaxkd.recipes._systems import synthesis

SHAPE = (8, 8, 1)
SMALL = recipes.DatafreeConfig(
    seeds=1,
    teacher_steps=4,
    steps=4,
    save_every=4,
    batch_size=32,
    kinds=("noise", "inverted"),
    images=40,
    inversion_steps=4,
    generator_steps=6,
    teacher=(4, 8),
    student=(4,),
)


@pytest.fixture(scope="module")
def teacher():
    """A network whose BatchNorms have seen bright images."""
    model = models.from_linen(models.CNN(widths=(8, 16), classes=4))
    key = jax.random.key(0)
    batch = {"image": 0.8 + 0.05 * jax.random.normal(key, (64, *SHAPE))}
    params, state = model.init(key, batch)
    for _ in range(80):
        state = model.apply(params, state, batch, train=True).state
    return model, models.Variables(params, state)


def misfit(teacher, images):
    """By hand: how far the convolutions' moments are from the running ones."""
    model, variables = teacher
    names = ("block1/conv", "block2/conv")
    out = model.apply(*variables, {"image": images}, features=names)
    total = 0.0
    for block in ("block1", "block2"):
        x = np.asarray(out.features[f"{block}/conv"], np.float64)
        norm = variables.state["batch_stats"][block]["norm"]
        for found, kept in ((x.mean((0, 1, 2)), "mean"), (x.var((0, 1, 2)), "var")):
            total += np.linalg.norm(found - np.asarray(norm[kept]))
    return total


def test_inverted_images_fit_the_batchnorms_and_their_classes(teacher):
    images = recipes.invert_images(*teacher, 128, SHAPE, seed=0, steps=60)["image"]
    assert images.shape == (128, *SHAPE)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    noise = recipes.noise_images(128, SHAPE, seed=0)["image"]
    assert misfit(teacher, images) < 0.6 * misfit(teacher, noise)
    again = recipes.invert_images(*teacher, 50, SHAPE, seed=0, steps=60)["image"]
    np.testing.assert_array_equal(again, images[:50])


def test_the_misfit_is_that_of_the_moments(teacher):
    model, variables = teacher
    images = recipes.noise_images(16, SHAPE, seed=1)["image"]
    names = ("block1/conv", "block2/conv")
    out = model.apply(*variables, {"image": images}, features=names)
    ours = float(synthesis._misfit(out, variables))
    assert ours == pytest.approx(misfit(teacher, images), rel=1e-5)


def test_the_generators_loss_is_that_of_dafl():
    logits = np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]], np.float32)
    pool = np.array([[1.0, 0.0], [2.0, 5.0]], np.float32)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mean = p.mean(axis=0)
    sure = -np.log(p.max(axis=1)).mean()
    expected = sure - 0.1 * 2.0 + 5.0 * (mean * np.log(mean)).sum()
    found = float(synthesis._generator_loss(jnp.asarray(logits), jnp.asarray(pool)))
    assert found == pytest.approx(expected, rel=1e-5)


def test_generated_images_are_of_all_classes(teacher):
    model, variables = teacher
    found = {}
    for weight in (0.0, 1.0):
        made = recipes.generate_images(
            *teacher, 130, SHAPE, seed=0, steps=60, weight=weight
        )["image"]
        assert made.shape == (130, *SHAPE)
        assert 0 <= made.min() <= made.max() <= 1
        found[weight] = made
    of_noise = recipes.noise_images(130, SHAPE, seed=0)["image"]

    def entropy(images):
        logits = model.apply(*variables, {"image": images}).logits
        mean = np.asarray(jax.nn.softmax(logits).mean(axis=0), np.float64)
        return -(mean * np.log(mean)).sum()

    assert entropy(found[0.0][-60:]) > entropy(of_noise)
    assert misfit(teacher, found[1.0][-60:]) < misfit(teacher, found[0.0][-60:])


def test_images_of_odd_sizes_are_refused(teacher):
    with pytest.raises(ValueError, match="multiples of 4"):
        recipes.generate_images(*teacher, 8, (9, 8, 1), seed=0, steps=5)
    with pytest.raises(ValueError, match="512 images after the first fifth, not 513"):
        recipes.generate_images(*teacher, 513, SHAPE, seed=0, steps=5)


def test_students_learn_from_images_that_are_kept_with_the_run(tmp_path):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    result = recipes.RECIPES["datafree"].run(SMALL, tmp_path / "run", quiet=True)
    names = ["real images", "noise", "inverted"]
    assert [row.name for row in result.rows[1:]] == [f"student, {n}" for n in names]
    made = tmp_path / "run" / "made" / "seed0"
    kept = {file.stem: np.load(file)["image"] for file in made.iterdir()}
    assert set(kept) == {"student-noise", "student-inverted"}
    assert all(images.shape == (40, *SHAPE) for images in kept.values())
    text = (tmp_path / "run" / "report.html").read_text()
    assert "What “student, inverted” learned from" in text


def test_made_examples_are_made_once(tmp_path, teacher):
    calls = []

    def make(variables, seed):
        calls.append((variables, seed))
        return {"image": np.full((2, *SHAPE), seed)}

    for _ in range(2):
        found = made_examples(tmp_path, "student", make, teacher[1], 7)
        assert (found["image"] == 7).all()
    assert calls == [(teacher[1], 7)]
    assert [file.name for file in (tmp_path / "made" / "seed7").iterdir()] == [
        "student.npz"
    ]


def test_each_kind_of_images_is_a_way():
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    experiment = recipes.datafree(recipes.DatafreeConfig())
    assert [name.removeprefix("student, ") for name in experiment.ways] == [
        "real images",
        *recipes.DatafreeConfig().kinds,
    ]
    assert experiment.ways["student, real images"].train is None
    assert experiment.ways["student, inverted"].beside == "student, noise"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kinds": ("nois",)}, "no images of kind 'nois'; did you mean 'noise'"),
        ({"images": 0}, "`images` must be at least 1"),
        ({"generator_steps": 4}, "`generator_steps` must be at least 5"),
        ({"inversion_steps": 0}, "`inversion_steps`"),
        ({"student": (0,)}, "positive widths"),
    ],
)
def test_wrong_settings_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SMALL, **changes)
