import dataclasses
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxkd import deploy, recipes, report

SMALL = recipes.DemoConfig(
    seeds=2,
    steps=40,
    teacher_widths=(8, 16),
    student_widths=(4, 8),
    save_every=10,
)
RUN = """
import json, sys
from jaxkd import recipes
config = recipes.from_json(recipes.DemoConfig, json.loads(sys.argv[2]))
recipes.demo(config, sys.argv[1], resume=True, quiet=True)
"""


def start(folder):
    config = json.dumps(dataclasses.asdict(SMALL))
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), config],
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder):
    process = start(folder)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "run"
    finish(folder)
    return folder, recipes.demo(SMALL, folder, resume=True, quiet=True)


def weights(folder):
    """What the run trained, and every number that it recorded."""
    files = sorted((folder / "exported").glob("*/weights.safetensors"))
    records = report.JsonLines(folder / "metrics.jsonl").read()
    return [f.read_bytes() for f in files], sorted(map(json.dumps, records))


def test_leaves_all_it_promises(undisturbed):
    folder, result = undisturbed
    names = {p.name for p in folder.iterdir() if not p.name.startswith(".")}
    assert names == {
        "config.json",
        "metrics.jsonl",
        "report.md",
        "report.html",
        "result.json",
        "report.png",
        "checkpoints",
        "exported",
        "digits.npy",
    }
    saved = json.loads((folder / "config.json").read_text())
    assert recipes.from_json(recipes.DemoConfig, saved["config"]) == SMALL
    assert set(saved["versions"]) >= {"jaxkd", "jax", "flax", "optax", "python"}
    text = (folder / "report.md").read_text()
    for row, words in zip(result.rows, result.words, strict=False):
        assert row.name in text
        assert words in text
    stages = {p.name for p in (folder / "checkpoints" / "seed1").iterdir()}
    assert stages == {
        "teacher",
        "alone-all-labels",
        "alone-few-labels",
        "distilled",
        "pruned",
    }


def test_a_model_card_lies_beside_each_artefact(undisturbed):
    folder, (rows, _) = undisturbed
    teacher, *_, distilled, pruned, int8 = rows
    places = {
        "teacher": teacher,
        "student-distilled": distilled,
        "student-pruned": pruned,
        "student": int8,
    }
    assert {p.name for p in (folder / "exported").iterdir()} == set(places)
    cards = {
        name: json.loads((folder / "exported" / name / "card.json").read_text())
        for name in places
    }
    for name, row in places.items():
        card = cards[name]
        assert card["accuracy"] == pytest.approx(row.accuracy[0])
        assert card["agreement"] == pytest.approx(row.agreement[0])
        assert card["num_bytes"] == row.num_bytes
        assert card["recipe"]["steps"] == SMALL.steps
        assert len(card["classes"]) == 10
        assert 0 <= card["calibration_error"] <= 1
        assert card["speed"]
        assert set(card["files"]) == {"program.bin", "weights.safetensors"}
    assert len({card["teacher"]["fingerprint"] for card in cards.values()}) == 1


def test_the_table_tells_the_truth(undisturbed):
    folder, (rows, _) = undisturbed
    teacher, alone, few, distilled, pruned, int8 = rows
    assert all(len(row.accuracy) == 2 for row in rows)
    assert teacher.agreement == (1.0, 1.0)
    assert distilled.parameters == alone.parameters == few.parameters
    kernels = 9 * 4 + 9 * 4 * 8 + 8 * 10
    others = pruned.parameters - kernels
    # BatchNorm biases start at zero; after training none is exactly that.
    assert pruned.nonzeros == others + kernels - round(0.8 * kernels)
    assert int8.nonzeros <= pruned.nonzeros
    artefact = deploy.load(folder / "exported" / "student")
    assert int8.num_bytes == artefact.num_bytes
    test = recipes.load_digits().test
    predicted = np.argmax(artefact.predict({"image": test["image"]}), axis=1)
    assert int8.accuracy[0] == pytest.approx(np.mean(predicted == test["label"]))


def test_killed_at_any_moment_it_ends_with_the_same_bits(undisturbed, tmp_path):
    folder = tmp_path / "run"
    records = folder / "metrics.jsonl"
    for lines in (3, 12):  # within the first seed's first stages, then later
        process = start(folder)
        while process.poll() is None and (
            not records.exists() or records.read_text().count("\n") < lines
        ):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    finish(folder)
    assert weights(folder) == weights(undisturbed[0])


