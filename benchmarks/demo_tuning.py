"""Chooses the demo's temperature and soft-target weight, on the validation split.

    python benchmarks/demo_tuning.py

For each setting and seed, a student is distilled as in `jaxkd demo`, and measured on
the 297 validation images. The test split is not read. Prints a Markdown table.
"""

import argparse
import dataclasses
import itertools
import pathlib
import tempfile

from jaxkd import recipes, report

TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
WEIGHTS = (0.5, 0.9, 1.0)


def validate(config, digits, teachers):
    """Validation accuracy of the distilled student, one for each seed."""
    student, teacher = recipes.make_models(config)
    stage = recipes.make_stages(config, student, teacher)["distilled"]
    scores = []
    for seed, variables in teachers.items():
        few = recipes.hide_labels(digits.train, keep=config.labels, seed=seed)
        trained = {
            "teacher": variables,
            "student": run(stage, few, seed, config, teacher=variables),
        }
        measured = recipes.evaluate_all(digits.validation, student, teacher, trained)
        scores.append(measured["student"]["accuracy"])
    return scores


def run(stage, arrays, seed, config, **kwargs):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        records = report.JsonLines(folder / "metrics.jsonl")
        console = report.make_console(quiet=True)
        runner = recipes.Runner(folder, seed, console, records, save_every=10**9)
        return runner.run(
            stage,
            arrays,
            batch_size=config.batch_size,
            transform=recipes.augment_digits,
            **kwargs,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=recipes.DemoConfig().steps)
    parsed = parser.parse_args()
    base = recipes.DemoConfig(steps=parsed.steps)
    digits = recipes.load_digits()
    student, teacher = recipes.make_models(base)
    stage = recipes.make_stages(base, student, teacher)["teacher"]
    # Seeds apart from the demo's, so that nothing is chosen on its own runs.
    teachers = {
        seed: run(stage, digits.train, seed, base)
        for seed in range(100, 100 + parsed.seeds)
    }
    print(
        "| temperature | soft weight | validation accuracy % |\n| ---: | ---: | ---: |"
    )
    for temperature, weight in itertools.product(TEMPERATURES, WEIGHTS):
        config = dataclasses.replace(base, temperature=temperature, soft_weight=weight)
        scores = validate(config, digits, teachers)
        print(
            f"| {temperature:g} | {weight:g} | {report.mean_and_std(scores)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
