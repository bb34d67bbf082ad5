import dataclasses
import json

import numpy as np
import pytest
from published import torch_arrays

from jaxkd import models, recipes

image_module = pytest.importorskip("PIL.Image", reason="images are read by Pillow")
SMALL = recipes.TransferConfig(
    steps=3,
    save_every=3,
    batch_size=4,
    size=16,
    held_out=5,
    widths=(4, 4),
)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Noise for images, and a published network of one small block."""
    make = lambda classes: models.ResNet(classes, (1,), widths=(4,), stem=4)
    small = (make, models.resnet_torch_name)
    place = "jaxkd.recipes._systems.transfer.TEACHERS"
    monkeypatch.setattr(place, {"mobilenetv2": small})
    rng = np.random.default_rng(0)
    (tmp_path / "images" / "any").mkdir(parents=True)
    for i in range(18):
        noise = rng.integers(0, 255, (20, 20, 3)).astype(np.uint8)
        image_module.fromarray(noise).save(tmp_path / "images" / "any" / f"{i}.png")
    _, arrays = torch_arrays(models.from_linen(make(7)), models.resnet_torch_name, 16)
    np.savez(tmp_path / "published.npz", **arrays)
    return dataclasses.replace(
        SMALL,
        data=str(tmp_path / "images"),
        pretrained=str(tmp_path / "published.npz"),
    )


def test_students_are_compared_by_their_agreement(config, tmp_path):
    experiment = recipes.transfer(config)
    train, validation, test = experiment.splits[:3]
    assert [len(part["image"]) for part in (train, validation, test)] == [8, 5, 5]
    assert len(experiment.splits.classes) == 7
    assert train["image"].dtype == np.uint8
    assert test["image"].dtype == np.float32
    assert experiment.variables is not None
    logits = experiment.teacher.apply(*experiment.variables, dict(test)).logits
    np.testing.assert_array_equal(test["label"], logits.argmax(-1))
    result = recipes.RECIPES["transfer"].run(config, tmp_path / "run", quiet=True)
    names = ["teacher", "student, answers alone", "student, soft targets"]
    assert [row.name for row in result.rows] == names
    assert result.rows[0].accuracy == (1.0,)
    assert "of one seed: that may be chance" in result.words[-1]
    text = (tmp_path / "run" / "report.md").read_text()
    assert "agreement with the teacher" in text
    assert "among the first 5" in (tmp_path / "run" / "report.html").read_text()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert not any("agreement" in json.loads(line).get("test", {}) for line in lines)


def test_the_agreement_counts_every_image_once(config):
    experiment = recipes.transfer(config)
    measure, test = experiment.measure, experiment.splits.test
    assert measure is not None
    assert experiment.variables is not None
    assert measure(experiment.teacher, experiment.variables, test)["accuracy"] == 1
    wrong = {**test, "label": (test["label"] + np.array([1, 0, 1, 0, 0])) % 7}
    found = measure(experiment.teacher, experiment.variables, wrong)
    assert found["accuracy"] == pytest.approx(3 / 5)


def test_too_few_images_or_another_network_are_told(config, tmp_path):
    with pytest.raises(ValueError, match="18 images, but 9 to learn from"):
        recipes.transfer(dataclasses.replace(config, limit=9))
    np.savez(tmp_path / "other.npz", x=np.zeros(2))
    other = dataclasses.replace(config, pretrained=str(tmp_path / "other.npz"))
    with pytest.raises(KeyError, match=r"linear\.bias"):
        recipes.transfer(other)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"teacher": "mobilenet"}, "did you mean 'mobilenetv2'"),
        ({"student": "cnnn"}, "there is no student 'cnnn'"),
        ({"limit": -1}, "`limit` must not be negative"),
        ({"widths": ()}, "`widths` must be positive"),
    ],
)
def test_bad_settings_are_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        recipes.TransferConfig(**setting)
