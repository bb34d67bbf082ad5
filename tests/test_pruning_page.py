"""The pruning page's promise: its program runs as printed."""

import pathlib
import re
import subprocess
import sys

import pytest

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "pruning.md"
pytestmark = pytest.mark.skipif(
    not PAGE.exists(), reason="the docs are not part of the installed package"
)


def test_the_program_runs_as_printed(tmp_path):
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    assert len(program.splitlines()) <= 65
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _, teacher, _, cut, _, distilled, _, zeros = done.stdout.split()[-8:]
    assert float(teacher) > 0.95
    assert float(distilled) > float(cut)
    assert float(distilled) > 0.9 * float(teacher)
    assert float(zeros) > 0.7
