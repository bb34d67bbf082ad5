"""The notebook runs from top to bottom, on eight emulated devices."""

import json
import pathlib

import jax
import pytest

from jaxkd import trees

FILE = pathlib.Path(__file__).parents[1] / "examples" / "colab_tpu.ipynb"
pytestmark = pytest.mark.skipif(
    not FILE.exists(), reason="the examples are not part of the installed package"
)
pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
pytest.importorskip("matplotlib", reason="the notebook draws")


def programs():
    cells = json.loads(FILE.read_text())["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]


def test_every_cell_runs_and_says_what_came_out(tmp_path, monkeypatch, capsys):
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXKD_SMALL", "1")
    plt.switch_backend("agg")
    names = {"__name__": "__main__"}
    for program in programs():
        assert "setup_tpu" not in program  # removed from jax
        plain = program.replace("%pip", "pass  #")
        exec(compile(plain, FILE.name, "exec"), names)
    plt.close("all")
    said = capsys.readouterr().out
    assert f"{jax.device_count()} × " in said
    assert " zeros, accuracy " in said
    assert 0.7 < trees.sparsity(names["pruned"].params) < 0.8
    assert names["accuracy"](names["teacher"], names["taught"]) > 0.5
    assert (names["folder"] / "student" / "manifest.json").is_file()


def test_no_output_is_kept_in_the_file():
    cells = json.loads(FILE.read_text())["cells"]
    assert all(not c.get("outputs") for c in cells)
