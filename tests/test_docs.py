"""The pages' programs run as printed, one page's blocks one after the other."""

import pathlib
import re
import runpy
import sys

import pytest

from jaxkd import objectives, recipes

ROOT = pathlib.Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    not (ROOT / "docs").is_dir(),
    reason="the docs are not part of the installed package",
)
# That of pruning has a test of its own, which looks at its numbers too.
PAGES = [
    page for page in sorted((ROOT / "docs").rglob("*.md")) if page.stem != "pruning"
]


def programs(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M)


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if programs(p)],
    ids=lambda page: f"{page.parent.name}-{page.stem}",
)
def test_the_programs_of_a_page_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page.stem}
    for program in programs(page):
        exec(compile(program, page.name, "exec"), names)


def test_the_two_stages_of_the_example_run(monkeypatch, capsys):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    monkeypatch.setattr(sys, "argv", ["two_stage.py", "--steps", "20"])
    runpy.run_path(str(ROOT / "examples" / "two_stage.py"), run_name="__main__")
    printed = capsys.readouterr().out
    accuracies = re.findall(r": (\d+\.\d) % of 500", printed)
    assert len(accuracies) == 4
    assert float(accuracies[0]) > 20.0  # chance is 10


def test_every_objective_has_a_row():
    page = (ROOT / "docs" / "objectives.md").read_text()
    around = {"Adapter", "Head", "Objective", "Term", "Terms", "View", "Weight"}
    around |= {"combine", "linear_adapter", "mean_over_batch"}
    for name in set(objectives.__all__) - around:
        assert re.search(rf"`[^`\n]*\b{name}\b", page), name


def test_the_experiment_of_ones_own_runs(tmp_path):
    make = runpy.run_path(str(ROOT / "examples" / "mnist" / "own.py"))["make"]
    config = recipes.Training(seeds=1, teacher_steps=20, steps=20, save_every=10)
    result = recipes.run_experiment(
        "own", make(config), config, tmp_path / "run", quiet=True
    )
    names = ["teacher", "student 8, alone", "student 8, distilled"]
    assert [row.name for row in result.rows] == names
