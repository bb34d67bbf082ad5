import json
import struct
import time

import pytest

from jaxkd import cli, recipes, report

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
SETTINGS = {
    "seeds": 1,
    "teacher_steps": 20,
    "steps": 20,
    "save_every": 10,
    "teacher": [16],
    "students": [8],
    "match": False,
}


def test_ranges():
    assert recipes.read_range("a=1:8") == ("a", recipes.Range(1.0, 8.0))
    assert recipes.read_range("a=1e-3:1:log")[1] == recipes.Range(1e-3, 1.0, True)
    assert recipes.read_range("a=1,x,[2]")[1].choices == (1, "x", [2])
    for wrong in ("a", "=1:2", "a=", "a=2:1", "a=1:2:lag", "a=x:2", "a=1:2:3:4"):
        with pytest.raises(ValueError, match="a range is NAME=LOW:HIGH"):
            recipes.read_range(wrong)
    with pytest.raises(ValueError, match="no logarithm of 0"):
        recipes.read_range("a=0:1:log")


def test_a_search_goes_on_and_its_best_can_be_run(tmp_path, capsys):
    pytest.importorskip("optuna", reason="the extra 'tune' is not installed")
    space = {
        "learning_rate": recipes.Range(1e-3, 0.1, log=True),
        "batch_size": recipes.Range(32, 64),
        "soft_weight": recipes.Range(choices=(0.5, 0.9)),
    }
    folder = tmp_path / "search"
    search = lambda trials: recipes.tune(
        "mnist", space, folder, trials=trials, settings=SETTINGS, quiet=True
    )
    search(1)
    found = search(2)
    assert sum(found.trials.values()) == 2
    assert found.settings.keys() == space.keys()
    assert isinstance(found.settings["batch_size"], int)
    records = report.JsonLines(found.folder / "metrics.jsonl").read()
    own = [
        r["validation_accuracy"]
        for r in records
        if r.get("stage") == "student 8, distilled" and "validation_accuracy" in r
    ]
    assert found.accuracy == max(own)
    best = json.loads((folder / "best.json").read_text())
    assert best == {
        **recipes.to_json(recipes.MnistConfig()),
        **SETTINGS,
        **found.settings,
    }
    assert search(2) == found  # nothing is left to do
    with pytest.raises(recipes.FolderError, match="settings"):
        recipes.tune("mnist", space, folder, trials=2, quiet=True)
    table = (folder / "report.md").read_text()
    assert f"{100 * found.accuracy:.2f}" in table


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("demo", "--try", "steps=1:2"), "records no validation accuracy"),
        (("mnist", "--try", "stepz=1:2"), "did you mean 'steps'"),
        (("mnist", "--try", "temperature=0:2"), "`temperature` must be positive"),
        (("mnist", "--try", "network=mlp,cn"), "did you mean 'cnn'"),
        (("mnist", "--try", "steps=1:2", "--trials", "0"), "some trials"),
        (("mnist", "--try", "steps=2:1"), "a range is"),
    ],
)
def test_what_cannot_be_searched_is_said_at_once(
    words, error, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["tune", *words]) == 2
    assert error in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def scalars(folder):
    """Names and values of the curves that TensorBoard would show."""
    events = pytest.importorskip("tensorboardX.proto.event_pb2")
    (file,) = (folder / "tensorboard").iterdir()
    content, place, found = file.read_bytes(), 0, []
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        event = events.Event.FromString(content[place + 12 : place + 12 + length])
        found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
        place += 16 + length
    return found


def test_tensorboard_gets_every_number(tmp_path):
    pytest.importorskip("tensorboardX", reason="the extra 'tensorboard' is missing")
    records = report.open_records(tmp_path, [report.find_logger("tensorboard")])
    records.write({"seed": 3, "stage": "teacher", "step": 7, "loss": 0.5})
    records.write({"seed": 3, "stage": "teacher", "test": {"accuracy": 0.25}})
    wanted = [
        ("loss/teacher/seed3", 7, 0.5),
        ("test_accuracy/teacher/seed3", 0, 0.25),
    ]
    until = time.monotonic() + 30
    while scalars(tmp_path) != wanted and time.monotonic() < until:
        time.sleep(0.2)
    assert scalars(tmp_path) == wanted
    assert len(records.read()) == 2


def test_weights_and_biases_writes_without_a_network(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra 'wandb' is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    (tmp_path / "run").mkdir()
    records = report.open_records(tmp_path / "run", [report.wandb])
    records.write({"seed": 0, "stage": "teacher", "step": 7, "loss": 0.5})
    import wandb

    assert dict(wandb.run.summary)["loss/teacher/seed0"] == 0.5
    wandb.finish()
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))


def test_loggers_have_names():
    with pytest.raises(ValueError, match="did you mean 'tensorboard'"):
        report.find_logger("tensorbord")
