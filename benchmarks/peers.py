"""Distillation beside other libraries: the same steps, each in a process of its own.

    pip install -e ".[peers]"
    pip install --no-deps torchdistill==1.1.5 google-tunix==0.1.7  # see pyproject.toml
    python benchmarks/peers.py

Two methods, 0.9 times the soft part and 0.1 times the hard labels, with Adam: soft
targets at temperature 4 (`kd`), and the mean squared error of one feature, equally wide
in teacher and student (`hint`). Every contender begins with the same weights, made in
numpy, and takes the same numpy batches: `peers_models.py`. First the losses of the
first four steps are compared; then the contenders take turns: at a word of the parent,
one trains for some steps while the others wait. Reported: milliseconds a step (median
of the rounds); the time as a multiple of jaxkd's in the same round (median, and range
over the rounds: above 1, jaxkd is faster); the peak of resident memory, and what of it
was there before the first step, which is mostly imports. Milliseconds depend on what
else runs; ratios less.

A contender whose library is missing is left out, and named.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from peers_models import PAIRS, make_problem, quick

FOLDER = pathlib.Path(__file__).parent
CHECKED = 4
# Name: (file, function, distributions it needs).
CONTENDERS = {
    "jaxkd": ("peers_jaxkd", "build", ["jaxkd"]),
    "jaxkd, cached teacher": ("peers_jaxkd", "build_cached", ["jaxkd"]),
    "jax by hand": ("peers_jax", "build", ["jax", "flax", "optax"]),
    "keras": ("peers_keras", "build", ["keras", "jax"]),
    "tunix": ("peers_tunix", "build", ["google-tunix", "pandas"]),
    "torchdistill": ("peers_torch", "build", ["torchdistill", "torch"]),
}
KD_ALONE = {"tunix"}  # it has no loss on a feature of a vision model
MODULES = {"google-tunix": "tunix"}


def megabytes():
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def contend(name, pair, method, steps):
    """A child: says its first losses, then trains for as long as it is told to."""
    speak = sys.stdout
    sys.stdout = sys.stderr  # of libraries that print
    file, function, needs = CONTENDERS[name]
    for module in {"torch", "pandas"} - set(needs):  # imported by some where found
        absent: Any = None
        sys.modules[module] = absent
    problem = make_problem(pair, method, max(steps, CHECKED))
    train = getattr(importlib.import_module(file), function)(problem)
    before = megabytes()
    losses = [float(train(i, i + 1)) for i in range(CHECKED)]
    train(0, steps)  # warm
    print(json.dumps({"losses": losses, "before": before}), file=speak, flush=True)
    for line in sys.stdin:
        if line.strip() != "go":
            break
        began = time.perf_counter()
        train(0, steps)
        took = time.perf_counter() - began
        print(json.dumps({"seconds": took / steps}), file=speak, flush=True)
    print(json.dumps({"peak": megabytes()}), file=speak, flush=True)


class Child:
    """A contender's process, seen from the parent."""

    def __init__(self, name, kind, method, parsed):
        command = [sys.executable, __file__, "--contender", name]
        command += ["--pairs", kind, "--methods", method]
        command += ["--steps", str(parsed.steps or PAIRS[kind].steps)]
        command += ["--quick"] * parsed.quick
        pipe = subprocess.PIPE
        quiet = None if parsed.verbose else subprocess.DEVNULL
        self.name, self.seconds = name, []
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=quiet, text=True
        )
        self.first = {}

    def read(self):
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} stopped; run with --verbose to see why")
        return json.loads(line)

    def tell(self, word):
        assert self.process.stdin is not None
        print(word, file=self.process.stdin, flush=True)
        return self.read()

    def go(self):
        self.seconds.append(self.tell("go")["seconds"])

    def stop(self):
        peak = self.tell("stop")["peak"]
        self.process.wait()
        return peak


def spread(values):
    middle = statistics.median(values)
    return f"{middle:.2f} [{min(values):.2f}, {max(values):.2f}]"


