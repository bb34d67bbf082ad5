import json
import os

import jax
import numpy as np
import pytest

from jaxkd import deploy, models

INPUTS = {"image": np.eye(4, dtype="f4")}
LABELS = np.array([0, 1, 2, 0], "i4")


@pytest.fixture
def folder(tmp_path):
    model = models.from_linen(models.MLP(hidden=(8,), classes=3))
    variables = model.init(jax.random.key(0), INPUTS)
    deploy.export(model, variables, INPUTS, tmp_path / "net", metadata={"seed": 1})
    return tmp_path / "net"


def test_scores_by_loops():
    draw = np.random.default_rng(0)
    logits, teacher = draw.normal(size=(2, 200, 4)) * 2
    labels = draw.integers(-1, 4, 200)
    got = deploy.score(logits, labels, teacher, bins=10)
    kept = [i for i in range(200) if labels[i] >= 0]
    best = logits.argmax(1)
    assert got.examples == len(kept) == sum(got.class_examples)
    assert got.accuracy == pytest.approx(np.mean([best[i] == labels[i] for i in kept]))
    same = np.mean([best[i] == teacher[i].argmax() for i in kept])
    assert got.agreement == pytest.approx(same)
    for c in range(4):
        own = [i for i in kept if labels[i] == c]
        right = np.mean([best[i] == c for i in own])
        assert got.class_accuracy[c] == pytest.approx(right)
    confidence = np.exp(logits).max(1) / np.exp(logits).sum(1)
    error = 0.0
    for b in range(10):
        own = [i for i in kept if b / 10 < confidence[i] <= (b + 1) / 10]
        if own:
            right = np.mean([best[i] == labels[i] for i in own])
            error += len(own) / len(kept) * abs(right - confidence[own].mean())
    assert got.calibration_error == pytest.approx(error)


def test_a_model_that_knows_what_it_knows_has_no_calibration_error():
    sure = deploy.score(np.array([[100.0, 0.0], [0.0, 100.0]]), np.array([0, 1]))
    assert sure.calibration_error == pytest.approx(0.0)
    guess = deploy.score(np.zeros((2, 2)), np.array([0, 1]))
    assert (guess.accuracy, guess.calibration_error) == (0.5, 0.0)


def test_masked_classes_and_classes_without_examples():
    got = deploy.score(np.array([[1.0, -np.inf, 0.0]]), np.array([0]))
    assert got.class_examples == (1, 0, 0)
    assert np.isnan(got.class_accuracy[1])
    assert np.isfinite(got.calibration_error)


def test_wrong_labels_are_explained():
    logits = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"`labels` has shape \(3,\)"):
        deploy.score(logits, np.zeros(3, int))
    with pytest.raises(TypeError, match="`labels` must be integers, got float64"):
        deploy.score(logits, np.zeros(2))
    with pytest.raises(ValueError, match="has the class 3, but `logits` only 3"):
        deploy.score(logits, np.array([0, 3]))
    with pytest.raises(ValueError, match="no labels"):
        deploy.score(logits, np.array([-1, -1]))
    with pytest.raises(ValueError, match="`teacher_logits` has shape"):
        deploy.score(logits, np.array([0, 1]), np.zeros((2, 4)))


def test_batches_masks_and_teachers(folder):
    artefact = deploy.load(folder)
    logits = np.asarray(artefact.predict(INPUTS))
    batches = [
        {"image": INPUTS["image"][:3], "label": LABELS[:3], "index": np.arange(3)},
        {
            "image": INPUTS["image"][[3, 0]],
            "label": LABELS[[3, 1]],
            "mask": np.array([True, False]),
        },
    ]
    scores, teacher = deploy.evaluate_artefact(artefact, batches, teacher=artefact)
    assert scores == deploy.score(logits, LABELS, logits)
    assert scores.agreement == 1.0
    assert teacher == scores._replace(agreement=None)
    assert deploy.evaluate_artefact(artefact, batches)[1] is None
    with pytest.raises(ValueError, match="no batches"):
        deploy.evaluate_artefact(artefact, [])
    with pytest.raises(KeyError, match=r"evaluation needs batch\['label'\]"):
        deploy.evaluate_artefact(artefact, [INPUTS])


STUDENT = deploy.Quality(6, 0.5, 0.1, 0.75, (2, 2, 2, 0), (1.0, 0.5, 0.0, float("nan")))
TEACHER = deploy.Quality(6, 5 / 6, 0.2, None, (2, 2, 2, 0), (0.5, 1.0, 1.0, np.nan))


def make_card(folder, **more):
    return deploy.model_card(
        deploy.load(folder),
        STUDENT,
        teacher=TEACHER,
        fingerprint="abc",
        data="four | unit\nvectors",
        **more,
    )