@pytest.mark.slow
def test_killed_twenty_times_it_ends_with_the_same_bits(undisturbed, tmp_path):
    folder, rng = tmp_path / "run", np.random.default_rng(0)
    for _ in range(20):
        process = start(folder)
        time.sleep(rng.uniform(2, 25))
        process.kill()
        process.communicate()
    finish(folder)
    assert weights(folder) == weights(undisturbed[0])


def test_a_finished_run_can_be_resumed_and_changes_nothing(undisturbed):
    folder, result = undisturbed
    before = weights(folder)
    again = recipes.demo(SMALL, folder, resume=True, quiet=True)
    assert weights(folder) == before
    for old, new in zip(result.rows, again.rows, strict=True):
        assert (old.name, old.accuracy, old.num_bytes) == (
            new.name,
            new.accuracy,
            new.num_bytes,
        )


def test_a_damaged_export_is_made_again(undisturbed):
    folder, _ = undisturbed
    before = weights(folder)
    (folder / "exported" / "student" / "program.bin").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="has changed.*exported again"):
        recipes.demo(SMALL, folder, resume=True, quiet=True)
    assert weights(folder) == before


def test_two_processes_do_not_share_a_folder(undisturbed):
    folder, _ = undisturbed
    with (
        recipes.lock_folder(folder),
        pytest.raises(recipes.FolderError, match="another process is at work"),
    ):
        recipes.demo(SMALL, folder, resume=True, quiet=True)


def test_a_folder_of_another_run_is_refused(undisturbed):
    folder, _ = undisturbed
    before = weights(folder)
    with pytest.raises(recipes.FolderError, match="holds a run already; add --resume"):
        recipes.demo(SMALL, folder, quiet=True)
    other = dataclasses.replace(SMALL, labels=100)
    with pytest.raises(recipes.FolderError, match="a run with labels 50, not 100"):
        recipes.demo(other, folder, resume=True, quiet=True)
    assert weights(folder) == before


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(recipes.FolderError, match=r"other files \(thesis\.tex\)"):
        recipes.demo(SMALL, tmp_path, quiet=True)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_other_versions_are_noticed(tmp_path):
    recipes.open_folder(tmp_path, {"a": 1}, {"jax": "0.1"}, resume=False)
    with pytest.warns(UserWarning, match=r"began with jax 0\.1, now it is 0\.2"):
        recipes.open_folder(tmp_path, {"a": 1}, {"jax": "0.2"}, resume=True)


def test_a_damaged_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(recipes.FolderError, match=r"config\.json is damaged"):
        recipes.open_folder(tmp_path, {}, {}, resume=True)


def test_bad_settings():
    with pytest.raises(ValueError, match="`labels` must be a multiple of 10"):
        recipes.DemoConfig(labels=15)
    with pytest.raises(ValueError, match="`steps` must be at least 1"):
        recipes.DemoConfig(steps=0)
    with pytest.raises(ValueError, match="'stepz' is no setting; did you mean 'steps'"):
        recipes.from_json(recipes.DemoConfig, {"stepz": 3})


def test_hidden_labels_cannot_leak():
    train = recipes.load_digits().train
    few = recipes.hide_labels(train, keep=50, seed=3)
    assert few["labelled"].sum() == 50
    np.testing.assert_array_equal(np.bincount(train["label"][few["labelled"]]), 5)
    assert not few["label"][~few["labelled"]].any()
    other = recipes.hide_labels(train, keep=50, seed=4)
    assert not np.array_equal(few["labelled"], other["labelled"])


def test_parts_of_the_data_are_disjoint():
    parts = recipes.load_digits()
    assert [len(part["label"]) for part in parts] == [1000, 297, 500]
    rows = np.concatenate([part["image"].reshape(-1, 64) for part in parts])
    raw = recipes.load_digits()
    assert len(np.unique(rows, axis=0)) == 1797
    np.testing.assert_array_equal(raw.test["image"], parts.test["image"])


def row(name, *accuracy):
    return report.Row(name, accuracy, accuracy, 1, 1, 1000, 1.0, 1.0)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ((0.95, 0.96), r"helped, compared with the other \(\+5\.50 ± 0\.71 points\)"),
        ((0.89, 0.95), r"made no clear difference to the other \(\+2\.00 ± 4\.24"),
        ((0.80, 0.90), r"did not help, compared with the other \(-5\.00 ± 7\.07"),
    ],
)
def test_gains_are_said_plainly(own, words):
    text = recipes.gain("Distillation", row("a", *own), "the other", row("b", 0.9, 0.9))
    assert pytest.importorskip("re").search(words, text)
