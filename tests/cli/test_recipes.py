import json

import pytest

from jaxkd import cli, recipes

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


def run(*words):
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    file = folder / "mnist.json"
    file.write_text(json.dumps(SETTINGS))
    out = folder / "out"
    words = ("--config", file, "--set", "steps=10", "--out", out, "--quiet")
    assert run("run", "mnist", *words) == 0
    return out


def test_list_shows_all_recipes_and_one_with_its_settings(capsys):
    assert run("list") == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()] == list(recipes.RECIPES)
    assert run("list", "speech") == 0
    shown = capsys.readouterr().out
    assert '  data = "recordings"\n' in shown
    assert "  student = [8, 16, 32]\n" in shown
    assert run("list", "mnst") == 2
    assert "did you mean 'mnist'" in capsys.readouterr().err


def test_a_file_and_words_set_what_is_run(done):
    name, config = recipes.read_run(done)
    assert name == "mnist"
    wanted = {**recipes.to_json(recipes.MnistConfig()), **SETTINGS, "steps": 10}
    assert recipes.to_json(config) == wanted


def test_resume_needs_the_folder_alone(done, capsys):
    (done / "result.json").unlink()
    assert run("resume", done, "--quiet") == 0
    assert (done / "result.json").exists()
    assert (
        f"Report:  {done}/report.html and {done}/report.md" in capsys.readouterr().out
    )
    assert run("run", "mnist", "--out", done, "--resume", "--quiet") == 0
    assert run("run", "demo", "--out", done, "--resume") == 2
    assert "holds a run of 'mnist', not of 'demo'" in capsys.readouterr().err
    assert run("run", "mnist", "--out", done) == 1
    assert "holds a run already" in capsys.readouterr().err


def test_report_compares_what_is_finished(done, tmp_path, capsys):
    assert run("report", done, "--out", tmp_path / "report") == 0
    assert "student 8, distilled" in capsys.readouterr().out
    assert (tmp_path / "report" / "report.html").exists()
    assert run("report", tmp_path) == 2
    assert "holds no run" in capsys.readouterr().err


def test_evaluate_scores_beside_the_teacher(done, capsys):
    exported = done / "exported"
    words = (exported / "student-8-distilled", "--teacher", exported / "teacher")
    assert run("evaluate", *words) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("500 examples:")
    assert [line.split()[0] for line in shown[1:5]] == [
        "accuracy",
        "calibration",
        "agreement",
        "class",
    ]
    assert len(shown) == 14
    assert all("teacher" in line for line in shown[4:])
    assert run("evaluate", done) == 2
    assert "is no artefact" in capsys.readouterr().err
    assert run("evaluate", exported / "teacher", "--data", "no.npz") == 2
    assert "there is no file no.npz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("nothing",), "there is no recipe 'nothing'"),
        (("mnist", "--set", "stepz=3"), "did you mean 'steps'"),
        (("mnist", "--set", "steps"), "NAME=VALUE"),
        (("mnist", "--set", "steps=many"), "`steps` must be int"),
        (("mnist", "--set", "steps=0"), "`steps` must be at least 1"),
        (("mnist", "--config", "none.json"), "none.json does not exist"),
    ],
)
def test_wrong_words_are_explained_before_anything_is_written(
    words, error, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run("run", *words) == 2
    assert error in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_resumed(tmp_path, capsys):
    assert run("resume", tmp_path) == 2
    assert "holds no run" in capsys.readouterr().err
    (tmp_path / "config.json").write_text("{")
    assert run("resume", tmp_path) == 1
    assert "is damaged" in capsys.readouterr().err


def test_a_model_of_an_experiment_is_exported_again(done, capsys):
    words = ("export", done, "--to", "stablehlo", "--model", "student-8-distilled")
    assert run(*words) == 0
    (place,) = capsys.readouterr().out.split()
    shown = json.loads(
        (done / "exported" / place.split("/")[-1] / "card.json").read_text()
    )
    assert shown["recipe"]["recipe"] == "mnist"
    assert run("export", done, "--to", "stablehlo", "--model", "student-9") == 2
    assert "did you mean 'student-8-alone'" in capsys.readouterr().err