def test_a_card_says_who_pays(folder):
    speed = {1: 0.001, 256: 0.002}
    measurement = deploy.Measurement(
        "net", "stablehlo", "", 1, speed, {n: n / t for n, t in speed.items()}, 2
    )
    card = make_card(folder, measurement=measurement, recipe={"steps": 3})
    content = card.content
    assert [entry["class"] for entry in content["classes"]] == [2, 1, 0]
    assert [entry["change"] for entry in content["classes"]] == [-1.0, -0.5, 0.5]
    assert content["teacher"]["fingerprint"] == "abc"
    assert content["files"] == deploy.load(folder).manifest["files"]
    assert content["speed"]["batches"][1]["examples_per_second"] == 128_000
    for line in (
        "| accuracy | 50.00 % | 83.33 % |",
        "| expected calibration error | 10.00 % | 20.00 % |",
        "| agreement with the teacher | 75.00 % |  |",
        "| 2 | 2 | 0.00 % | 100.00 % | -100.00 |",
        "Scored on 6 examples. four \\| unit vectors",
        "| 256 | 2.000 | 128,000 |",
        "| steps | 3 |",
    ):
        assert line in card.markdown.splitlines()
    assert make_card(folder, measurement=measurement, recipe={"steps": 3}) == card


def test_a_card_belongs_to_its_artefact(folder):
    size = deploy.load(folder).num_bytes
    for recipe in ({"steps": 1}, {"steps": 2}):  # the second replaces the first
        deploy.write_card(folder, make_card(folder, recipe=recipe))
        manifest = deploy.load(folder).manifest
        assert {"card.json", "card.md"} <= set(manifest["files"])
        assert manifest["metadata"] == {"seed": 1}
    found = json.loads((folder / "card.json").read_text())
    assert found["recipe"] == {"steps": 2}
    assert abs(deploy.load(folder).num_bytes - size) < 400  # the manifest names it
    (folder / "card.md").write_text("all is well")
    with pytest.raises(deploy.ArtefactError, match=r"card\.md has changed"):
        deploy.load(folder)


@pytest.mark.parametrize("moment", range(6))
def test_a_killed_process_leaves_a_whole_artefact(folder, monkeypatch, moment):
    deploy.write_card(folder, make_card(folder, recipe={"steps": 1}))
    card, replace, count = make_card(folder), os.replace, [0]

    def fail(*names, **more):
        count[0] += 1
        if count[0] > moment:
            raise OSError("no room")
        replace(*names, **more)

    monkeypatch.setattr("os.replace", fail)
    if moment < 4:
        with pytest.raises(deploy.ArtefactError, match="cannot write to"):
            deploy.write_card(folder, card)
    else:
        deploy.write_card(folder, card)
    assert deploy.load(folder).predict(INPUTS).shape == (4, 3)


def test_what_is_no_card(folder, tmp_path):
    other = TEACHER._replace(class_examples=(6, 0, 0, 0))
    with pytest.raises(ValueError, match="`teacher` was scored on other examples"):
        deploy.model_card(deploy.load(folder), STUDENT, teacher=other)
    with pytest.raises(deploy.ArtefactError, match="`recipe` must be plain values"):
        make_card(folder, recipe={"a": np.ones(2)})
    card = make_card(folder)
    files = {"program.bin": {"sha256": "0", "bytes": 1}}
    foreign = card._replace(content={**card.content, "files": files})
    with pytest.raises(deploy.ArtefactError, match="of another artefact"):
        deploy.write_card(folder, foreign)
    with pytest.raises(FileNotFoundError, match="is no artefact"):
        deploy.write_card(tmp_path, card)


def test_measured_in_processes_of_their_own(folder):
    one, two = deploy.measure_together([folder, folder], batch_sizes=(1, 8), rounds=2)
    assert one.num_bytes == two.num_bytes == deploy.load(folder).num_bytes
    assert list(one.latency) == [1, 8]
    for found in (one, two):
        assert all(0 < seconds < 5 for seconds in found.latency.values())
        assert found.throughput[8] == pytest.approx(8 / found.latency[8])
    assert deploy.table([one, two]).count("\n") == 3


def test_what_cannot_be_measured(folder, tmp_path):
    with pytest.raises(ValueError, match="must be positive, got 0"):
        deploy.measure(folder, rounds=0)
    with pytest.raises(FileNotFoundError, match="is no artefact"):
        deploy.measure(tmp_path)
    model = models.from_linen(models.MLP(hidden=(8,), classes=3))
    variables = model.init(jax.random.key(0), INPUTS)
    deploy.export_safetensors(model, variables, INPUTS, tmp_path / "weights")
    with pytest.raises(deploy.ArtefactError, match="holds weights without a program"):
        deploy.measure(tmp_path / "weights", rounds=1)
