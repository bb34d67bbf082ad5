"""The README's promises: its program runs as printed, its commands are the two."""

import pathlib
import re
import subprocess
import sys

import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"
pytestmark = pytest.mark.skipif(
    not README.exists(), reason="the README is not part of the installed package"
)


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.S | re.M)


def test_the_program_runs_as_printed(tmp_path):
    (program,) = blocks("python")
    assert len(program.splitlines()) <= 40
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name, accuracy = done.stdout.split()
    assert name == "accuracy:"
    assert float(accuracy) > 0.9
    assert (tmp_path / "student" / "manifest.json").is_file()


def test_the_first_screen_has_exactly_two_commands():
    first = README.read_text().split("\n## ")[0]
    commands = re.findall(r"^```bash\n(.*?)^```", first, re.S | re.M)
    assert commands == [
        'pip install -e ".[demo]" && jaxkd demo\n',
        'pip install -e ".[test]" && pytest -n 2 --dist loadfile\n',
    ]


def test_ci_runs_the_readmes_own_test_command():
    ci = README.parent / ".ci" / "run"
    assert blocks("bash")[1].strip() in ci.read_text()


def test_it_can_be_read_in_one_sitting():
    assert len(README.read_text().splitlines()) <= 150
