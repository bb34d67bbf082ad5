import dataclasses
import json
import pathlib

import numpy as np
import pytest

from jaxkd import recipes

#: None where the package is installed without them.
EXAMPLES = sorted((pathlib.Path(__file__).parents[2] / "examples").glob("*/*.json"))


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 10
    rate: float = 0.1
    widths: tuple[int, ...] = (8, 4)
    name: str = "a"
    loud: bool = False


@pytest.mark.parametrize("cls", [Config, *(r.config for r in recipes.RECIPES.values())])
def test_every_config_is_its_json(cls):
    config = cls()
    assert recipes.from_json(cls, recipes.to_json(config)) == config


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_the_settings_of_the_examples_are_right(file):
    found = json.loads(file.read_text())
    config = recipes.from_json(recipes.find_recipe(file.parent.name).config, found)
    assert found.items() <= recipes.to_json(config).items()
    assert file.name in (file.parent / "README.md").read_text()


def test_every_recipe_has_an_example():
    if not EXAMPLES:
        pytest.skip("the examples are not part of the installed package")
    shown = {file.parent.name for file in EXAMPLES}
    assert shown == set(recipes.RECIPES) - {"demo", "compress"}


@pytest.mark.parametrize(
    ("found", "error", "words"),
    [
        ({"step": 1}, ValueError, "'step' is no setting; did you mean 'steps'"),
        ({"steps": 1.5}, TypeError, "`steps` must be int, got 1.5"),
        ({"steps": True}, TypeError, "`steps` must be int, got True"),
        ({"rate": "x"}, TypeError, "`rate` must be float"),
        ({"widths": 3}, TypeError, "`widths` must be tuple"),
        ({"loud": 1}, TypeError, "`loud` must be bool"),
    ],
)
def test_what_is_no_setting_is_named(found, error, words):
    with pytest.raises(error, match=words):
        recipes.from_json(Config, found)


def test_a_whole_number_is_a_float():
    assert recipes.from_json(Config, {"rate": 1, "widths": [2]}) == Config(
        rate=1, widths=(2,)
    )


def test_words_change_settings_and_nothing_else():
    settings = {"a": 1, "stages": [{"steps": 1}, {"steps": 2}], "inner": {"b": 3}}
    words = ["a=2.5", "stages.2.steps=7", "inner.b=text", 'inner.c={"d": 1}']
    changed = recipes.change(settings, words)
    assert changed == {
        "a": 2.5,
        "stages": [{"steps": 1}, {"steps": 7}],
        "inner": {"b": "text", "c": {"d": 1}},
    }
    assert settings["stages"][1] == {"steps": 2}


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("steps", "NAME=VALUE"),
        ("stages.3.steps=1", "'3' holds no settings"),
        ("stagez.1.steps=1", "did you mean 'stages'"),
        ("a.b=1", "'a' holds no settings"),
        ("stages.1=1", "names none of the settings"),
    ],
)
def test_words_that_lead_nowhere_say_so(word, words):
    settings = {"a": 1, "stages": [{"steps": 1}, {"steps": 2}]}
    with pytest.raises(ValueError, match=words):
        recipes.change(settings, [word])


def test_images_come_from_npz(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "train_images": rng.integers(0, 256, (30, 6, 6), dtype=np.uint8),
        "train_labels": rng.integers(0, 3, 30),
        "test_images": rng.integers(0, 256, (10, 6, 6), dtype=np.uint8),
        "test_labels": np.arange(10) % 3,
    }
    file = tmp_path / "own.npz"
    np.savez(file, **arrays)
    splits = recipes.load_images(str(file), validation=10)
    sizes = [len(part["label"]) for part in splits[:3]]
    assert sizes == [20, 10, 10]
    assert splits.classes == ("0", "1", "2")
    own = np.concatenate([splits.train["image"], splits.validation["image"]])
    assert own.shape == (30, 6, 6, 1)
    assert own.dtype == np.float32
    expected = np.sort(arrays["train_images"].ravel() / np.float32(255))
    np.testing.assert_allclose(np.sort(own.ravel()), expected, rtol=1e-6)
    again = recipes.load_images(str(file), validation=10)
    np.testing.assert_array_equal(again.train["image"], splits.train["image"])
    short = {"train_images": "x_train", "train_labels": "y_train"}
    short |= {"test_images": "x_test", "test_labels": "y_test"}
    np.savez(tmp_path / "short.npz", **{short[k]: v for k, v in arrays.items()})
    same = recipes.load_images(str(tmp_path / "short.npz"), validation=10)
    np.testing.assert_array_equal(same.test["image"], splits.test["image"])
    folder = tmp_path / "idx"
    folder.mkdir()
    for part, name in {"train": "train", "test": "t10k"}.items():
        for kind, dims in {"images": 3, "labels": 1}.items():
            array = arrays[f"{part}_{kind}"].astype(np.uint8)
            head = bytes([0, 0, 8, dims]) + np.array(array.shape, ">u4").tobytes()
            file_of = folder / f"{name}-{kind}-idx{dims}-ubyte"
            file_of.write_bytes(head + array.tobytes())
    same = recipes.load_images(str(folder), validation=10)
    np.testing.assert_array_equal(same.test["image"], splits.test["image"])
    np.testing.assert_array_equal(same.train["label"], splits.train["label"])
    with pytest.raises(ValueError, match="30 of 30 training examples"):
        recipes.load_images(str(file), validation=30)
    np.savez(file, **{k: v for k, v in arrays.items() if k != "test_labels"})
    with pytest.raises(KeyError, match="test_labels"):
        recipes.load_images(str(file), validation=10)
    np.savez(file, **{**arrays, "test_images": np.zeros((9, 6))})
    with pytest.raises(ValueError, match="different lengths"):
        recipes.load_images(str(file), validation=10)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        recipes.load_images(str(tmp_path / "none.npz"))
