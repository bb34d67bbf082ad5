"""The page "One step, every machine": its programs run as printed."""

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


def programs():
    """The program of one process, of all blocks but one, and that of two."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    two = [block for block in blocks if "initialize_distributed(" in block]
    one = [block for block in blocks if block not in two]
    assert len(two) == 1
    assert len(one) >= 9
    return "\n".join(one), two[0]


def start(program, *words):
    return subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    try:
        output, errors = process.communicate(timeout=400)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-3000:]
    return output


def test_all_modes_run_as_printed_and_give_the_same_numbers():
    program, _ = programs()
    assert program.count("assert_allclose") >= 9
    finish(start(program))


def test_two_processes_run_as_printed():
    _, program = programs()
    assert "localhost:1234" in program
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    program = program.replace("localhost:1234", f"localhost:{port}")
    running = [start(program, number) for number in "01"]
    first, second = map(finish, running)
    assert first == second
    assert first.split()[0] == "2"
