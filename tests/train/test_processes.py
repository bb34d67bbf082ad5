"""Two real processes train one student, and one process goes on from there."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("two_processes.py")
LIMIT_S = 150


def run(mode, folder, *, processes, devices, steps, told=None):
    """Each process's record, by number; one of them may be told to stop."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    words = [mode, folder, port, processes]
    environment = {**os.environ, "XLA_FLAGS": ""}
    running = [
        subprocess.Popen(
            [sys.executable, SCRIPT, *map(str, [*words, number, devices, steps])],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(processes)
    ]
    try:
        if told is not None:
            while running[told].stdout.readline() not in ("five\n", ""):
                pass
            running[told].send_signal(signal.SIGTERM)
        outputs = [process.communicate(timeout=LIMIT_S)[0] for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    for process, output in zip(running, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]
    files = [f"{mode}-{processes}x{devices}-{n}.json" for n in range(processes)]
    return [json.loads((folder / file).read_text()) for file in files]


@pytest.mark.parametrize(
    "mode",
    ["jit"]
    + [pytest.param(m, marks=pytest.mark.slow) for m in ("fsdp", "pmap", "shard_map")],
)
def test_two_processes_train_as_one_and_any_number_goes_on(mode, tmp_path):
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    whole.mkdir()
    shared.mkdir()
    first, second = run(mode, shared, processes=2, devices=2, steps=4)
    assert first == second
    (alone,) = run("jit", whole, processes=1, devices=1, steps=4)
    assert first["metrics"] == pytest.approx(alone["metrics"], rel=1e-4)
    for devices in (4, 8) if mode == "jit" else (1, 4):
        folder = tmp_path / f"on-{devices}"
        shutil.copytree(shared, folder)
        (one,) = run(mode, folder, processes=1, devices=devices, steps=6)
        assert one["restored"] == first["saved"]
    (alone,) = run("jit", whole, processes=1, devices=1, steps=6)
    assert one["metrics"] == pytest.approx(alone["metrics"], rel=1e-4)


def test_all_processes_stop_at_one_step_when_one_is_told_to(tmp_path):
    """And what they saved there is what a run of so many steps would have."""
    first, second = run("jit", tmp_path, processes=2, devices=1, steps=10**6, told=1)
    assert first == second
    assert 5 <= first["step"] < 10**6
    (folder,) = (tmp_path / "checkpoints").iterdir()
    assert folder.name == str(first["step"])
    more = first["step"] + 1
    (one,) = run("jit", tmp_path, processes=1, devices=2, steps=more)
    assert one["restored"] == first["saved"]
    assert one["step"] == more
