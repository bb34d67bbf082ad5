"""Two real processes train one student, and one process goes on from there."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

SCRIPT = pathlib.Path(__file__).with_name("two_processes.py")
LIMIT_S = 150


def start(mode, folder, *, processes, devices, steps, every):
    """The processes, running."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    words = [mode, folder, port, processes]
    environment = {**os.environ, "XLA_FLAGS": ""}
    return [
        subprocess.Popen(
            [
                sys.executable,
                SCRIPT,
                *map(str, [*words, number, devices, steps, every]),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(processes)
    ]


def read_to(process, words):
    """Reads what a process says, up to these words."""
    while process.stdout.readline() not in (f"{words}\n", ""):
        pass


def run(mode, folder, *, processes, devices, steps, told=None):
    """Each process's record, by number; the second may be told to stop, by a signal."""
    running = start(
        mode, folder, processes=processes, devices=devices, steps=steps, every=10**6
    )
    try:
        if told is not None:
            read_to(running[1], "five")
            running[1].send_signal(told)
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


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
)
def test_all_processes_stop_at_one_step_when_one_is_told_to(number, tmp_path):
    """And what they saved there is what a run of so many steps would have."""
    first, second = run(
        "jit", tmp_path, processes=2, devices=1, steps=10**6, told=number
    )
    assert first == second
    assert 5 <= first["step"] < 10**6
    (folder,) = (tmp_path / "checkpoints").iterdir()
    assert folder.name == str(first["step"])
    more = first["step"] + 1
    (one,) = run("jit", tmp_path, processes=1, devices=2, steps=more)
    assert one["restored"] == first["saved"]
    assert one["step"] == more


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_a_kill_within_a_shared_save_loses_that_save_only(delay, tmp_path):
    running = start("jit", tmp_path, processes=2, devices=1, steps=10**6, every=2)
    try:
        read_to(running[1], "save 6")
        time.sleep(delay)
    finally:
        for process in running:
            process.kill()
            process.communicate()
    assert (tmp_path / "checkpoints").exists()
    steps = 40
    (one,) = run("jit", tmp_path, processes=1, devices=2, steps=steps)
    assert one["step"] == steps
    assert "restored" in one
    whole = tmp_path / "whole"
    whole.mkdir()
    first, _ = run("jit", whole, processes=2, devices=1, steps=steps)
    assert one["metrics"] == pytest.approx(first["metrics"], rel=1e-3)
