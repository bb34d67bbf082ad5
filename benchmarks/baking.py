"""What it gains to make the weights of a frozen model constants of its program.

    python benchmarks/baking.py

Times a step whose teacher is baked, the teacher's forward pass, and a student loaded
from disk, each beside the same with its weights as arguments.
"""

import argparse
import functools
import statistics
import tempfile

import jax
from parallel import PAIRS, Case, ratio, turns

import jaxkd
from jaxkd import deploy, models


def print_baked(rounds):
    print("| teacher | rows | step, argument ms | step, baked ms | ratio | ", end="")
    print("forward, argument ms | forward, baked ms | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in PAIRS:
        for rows in (8, 128):
            pair = Case(name, rows), Case(name, rows, baked=True)
            contenders = {}
            for kind, case in zip(("argument", "baked"), pair, strict=True):
                step = jax.jit(case.step)
                contenders[f"step {kind}"] = functools.partial(
                    step, case.state, case.variables, case.batch
                )
                teacher = case.teacher.apply
                forward = jax.jit(
                    lambda v, b, f=teacher: f(v.params, v.state, b).logits
                )
                contenders[f"forward {kind}"] = functools.partial(
                    forward, case.variables, case.batch
                )
            times = turns(contenders, rounds)
            words = [f"| {name} | {rows} "]
            for what in ("step", "forward"):
                for kind in ("argument", "baked"):
                    median = statistics.median(times[f"{what} {kind}"])
                    words.append(f"| {1000 * median:.3f} ")
                found = ratio(times, f"{what} argument", f"{what} baked")
                words.append(f"| {found:.2f} ")
            print("".join(words) + "|", flush=True)


def print_exported(rounds):
    """The student, loaded from disk: its weights beside the program, or in it."""
    print("| exported student | rows | argument ms | baked ms | ratio |")
    print("| --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for name in PAIRS:
            case = Case(name, 8)
            image = {"image": case.batch["image"]}
            variables = models.Variables(
                case.state.params["student"], case.state.model_state
            )
            baked = models.bake(case.student, variables), models.Variables({})
            pairs = {"argument": (case.student, variables), "baked": baked}
            artefacts = {
                kind: deploy.export(model, own, image, f"{folder}/{name}-{kind}")
                for kind, (model, own) in pairs.items()
            }
            for rows in (8, 128):
                image = {"image": jax.device_put(Case(name, rows).batch["image"])}
                contenders = {
                    kind: functools.partial(artefact.predict, image)
                    for kind, artefact in artefacts.items()
                }
                times = turns(contenders, rounds)
                medians = [1000 * statistics.median(x) for x in times.values()]
                print(
                    f"| {name} | {rows} | {medians[0]:.3f} | {medians[1]:.3f} "
                    f"| {ratio(times, 'argument', 'baked'):.2f} |",
                    flush=True,
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parsed = parser.parse_args()
    device = jax.devices()[0].device_kind
    print(f"jaxkd {jaxkd.__version__}, jax {jax.__version__}, {device}, ", end="")
    print(f"{parsed.rounds} rounds of 8 calls\n")
    print_baked(parsed.rounds)
    print()
    print_exported(parsed.rounds)


if __name__ == "__main__":
    main()
