"""A task to compress, here and in a process that kills itself:

``compressing.py FOLDER TEACHER WHEN [WHERE]`` resumes the run in FOLDER, until WHEN.
"""

import os
import pathlib
import signal
import sys

from jaxkd import compress, models, recipes
from jaxkd.recipes._compression import folder as run_folder, pipeline

STAGES = (
    recipes.Distil(steps=8),
    recipes.Shrink(keep=0.5, steps=16),
    recipes.Prune(sparsity=0.5, steps=16),
    recipes.Quantize("int4", steps=8),
)
EXPORT = recipes.Export(("stablehlo", "safetensors"))


def config(*stages, **settings):
    return recipes.CompressConfig(stages, **settings)


def whole_config():
    return config(*STAGES, EXPORT, save_every=8)


def mlp(widths):
    return models.from_linen(models.MLP(hidden=tuple(widths), classes=10))


def rebuild(widths):
    return mlp((widths["params/dense1/kernel:1"],))


def make_task(variables):
    digits = recipes.load_digits()
    teacher = mlp((64,))
    return recipes.Task(teacher, variables, digits.train, digits.test, rebuild=rebuild)


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def die_after_batches(task, count):
    made = []

    def transform(key, batch):
        made.append(0)
        if len(made) > int(count):
            die()
        return batch

    return task._replace(transform=transform)


def die_between(stage):
    """When a stage is kept, and the next has not begun."""
    finish = pipeline.finish_stage

    def last(folder, name, *rest):
        found = finish(folder, name, *rest)
        if name == stage:
            die()
        return found

    pipeline.finish_stage = last


def die_within(stage):
    """When a stage's student is written, and not yet that it has ended."""
    keep = run_folder._keep

    def last(place, found):
        if found.name == stage:
            die()
        keep(place, found)

    run_folder._keep = last


def main(folder, teacher, when="never", where=""):
    task = make_task(models.Variables(compress.load_tree(teacher)))
    if when == "batches":
        task = die_after_batches(task, where)
    elif when != "never":
        {"between": die_between, "within": die_within}[when](where)
    recipes.compress(whole_config(), pathlib.Path(folder), task, resume=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
