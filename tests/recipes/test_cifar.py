import dataclasses

import jax
import numpy as np
import optax
import pytest
from published import torch_arrays

from jaxkd import models, recipes, train

image_module = pytest.importorskip("PIL.Image", reason="images are read by Pillow")
SMALL = recipes.CifarConfig(
    seeds=1,
    teacher_steps=2,
    steps=2,
    save_every=2,
    batch_size=8,
    learning_rate=0.01,
    methods=("at",),
    rotation=10.0,
    zoom=0.1,
)
CLASSES = ("dark", "light")


def folders(place, size=8, train=520, test=10):
    """Noise, darker or lighter by the class: more than 1,000 images to learn from."""
    rng = np.random.default_rng(0)
    for part, number in (("train", train), ("test", test)):
        for level, name in enumerate(CLASSES):
            (place / part / name).mkdir(parents=True)
            for i in range(number):
                noise = rng.integers(100 * level, 100 * level + 99, (size, size, 3))
                picture = image_module.fromarray(noise.astype(np.uint8))
                picture.save(place / part / name / f"{i}.png")
    return str(place)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return folders(tmp_path_factory.mktemp("images"))


@pytest.fixture
def tiny(monkeypatch):
    """Networks of the same kind, of one narrow block a stage."""
    network = lambda classes: models.ResNet(
        classes, (1, 1, 1), widths=(4, 8, 8), stem=4, shortcut="pad"
    )
    pairs = {"resnet56-resnet20": (network, network)}
    monkeypatch.setattr("jaxkd.recipes._systems.cifar.PAIRS", pairs)
    return models.from_linen(network(2))


def test_a_folder_of_images_is_learned_alone_and_from_a_teacher(source, tiny, tmp_path):
    config = dataclasses.replace(SMALL, data=source, train_limit=32, test_limit=12)
    experiment = recipes.cifar(config)
    splits = experiment.splits
    assert [len(part["label"]) for part in splits[:3]] == [32, 1000, 12]
    assert splits.classes == CLASSES
    assert set(splits.test["label"].tolist()) == {0, 1}
    assert splits.train["image"].dtype == np.float32
    light = splits.train["image"].mean((1, 2, 3)) > 0.35
    np.testing.assert_array_equal(light, splits.train["label"] == 1)
    result = recipes.RECIPES["cifar"].run(config, tmp_path / "run", quiet=True)
    names = ("alone", "KD + AT")
    assert [r.name for r in result.rows] == [
        "teacher",
        *(f"resnet20, {n}" for n in names),
    ]
    assert (tmp_path / "run" / "differences.png").is_file()


def test_the_teacher_starts_from_published_weights(source, tiny, tmp_path):
    variables, arrays = torch_arrays(tiny, models.resnet_torch_name, 8)
    arrays = {f"resnet56/{name}": x for name, x in arrays.items()}
    other = {"resnet20/conv1.weight": np.zeros(3, np.float32)}
    np.savez(tmp_path / "both.npz", **arrays, **other)
    config = dataclasses.replace(
        SMALL, data=source, pretrained=str(tmp_path / "both.npz")
    )
    start = recipes.cifar(config).start
    jax.tree.map(np.testing.assert_array_equal, start, variables)
    missing = dataclasses.replace(config, pretrained=str(tmp_path / "none.npz"))
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        recipes.cifar(missing)


@pytest.mark.parametrize("method", ["dkd", "dist", "crd"])
def test_other_methods_lead_to_finite_updates(method, source, tiny):
    config = dataclasses.replace(SMALL, data=source, methods=(method,), train_limit=32)
    state, teacher, batch, step = first_step(config)
    _, metrics = jax.jit(step)(state, teacher, batch)
    assert metrics["update_norm"] > 0
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("method", ["at", "crd"])
@pytest.mark.parametrize("pair", ["resnet32x4-resnet8x4", "resnet50-mobilenetv2"])
def test_the_maps_of_every_pair_fit(pair, method, source):
    config = dataclasses.replace(
        SMALL, data=source, pair=pair, methods=(method,), train_limit=32
    )
    shapes = jax.eval_shape(lambda: first_step(config, apply=True))
    assert shapes["loss"].shape == ()


def first_step(config, *, apply=False):
    """What the first update of the way that follows the teacher takes."""
    experiment = recipes.cifar(config)
    way = list(experiment.ways.values())[1]
    parts = (way.model, experiment.teacher, way.objective, optax.sgd(0.01))
    train_part = experiment.splits.train
    batch = {name: values[:8] for name, values in train_part.items()}
    batch |= {"index": np.arange(8), "mask": np.ones(8, np.float32)}
    teacher = experiment.teacher.init(jax.random.key(1), batch)
    state = train.init_state(
        jax.random.key(0), *parts, batch, teacher_variables=teacher
    )
    step = train.make_train_step(*parts)
    return step(state, teacher, batch)[1] if apply else (state, teacher, batch, step)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"pair": "resnet56-resnet2"}, "did you mean 'resnet56-resnet20'"),
        ({"methods": ("kdd",)}, "`methods` has no 'kdd'"),
        ({"zoom": 1.0}, "`zoom` must be in"),
        ({"rotation": -1.0}, "`rotation` must not be negative"),
    ],
)
def test_bad_settings_are_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        recipes.CifarConfig(**setting)


def test_more_images_than_there_are_cannot_be_taken(source, tiny):
    config = dataclasses.replace(SMALL, data=source, train_limit=41)
    with pytest.raises(ValueError, match="`train_limit` is 41, but there are 40"):
        recipes.cifar(config)
