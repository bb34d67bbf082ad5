"""Runs that are killed, and told to stop, as the machine does it: from outside."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = pathlib.Path(__file__).with_name("one_run.py")
LIMIT_S = 120


def start(folder, *, steps, every):
    numbers = steps, every
    # Without the cache of programs: a killed process would leave half a file in it.
    environment = {k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k}
    return subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error::UserWarning",
            SCRIPT,
            folder,
            *map(str, numbers),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    """The words of the last line of a run that came to its end."""
    output, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors[-3000:]
    last = output.splitlines()[-1].split()
    assert last[0] == "end", output[-500:]
    return last


def kill_at(process, word, count, delay):
    """Kills it some seconds after it said a word so often; its lines up to there."""
    seen = []
    for line in process.stdout:
        seen.append(line.split())
        if [words[0] for words in seen].count(word) == count:
            break
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate(timeout=LIMIT_S)
    return seen + [line.split() for line in output.splitlines() if line]


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_however_often_it_is_killed_it_ends_bit_for_bit_alike(tmp_path, kills):
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)  # pytest shows it when the test fails
    moments, reached = random.Random(seed), 0
    for kill in range(kills):
        # In turns within a save, or soon after it, and anywhere.
        word, delay = ("save", "update")[kill % 2], moments.uniform(0, 0.1)
        process = start(tmp_path / "run", steps=10**6, every=4)
        seen = kill_at(process, word, moments.randint(1, 5), delay)
        assert process.returncode == -signal.SIGKILL
        # At most the save under way is lost, and the updates since the one before.
        if kill:
            # Killed within its very first save, it begins anew.
            restored = int(seen[0][1]) if seen[0][0] == "restored" else 0
            assert restored >= reached - 8
        reached = max(int(number) for _, number in seen)
    steps = reached + 6
    whole = ended(start(tmp_path / "whole", steps=steps, every=4))
    resumed = ended(start(tmp_path / "run", steps=steps, every=4))
    assert resumed == whole
    assert whole[1] == str(steps)


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
)
def test_a_run_told_to_stop_saves_and_goes_on_as_if_it_had_not(tmp_path, number):
    process = start(tmp_path / "run", steps=10**6, every=10**6)
    for line in process.stdout:
        if line == "update 5\n":
            process.send_signal(number)
            break
    _, step, _ = ended(process)
    assert [p.name for p in (tmp_path / "run").iterdir()] == [step]
    assert int(step) >= 5
    steps = int(step) + 3
    whole = ended(start(tmp_path / "whole", steps=steps, every=10**6))
    assert ended(start(tmp_path / "run", steps=steps, every=10**6)) == whole