def compare(kind, method, names, parsed):
    """Runs all contenders on one pair and one method, and prints a table."""
    children = [
        Child(name, kind, method, parsed)
        for name in names
        if method == "kd" or name not in KD_ALONE
    ]
    for child in children:  # they begin side by side
        child.first = child.read()
    for i in range(parsed.rounds):
        for child in children if i % 2 == 0 else children[::-1]:
            child.go()
    own = children[0]
    print(f"\n### {kind}, {method}\n")
    print(
        "| contender | loss differs by at most | ms a step | time ÷ jaxkd's "
        "| peak MB | of it before |\n| --- | ---: | ---: | ---: | ---: | ---: |"
    )
    for child in children:
        pairs = zip(child.first["losses"], own.first["losses"], strict=True)
        apart = max(abs(a - b) / abs(b) for a, b in pairs)
        ratios = [a / b for a, b in zip(child.seconds, own.seconds, strict=True)]
        milliseconds = 1000 * statistics.median(child.seconds)
        print(
            f"| {child.name} | {apart:.1e} | {milliseconds:.2f} "
            f"| {spread(ratios)} | {child.stop():.0f} | {child.first['before']:.0f} |",
            flush=True,
        )


def user_lines(name):
    """Lines between two markers in the contender's function, blank ones not counted."""
    file, function, _ = CONTENDERS[name]
    text = (FOLDER / f"{file}.py").read_text().split(f"def {function}(")[1]
    body = text.split("# begin\n")[1].split("# end\n")[0]
    return sum(bool(line.strip()) for line in body.splitlines())


def closure(names):
    """The installed distributions that these need, themselves included."""
    found, ahead = {}, list(names)
    while ahead:
        name = re.sub(r"[-_.]+", "-", ahead.pop()).lower()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if name not in found:
            found[name] = distribution
            needs = [r for r in distribution.requires or [] if "extra ==" not in r]
            ahead += [re.split(r"[^\w.-]", need)[0] for need in needs]
    return found


def install_size(names):
    files = [f for d in closure(names).values() for f in d.files or []]
    paths = {pathlib.Path(str(f.locate())) for f in files}
    return sum(p.stat().st_size for p in paths if p.is_file()) / 2**20


def describe(names):
    """Versions, lines of code and sizes."""
    shown = ["jaxkd", "jax", "flax", "optax", "keras", "google-tunix"]
    shown += ["torch", "torchdistill"]
    have = closure(shown)
    print(", ".join(f"{name} {have[name].version}" for name in shown if name in have))
    print("\n| contender | lines, both methods | MB installed, with what it needs |")
    print("| --- | ---: | ---: |")
    for name in names:
        size = install_size(CONTENDERS[name][2])
        note = " (kd alone)" if name in KD_ALONE else ""
        print(f"| {name} | {user_lines(name)}{note} | {size:.0f} |", flush=True)


def available(names):
    """Those whose libraries are installed; says which are not."""
    found = []
    for name in names:
        needs = [MODULES.get(need, need) for need in CONTENDERS[name][2]]
        missing = [need for need in needs if importlib.util.find_spec(need) is None]
        if missing:
            print(f"Left out: {name}, without {', '.join(missing)}.")
        else:
            found.append(name)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), choices=PAIRS)
    parser.add_argument("--methods", nargs="+", default=["kd", "hint"])
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS))
    parser.add_argument("--steps", type=int, help="in a turn")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--verbose", action="store_true", help="what libraries print")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.contender:
        pair = PAIRS[parsed.pairs[0]]
        pair = quick(pair) if parsed.quick else pair
        contend(parsed.contender, pair, parsed.methods[0], parsed.steps)
        return
    names = available(parsed.contenders)
    describe(names)
    for kind in parsed.pairs:
        for method in parsed.methods:
            compare(kind, method, names, parsed)


if __name__ == "__main__":
    main()
