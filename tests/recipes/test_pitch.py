import dataclasses
import wave

import jax
import numpy as np
import pytest

from jaxkd import models, recipes

BINS = models.CREPE_BINS


def tones(folder):
    """Two recordings of a gliding tone, 8 kHz."""
    folder.mkdir()
    seconds = np.arange(8000) / 8000
    for name, low in (("a", 150), ("b", 300)):
        phase = 2 * np.pi * np.cumsum(low * (1 + seconds)) / 8000
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes((20000 * np.sin(phase)).astype("<i2").tobytes())
    return str(folder)


def publish(file, capacity):
    """Random weights under torch's names."""
    model = models.from_linen(models.Crepe(capacity), inputs="frames")
    batch = {"frames": np.zeros((1, 1024), np.float32)}
    variables = model.init(jax.random.key(capacity), batch)
    arrays = {}
    leaves = {"kernel": "weight", "scale": "weight", "bias": "bias"}
    leaves |= {"mean": "running_mean", "var": "running_var"}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        layer, name = (str(key.key) for key in path[-2:])
        array = np.asarray(leaf)
        if array.ndim == 3:
            array = array.transpose(2, 1, 0)[..., None]
        elif array.ndim == 2:
            array = array.T
        arrays[f"{models.crepe_torch_name(layer)}.{leaves[name]}"] = array
    np.savez(file, **arrays)
    return str(file)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pitch")
    return recipes.PitchConfig(
        data=tones(folder / "tones"),
        pretrained=publish(folder / "full.npz", 2),
        tiny=publish(folder / "tiny.npz", 1),
        capacity=1,
        frames=40,
        held_out=8,
        voiced=0.0,
        steps=4,
        save_every=2,
        batch_size=8,
    )


def test_the_parameters_are_those_of_the_published_networks():
    batch = {"frames": np.zeros((1, 1024), np.float32)}
    for capacity, count in ((4, 486_552), (32, 22_239_976)):
        model = models.from_linen(models.Crepe(capacity), inputs="frames")
        shapes = jax.eval_shape(lambda m=model: m.init(jax.random.key(0), batch))
        leaves = jax.tree.leaves(shapes.params)
        assert sum(int(np.prod(leaf.shape)) for leaf in leaves) == count


def test_the_pitch_of_a_peak_is_the_mean_around_it():
    peak = np.zeros((1, BINS))
    peak[0, [99, 100, 101, 300]] = 0.5, 1.0, 0.5, 0.9
    (cents,) = models.crepe_cents(peak)
    assert cents == pytest.approx(1997.3794084376191 + 20 * 100)
    lower = models.crepe_cents(np.eye(BINS)[[0]])
    assert 10 * 2 ** (lower[0] / 1200) == pytest.approx(31.7, rel=1e-3)


def test_frames_are_heard_once_and_students_follow(small, tmp_path):
    experiment = recipes.pitch(small)
    splits = experiment.splits
    assert [len(part["frames"]) for part in splits[:3]] == [40, 8, 8]
    frames = splits.train["frames"]
    np.testing.assert_allclose(frames.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(frames.std(axis=1, ddof=1), 1, rtol=1e-4)
    heard = experiment.teacher.apply(*experiment.variables, {"frames": frames}).logits
    np.testing.assert_allclose(splits.train["stored"], heard, rtol=1e-3, atol=1e-3)
    result = recipes.RECIPES["pitch"].run(small, tmp_path / "run", quiet=True)
    rows = {row.name: row for row in result.rows}
    assert rows["teacher"].accuracy == (1.0,)
    assert rows["tiny, as published"].parameters < rows["teacher"].parameters
    assert {"tiny, trained further", "student, probabilities"} < set(rows)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "octaves forgiven" in page
    assert "pitch within 50 cents" in page


def test_what_cannot_be_had_is_said(small):
    with pytest.raises(ValueError, match=r"frames of .*ask for 1016"):
        recipes.pitch(dataclasses.replace(small, frames=1000))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        recipes.pitch(dataclasses.replace(small, pretrained="nowhere.pth"))
    with pytest.raises(ValueError, match="voiced"):
        recipes.PitchConfig(voiced=2.0)
