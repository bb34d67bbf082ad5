"""The page "One step, every machine": its program of two processes runs as printed.

The other programs run in test_docs.py.
"""

import pathlib
import re
import socket
import subprocess
import sys

import pytest

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "parallel.md"
pytestmark = pytest.mark.skipif(
    not PAGE.exists(), reason="the docs are not part of the installed package"
)


def test_two_processes_run_as_printed():
    (program,) = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    assert "localhost:1234" in program
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    program = program.replace("localhost:1234", f"localhost:{port}")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, number],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in "01"
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    for process, (_, errors) in zip(running, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    # Gloo may greet on the same stream before.
    first, second = (printed.splitlines()[-1].split() for printed, _ in outputs)
    assert first == second
    assert first[0] == "2"
